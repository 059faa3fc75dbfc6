// A row of buttons below a bundle: what all rows have in common, and the renderers that put them there.
//
// The bundle is drawn by the application's own renderer, with the application's trust. What the buttons are about comes
// from the file and is untrusted: shown as plain text, bounded; what is not of the form is passed over. No click runs code.

import { plain } from "./item.js";
import { reveal } from "./notebook.js";

const RANK = 45; // before text/html, which is in the same bundle
const WHY = 200;

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

export const text = value => (typeof value === "string" && value.trim() !== "" ? value : null);

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

// A row; `host` says in which notebook it stands: `{panel, cell, notebook, line}`, null where that is none.
export class Row {
  constructor(label, host) {
    this._host = host;
    this.node = document.createElement("div");
    this.node.className = "lash-nb-offers";
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", label);
    this._status = document.createElement("span");
    this._status.setAttribute("role", "status");
  }

  // Something has changed on which it depends what can be done.
  update() {}

  _button(label, clicked, place = this.node) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => void clicked());
    place.append(button);
    return button;
  }

  // The focus of one that goes is given to another one.
  _show(button, shown) {
    if (button.hidden === !shown) {
      return;
    }
    const focused = !shown && document.activeElement === button;
    button.hidden = !shown;
    if (focused) {
      this.node.querySelector("button:not([hidden])")?.focus();
    }
  }

  _say(said) {
    this._status.textContent = said;
  }

  async _copy(value, what) {
    this._say((await copy(value)) ? `${what} is on the clipboard.` : "The browser does not let this page copy.");
  }

  get _writes() {
    const host = this._host();
    return host?.cell != null && host.notebook.writable;
  }

  // Puts a cell below the one in which the row stands, and goes to it.
  _insertCell(source, said) {
    this._change("Nothing was inserted", said, ({ notebook, cell }) => {
      const [id] = notebook.insert([{ cell_type: "code", source }], cell.model.id);
      return id;
    });
  }

  // `change` says which cell it has changed.
  _change(otherwise, said, change) {
    const host = this._host();
    try {
      const id = change(host);
      document.activeElement?.blur(); // the focus goes to that cell, not to another button when this one is hidden
      reveal(host.panel, id);
      this._say(said);
    } catch (error) {
      this._say(`${otherwise}: ${plain(String(error?.message ?? error), WHY)}.`);
    }
    this.update(); // it may have become read-only
  }
}

// Renderers of one MIME type, for a registry of renderers; `row` makes the row of a bundle, null: it has none. `seen` are
// those that can be seen, to be told of changes.
export function rowFactory({ mime, row, registry, Panel, Widget, hostOf, seen }) {
  class WithRow extends Panel {
    constructor(options) {
      super();
      this._options = options;
      this.addClass("lash-nb-finished");
    }

    async renderModel(model) {
      const { [mime]: data, ...bundle } = model.data;
      const mimeType = registry.preferredMimeType(bundle, model.trusted ? "any" : "ensure");
      if (mimeType !== this._mimeType) {
        this._bundle?.dispose();
        this._mimeType = mimeType;
        this._bundle = mimeType && registry.getFactory(mimeType).createRenderer({ ...this._options, mimeType });
        if (this._bundle) {
          this.insertWidget(0, this._bundle);
        }
      }
      this._offer(data, model.metadata);
      await this._bundle?.renderModel(model);
    }

    _offer(data, metadata) {
      this._below?.dispose();
      this._row = row(data, metadata, () => hostOf(this));
      if (this._row !== null) {
        addStyle();
        this._below = new Widget({ node: this._row.node });
        this.addWidget(this._below);
        this._row.update();
      }
    }

    refresh() {
      this._row?.update();
    }

    onAfterAttach(message) {
      super.onAfterAttach(message);
      seen.add(this);
      this._row?.update();
    }

    onBeforeDetach(message) {
      seen.delete(this);
      super.onBeforeDetach(message);
    }
  }

  return {
    safe: true, // as text/html is
    mimeTypes: [mime],
    defaultRank: RANK,
    createRenderer: options => new WithRow(options)
  };
}

// A plain key on a button is for the button: Enter would edit the cell, D D would delete it. With Ctrl, Alt or Cmd it is
// the application's, as to save. What that goes by is set before its own listener is asked, which is the document's: in
// Notebook a capturing one.
function keepPlainKeys(event) {
  const button = event.target instanceof Element ? event.target.closest(".lash-nb-offers button") : null;
  button?.toggleAttribute("data-lm-suppress-shortcuts", !(event.ctrlKey || event.metaKey || event.altKey));
}

// Once for the page.
function addStyle() {
  if (document.getElementById("lash-nb-finished-style") === null) {
    const style = document.createElement("style");
    style.id = "lash-nb-finished-style";
    style.textContent = CSS;
    document.head.append(style);
    window.addEventListener("keydown", keepPlainKeys, true);
  }
}
