// The notebook that is open: what of it is read and changed. The metadata in it are untrusted: looked at, never used.

export const KEY = "lash_nb";

const MOST_CELLS = 1000;
const FOREIGN_SAVE_MS = 10000;

// What cannot be done, in a sentence for whoever asked.
export class Refusal extends Error {}

export const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);

// Whether somebody types, anywhere on the page.
const types = () => document.activeElement?.matches("input, select, textarea, [contenteditable='true']") === true;

// Makes a cell of a view the active one, with the focus on it.
export function reveal({ content }, id) {
  content.deselectAll();
  content.activeCellIndex = content.widgets.findIndex(cell => cell.model.id === id);
  content.mode = "command";
  content.activate();
  void content.scrollToItem(content.activeCellIndex);
}

export class OpenNotebook {
  // `view` says in which of its views somebody works, `changed` is called when what it carries of ours has changed,
  // `edited` when a cell has.
  constructor(context, { view, changed, edited }) {
    this.context = context;
    this._view = view;
    this._onContent = () => edited();
    this._saving = Promise.resolve();
    this._next = null;
    this._savedElsewhere = 0;
    this._onMetadata = (_, change) => {
      if (change.key === undefined || change.key === KEY) {
        changed();
      }
    };
    this._onSave = (_, state) => {
      this._savedElsewhere = state === "started" ? Date.now() : 0;
    };
    context.model.metadataChanged.connect(this._onMetadata);
    context.model.contentChanged.connect(this._onContent);
    context.saveState.connect(this._onSave);
  }

  close() {
    this.context.model.metadataChanged.disconnect(this._onMetadata);
    this.context.model.contentChanged.disconnect(this._onContent);
    this.context.saveState.disconnect(this._onSave);
  }

  get path() {
    return this.context.localPath;
  }

  // What it carries of ours; null when that is nothing, or cannot be read.
  block() {
    try {
      return this.context.model.getMetadata(KEY) ?? null;
    } catch {
      return null; // nested so deep that it cannot be copied
    }
  }

  // That of its kernel, in lower case.
  get language() {
    try {
      const { model } = this.context;
      const named = model.getMetadata("language_info")?.name ?? model.getMetadata("kernelspec")?.language;
      return typeof named === "string" ? named.toLowerCase() : "python";
    } catch {
      return "python"; // as with `block`
    }
  }

  get writable() {
    return !this.context.model.readOnly && this.context.contentsModel?.writable !== false;
  }

  set(value) {
    this._mustBeWritable();
    if (!isObject(value)) {
      throw new Refusal(`metadata.${KEY} must be an object`);
    }
    this.context.model.setMetadata(KEY, value);
  }

  // Puts cells (`{cell_type, source}`) below the cell of that id, null: below the active one. Their ids.
  insert(cells, after) {
    this._mustBeWritable();
    const right = cell =>
      isObject(cell) && ["code", "markdown"].includes(cell.cell_type) && typeof cell.source === "string";
    if (!Array.isArray(cells) || cells.length === 0 || cells.length > MOST_CELLS || !cells.every(right)) {
      throw new Refusal(`cells must be 1 to ${MOST_CELLS} objects {cell_type: "code" or "markdown", source: text}`);
    }
    const shared = this.context.model.sharedModel;
    const made = cells.map(({ cell_type, source }) => ({
      cell_type,
      source,
      // As of a cell that is put in by hand: it has no outputs that could be mistrusted.
      metadata: cell_type === "code" ? { trusted: true } : {}
    }));
    return shared.insertCells(this._below(shared, after), made).map(cell => cell.id);
  }

  // Makes a cell the active one of the view in which somebody works; not of somebody who types, and would type on.
  show(id) {
    const view = this._view();
    if (view && !types()) {
      reveal(view, id);
    }
  }

  // The source of a code cell; null: there is none of that id.
  sourceOf(id) {
    return this._cell(id)?.sharedModel.getSource() ?? null;
  }

  // Gives a cell another source, while it has the one that it had; its outputs stay.
  replace(id, source, was) {
    this._mustBeWritable();
    if (typeof source !== "string") {
      throw new Refusal("source must be text");
    }
    const now = this.sourceOf(id);
    if (now === null) {
      throw new Refusal("this notebook has no code cell of that id");
    }
    if (now !== was) {
      throw new Refusal("the cell was changed since, and is left as it is");
    }
    this._cell(id).sharedModel.setSource(source);
  }

  // Puts what the kernel published of a turn into its cell, to which it was not routed here: its live view while it runs
  // (`live`), and at the end `outputs` in place of that view and of an earlier copy. All other outputs stay.
  place({ cell: id, view, live, outputs }) {
    this._mustBeWritable();
    const cell = this._cell(id);
    if (cell === null || !isObject(live) === !Array.isArray(outputs)) {
      throw new Refusal("this notebook has no code cell of that id, or there is nothing to put into it");
    }
    const there = cell.outputs.toJSON();
    if (isObject(live)) {
      if (!there.some(one => viewOf(one) === view)) {
        cell.outputs.add({ output_type: "display_data", data: live, metadata: {} });
      }
      return;
    }
    const put = outputs.filter(isObject);
    const copies = new Set(put.map(contentOf));
    const turns = put.map(turnOf).filter(turn => turn !== null);
    const replaced = one =>
      (typeof view === "string" && viewOf(one) === view) || copies.has(contentOf(one)) || turns.includes(turnOf(one));
    const at = there.findIndex(replaced);
    const kept = there.filter(one => !replaced(one));
    const before = at < 0 ? kept.length : there.slice(0, at).filter(one => !replaced(one)).length;
    cell.outputs.fromJSON([...kept.slice(0, before), ...put, ...kept.slice(before)]);
  }

  _cell(id) {
    for (const cell of this.context.model.cells) {
      if (cell.id === id && cell.type === "code") {
        return cell;
      }
    }
    return null;
  }

  // The id of the cell that asked for the turn in progress, null where it is not plain which that is.
  askingCell() {
    const asked = this.block()?.head?.resume?.asked?.text;
    const asks = cell => cell.source.startsWith("%%lash") && requestOf(cell.source) === asked;
    const found = typeof asked === "string" ? this.context.model.sharedModel.cells.filter(asks) : [];
    return found.length === 1 ? found[0].id : null;
  }

  _below(shared, after) {
    if (after !== null && after !== undefined) {
      const at = shared.cells.findIndex(cell => cell.id === after);
      if (at < 0) {
        throw new Refusal("this notebook has no cell with the id that `after` names");
      }
      return at + 1;
    }
    const active = this._view()?.content.activeCell?.model.id;
    const at = shared.cells.findIndex(cell => cell.id === active);
    return at < 0 ? shared.cells.length : at + 1;
  }

  // Saves are made one after the other, never while the application makes one of its own: to the second of two at a
  // time the file looks as if somebody else had changed it. Who asks while one waits for its turn shares that one.
  save() {
    if (this._next === null) {
      this._next = this._saving.then(async () => {
        await this._elsewhereEnded();
        this._next = null;
        await this._save();
      });
      this._saving = this._next.catch(() => {});
    }
    return this._next;
  }

  async _save() {
    this._mustBeWritable();
    try {
      await this.context.save();
    } catch (error) {
      const name = error?.name;
      throw new Refusal(
        name === "ModalCancelError" || name === "ModalDuplicateError"
          ? "the notebook was not saved: what the page asked about it was not answered with yes"
          : `the notebook could not be saved: ${String(error?.message ?? error).slice(0, 300)}`
      );
    } finally {
      this._savedElsewhere = 0;
    }
  }

  async _elsewhereEnded() {
    // Bounded: a save that a person cancels is never said to have ended.
    while (Date.now() - this._savedElsewhere < FOREIGN_SAVE_MS) {
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }

  _mustBeWritable() {
    if (this.context.isDisposed) {
      throw new Refusal("the notebook was closed");
    }
    if (!this.writable) {
      throw new Refusal("the notebook is read-only");
    }
  }
}

const requestOf = source => source.slice(source.indexOf("\n") + 1).replace(/^\n+|\n+$/g, "");

// Of an output: the widget's model that it shows; the turn that it is a copy of; what it shows, for a comparison.
const viewOf = output => output.data?.["application/vnd.jupyter.widget-view+json"]?.model_id ?? null;
const turnOf = output => {
  const copied = output.metadata?.[KEY];
  return isObject(copied) && typeof copied.session === "string" ? `${copied.session} ${copied.turn}` : null;
};
const contentOf = ({ output_type, name, data, text }) => {
  const one = value => (Array.isArray(value) ? value.join("") : value);
  const parts = Object.entries(data ?? {}).map(([type, value]) => [type, one(value)]);
  const trimmed = parts.map(([type, value]) => [type, typeof value === "string" ? value.trimEnd() : value]);
  return JSON.stringify([output_type, name ?? null, trimmed.sort(), one(text) ?? null]);
};
