"""Tools: what a model may call beside code. Here: plain Python functions by name (`functions.py`).

The contract is the record types of `machine.tool_calls`.
"""

from __future__ import annotations

from .functions import ToolCaller, ToolFunction, call_tools, checked_tools

__all__ = ["ToolCaller", "ToolFunction", "call_tools", "checked_tools"]
