// What an offered cell (`%lash fix`) has below it: put it below this one, in the place of the one that failed, or copy it.
//
// All of it is the page's own doing: it works without a kernel, when the notebook is opened again, too.

import { isObject } from "./notebook.js";
import { Row, text } from "./row.js";

export const OFFER_MIME = "application/vnd.lash_nb.offer+json";

const MOST = 1000000; // characters of a cell

// What there is to offer: `{source, before, cell}`, the last two null where nothing is to be replaced; or null.
export function readOffer(value) {
  if (!isObject(value) || value.version !== 1 || text(value.source) === null || value.source.length > MOST) {
    return null;
  }
  const replaces = text(value.cell_id) !== null && typeof value.before === "string";
  return {
    source: value.source,
    before: replaces ? value.before : null,
    cell: replaces ? value.cell_id : null
  };
}

export class Offer extends Row {
  constructor(offer, host) {
    super("lash: the corrected cell", host);
    this._offer = offer;
    this._insert = this._button("Insert below", () => this._insertCell(offer.source, "It is the cell below, not run yet."));
    this._insert.title = "A cell with the corrected code is put below this one. It is not run.";
    this._replace = this._button("Replace", () => this._replaceCell());
    this._replace.title = "The code of the cell that failed is replaced, which can be undone. It is not run.";
    this._button("Copy", () => this._copy(offer.source, "The corrected cell"));
    this.node.append(this._status);
    this.update();
  }

  update() {
    const { cell, before } = this._offer;
    const writes = this._writes;
    this._show(this._insert, writes);
    this._show(this._replace, writes && cell !== null && this._host().notebook.sourceOf(cell) === before);
  }

  _replaceCell() {
    const { cell, source, before } = this._offer;
    this._change("Nothing was replaced", "The cell has its new code, not run yet.", ({ notebook }) => {
      notebook.replace(cell, source, before);
      return cell;
    });
  }
}

export function offerRow(data, metadata, host) {
  const offer = readOffer(data);
  return offer === null ? null : new Offer(offer, host);
}
