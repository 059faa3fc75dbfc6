"""lash_nb: an agent in your notebook that answers by writing and running code in a kernel of its own.

`%load_ext lash_nb` gives the magics; `Session` is the library. Everything heavy is imported on first use, so that
`import lash_nb.machine` stays at zero third-party modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .calls import RetryPolicy
    from .errors import ApprovalNeeded, LashError
    from .kernels.managed import ManagedKernel
    from .kernels.resources import ResourceLimits
    from .kernels.scripted import ScriptedKernel
    from .machine.approvals import Approval, Decision
    from .models.scripted import ScriptedModel
    from .requested import Limits
    from .runner import run_notebook
    from .session import Session
    from .sharing import Sharing
    from .turns import Turn

_PUBLIC = {
    "Approval": ".machine.approvals",
    "ApprovalNeeded": ".errors",
    "Decision": ".machine.approvals",
    "LashError": ".errors",
    "Limits": ".requested",
    "ManagedKernel": ".kernels.managed",
    "ResourceLimits": ".kernels.resources",
    "RetryPolicy": ".calls",
    "ScriptedKernel": ".kernels.scripted",
    "ScriptedModel": ".models.scripted",
    "Session": ".session",
    "Sharing": ".sharing",
    "Turn": ".turns",
    "run_notebook": ".runner",
}

__all__ = [
    "Approval",
    "ApprovalNeeded",
    "Decision",
    "LashError",
    "Limits",
    "ManagedKernel",
    "ResourceLimits",
    "RetryPolicy",
    "ScriptedKernel",
    "ScriptedModel",
    "Session",
    "Sharing",
    "Turn",
    "load_ipython_extension",
    "run_notebook",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext lash_nb`."""
    import_module(".magic", __name__).load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext lash_nb`: undoes everything that loading did."""
    import_module(".magic", __name__).unload(ipython)
