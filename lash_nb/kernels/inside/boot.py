"""Installs the features, each on its own: one that fails is reported and the others still work. Runs in the kernel."""

from __future__ import annotations

import builtins
import logging
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

PACKAGE = "lash_nb_inside"


class Inside:
    """What the features share; each sets what it provides. Held by their closures alone, so that no name finds it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.pid = os.getpid()
        self.guard = threading.RLock()
        """Held while outputs are recorded or sent, so that both have one order."""
        self.handlers: dict[str, Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], None]] = {}
        """Requests on the control channel: `handler(content, respond)`, on the control thread; `respond` from any."""
        self.send: Callable[..., Any]
        """`Session.send` as it was."""
        self.publish: Callable[[str, dict[str, Any], dict[str, Any]], None]
        """`publish(message type, content, parent header)` on IOPub, from any thread."""
        self.parent: Callable[[], dict[str, Any]]
        """The header of the request that the calling thread or task works for."""
        self.outlet: Any = None
        self.ledger: Any = None
        self.calls: Any = None
        self.watch: Any = None
        self.flush: Callable[[], None] = lambda: None
        """Everything written so far is recorded when it returns."""
        self.begin_streams: Callable[[dict[str, Any]], None] = lambda parent: None
        """A cell begins, for the request `parent`."""
        self.send_written: Callable[[], None] = lambda: None
        """The same for what is buffered, with the guard held."""
        self.at_first_cell: list[Callable[[], None]] = []
        self.host_lives: Callable[[], bool] = lambda: True


def load(codes: dict[str, str | types.CodeType]) -> dict[str, types.ModuleType]:
    """The files (source, or compiled) as modules of a package, in `sys.modules` only while they import each other."""
    package, own = types.ModuleType(PACKAGE), dict(vars(builtins))  # whatever a cell does to its own
    package.__path__ = []
    made = {PACKAGE: package}
    sys.modules[PACKAGE] = package
    try:
        for name, code in codes.items():
            module = types.ModuleType(f"{PACKAGE}.{name}")
            module.__package__ = PACKAGE
            module.__dict__["__builtins__"] = own
            sys.modules[module.__name__] = made[module.__name__] = module
            setattr(package, name, module)
            exec(compile(code, f"<lash_nb {name}>", "exec") if isinstance(code, str) else code, module.__dict__)
    finally:
        for full_name in made:
            sys.modules.pop(full_name, None)
    return {name.rpartition(".")[2]: module for name, module in made.items()}


def install_all(given: dict[str, Any]) -> None:
    from importlib.metadata import version

    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    shell.kernel.log.setLevel(logging.WARNING)  # else records are made of every message, four a cell, for nobody
    report = getattr(shell.kernel, "_lash_nb", None)
    if report is None:
        report = {"version": given["version"], "ipykernel": version("ipykernel"), "pid": os.getpid(), "failed": {}}
        modules = load(given["codes"])
        inside = Inside({**given["options"], "version": given["version"]})
        for name in given["features"]:
            try:
                modules[name].install(shell, inside)
            except Exception as error:
                report["failed"][name] = f"{type(error).__name__}: {error}"
        shell.kernel._lash_nb = report
    shell.payload_manager.write_payload({"source": "LashBoot", "report": report})


if "GIVEN" in globals():
    install_all(globals()["GIVEN"])
