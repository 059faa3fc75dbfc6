"""`tools.NAME(...)` and `await tools.NAME(...)`: what a cell sees of the tools. Runs in the kernel.

Decided here: a call that is awaited lets other tasks go on and is cancelled with its task; any other waits where it is.
Which tools there are, and what they take, is what the running cell was given, also for a tool that an earlier cell has
kept under another name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from .awaiting import is_awaited
from .json_values import MAX_CHARS, to_json
from .tool_help import Form
from .tool_values import referenced

__all__ = ["Tool", "Tools"]


class Tool:
    # No docstring: a tool's own stands in its place, and IPython would show both.
    def __init__(self, calls: Any, form: Form) -> None:
        self.__name__ = self.__qualname__ = form.name
        self.__doc__ = form.doc
        self.__signature__ = form.signature
        self._calls, self._form = calls, form
        # Never called by a call; IPython asks it how a call looks.
        shown = self.__dict__["__call__"] = lambda *args, **kwargs: self(*args, **kwargs)
        shown.__signature__ = form.signature  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<tool {self._form}>"

    def __dir__(self) -> list[str]:
        return ["aio"]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        plain = self._plain(args, kwargs)
        if is_awaited(sys._getframe(1)):
            return self._awaited(plain)
        calls = self._calls
        return calls.wait(calls.start(self.__name__, plain))

    async def _awaited(self, plain: dict[str, Any]) -> Any:
        calls = self._calls
        return await calls.wait_async(calls.start(self.__name__, plain))

    async def aio(self, /, *args: Any, **kwargs: Any) -> Any:
        """The same call as a coroutine, whoever is to await it."""
        return await self._awaited(self._plain(args, kwargs))

    def _plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments as one JSON object."""
        name = self.__name__
        named = (self._calls.form(name) or self._form).arguments(args, kwargs)
        found = {key: to_json(referenced(value), f"{name}(): {key}") for key, value in named.items()}
        size = len(json.dumps(found))
        if size > MAX_CHARS:
            raise ValueError(f"{name}(): the arguments are {size:,} characters of JSON, over {MAX_CHARS:,}")
        return found


class Tools:
    """What this cell can call: `tools.NAME(x=1)`, or `await tools.NAME(x=1)`; failures raise ToolError.

    Many at once: `await asyncio.gather(tools.NAME.aio(x=1), tools.NAME.aio(x=2))`.
    """

    def __init__(self, calls: Any) -> None:
        self.__dict__["_calls"] = calls
        self.__dict__["_made"] = {}

    def __getattr__(self, name: str) -> Tool:
        form = self.__dict__["_calls"].form(name)
        if form is None:
            there = ", ".join(dir(self)) or "none"
            raise AttributeError(f"there is no tool {name!r}; there are: {there}") from None
        made: dict[str, Tool] = self.__dict__["_made"]
        tool = made.get(name)
        if tool is None or tool._form is not form:
            tool = made[name] = Tool(self.__dict__["_calls"], form)
        return tool

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("tools are the host's: nothing can be set here")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("tools are the host's: nothing can be deleted here")

    def __dir__(self) -> list[str]:
        return sorted(self.__dict__["_calls"].offers)

    def __repr__(self) -> str:
        calls = self.__dict__["_calls"]
        lines = [f"  tools.{calls.form(name).line}" for name in dir(self)]
        return "\n".join([f"<tools: {len(lines) or 'none'}>", *lines])
