// What a finished turn offers below its bundle: its code and its answer to copy, its code as a cell, its variables to pull.
//
// The bundle is drawn by the application's own renderer, with the application's trust. What the buttons are about comes
// from the file and is untrusted: shown as plain text, bounded; what is not of the form is passed over.

import { isObject, reveal } from "./notebook.js";
import { plain } from "./item.js";

export const TURN_MIME = "application/vnd.lash-nb.turn+json";

const RANK = 45; // before text/html, which is in the same bundle
const MOST_CELLS = 1000;
const MOST_VARIABLES = 30;
const NAME = 60;
const DETAIL = 80;

const CSS = `
.lash-nb-offers {
  align-items: center; color: var(--jp-ui-font-color1); display: flex; flex-wrap: wrap; gap: 4px 6px;
  font-family: var(--jp-ui-font-family); font-size: var(--jp-ui-font-size1); line-height: 20px; padding: 4px 0;
}
.lash-nb-offers [hidden] { display: none; }
.lash-nb-offers ul { display: flex; flex-basis: 100%; flex-wrap: wrap; gap: 4px 14px; list-style: none; margin: 0; padding: 0; }
.lash-nb-offers code { font-family: var(--jp-code-font-family); font-size: var(--jp-code-font-size); }
.lash-nb-offers li { overflow-wrap: anywhere; }
.lash-nb-offers button {
  background: transparent; border: 1px solid var(--jp-border-color1); border-radius: var(--jp-border-radius, 2px);
  color: var(--jp-ui-font-color1); cursor: pointer; font: inherit; line-height: 18px; padding: 0 6px;
}
.lash-nb-offers button:hover { background: var(--jp-layout-color2); }
.lash-nb-offers button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
`;

const text = value => (typeof value === "string" && value.trim() !== "" ? value : null);

// What a turn's data say: `{turn, cells, answer, variables}`, each of which may be empty; null when they are none.
export function readTurn(value) {
  if (!isObject(value) || value.version !== 1) {
    return null;
  }
  const list = (items, most, right) => (Array.isArray(items) ? items.slice(0, most).filter(right) : []);
  const cells = list(value.cells, MOST_CELLS, one => isObject(one) && text(one.code) !== null);
  const variables = list(value.variables, MOST_VARIABLES, one => isObject(one) && text(one.name) !== null);
  return {
    turn: Number.isSafeInteger(value.turn) && value.turn > 0 ? value.turn : null,
    cells: cells.map(({ language, code }) => ({ language: text(language) ?? "python", code })),
    answer: text(value.answer),
    variables: variables.map(({ name, type, detail, new: isNew }) => ({
      name,
      about: [text(type), text(detail)].filter(part => part !== null).map(part => plain(part, DETAIL)).join(" "),
      isNew: isNew !== false
    })),
    more: Array.isArray(value.variables) ? value.variables.length - variables.length : 0
  };
}

const joined = cells => cells.map(cell => cell.code.replace(/^\n+|\s+$/g, "")).join("\n\n");

async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return copyBySelection(value); // the page did not come over https, or may not
  }
}

function copyBySelection(value) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = value;
  area.style.position = "fixed";
  area.style.opacity = "0";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}

// The row of buttons; `host` says in which notebook it stands: `{panel, cell, notebook, line}`, null where that is none.
class Offers {
  constructor(turn, host) {
    this._turn = turn;
    this._host = host;
    this._pulls = [];
    this.node = document.createElement("div");
    this.node.className = "lash-nb-offers";
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", turn.turn === null ? "lash: the turn" : `lash: turn ${turn.turn}`);
    this._fill();
    this.update();
  }

  get empty() {
    const { cells, answer, variables } = this._turn;
    return cells.length === 0 && answer === null && variables.length === 0;
  }

  update() {
    const host = this._host();
    this._insert.hidden = host?.cell == null || !host.notebook.writable || this._insertable(host).length === 0;
    for (const button of this._pulls) {
      button.hidden = host?.line.loaded !== true;
    }
  }

  _fill() {
    const { cells, answer, variables, more } = this._turn;
    if (cells.length > 0) {
      this._button("Copy code", () => this._copy(joined(this._turn.cells), "The code"));
    }
    if (answer !== null) {
      this._button("Copy answer", () => this._copy(answer, "The answer"));
    }
    this._insert = this._button("Insert as cell", () => this._insertCell());
    this._insert.title = "A cell with the code is put below this one. It is not run.";
    this._status = document.createElement("span");
    this._status.setAttribute("role", "status");
    this.node.append(this._status);
    if (variables.length > 0) {
      const list = document.createElement("ul");
      list.setAttribute("aria-label", "Variables");
      list.append(...variables.map(variable => this._variable(variable)));
      if (more > 0) {
        list.append(Object.assign(document.createElement("li"), { textContent: `and ${more} more` }));
      }
      this.node.append(list);
    }
  }

  _button(label, clicked, place = this.node) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    // A key on a button is for the button: Enter would edit the cell, D D would delete it.
    button.dataset.lmSuppressShortcuts = "true";
    button.addEventListener("click", () => void clicked());
    place.append(button);
    return button;
  }

  _variable({ name, about, isNew }) {
    const item = document.createElement("li");
    const code = document.createElement("code");
    code.textContent = plain(name, NAME);
    item.append(isNew ? "New: " : "Changed: ", code, about === "" ? " " : ` (${about}) `);
    const pull = this._button("Pull", () => this._pull(name), item);
    pull.title = "Brings it into the notebook's kernel, under the same name.";
    pull.setAttribute("aria-label", `Pull ${plain(name, NAME)}`);
    this._pulls.push(pull);
    return item;
  }

  _say(said) {
    this._status.textContent = said;
  }

  async _copy(value, what) {
    this._say((await copy(value)) ? `${what} is on the clipboard.` : "The browser does not let this page copy.");
  }

  // Only what the notebook's kernel can run.
  _insertable({ notebook }) {
    return this._turn.cells.filter(cell => cell.language.toLowerCase() === notebook.language);
  }

  _insertCell() {
    const host = this._host();
    try {
      const cells = [{ cell_type: "code", source: joined(this._insertable(host)) }];
      const [id] = host.notebook.insert(cells, host.cell.model.id);
      reveal(host.panel, id);
    } catch (error) {
      this._say(`Nothing was inserted: ${plain(String(error?.message ?? error), 200)}.`);
      this.update(); // it may have become read-only
    }
  }

  async _pull(name) {
    this._say(`Pulling ${plain(name, NAME)} …`);
    this._say(plain(await this._host().line.pull(name), 400));
  }
}

// Renderers of turns, for a registry of renderers; `turns` are those that can be seen, to be told of changes.
export function turnFactory({ registry, Panel, Widget, hostOf, turns }) {
  class FinishedTurn extends Panel {
    constructor(options) {
      super();
      this._options = options;
      this.addClass("lash-nb-finished");
    }

    async renderModel(model) {
      const { [TURN_MIME]: data, ...bundle } = model.data;
      const mimeType = registry.preferredMimeType(bundle, model.trusted ? "any" : "ensure");
      if (mimeType !== this._mimeType) {
        this._bundle?.dispose();
        this._mimeType = mimeType;
        this._bundle = mimeType && registry.getFactory(mimeType).createRenderer({ ...this._options, mimeType });
        if (this._bundle) {
          this.insertWidget(0, this._bundle);
        }
      }
      this._offer(readTurn(data));
      await this._bundle?.renderModel(model);
    }

    _offer(turn) {
      this._row?.dispose();
      this._offers = turn === null ? null : new Offers(turn, () => hostOf(this));
      if (this._offers !== null && !this._offers.empty) {
        addStyle();
        this._row = new Widget({ node: this._offers.node });
        this.addWidget(this._row);
      }
    }

    update() {
      super.update();
      this._offers?.update();
    }

    onAfterAttach(message) {
      super.onAfterAttach(message);
      turns.add(this);
      this._offers?.update();
    }

    onBeforeDetach(message) {
      turns.delete(this);
      super.onBeforeDetach(message);
    }
  }

  return {
    safe: true, // as text/html is
    mimeTypes: [TURN_MIME],
    defaultRank: RANK,
    createRenderer: options => new FinishedTurn(options)
  };
}

function addStyle() {
  if (document.getElementById("lash-nb-finished-style") === null) {
    const style = document.createElement("style");
    style.id = "lash-nb-finished-style";
    style.textContent = CSS;
    document.head.append(style);
  }
}
