// What a finished turn offers below its bundle: its code and its answer to copy, its code as cells, its variables to pull.

import { isObject, KEY } from "./notebook.js";
import { plain } from "./item.js";
import { Row, text } from "./row.js";

export const TURN_MIME = "application/vnd.lash-nb.turn+json";

const MOST_CELLS = 1000;
const MOST_VARIABLES = 30;
const NAME = 60;
const DETAIL = 80;
const SAID = 400;
const AS_IT_RAN = "No kernel has this turn any more: its code is in the cell below as it ran, not run here yet.";

const number = value => (Number.isSafeInteger(value) && value > 0 ? value : null);

// What a turn's data say: `{turn, cells, answer, variables}`, each of which may be empty; null when they are none.
export function readTurn(value) {
  if (!isObject(value) || value.version !== 1) {
    return null;
  }
  const list = (items, most, right) => (Array.isArray(items) ? items.slice(0, most).filter(right) : []);
  const cells = list(value.cells, MOST_CELLS, one => isObject(one) && text(one.code) !== null);
  const variables = list(value.variables, MOST_VARIABLES, one => isObject(one) && text(one.name) !== null);
  return {
    turn: number(value.turn),
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

class Offers extends Row {
  // `session`: whose turn it is, as the display's metadata say; null where they do not.
  constructor(turn, session, host) {
    super(turn.turn === null ? "lash: the turn" : `lash: turn ${turn.turn}`, host);
    this._turn = turn;
    this._session = session;
    this._pulls = [];
    this._asking = false;
    this._fill();
    this.update();
  }

  update() {
    this._show(this._insert, this._writes && this._insertable(this._host()).length > 0);
    for (const button of this._pulls) {
      this._show(button, this._host()?.line.loaded === true);
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
    this._insert = this._button("Insert as cells", () => this._insertCells());
    this._insert.title =
      "Cells with the code are put below this one, without what the turn tried in vain. They are not run.";
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

  // Only what the notebook's kernel can run.
  _insertable({ notebook }) {
    return this._turn.cells.filter(cell => cell.language.toLowerCase() === notebook.language);
  }

  // The kernel that has the turn makes cells of it that run from top to bottom, and has them put in; where there is none
  // any more, its code is put in as it ran.
  async _insertCells() {
    if (this._asking) {
      return;
    }
    const host = this._host();
    let said = null;
    if (host.line.loaded && this._turn.turn !== null && this._session !== null) {
      this._asking = true;
      this._say("The kernel makes cells of it, and tries them …");
      said = await host.line.insert(this._turn.turn, this._session, host.cell.model.id);
      this._asking = false;
    }
    if (said !== null) {
      this._say(plain(said, SAID));
    } else if (this._host() !== null) {
      this._insertCell(joined(this._insertable(this._host())), AS_IT_RAN);
    }
  }

  async _pull(name) {
    this._say(`Pulling ${plain(name, NAME)} …`);
    this._say(plain(await this._host().line.pull(name), SAID));
  }
}

export function turnRow(data, metadata, host) {
  const turn = readTurn(data);
  if (turn === null || (turn.cells.length === 0 && turn.answer === null && turn.variables.length === 0)) {
    return null;
  }
  const copied = metadata?.[KEY];
  return new Offers(turn, isObject(copied) ? text(copied.session) : null, host);
}
