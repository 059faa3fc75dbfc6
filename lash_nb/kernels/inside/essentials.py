"""A cell does not end with the kernel's own parts broken. Runs in the kernel.

Code can break the kernel that runs it: a builtin, `json.dumps`, a handler, a stream. What the kernel cannot work
without is put back when the cell's code has ended, and the cell is told; what was replaced by something that works
stays.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable
from operator import is_
from typing import Any

BROKEN = 70
"""The exit status of a kernel that a cell has broken beyond repair."""
PROBES: dict[str, Callable[[Any], bool]] = {
    "__import__": lambda f: f("sys") is sys,
    "callable": lambda f: f(f) is True and f(1) is False,
    "dict": lambda f: f(a=1) == {"a": 1},
    "getattr": lambda f: f(1, "x", 2) == 2,
    "hasattr": lambda f: f(1, "real") is True and f(1, "x") is False,
    "isinstance": lambda f: f(1, int) is True and f(1, str) is False,
    "issubclass": lambda f: f(bool, int) is True,
    "len": lambda f: f("ab") == 2,
    "list": lambda f: f("ab") == ["a", "b"],
    "str": lambda f: f(12) == "12",
    "tuple": lambda f: f([1]) == (1,),
    "type": lambda f: f(1) is int,
}
"""What a builtin that a cell has replaced must still do."""
PARTS = {
    "kernel": "comm_manager control_handlers control_stream control_thread display_pub do_execute execute_request "
    "iopub_socket iopub_thread log parent post_handler_hook pre_handler_hook session shell shell_handlers shell_stream "
    "shell_channel_thread stdin_socket",
    "get_ipython()": "display_pub displayhook events kernel payload_manager run_cell run_cell_async showtraceback "
    "user_ns",
    "session": "auth check_pid deserialize feed_identities key msg msg_header pack send serialize sign unpack",
    "json": "JSONDecoder JSONEncoder dumps loads",
    "time": "monotonic perf_counter sleep time",
    "threading": "Condition Event Lock RLock Thread current_thread get_ident main_thread",
    "os": "close getpid open read write",
    "inspect": "isawaitable",
    "asyncio": "current_task ensure_future get_event_loop get_running_loop",
    "sys.stdout": "pub_thread",
    "sys.stderr": "pub_thread",
}
"""What the kernel uses that a cell can replace."""
CALLED = {
    "display_pub": "clear_output publish set_parent",
    "displayhook": "__call__ set_parent",
    "events": "register trigger unregister",
    "log": "debug error info warning",
    "payload_manager": "clear_payload read_payload write_payload",
}
"""What the kernel calls on those of them that cells replace by something of another kind."""
MODULES = ("sys", "builtins", "zmq", "IPython", "ipykernel")
"""Those without which no part of it works."""


class Essentials:
    """What the kernel itself needs of what a cell can change: put back at the cell's end where it does not work.

    What was replaced by something of its kind stays, because cells may patch what they like. Bound here is what this
    needs of the builtins: they may be what is broken.
    """

    def __init__(self, shell: Any) -> None:
        kernel = shell.kernel
        owners = {"kernel": kernel, "get_ipython()": shell, "session": kernel.session}
        owners |= {"sys.stdout": sys.stdout, "sys.stderr": sys.stderr}
        self.parts = [
            (owner, f"{label}.{name}", name, getattr(owner, name))
            for label, names in PARTS.items()
            if (owner := owners.get(label, sys.modules.get(label))) is not None
            for name in names.split()
            if getattr(owner, name, None) is not None
        ]
        self.handlers = [(handlers, dict(handlers)) for handlers in (kernel.shell_handlers, kernel.control_handlers)]
        self.builtins, self.live = dict(vars(builtins)), vars(builtins)
        self.values = tuple(self.builtins.values())
        self.modules, self.streams = dict(sys.modules), {"stdout": sys.stdout, "stderr": sys.stderr}
        self.hidden = {name: value for name, value in shell.user_ns.items() if name.startswith("_")}
        self.user_ns = shell.user_ns
        self.bound = (getattr, setattr, callable, type, all, map, Exception)
        self.is_a = isinstance

    def put_back(self) -> list[str]:
        """The names of what had to be."""
        get, put, is_callable, _, every, each, any_error = self.bound
        found: list[str] = []
        live = self.live
        if not every(each(is_, each(live.get, self.builtins), self.values)):
            for name, value in self.builtins.items():
                now = live.get(name)
                if now is not value and not self.serves(name, now, value):
                    live[name] = value
                    found += [f"builtins.{name}"]
        for owner, label, name, value in self.parts:
            try:
                now = get(owner, name)
            except any_error:
                now = None
            if now is value:
                continue
            if name == "key" or not self.stands_in(name, now, value):
                put(owner, name, value)
                found += [label]
        for handlers, values in self.handlers:
            for name, value in values.items():
                if not is_callable(handlers.get(name)):  # not told: they are nobody's but the kernel's
                    handlers[name] = value
        if "_oh" not in self.user_ns:  # the namespace was emptied, with what IPython itself keeps there
            self.user_ns.update(self.hidden)
            found += ["the namespace's own names"]
        return found + self.put_back_modules() + self.put_back_streams()

    def stands_in(self, name: str, now: Any, value: Any) -> bool:
        """Whether what is in the place of one of the parts will do."""
        get, _, is_callable, kind, every, each, any_error = self.bound
        if name not in CALLED:
            return is_callable(now) if is_callable(value) else self.is_a(now, kind(value))
        try:
            return every(each(is_callable, [get(now, called) for called in CALLED[name].split()]))
        except any_error:
            return False

    def serves(self, name: str, now: Any, value: Any) -> bool:
        """Whether what is in a builtin's place will do."""
        _, _, is_callable, _, _, _, any_error = self.bound
        if not is_callable(value):
            return name in self.live
        try:
            return is_callable(now) and (name not in PROBES or PROBES[name](now))
        except any_error:
            return False

    def put_back_modules(self) -> list[str]:
        """Only when those that every part of the kernel needs are gone: cells may forget what they like."""
        for name in MODULES:
            if name not in sys.modules:
                for missing in self.modules.keys() - sys.modules.keys():
                    sys.modules[missing] = self.modules[missing]
                return ["sys.modules"]
        return []

    def put_back_streams(self) -> list[str]:
        found = []
        for name, value in self.streams.items():
            now = getattr(sys, name, None)
            if now is value:
                continue
            try:
                now.flush()  # type: ignore[union-attr]  # None does not serve either
                if not callable(now.write) or getattr(now, "closed", False) is True:  # type: ignore[union-attr]
                    raise ValueError
            except Exception:
                setattr(sys, name, value)
                found += [f"sys.{name}"]
        return found


def install(shell: Any, inside: Any) -> None:
    """Put them back after each cell; they are what they are at the first one, when everything is installed."""
    made: list[Essentials] = []
    kernel, ledger, leave = shell.kernel, inside.ledger, os._exit
    publisher = kernel.iopub_thread
    threads = (publisher.thread, kernel.control_thread, kernel.shell_channel_thread)
    alive = [thread.is_alive for thread in threads]
    alive.append(lambda: publisher.socket is not None)
    send, socket = kernel.session.send, kernel.iopub_socket
    inside.at_first_cell.append(lambda: made.append(Essentials(shell)))

    def put_back() -> None:
        found = made[0].put_back() if made else []
        if not all(ask() for ask in alive):  # it hears or says nothing any more, and nobody would learn of it
            leave(BROKEN)
        if found:
            inside.outlet.queue.woken = False  # whoever was woken meanwhile may have failed
        if found and ledger.running is not None:
            more = f" and {len(found) - 8} more" if len(found) > 8 else ""
            inside.flush()  # what the cell wrote stands before it
            text = f"[put back, because the kernel cannot work without: {', '.join(found[:8])}{more}]\n"
            send(
                socket, "stream", {"name": "stderr", "text": text}, parent=ledger.running.header, ident=b"stream.stderr"
            )

    ledger.repair = put_back
