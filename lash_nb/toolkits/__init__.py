"""Tools: what a model may call beside code. Here: plain Python functions by name (`functions.py`).

The contract is the record types of `machine.tool_calls`.
"""

from __future__ import annotations

from .functions import MOST_AT_ONCE, ToolCaller, ToolFunction, checked_tools, completed_call

__all__ = ["MOST_AT_ONCE", "ToolCaller", "ToolFunction", "checked_tools", "completed_call"]
