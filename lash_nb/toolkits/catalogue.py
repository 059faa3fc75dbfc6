"""The tools of a session, or of all sessions of a notebook: added and removed at any time, as of now.

Decided here: names are unique; what is the user's own goes before what a server brings; a change is seen by `version`.
A catalogue may be changed from any thread; sources are refreshed and closed on one loop.
"""

from __future__ import annotations

import asyncio
import keyword
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from ..bridge import shared_loop
from ..errors import InputError, UnknownNameError
from ..trust import Redactor
from . import MainThread, Tool, ToolSource

__all__ = ["ToldTools", "ToolCatalogue", "catalogue_of", "checked_name", "without_secrets"]


def checked_name(name: object) -> str:
    """The name, if code can call it as `tools.NAME(...)`. Raises InputError."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"a tool cannot be called {name!r}: code has to be able to write tools.{name}(...)")
    if name in ("run_code", "finish"):
        raise InputError(f"{name!r} is a tool of lash_nb's own: give yours another name")
    return name


class ToolCatalogue:
    """Tools by name."""

    def __init__(self, *, main: MainThread | None = None) -> None:
        self.main = main
        """Where functions of the notebook run."""
        self._guard = threading.Lock()
        self._own: dict[str, Tool] = {}
        self._sources: dict[str, ToolSource] = {}
        self._retired: list[ToolSource] = []
        self._hidden: set[tuple[str, str]] = set()
        """Tools that are hidden, by server and name, as far as that was told."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """All of them now, by name, in the order in which they came."""
        with self._guard:
            sources, found = list(self._sources.values()), dict(self._own)
        for source in sources:
            for tool in source.tools:
                found.setdefault(tool.name, tool)
        return found

    @property
    def sources(self) -> tuple[ToolSource, ...]:
        """The servers, in the order in which they were added."""
        with self._guard:
            return tuple(self._sources.values())

    def add(self, tool: Tool) -> None:
        """Add a tool, or replace the one of its name. Raises InputError: it cannot be called that."""
        checked_name(tool.name)
        with self._guard:
            self._own[tool.name] = tool

    def add_source(self, source: ToolSource) -> None:
        """Add a server, or replace the one of its name, which is closed with the next refresh."""
        with self._guard:
            before = self._sources.pop(source.name, None)
            self._retired += [before] if before is not None and before is not source else []
            self._sources[source.name] = source

    def remove(self, name: str) -> None:
        """Remove a tool that was added, or a server with its tools. Raises UnknownNameError."""
        with self._guard:
            if self._own.pop(name, None) is not None:
                return
            source = self._sources.pop(name, None)
            if source is not None:
                self._retired.append(source)
                return
            known = ", ".join(sorted({*self._own, *self._sources})) or "none"
        served = self.tools.get(name)
        if served is not None:
            server = served.source.partition(":")[2]
            raise UnknownNameError(f"{name} comes with the server {server!r}: remove that, or leave it")
        raise UnknownNameError(f"there is no tool or server {name!r} to remove; there are: {known}")

    async def refresh(self) -> tuple[str, ...]:
        """Every server is there, with its current tools; what there is to tell of them. From any loop."""
        return await shared_loop().wait(self._refresh())

    async def _refresh(self) -> tuple[str, ...]:
        with self._guard:
            retired, self._retired = self._retired, []
        for source in retired:
            await source.aclose()
        told = await asyncio.gather(*(source.refresh() for source in self.sources))
        return (*(sentence for sentences in told for sentence in sentences), *self._hides())

    def _hides(self) -> list[str]:
        """Which tools of servers are hidden by others of their name, each once."""
        told, tools = [], self.tools
        for source in self.sources:
            for tool in source.tools:
                by = tools.get(tool.name, tool)
                if by is not tool and (source.name, tool.name) not in self._hidden:
                    self._hidden.add((source.name, tool.name))
                    whose = "one of yours" if by.source == "function" else f"that of {by.source.removeprefix('mcp:')}"
                    told.append(
                        f"The tool {tool.name} of the server {source.name} is hidden by {whose}: give the server a "
                        "`prefix` in its settings."
                    )
        return told

    async def aclose(self) -> None:
        """End the servers, from any loop; the catalogue stays as it is, and a refresh starts them again."""
        await shared_loop().wait(self._close())

    async def _close(self) -> None:
        with self._guard:
            retired, self._retired = self._retired, []
        for source in (*self.sources, *retired):
            await source.aclose()


ToldTools: TypeAlias = dict[int, tuple[Tool, Tool]]
"""Tools and what is told of them, by the identity of the tool: many long schemas take their time."""


def without_secrets(tools: Mapping[str, Tool], redactor: Redactor, known: ToldTools) -> dict[str, Tool]:
    """The same tools without secrets in what is told of them: a default value can be one, a server can know one."""
    for tool in tools.values():
        if id(tool) not in known:
            known[id(tool)] = tool, _told_without(tool, redactor)
    return {name: known[id(tool)][1] for name, tool in tools.items()}


def _told_without(tool: Tool, redactor: Redactor) -> Tool:
    told: dict[str, Any] = {
        "description": redactor.text(tool.description),
        "signature": redactor.text(tool.signature),
        "input_schema": redactor.value(tool.input_schema),
        "output_schema": redactor.value(tool.output_schema),
    }
    same = all(told[field] == getattr(tool, field) for field in told)
    return tool if same else replace(tool, **told)


def catalogue_of(tools: ToolCatalogue | Mapping[str, Any] | None, *, make: Callable[[str, Any], Tool]) -> ToolCatalogue:
    """What a session was given as tools, as a catalogue; `make` makes a tool of a function.

    Raises InputError: they are no mapping, cannot be called by that name, or are no functions.
    """
    if isinstance(tools, ToolCatalogue):
        return tools
    if not isinstance(tools or {}, Mapping):
        raise InputError("tools are given by name: tools={'add': add}")
    catalogue = ToolCatalogue()
    for name, given in (tools or {}).items():
        checked_name(name)
        catalogue.add(given if isinstance(given, Tool) else make(name, given))
    return catalogue
