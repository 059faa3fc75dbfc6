"""What runs inside a Python kernel: sent there as source by one silent cell; its Python need not have lash_nb.

Rules of the files beside this one: standard library, IPython and ipykernel only; no import of each other; each has
one `install(shell)` that raises when what it builds on is not there. `FEATURES` names them; those in `REQUIRED` must
be in force.
They leave no name in the user's namespace, and installing twice does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

__all__ = ["FEATURES", "REQUIRED", "VERSION", "bootstrap"]

VERSION = 1
FEATURES = ("finish", "namespace", "interrupts", "publishing", "streams", "watchdog")
REQUIRED = frozenset({"finish", "namespace"})


def bootstrap(*, options: Mapping[str, object] | None = None) -> str:
    """The cell that installs everything and reports, as the reply's payload, what is in force."""
    here = files(__package__)
    sources = {name: (here / f"{name}.py").read_text("utf-8") for name in FEATURES}
    boot = (here / "boot.py").read_text("utf-8")
    # exec with a namespace of its own, in one expression: nothing is bound in the user's
    given = {"sources": sources, "options": dict(options or {}), "version": VERSION}
    return f"exec(compile({boot!r}, '<lash_nb boot>', 'exec'), {{'__name__': 'lash_nb_boot', 'GIVEN': {given!r}}})"
