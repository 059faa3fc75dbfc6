// The holder's half of the line to a notebook's kernel (lash_nb/stores/copies.py has the kernel's, and the messages).
//
// It listens to what the kernel publishes and sends on the shell channel: frontends handle comms on one connection of a
// kernel only, and may give each a subshell. A kernel that never loads lash_nb is asked one question a connection.

import { isObject, KEY, Refusal } from "./notebook.js";

const TARGET = "lash_nb.notebook";
const GONE = ["autorestarting", "dead", "restarting", "terminating"];
const LISTENING = ["busy", "idle"];
const CLOSING_MS = 400;
const GONE_SAID = "The kernel has ended meanwhile.";

const turn = value => (Number.isSafeInteger(value) && value > 0 ? value : null);
const text = value => (typeof value === "string" && value !== "" ? value : null);

function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}

export class Line {
  // `changed` is called when something of what is public here has changed.
  constructor(notebook, { KernelMessage, kind, changed }) {
    this.status = null; // what the kernel said last of its session
    this.loaded = false; // the kernel has lash_nb
    this.settled = true; // whether that is known
    this._notebook = notebook;
    this._KernelMessage = KernelMessage;
    this._kind = kind;
    this._changed = changed;
    this._holder = makeId();
    this._kernel = null;
    this._connections = [];
    this._clicks = new Map(); // what a person asked for, by its id: {told, taken}
    const session = notebook.context.sessionContext;
    this._session = [
      this._connected(session.kernelChanged, () => this._attach(session.session?.kernel ?? null)),
      this._connected(notebook.context.pathChanged, () => this.loaded && this._here())
    ];
    this._attach(session.session?.kernel ?? null);
  }

  close() {
    this._attach(null);
    this._session.forEach(disconnect => disconnect());
    this._changed = () => {};
  }

  _connected(signal, slot) {
    const safe = (sender, argument) => {
      try {
        slot(sender, argument);
      } catch (error) {
        console.debug("lash_nb:", error); // whoever sends the signal has nothing to do with it
      }
    };
    signal.connect(safe);
    return () => signal.disconnect(safe);
  }

  // ------------------------------------------------------------------------------------------ one kernel after another

  _attach(kernel) {
    this._connections.forEach(disconnect => disconnect());
    this._connections = [];
    this._kernel = kernel && !kernel.isDisposed ? kernel : null;
    this._requests = Promise.resolve();
    this._ended = false;
    this._forget();
    if (this._kernel !== null) {
      this._connections = [
        this._connected(kernel.iopubMessage, (_, message) => this._heard(message)),
        this._connected(kernel.statusChanged, (_, status) => this._statusIs(status)),
        this._connected(kernel.connectionStatusChanged, (_, status) => this._connectionIs(status)),
        this._claim(kernel)
      ];
      this._look();
    }
  }

  _forget() {
    const kernel = this._kernel;
    this.status = null;
    this.loaded = false;
    this.settled = kernel === null || kernel.status === "dead";
    this._asked = null;
    this._said = false; // that it is here
    this._clicks.forEach(({ told }) => told(null));
    this._clicks.clear();
    this._changed();
  }

  _statusIs(status) {
    if (GONE.includes(status)) {
      this._ended = true;
      this._forget();
    } else {
      this._look();
    }
  }

  _connectionIs(status) {
    if (status === "connected") {
      this._look();
    } else {
      // What is said meanwhile is not heard here; a kernel that was started again is connected to anew.
      this._asked = null;
      this._said = false;
      this._ended = false;
    }
  }

  // Is the comm there already? So it is after the page was loaded anew, and in a second tab.
  async _look() {
    const kernel = this._kernel;
    const listens = kernel?.connectionStatus === "connected" && LISTENING.includes(kernel.status);
    if (this._asked !== null || this._ended || !listens) {
      return;
    }
    const asked = (this._asked = { heard: false });
    let found = false;
    try {
      const { language_info: language } = await kernel.info;
      if (language?.name === "python") {
        const { content } = await kernel.requestCommInfo({ target_name: TARGET });
        found = Object.keys(content.comms ?? {}).includes(TARGET);
      }
    } catch {
      return; // the kernel was restarted, or is gone: its next connection begins anew
    }
    if (this._asked !== asked) {
      return;
    }
    if (found) {
      this._loadedIs();
      if (!this._said) {
        this._here();
      }
    } else if (!asked.heard) {
      this._forget();
      this._asked = asked;
      this.settled = true;
    }
  }

  _loadedIs() {
    if (!this.loaded) {
      this.loaded = this.settled = true;
      this._changed();
    }
  }

  // ------------------------------------------------------------------------------------------ what the kernel says

  _heard(message) {
    const { comm_id: comm, data } = message.content;
    if (message.header.msg_type !== "comm_msg" || comm !== TARGET || !isObject(data)) {
      return;
    }
    if (this._asked !== null) {
      this._asked.heard = true; // the answer to that may be older
    }
    const early = !this.settled && !this._said;
    this._loadedIs();
    if (data.op === "who" || early) {
      this._here(); // a kernel that is busy does not say whether it has the comm
    }
    if (data.op === "who") {
      return;
    }
    if (data.op === "status") {
      this._statusSaid(data);
    } else if (data.op === "pulled" || data.op === "inserted") {
      this._clickAnswered(data);
    } else {
      const kernel = this._kernel;
      const clients = Array.isArray(data.clients) ? data.clients : null; // those of the notebook that it is for
      if (clients !== null && !clients.includes(kernel.clientId)) {
        if (!this._said) {
          this._here(); // a page that was loaded anew while a cell runs is not known yet
        }
        return;
      }
      if (data.op === "place") {
        this._placed(kernel, data); // each page for itself
        return;
      }
      this._requests = this._requests
        .then(() => this._isAsked(kernel, message.parent_header.session, clients))
        .then(asked => void (asked && kernel === this._kernel && this._answer(kernel, data)));
    }
  }

  _statusSaid(data) {
    const status = {
      session: text(data.session),
      label: text(data.label),
      model: text(data.model),
      running: turn(data.running),
      interrupted: turn(data.interrupted)
    };
    this.status = Object.values(status).some(value => value !== null) ? status : null;
    this._changed();
  }

  // The page that sent the cell has the outputs by themselves.
  _placed(kernel, data) {
    const own = data.from === kernel.clientId;
    if (!own && !isObject(data.live) && !Array.isArray(data.outputs)) {
      this._here(); // the kernel did not know that somebody else is there
    } else {
      this._answer(kernel, own ? { id: data.id, op: "own" } : data);
    }
  }

  async _answer(kernel, data) {
    const told = { id: data.id, holder: this._holder };
    try {
      Object.assign(told, { ok: true }, await this._fulfil(data));
    } catch (error) {
      const why = error instanceof Refusal ? error.message : `the page failed: ${String(error).slice(0, 300)}`;
      Object.assign(told, { ok: false, error: why });
    }
    this._send(kernel, told);
  }

  // The change is made before this returns; only a save is waited for.
  _fulfil(data) {
    if (["get", "set"].includes(data.op) && data.key !== KEY) {
      throw new Refusal(`only ${KEY} can be got and set`);
    }
    switch (data.op) {
      case "get":
        return { value: this._notebook.block(), path: this._notebook.path };
      case "set":
        this._notebook.set(data.value);
        return data.save === true ? this._notebook.save() : {};
      case "save":
        return this._notebook.save();
      case "insert":
        return { cells: this._inserted(data) };
      case "replace":
        this._notebook.replace(data.cell, data.source, data.was);
        return {};
      case "place":
        this._notebook.place(data);
        return { placed: true };
      case "own":
        return { own: true };
      default:
        throw new Refusal("this page does not know how to do that");
    }
  }

  _inserted({ cells, after, active }) {
    const ids = this._notebook.insert(cells, after);
    if (active === true) {
      this._notebook.show(ids[0]);
    }
    return ids;
  }

  // ------------------------------------------------------------------------------------------ who is asked

  // Two pages, or two notebooks, may have one kernel. What it asks for is done where the running cell was sent from,
  // which alone has its outputs: another page that saved would write them out of the file. When that page is gone, one
  // of those that are left does it. A lock of the browser ends with the page that has it, whatever that dies of.
  _claim(kernel) {
    let release = () => {};
    const held = new Promise(resolve => (release = resolve));
    navigator.locks?.request(lockName(kernel, kernel.clientId), () => held).catch(() => {});
    return release;
  }

  async _isAsked(kernel, asker, clients) {
    const own = kernel.clientId;
    if (asker === own) {
      return true;
    }
    try {
      if ((await lockedBy(kernel)).includes(asker)) {
        // The lock of a page that is being closed is held a moment longer.
        await new Promise(resolve => setTimeout(resolve, CLOSING_MS));
      }
      const pages = (await lockedBy(kernel)).filter(page => clients === null || clients.includes(page));
      return !pages.includes(asker) && !pages.some(page => page < own);
    } catch {
      return true; // the page did not come over https: browsers have no locks then
    }
  }

  // ------------------------------------------------------------------------------------------ what is said to it

  _here() {
    this._said = true;
    const told = { holder: this._holder, kind: this._kind, path: this._notebook.path, value: this._notebook.block() };
    this._send(this._kernel, { op: "here", ...told });
  }

  // Has the kernel bring a variable of the agent's into itself, as a person has asked for; what came of it.
  async pull(name) {
    if (!this.loaded || this._kernel === null) {
      return "The notebook's kernel has no lash_nb: run %load_ext lash_nb first.";
    }
    return (await this._clicked({ op: "pull", name })) ?? GONE_SAID;
  }

  // Has the kernel put cells with the code of a turn below a cell; what came of it, null: it does not have that turn.
  insert(number, session, cell) {
    return this._clicked({ op: "insert", turn: number, session, cell });
  }

  _clicked(data) {
    const id = makeId();
    const told = new Promise(resolve => this._clicks.set(id, { told: resolve, taken: data.op === "pull" }));
    const sent = this._send(this._kernel, { ...data, id, holder: this._holder });
    // A kernel of an older lash_nb passes over what it does not know.
    void sent.then(() => this._clicks.get(id)?.taken === false && this._clickAnswered({ id, ok: false }));
    return told;
  }

  _clickAnswered({ op, id, ok, text: said }) {
    const click = this._clicks.get(id);
    if (op === "inserted" && ok === true && said === undefined && click !== undefined) {
      click.taken = true;
      return;
    }
    this._clicks.delete(id);
    click?.told(op === "pulled" || ok === true ? text(said) ?? "The kernel said nothing of it." : null);
  }

  // Settled when the kernel has taken it, or has ended.
  async _send(kernel, data) {
    if (kernel === null || kernel !== this._kernel || kernel.isDisposed || GONE.includes(kernel.status)) {
      return;
    }
    try {
      const message = this._KernelMessage.createMessage({
        msgType: "comm_msg",
        channel: "shell",
        username: kernel.username,
        session: kernel.clientId,
        content: { comm_id: TARGET, data }
      });
      await kernel.sendShellMessage(message, false, true).done.catch(() => {}); // it ended before it took it
    } catch (error) {
      console.debug("lash_nb:", error); // the connection has just ended
    }
  }
}

const lockName = (kernel, client) => `lash_nb:${kernel.id}:${client}`;

// The connections of the kernel whose pages are alive.
async function lockedBy(kernel) {
  const prefix = lockName(kernel, "");
  const { held } = await navigator.locks.query();
  return held.map(lock => lock.name).filter(name => name.startsWith(prefix)).map(name => name.slice(prefix.length));
}
