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
    from .errors import ApprovalNeeded, LashError, ToolError
    from .kernels.managed import ManagedKernel
    from .kernels.resources import ResourceLimits
    from .kernels.scripted import ScriptedKernel
    from .machine.approvals import Approval, Decision
    from .models.scripted import ScriptedModel
    from .requested import Limits
    from .runner import run_notebook
    from .session import Session
    from .sharing import Sharing
    from .toolkits import Tool, ToolPolicy
    from .toolkits.attaching import Attachment
    from .toolkits.catalogue import ToolCatalogue
    from .toolkits.functions import tool
    from .toolkits.mcp import McpServer
    from .toolkits.results import ToolResult
    from .turns import Turn

_PUBLIC = {
    "Approval": ".machine.approvals",
    "ApprovalNeeded": ".errors",
    "Attachment": ".toolkits.attaching",
    "Decision": ".machine.approvals",
    "LashError": ".errors",
    "Limits": ".requested",
    "ManagedKernel": ".kernels.managed",
    "McpServer": ".toolkits.mcp",
    "ResourceLimits": ".kernels.resources",
    "RetryPolicy": ".calls",
    "ScriptedKernel": ".kernels.scripted",
    "ScriptedModel": ".models.scripted",
    "Session": ".session",
    "Sharing": ".sharing",
    "Tool": ".toolkits",
    "ToolCatalogue": ".toolkits.catalogue",
    "ToolError": ".errors",
    "ToolPolicy": ".toolkits",
    "ToolResult": ".toolkits.results",
    "Turn": ".turns",
    "run_notebook": ".runner",
    "tool": ".toolkits.functions",
}

__all__ = [
    "Approval",
    "ApprovalNeeded",
    "Attachment",
    "Decision",
    "LashError",
    "Limits",
    "ManagedKernel",
    "McpServer",
    "ResourceLimits",
    "RetryPolicy",
    "ScriptedKernel",
    "ScriptedModel",
    "Session",
    "Sharing",
    "Tool",
    "ToolCatalogue",
    "ToolError",
    "ToolPolicy",
    "ToolResult",
    "Turn",
    "load_ipython_extension",
    "run_notebook",
    "tool",
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
