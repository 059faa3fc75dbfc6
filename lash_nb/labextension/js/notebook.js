// The notebook that is open: what of it is read and changed. The metadata in it are untrusted: looked at, never used.

export const KEY = "lash_nb";

const MOST_CELLS = 1000;
const FOREIGN_SAVE_MS = 10000;

// What cannot be done, in a sentence for whoever asked.
export class Refusal extends Error {}

export const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);

export class OpenNotebook {
  // `view` says in which of its views somebody works, `changed` is called when what it carries of ours has changed.
  constructor(context, { view, changed }) {
    this.context = context;
    this._view = view;
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
    context.saveState.connect(this._onSave);
  }

  close() {
    this.context.model.metadataChanged.disconnect(this._onMetadata);
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
