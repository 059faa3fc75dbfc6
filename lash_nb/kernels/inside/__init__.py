"""What runs inside a Python kernel: installed there by one silent cell; its Python need not have lash_nb.

Rules of the files beside this one: standard library, IPython, ipykernel and zmq only. `PARTS` are plain modules that
the others import (the host imports them too); `FEATURES` each have one `install(shell, inside)` that raises when what
they build on is not there, and reach each other through `inside` alone (`Inside` in `boot.py`). Those in `REQUIRED`
must be in force; the kernel works without the others, and the host is told which.
Nothing of it shows: no name in the user's namespace or in `sys.modules`, no frame in a traceback. What agent code is to
call lies beside the builtins: `finish`, `tools`, `ToolError`, `read_output`. Installing twice does nothing.
"""

from __future__ import annotations

import importlib.util
import marshal
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import CodeType

__all__ = ["FEATURES", "PARTS", "REQUIRED", "VERSION", "bootstrap", "compiled"]

VERSION = 5
PARTS = (
    "text",
    "entries",
    "record",
    "json_values",
    "awaiting",
    "tool_help",
    "tool_values",
    "tool_proxies",
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
    "completing",
    "guard",
    "finish",
    "essentials",
    "stdin",
    "pager",
    "tracebacks",
    "namespace",
    "sharing",
    "surroundings",
    "changes",
    "interrupts",
    "headroom",
    "watchdog",
)
REQUIRED = frozenset({"calls", "control", "finish", "guard", "ledger", "namespace", "outlet", "parents"})


def bootstrap(*, options: Mapping[str, object] | None = None, file: str = "") -> str:
    """The cell that installs everything and reports, as the reply's payload, what is in force.

    With `file` everything is taken from there (what `compiled` gave), and the report is None when it cannot be.
    Options: `limits` (of `Record`), `spill_dir`, `spill_bytes`, `recorded` (cells whose outputs the ledger keeps),
    `orphan_ttl_s`.
    """
    given: dict[str, object] = {"features": FEATURES, "options": dict(options or {}), "version": VERSION}
    name = "loading" if file else "boot"
    sources = _sources()
    given |= {"file": file} if file else {"codes": {part: sources[part] for part in (*PARTS, *FEATURES)}}
    # exec with a namespace of its own, in one expression: nothing is bound in the user's
    first = f"compile({sources[name]!r}, '<lash_nb {name}>', 'exec')"
    return f"exec({first}, {{'__name__': 'lash_nb_boot', 'GIVEN': {given!r}}})"


@cache
def _sources() -> dict[str, str]:
    """All of them, read once: they fit each other and this module, though a newer lash_nb be installed meanwhile."""
    here = files(__package__)
    return {name: (here / f"{name}.py").read_text("utf-8") for name in ("boot", "loading", *PARTS, *FEATURES)}


@cache
def compiled() -> bytes:
    """Everything inside as code of this Python, each named as its sources would be there; what pip compiled is used."""
    _sources()  # of the same moment
    codes = {}
    for name in ("boot", *PARTS, *FEATURES):
        full_name = f"{__package__}.{name}"
        spec = importlib.util.find_spec(full_name)
        code = getattr(spec.loader, "get_code")(full_name) if spec is not None else None  # noqa: B009 (any loader's)
        assert isinstance(code, CodeType)
        codes[name] = _renamed(code, f"<lash_nb {name}>")
    return importlib.util.MAGIC_NUMBER + marshal.dumps(codes)


def _renamed(code: CodeType, name: str) -> CodeType:
    constants = tuple(_renamed(one, name) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=constants)
