// The frontend of a running turn: one document of plain blocks (lash_nb/views/document.py), drawn and kept up to date.
//
// Rules of this file:
// - What stands in a block is data. It becomes text, or the value of one of the few attributes named here. HTML goes in
//   by `html` only, which takes what Python made for that; frames have no scripts and no origin.
// - The document belongs to the model: it is complete before anything is drawn, and any number of views may show it.
// - Differences are numbered. Whoever misses one asks for the whole.
// - Focus is moved only where the person already is.

export default () => {
  let turn;
  return {
    initialize({ model }) {
      turn = new Turn(model);
      return () => turn.close();
    },
    render({ el }) {
      const view = new View(turn, el);
      turn.send({ do: "drawn" });
      return () => view.close();
    },
  };
};

// ------------------------------------------------------------------------------------------------------- the document

class Turn {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.heard = message => this.hear(message);
    this.changed = () => this.take(model.get("document"));
    model.on("msg:custom", this.heard);
    model.on("change:document", this.changed);
    this.take(model.get("document"));
    // What came before this line is in the state of then; something may have come since.
    this.send({ do: "whole" });
  }

  close() {
    this.model.off("msg:custom", this.heard);
    this.model.off("change:document", this.changed);
  }

  send(content) {
    this.model.send(content);
  }

  take(whole) {
    if (!whole || whole.number < this.number) return;
    const begun = performance.now() - whole.elapsed_s * 1000;
    this.begun = this.begun === undefined ? begun : Math.min(this.begun, begun);
    // The same again is what one asks for to be sure.
    if (whole.number === this.number) return;
    this.number = whole.number;
    this.blocks = new Map();
    this.held = new Map([["", []]]);
    for (const [id, fields] of whole.blocks) this.put(id, fields, this.held.get(fields.in)?.at(-1) ?? "");
    for (const view of this.views) view.redraw();
  }

  hear(message) {
    if (!Number.isInteger(message?.number) || message.number <= this.number) return;
    if (message.number !== this.number + 1) {
      this.send({ do: "whole" });
      return;
    }
    this.number = message.number;
    for (const operation of message.operations) this.apply(operation);
    for (const view of this.views) view.settle();
  }

  apply([what, id, ...rest]) {
    if (what === "add") {
      const [after, fields] = rest;
      this.put(id, fields, after);
      for (const view of this.views) view.add(id, after);
    } else if (what === "del") {
      for (const view of this.views) view.remove(id);
      this.drop(id);
    } else if (what === "set") {
      const fields = this.blocks.get(id);
      for (const [name, value] of Object.entries(rest[0])) {
        if (value === null) delete fields[name];
        else fields[name] = value;
      }
      for (const view of this.views) view.set(id, Object.keys(rest[0]));
    } else if (what === "edit") {
      const [name, start, stop, text] = rest;
      const fields = this.blocks.get(id);
      fields[name] = fields[name].slice(0, start) + text + fields[name].slice(stop);
      for (const view of this.views) view.edit(id, name, start, stop, text);
    }
  }

  put(id, fields, after) {
    this.blocks.set(id, { ...fields });
    if (!this.held.has(id)) this.held.set(id, []);
    const siblings = this.held.get(fields.in);
    siblings.splice(after === "" ? 0 : siblings.indexOf(after) + 1, 0, id);
  }

  drop(id) {
    for (const inner of [...this.held.get(id)]) this.drop(inner);
    const siblings = this.held.get(this.blocks.get(id).in);
    siblings.splice(siblings.indexOf(id), 1);
    this.held.delete(id);
    this.blocks.delete(id);
  }
}

// ------------------------------------------------------------------------------------------------------------- a view

class View {
  constructor(turn, el) {
    this.turn = turn;
    this.parts = new Map();
    this.toggled = new Map();
    this.decided = -Infinity; // when something was, last
    this.body = h("div", {});
    this.spoken = h("div", { class: "ln-unseen", role: "status", "aria-live": "polite" });
    this.root = h("div", { class: "lash-nb-turn", role: "region", "aria-label": "Agent turn" }, this.body, this.spoken);
    this.sayBar = sayBar(this);
    this.root.append(this.sayBar);
    el.append(this.root);
    this.keys = event => this.keep(event);
    window.addEventListener("keydown", this.keys, true);
    this.timer = setInterval(() => this.tick(), 500);
    turn.views.add(this);
    this.redraw();
  }

  close() {
    clearInterval(this.timer);
    window.removeEventListener("keydown", this.keys, true);
    this.turn.views.delete(this);
    this.root.remove();
  }

  // Before the frontend's own shortcuts, which listen on the document: `dd` in a text must not delete the cell, and
  // Enter on a button is a click. Saving still works.
  keep(event) {
    const target = event.target;
    if (!(target instanceof Element) || !this.root.contains(target)) return;
    const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    const ours = target.matches("input, textarea") ? !saves : ["Enter", " "].includes(event.key);
    target.toggleAttribute("data-lm-suppress-shortcuts", ours);
    if (ours) target.setAttribute("data-lm-suppress-shortcuts", "true");
    // A key that is held down must not click what the focus went to.
    if (event.repeat && event.key === "Enter" && target.matches("button, input")) event.preventDefault();
  }

  say(text) {
    this.spoken.textContent = "";
    setTimeout(() => (this.spoken.textContent = text), 50);
  }

  get running() {
    return this.turn.blocks?.get("head")?.running ?? false;
  }

  // -- drawing

  redraw() {
    this.parts.clear();
    this.body.replaceChildren();
    if (this.turn.blocks) this.draw("");
    this.settle();
  }

  draw(holder) {
    let after = "";
    for (const id of this.turn.held.get(holder)) {
      this.add(id, after);
      this.draw(id);
      after = id;
    }
  }

  add(id, after) {
    const fields = this.turn.blocks.get(id);
    const part = (KINDS[fields.kind] ?? KINDS.text)(this, fields, id);
    this.parts.set(id, part);
    const holder = fields.in === "" ? this.body : this.parts.get(fields.in).body;
    const before = after === "" ? null : this.parts.get(after).el;
    if (before) before.after(part.el);
    else holder.prepend(part.el);
  }

  remove(id) {
    for (const inner of this.turn.held.get(id)) this.remove(inner);
    const part = this.parts.get(id);
    const hadFocus = part.el.contains(document.activeElement);
    part.el.remove();
    this.parts.delete(id);
    if (hadFocus) this.parts.get("head")?.stop.focus();
  }

  set(id, names) {
    const part = this.parts.get(id);
    part.set?.(this.turn.blocks.get(id), names);
  }

  edit(id, name, start, stop, text) {
    const part = this.parts.get(id);
    if (part.edit) part.edit(this.turn.blocks.get(id), name, start, stop, text);
    else part.set?.(this.turn.blocks.get(id), [name]);
  }

  // After a change: what depends on the whole.
  settle() {
    this.sayBar.hidden = !this.turn.blocks?.get("head")?.say;
    for (const button of this.root.querySelectorAll("[data-while-running]")) button.hidden = !this.running;
    this.tick();
    const ask = this.turn.blocks?.get("ask");
    if (ask && ask.approval !== this.asked && !ask.decided && ask.here) {
      const here = document.activeElement;
      const inside = this.root.contains(here);
      // What is being written is not left, nor Stop; nobody's page is scrolled who is elsewhere. The question as a whole
      // has the focus, never a button: whoever types on must not approve.
      const free = inside && here !== this.parts.get("head")?.stop && !here.matches("input, textarea");
      if (free || !here || here === document.body) this.parts.get("ask").el.focus({ preventScroll: !inside });
      this.say(ask.question);
    }
    this.asked = ask?.approval;
  }

  tick() {
    const clock = this.parts.get("head")?.clock;
    if (!clock) return;
    if (this.running) clock.textContent = ` · ${Math.max(0, Math.floor((performance.now() - this.turn.begun) / 1000))} s`;
    else clock.textContent = "";
  }
}

// --------------------------------------------------------------------------------------------------------- small parts

function h(tag, attributes, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children);
  return el;
}

// The only way for HTML: `trusted` was made by lash_nb/views (prose_html, answer_html, safe_markup).
function html(el, trusted) {
  el.innerHTML = trusted;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function button(label, onclick, more = {}) {
  const { small, ...attributes } = more;
  return h("button", { type: "button", class: small ? "ln-small" : undefined, ...attributes, onclick }, label);
}

// Enter in a field; the key does nothing more, to what has the focus then.
function entered(event, done) {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault();
  done();
}

// A text of head, gap and tail. Texts are edited in place: what somebody has selected stays so.
function growing(el, fields) {
  const nodes = { head: document.createTextNode(""), gap: document.createTextNode(""), tail: document.createTextNode("") };
  const gap = h("span", { class: "ln-soft" }, nodes.gap);
  el.append(nodes.head, gap, nodes.tail);
  const set = fields => {
    for (const name of ["head", "tail"]) if (nodes[name].data !== (fields[name] ?? "")) nodes[name].data = fields[name] ?? "";
    const shown = fields.gap ? `\n${fields.gap}\n` : "";
    if (nodes.gap.data !== shown) nodes.gap.data = shown;
  };
  const edit = (fields, name, start, stop, text) => {
    if (name === "gap" || !nodes[name]) set(fields);
    else nodes[name].replaceData(start, stop - start, text);
  };
  set(fields);
  return { set, edit };
}

function whole(fields) {
  return fields.gap ? `${fields.head}\n${fields.gap}\n${fields.tail}` : fields.head;
}

// <details> that stands open as told, until the person opens or closes it.
function folding(view, id, fields, ...inside) {
  const summary = h("summary", {});
  const body = h("div", { class: "ln-inset" });
  body.append(...inside);
  const el = h("details", {}, summary, body);
  summary.addEventListener("click", () => view.toggled.set(id, !el.open));
  const open = fields => (el.open = view.toggled.get(id) ?? fields.open ?? false);
  open(fields);
  return { el, body, summary, open };
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { style: "position: fixed; opacity: 0" });
    const here = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    here?.focus({ preventScroll: true });
    return done;
  }
}

// --------------------------------------------------------------------------------------------------- code, highlighted

const KEYWORDS = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda nonlocal not or pass raise return try while with yield match case").split(" "),
);
const TOKENS =
  /(?<comment>#[^\n]*)|(?<string>[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?))|(?<name>[\p{L}_][\p{L}\p{N}_]*)|(?<number>\d[\w.]*)/gu;
const MOST_COLOURED = 20000;

function paint(code, text, language) {
  if (language !== "python" || text.length > MOST_COLOURED) {
    write(code, text);
    return;
  }
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(TOKENS)) {
    const { comment, string, name, number } = found.groups;
    const kind = comment !== undefined ? "comment" : string !== undefined ? "string" : number !== undefined ? "number" : KEYWORDS.has(name) && "keyword";
    if (!kind) continue;
    parts.push(text.slice(end, found.index), h("span", { class: `ln-${kind}` }, found[0]));
    end = found.index + found[0].length;
  }
  code.replaceChildren(...parts, text.slice(end));
}

// -------------------------------------------------------------------------------------------------- the kinds of block

const LONG_NAME = 40; // of a variable or its type: it is broken, others are not

const KINDS = {
  head(view, fields) {
    const sentence = h("span", { class: "ln-sentence", role: "status", "aria-live": "polite" });
    const clock = h("span", { class: "ln-clock ln-soft", "aria-hidden": "true" });
    const usage = h("span", { class: "ln-soft" });
    const stop = button("Stop", () => view.turn.send({ do: "stop" }), { title: "Stop this turn" });
    const el = h("div", { class: "ln-head ln-row" }, stop, h("span", {}, sentence, clock), usage);
    const set = fields => {
      write(sentence, fields.sentence);
      write(usage, fields.usage ? `· ${fields.usage}` : "");
      stop.hidden = !fields.running;
      stop.disabled = fields.stopping;
    };
    set(fields);
    return { el, set, stop, clock };
  },

  step(view, fields) {
    const body = h("div", {});
    const el = h("section", { "aria-label": `Step ${fields.number}` }, h("h4", {}, `Step ${fields.number}`), body);
    return { el, body };
  },

  prose(view, fields) {
    const el = h("div", { class: "jp-RenderedHTMLCommon ln-scroll" });
    return { el, ...words(el, fields) };
  },

  thought(view, fields, id) {
    const inside = h("div", { class: "jp-RenderedHTMLCommon ln-scroll" });
    const { el, summary } = folding(view, id, fields, inside);
    summary.append("Reasoning");
    return { el, ...words(inside, fields) };
  },

  code(view, fields, id) {
    const code = h("code", {});
    const pre = h("pre", { class: "ln-scroll", tabindex: "0", "aria-label": "Code" }, code);
    const told = h("span", { class: "ln-told", role: "status" });
    const copy = button("Copy", async () => {
      const done = await copied(whole(view.turn.blocks.get(id)));
      view.say(done ? "Copied" : "It could not be copied");
      write(told, done ? "Copied" : "It could not be copied: select it, and copy by hand");
    }, { small: true });
    const step = Number(fields.in.slice(1));
    const insert = button("Insert as cell", () => view.turn.send({ do: "insert", step }), { small: true, "data-while-running": true });
    const slot = h("span", {}, insert);
    const folded = folding(view, id, fields, pre, h("div", { class: "ln-row" }, copy, slot, told));
    const set = (fields, names) => {
      const text = whole(fields);
      const lines = text.split("\n").length;
      write(folded.summary, `Code (${fields.language.slice(0, 40)}, ${lines} line${lines === 1 ? "" : "s"})`);
      paint(code, text, fields.language);
      copy.hidden = Boolean(fields.gap);
      slot.hidden = !fields.insert;
      if (!names || names.includes("told")) write(told, fields.told);
      folded.open(fields);
    };
    set(fields);
    return { el: folded.el, set };
  },

  output(view, fields, id) {
    const folded = folding(view, id, fields);
    const plain = h("p", { class: "ln-note" });
    const detail = h("p", { class: "ln-grows" });
    const el = h("div", {}, folded.el, plain, detail);
    const set = fields => {
      write(folded.summary, fields.summary);
      write(plain, fields.summary);
      write(detail, fields.detail);
      folded.open(fields);
      folded.el.hidden = fields.empty;
      plain.hidden = !fields.empty || fields.summary === "Output";
      detail.hidden = !fields.detail;
    };
    set(fields);
    return { el, body: folded.body, set };
  },

  text(view, fields) {
    const el = h("pre", { class: `ln-scroll${fields.name === "error" ? " ln-error" : ""}`, tabindex: "0", "aria-label": "Output" });
    return { el, ...growing(el, fields) };
  },

  markup(view, fields) {
    const el = h("div", { class: "jp-RenderedHTMLCommon ln-scroll", tabindex: "0", role: "group", "aria-label": "Output" });
    const set = fields => html(el, fields.html);
    set(fields);
    return { el, set };
  },

  image(view, fields) {
    const image = h("img", { class: "ln-figure" });
    const set = fields => {
      image.alt = `Image (${fields.alt})`;
      if (/^data:image\/(png|jpeg|gif|webp|svg\+xml);base64,/.test(fields.src)) image.src = fields.src;
    };
    set(fields);
    return { el: h("p", {}, image), set };
  },

  frame(view, fields) {
    // The sandbox comes first: nothing is loaded without it.
    const el = h("iframe", { sandbox: "", title: "Output as HTML", referrerpolicy: "no-referrer", loading: "lazy" });
    const set = fields => {
      el.style.height = `${Number(fields.height)}px`;
      el.srcdoc = fields.srcdoc;
    };
    set(fields);
    return { el, set };
  },

  calls() {
    const el = h("ul", { "aria-label": "Tool calls" });
    return { el, body: el };
  },

  call(view, fields) {
    const el = h("li", {});
    const set = fields => write(el, fields.head);
    set(fields);
    return { el, set };
  },

  note: line("p", "ln-note ln-grows", ""),
  error: line("p", "ln-grows", "Error: "),
  waiting: line("p", "ln-note ln-grows", "Waiting to be delivered: "),

  answer(view, fields) {
    const el = h("div", { class: "jp-RenderedHTMLCommon ln-scroll" });
    const set = fields => html(el, fields.html);
    set(fields);
    return { el, set };
  },

  ask(view, fields) {
    return asking(view, fields);
  },

  vars(view, fields, id) {
    const rows = h("tbody", {});
    const head = h("tr", {}, ...["Variable", "Type", "Detail", ""].map(one => h("th", { scope: "col" }, one || h("span", { class: "ln-unseen" }, "Actions"))));
    const table = h("table", {}, h("thead", {}, head), rows);
    const more = h("p", { class: "ln-soft" });
    const scroll = h("div", { class: "ln-scroll", tabindex: "0", role: "group", "aria-label": "Variables" }, table);
    const folded = folding(view, id, fields, scroll, more);
    const set = fields => {
      write(folded.summary, `New and changed variables (${fields.count})`);
      write(more, fields.more ? `and ${fields.more} more` : "");
      folded.open(fields);
    };
    set(fields);
    return { el: folded.el, body: rows, set };
  },

  var(view, fields, id) {
    const cells = { name: h("code", {}), type: h("td", {}), detail: h("td", {}) };
    const state = h("span", { class: "ln-soft" });
    const told = h("span", { class: "ln-told", role: "status" });
    const pull = button("Pull", () => view.turn.send({ do: "pull", variable: id }), { small: true, "data-while-running": true });
    const slot = h("span", {}, pull);
    const el = h("tr", {}, h("th", { scope: "row" }, cells.name, " ", state), cells.type, cells.detail, h("td", {}, slot, " ", told));
    const set = fields => {
      for (const [name, cell] of Object.entries(cells)) {
        write(cell, fields[name]);
        cell.classList.toggle("ln-long", fields[name].length > LONG_NAME);
      }
      write(state, fields.new ? "new" : "changed");
      write(told, fields.told);
      slot.hidden = !fields.pull;
      pull.setAttribute("aria-label", `Pull ${fields.name}`);
      pull.title = "Bring a copy into this notebook's kernel";
    };
    set(fields);
    return { el, set };
  },
};

function line(tag, classes, before) {
  return (view, fields) => {
    const el = h(tag, { class: classes }, before);
    return { el, ...growing(el, fields) };
  };
}

// Words of the model: text while they come, then the HTML that was made of them.
function words(el, fields) {
  let grown;
  const set = fields => {
    if (fields.html !== undefined) {
      grown = undefined;
      el.classList.remove("ln-grows");
      html(el, fields.html);
    } else if (grown) {
      grown.set(fields);
    } else {
      el.replaceChildren();
      el.classList.add("ln-grows");
      grown = growing(el, fields);
    }
  };
  const edit = (fields, ...rest) => (grown ? grown.edit(fields, ...rest) : set(fields));
  set(fields);
  return { set, edit };
}

// What is asked about, where that is too long for a sentence: in short, until somebody wants all of it.
function targeted() {
  const brief = h("pre", { class: "ln-wraps", tabindex: "0", "aria-label": "What it is about, in short" });
  const whole = h("pre", { class: "ln-wraps", tabindex: "0", "aria-label": "What it is about" });
  const folded = h("details", {}, h("summary", {}, "All of it"), whole);
  folded.addEventListener("toggle", () => (brief.hidden = folded.open || !brief.textContent));
  const set = (fields, another) => {
    write(brief, fields.brief);
    write(whole, fields.target);
    folded.hidden = fields.brief === fields.target;
    if (another) folded.open = false;
    brief.hidden = folded.open || !fields.brief;
  };
  return { els: [brief, folded], set };
}

const RESTS_MS = 500;

// What waits for a decision.
function asking(view, fields) {
  const question = h("span", { class: "ln-question", id: `ln-${crypto.getRandomValues(new Uint32Array(2)).join("-")}` });
  const code = h("code", {});
  const pre = h("pre", { class: "ln-wraps", tabindex: "0", "aria-label": "Code to decide on" }, code);
  const covers = h("p", { class: "ln-soft ln-covers", id: `${question.id}-covers` });
  const target = targeted();
  const area = h("textarea", { "aria-label": "The code, edited", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const why = h("input", { type: "text", "aria-label": "Why (optional): the model is told", placeholder: "Why? (optional, the model is told)", autocomplete: "off" });
  const decide = (verdict, more = {}) => {
    const { approval } = fields;
    view.decided = performance.now();
    view.parts.get("head").stop.focus({ preventScroll: true });
    for (const one of el.querySelectorAll("button, input, textarea")) one.disabled = true;
    view.turn.send({ do: "decide", approval, verdict, ...more });
  };
  const rows = {
    ask: h(
      "div",
      { class: "ln-row" },
      button("Approve", () => decide("approved")),
      button("Approve all like it", () => decide("approved", { alike: true }), { "aria-describedby": covers.id }),
      button("Edit", () => turnTo("edit", area), { "data-of-cell": true }),
      button("Reject", () => turnTo("reject", why)),
      covers,
    ),
    edit: h(
      "div",
      { class: "ln-row" },
      button("Run edited", () => area.value.trim() && decide("edited", { code: area.value })),
      button("Cancel", () => turnTo("ask", first)),
    ),
    reject: h(
      "div",
      { class: "ln-row" },
      why,
      button("Reject", () => decide("rejected", { why: why.value })),
      button("Cancel", () => turnTo("ask", first)),
    ),
  };
  const first = rows.ask.firstChild;
  const el = h("div", { class: "ln-ask", role: "group", tabindex: "-1", "aria-labelledby": question.id }, question, ...target.els, pre, area, ...Object.values(rows));
  const turnTo = (mode, focused) => {
    for (const [name, row] of Object.entries(rows)) row.hidden = name !== mode || !fields.here;
    area.hidden = mode !== "edit";
    pre.hidden = mode === "edit" || !fields.of_cell;
    if (focused === area) {
      area.value = fields.raw ?? fields.code;
      area.rows = Math.min(24, area.value.split("\n").length + 1);
    }
    focused?.focus({ preventScroll: true });
  };
  why.addEventListener("keydown", event => {
    entered(event, () => decide("rejected", { why: why.value }));
    if (event.key === "Escape") turnTo("ask", first);
  });
  area.addEventListener("keydown", event => event.key === "Escape" && turnTo("ask", first));
  let shown, resting;
  const able = () => {
    for (const one of el.querySelectorAll("button, input, textarea")) one.disabled = fields.decided || resting !== undefined;
  };
  // A click that was meant for the question before must not answer this one.
  const rest = () => {
    clearTimeout(resting);
    resting = setTimeout(() => {
      resting = undefined;
      able();
    }, RESTS_MS);
  };
  const set = now => {
    fields = now;
    write(question, fields.question);
    target.set(fields, fields.approval !== shown);
    paint(code, fields.code, fields.language);
    write(covers, fields.covers);
    covers.hidden = !fields.covers;
    rows.ask.children[1].hidden = !fields.alike;
    rows.ask.children[2].hidden = !fields.of_cell;
    // Another question in the place of one that was answered; not one in whose answer somebody is.
    if (fields.approval !== shown) {
      turnTo("ask");
      if (shown !== undefined || performance.now() - view.decided < RESTS_MS) rest();
    }
    shown = fields.approval;
    able();
  };
  set(fields);
  return { el, set };
}

function sayBar(view) {
  const input = h("input", { type: "text", "aria-label": "Say something to the agent", placeholder: "Say something to the agent", autocomplete: "off" });
  const send = () => {
    const text = input.value.trim();
    if (!text) return;
    view.turn.send({ do: "say", text });
    input.value = "";
    view.say("Sent: it is delivered before the next step");
  };
  input.addEventListener("keydown", event => entered(event, send));
  return h("div", { class: "ln-row ln-say" }, input, button("Send", send));
}
