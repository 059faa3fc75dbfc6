// What belongs together: for each open notebook one line to its kernel, for each of its views one item in the toolbar.
// Two views of one notebook ("New View for Notebook") share the notebook, its kernel, and so the line.

import { Item } from "./item.js";
import { Line } from "./line.js";
import { OpenNotebook } from "./notebook.js";

class Held {
  constructor(context, tracker, { KernelMessage, kind }) {
    this._items = new Map();
    const view = () => (this._items.has(tracker.currentWidget) ? tracker.currentWidget : [...this._items.keys()][0]);
    const changed = () => this.show();
    this.notebook = new OpenNotebook(context, { view, changed });
    this.line = new Line(this.notebook, { KernelMessage, kind, changed });
  }

  add(panel, Widget) {
    this._items.set(panel, new Item(panel, this.notebook, Widget));
    this.show();
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
    });
  }

  close() {
    this._closed = true;
    this.line.close();
    this.notebook.close();
  }
}

export function makePlugin({ INotebookTracker, KernelMessage, Widget }) {
  return {
    id: "lash-nb:plugin",
    description: "Answers lash_nb in a notebook's kernel, and shows which session the notebook carries.",
    autoStart: true,
    // Some pages of Notebook 7 have no notebooks.
    optional: [INotebookTracker],
    activate: (app, tracker) => {
      if (!tracker) {
        return;
      }
      const kind = app.name === "Jupyter Notebook" ? "notebook" : "jupyterlab";
      const held = new Map();

      const open = async panel => {
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
          held.set(context, new Held(context, tracker, { KernelMessage, kind }));
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
