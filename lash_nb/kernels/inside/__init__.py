"""What runs inside a Python kernel: sent there as source by one silent cell; its Python need not have lash_nb.

Rules of the files beside this one: standard library, IPython, ipykernel and zmq only. `PARTS` are plain modules that
the others import (the host imports them too); `FEATURES` each have one `install(shell, inside)` that raises when what
they build on is not there, and reach each other through `inside` alone (`Inside` in `boot.py`). Those in `REQUIRED`
must be in force; the kernel works without the others, and the host is told which.
Nothing of it shows: no name in the user's namespace or in `sys.modules`, no frame in a traceback. What agent code is to
call lies beside the builtins: `finish`, `tools`, `ToolError`, `read_output`. Installing twice does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

__all__ = ["FEATURES", "PARTS", "REQUIRED", "VERSION", "bootstrap"]

VERSION = 4
PARTS = (
    "text",
    "entries",
    "record",
    "json_values",
    "spill",
    "effects",
    "hosts",
    "kinds",
    "libraries",
    "signatures",
    "bounded",
    "showing",
    "describing",
    "plugins",
    "describer",
    "reducing",
    "pickling",
    "unpickling",
    "needed",
    "parcels",
)
FEATURES = (
    "control",
    "parents",
    "outlet",
    "streams",
    "ledger",
    "calls",
    "guard",
    "finish",
    "stdin",
    "pager",
    "tracebacks",
    "namespace",
    "sharing",
    "surroundings",
    "changes",
    "interrupts",
    "watchdog",
)
REQUIRED = frozenset({"calls", "control", "finish", "guard", "ledger", "namespace", "outlet", "parents"})


def bootstrap(*, options: Mapping[str, object] | None = None) -> str:
    """The cell that installs everything and reports, as the reply's payload, what is in force.

    Options: `limits` (of `Record`), `spill_dir`, `spill_bytes`, `recorded` (cells whose outputs the ledger keeps),
    `orphan_ttl_s`.
    """
    here = files(__package__)
    sources = {name: (here / f"{name}.py").read_text("utf-8") for name in (*PARTS, *FEATURES)}
    boot = (here / "boot.py").read_text("utf-8")
    # exec with a namespace of its own, in one expression: nothing is bound in the user's
    given = {"sources": sources, "features": FEATURES, "options": dict(options or {}), "version": VERSION}
    return f"exec(compile({boot!r}, '<lash_nb boot>', 'exec'), {{'__name__': 'lash_nb_boot', 'GIVEN': {given!r}}})"
