// The item in the notebook's toolbar: which session and model are in use, what runs, what can be resumed.
// What is shown comes from a notebook or a kernel and is untrusted: plain text, bounded, and nothing hides in it.

import { isObject, reveal } from "./notebook.js";

const NAME = "lash_nb";
const RESUME = "%lash resume";
const LOAD = "%load_ext lash_nb";
const SHOWN = 28;
const TOLD = 120;
const LAST = 1000; // a place behind all others; `addItem` counts only those that have room in the row
const FILE = /^(local:|replay:|scripted:).*[\\/]([^\\/]+)$/s; // of a path, its last part tells more than its first

const CSS = `
.lash-nb-item { align-items: center; display: flex; }
.lash-nb-label, .lash-nb-resume {
  background: transparent; border: 1px solid transparent; border-radius: var(--jp-border-radius, 2px);
  box-sizing: border-box; color: var(--jp-ui-font-color1); font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1); line-height: 20px; max-width: clamp(6em, 25vw, 30em); overflow: hidden;
  padding: 0 6px; text-overflow: ellipsis; white-space: nowrap;
}
/* What has just grown stands on a second line, until the toolbar moves it: not over what is below. */
.jp-Toolbar:has(> .lash-nb-item)::part(positioning-region) { overflow-y: clip; }
.lash-nb-label bdi { unicode-bidi: isolate; }
.lash-nb-resume { border-color: var(--jp-border-color1); cursor: pointer; }
.lash-nb-resume:hover { background: var(--jp-layout-color2); }
.lash-nb-resume:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
`;

// What is told of a notebook's block and its kernel: `{parts, title, turn}`, `turn` when it can be resumed; or null.
export function describe(block, line) {
  const carried = readBlock(block);
  const { status } = line;
  if (carried === null && status === null) {
    return null;
  }
  const spoken = status?.session != null;
  const named = status?.label ?? null;
  const session = spoken ? status.session : carried?.session ?? null;
  const parts = [];
  if (spoken && named !== null) {
    parts.push(`session ${plain(named, SHOWN)}`);
  } else if (session !== null) {
    parts.push(`session ${plain(session.slice(0, 8), 8)}`); // of an id, that is enough to tell them apart
  }
  const model = status?.model ?? null;
  const lines = [session === null ? "No session yet" : `Session ${plain(session, TOLD)}`];
  lines.push(...(model === null ? [] : [`Model ${plain(model, TOLD)}`]));
  lines.push(...(carried === null ? [] : [`The notebook carries ${count(carried.turns, "finished turn")}`]));
  const running = status?.running ?? null;
  if (running !== null) {
    parts.push(`turn ${running} runs`);
  } else if (model !== null) {
    parts.push(plain(model.replace(FILE, "$1$2"), SHOWN));
  }
  // A kernel with a session knows; before, only that this kernel is not the one in which the turn still runs.
  const left = spoken ? status.interrupted : line.settled ? carried?.head ?? null : null;
  return { parts, title: lines.join("\n"), turn: running === null ? left : null };
}

function readBlock(block) {
  if (!isObject(block) || typeof block.session !== "string" || block.session === "") {
    return null;
  }
  const head = isObject(block.head) ? block.head.turn : null;
  return {
    session: block.session,
    head: Number.isSafeInteger(head) && head > 0 ? head : null,
    turns: Array.isArray(block.turns) ? block.turns.length : 0
  };
}

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

// One line of text in which everything can be seen: what steers writing, joins or hides is shown as a replacement mark.
export function plain(value, most) {
  const characters = Array.from(value.slice(0, 4 * most + 4), one =>
    /\p{Z}|[\t\n\r]/u.test(one) ? " " : /\p{C}/u.test(one) ? "\ufffd" : one
  );
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : characters.join("");
}

export class Item {
  constructor(panel, notebook, Widget) {
    this._panel = panel;
    this._notebook = notebook;
    this._Widget = Widget;
    this._widget = null;
    this._prominent = false;
    this._shown = "";
    this._inserted = null;
  }

  show(block, line) {
    this._loaded = line.loaded;
    const told = this._panel.isDisposed ? null : describe(block, line);
    const resumable = told !== null && told.turn !== null && this._notebook.writable;
    const shown = JSON.stringify([told, resumable]);
    if (shown === this._shown) {
      return;
    }
    this._shown = shown;
    const focused = this._widget?.node.contains(document.activeElement);
    if (told === null || resumable !== this._prominent) {
      this.close();
    }
    if (told === null) {
      return;
    }
    const content = resumable ? this._button(told) : label(told);
    // One that has a place keeps it, be it that of what the toolbar has no room for: a new one would start in the row.
    if (this._widget === null) {
      this._place(content, resumable);
    } else {
      this._widget.node.replaceChildren(content);
    }
    if (focused) {
      content.focus();
    }
  }

  close() {
    this._widget?.dispose();
    this._widget = null;
  }

  // Last in the toolbar, where it is the first to give way when that is narrow; a button goes before the kernel's name.
  _place(content, prominent) {
    addStyle();
    this._widget = new this._Widget();
    this._widget.addClass("lash-nb-item");
    this._widget.node.append(content);
    const { toolbar } = this._panel;
    if (!prominent || !toolbar.insertAfter("spacer", NAME, this._widget)) {
      toolbar.insertItem(LAST, NAME, this._widget);
    }
    this._prominent = prominent;
  }

  _button({ title, turn }) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "lash-nb-resume";
    button.textContent = `lash: turn ${turn} can be resumed`;
    button.title =
      `Turn ${turn} was interrupted.\n${title}\n` +
      `Click: a cell with ${RESUME} is put below the one that asked, or below the active one. ` +
      "Nothing runs before you run that cell, " +
      "and it shows what is outstanding before it asks whether to go on.";
    button.setAttribute("aria-label", `lash: turn ${turn} can be resumed, insert a cell with ${RESUME}`);
    button.addEventListener("click", () => this._resume());
    return button;
  }

  // Puts the cell in and makes it the active one; one that was put in before, and was not run, serves again.
  _resume() {
    const { content } = this._panel;
    const source = this._loaded ? RESUME : `${LOAD}\n${RESUME}`;
    const find = id => content.widgets.findIndex(cell => cell.model.id === id);
    const model = content.widgets[find(this._inserted)]?.model;
    if (model === undefined || model.sharedModel.source !== source || model.executionCount !== null) {
      try {
        [this._inserted] = this._notebook.insert([{ cell_type: "code", source }], this._notebook.askingCell());
      } catch {
        return; // it has become read-only; the button goes with the next change
      }
    }
    reveal(this._panel, this._inserted);
  }
}

function label({ parts, title }) {
  const shown = document.createElement("span");
  shown.className = "lash-nb-label";
  shown.title = title;
  shown.setAttribute("role", "group");
  shown.setAttribute("aria-label", ["lash", ...parts].join(", "));
  shown.append("lash");
  for (const part of parts) {
    const isolated = document.createElement("bdi");
    isolated.textContent = part;
    shown.append(" · ", isolated);
  }
  return shown;
}

function addStyle() {
  if (document.getElementById("lash-nb-style") === null) {
    const style = document.createElement("style");
    style.id = "lash-nb-style";
    style.textContent = CSS;
    document.head.append(style);
  }
}
