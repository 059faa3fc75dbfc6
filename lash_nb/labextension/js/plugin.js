// What belongs together: for each open notebook one line to its kernel, for each of its views one item in the toolbar.
// Two views of one notebook ("New View for Notebook") share the notebook, its kernel, and so the line.

import { TURN_MIME, turnRow } from "./finished.js";
import { Item } from "./item.js";
import { Line } from "./line.js";
import { OpenNotebook } from "./notebook.js";
import { OFFER_MIME, offerRow } from "./offered.js";
import { rowFactory } from "./row.js";

class Held {
  // `shown` is called when something has changed that may be shown.
  constructor(context, tracker, { KernelMessage, kind, shown }) {
    this._items = new Map();
    this._shown = shown;
    const view = () => (this._items.has(tracker.currentWidget) ? tracker.currentWidget : [...this._items.keys()][0]);
    const changed = () => this.show();
    this.notebook = new OpenNotebook(context, { view, changed, edited: () => this._edited() });
    this.line = new Line(this.notebook, { KernelMessage, kind, changed });
  }

  add(panel, Widget) {
    this._items.set(panel, new Item(panel, this.notebook, Widget));
    this.show();
  }

  has(panel) {
    return this._items.has(panel);
  }

  // False when that was the last view.
  remove(panel) {
    this._items.get(panel)?.close();
    this._items.delete(panel);
    return this._items.size > 0;
  }

  show() {
    if (this._due || this._closed) {
      return;
    }
    this._due = true;
    queueMicrotask(() => {
      this._due = false;
      const block = this.notebook.block();
      for (const item of this._items.values()) {
        item.show(block, this.line);
      }
      this._shown();
    });
  }

  // At most once a frame: outputs may come by the thousand.
  _edited() {
    if (!this._drawn) {
      this._drawn = requestAnimationFrame(() => {
        this._drawn = null;
        this._shown();
      });
    }
  }

  close() {
    this._closed = true;
    this.line.close();
    this.notebook.close();
  }
}

export function makePlugin({ INotebookTracker, IRenderMimeRegistry, KernelMessage, Panel, Widget }) {
  return {
    id: "lash-nb:plugin",
    description: "Answers lash_nb in a notebook's kernel, and shows what a turn and its notebook offer.",
    autoStart: true,
    // Some pages of Notebook 7 have no notebooks.
    optional: [INotebookTracker, IRenderMimeRegistry],
    activate: (app, tracker, registry) => {
      if (!tracker) {
        return;
      }
      const kind = app.name === "Jupyter Notebook" ? "notebook" : "jupyterlab";
      const held = new Map();
      const seen = new Set();
      const shown = () => seen.forEach(one => one.refresh());

      // Where something stands: the view of a notebook and the cell, as far as it is in one that is known.
      const hostOf = widget => {
        let cell = null;
        for (let one = widget.parent; one !== null; one = one.parent) {
          cell = one.model?.sharedModel?.cell_type === "code" ? one : cell;
          const found = [...held.values()].find(candidate => candidate.has(one));
          if (found !== undefined) {
            return { panel: one, cell, notebook: found.notebook, line: found.line };
          }
        }
        return null;
      };
      const rows = [[TURN_MIME, turnRow], [OFFER_MIME, offerRow]];
      const made = ([mime, row]) => rowFactory({ mime, row, registry, Panel, Widget, hostOf, seen });
      const factories = registry ? rows.map(made) : [];
      const draws = one =>
        factories
          .filter(({ mimeTypes: [mime] }) => one.getFactory(mime) === undefined)
          .forEach(factory => one.addFactory(factory));
      draws(registry);

      const open = async panel => {
        draws(panel.content.rendermime); // it may have been opened before
        const context = panel.context;
        try {
          await context.ready;
        } catch {
          return; // there is no such file; the application says so
        }
        if (panel.isDisposed || context.isDisposed) {
          return;
        }
        if (!held.has(context)) {
          held.set(context, new Held(context, tracker, { KernelMessage, kind, shown }));
        }
        const one = held.get(context);
        one.add(panel, Widget);
        panel.disposed.connect(() => {
          if (!one.remove(panel)) {
            one.close();
            held.delete(context);
          }
        });
      };

      const safely = panel => void open(panel).catch(error => console.debug("lash_nb:", error));
      tracker.widgetAdded.connect((_, panel) => safely(panel));
      tracker.forEach(safely);
    }
  };
}
