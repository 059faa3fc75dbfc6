// The module container that JupyterLab and Notebook 7 load: `init` hands it their packages, `get` asks for the plugin.
// Written by hand, so that nothing has to be built. It is not in a directory named `static`: what is in one is served
// to be cached for a year, and the name of this file stays what it is.
(() => {
  let packages = {};

  // The one that the application itself uses: tokens of another copy would name nothing.
  const shared = async name => {
    const versions = packages[name] || {};
    const order = (a, b) =>
      Number(Boolean(versions[a].loaded)) - Number(Boolean(versions[b].loaded)) ||
      a.localeCompare(b, undefined, { numeric: true });
    const version = Object.keys(versions).sort(order).pop();
    if (version === undefined) {
      throw new Error(`lash_nb: this application has no ${name}`);
    }
    return (await versions[version].get())();
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["lash-nb"] = {
    init: scope => {
      packages = scope;
    },
    get: async () => {
      const [
        { makePlugin },
        { INotebookTracker },
        { IRenderMimeRegistry },
        { KernelMessage },
        { Panel, Widget }
      ] = await Promise.all([
        import("./plugin.js"),
        shared("@jupyterlab/notebook"),
        shared("@jupyterlab/rendermime"),
        shared("@jupyterlab/services"),
        shared("@lumino/widgets")
      ]);
      const plugin = makePlugin({ INotebookTracker, IRenderMimeRegistry, KernelMessage, Panel, Widget });
      return () => ({ __esModule: true, default: plugin });
    }
  };
})();
