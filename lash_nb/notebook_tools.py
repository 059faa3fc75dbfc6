"""Which tools the sessions of one notebook have: functions of its namespace, servers of its settings and of `%lash`.

Decided here: a tool follows the name under which its function stands in the notebook. What a cell that is run again
makes of it is the tool from the next request on; where the name is gone, the tool goes, and that is said once. Servers
come from settings and from words alone, never from a notebook's metadata; one that a word adds has to start first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bridge import shared_loop
from .errors import InputError, UnknownNameError
from .main_thread import NotebookThread
from .toolkits.catalogue import ToolCatalogue

if TYPE_CHECKING:
    from .toolkits import Tool, ToolSource

__all__ = ["NotebookTools"]


@dataclass(frozen=True, slots=True)
class _Followed:
    variable: str
    """Its name in the notebook."""
    asked: str | None
    """The name that was asked for; None: the function's own way."""
    function: object
    tool: Tool


class NotebookTools:
    """The catalogue of one notebook, kept from session to session, and where its functions run."""

    def __init__(
        self,
        *,
        namespace: Callable[[], Mapping[str, Any]],
        servers: Callable[[], Mapping[str, Any]] = dict,
        base_dir: Path | None = None,
    ) -> None:
        """`servers`: the settings of MCP servers by name; relative paths in them start at `base_dir`."""
        self.main = NotebookThread()
        self.catalogue = ToolCatalogue(main=self.main)
        self._namespace, self._servers, self._base_dir = namespace, servers, base_dir or Path.cwd()
        self._functions: dict[str, _Followed] = {}
        """By the name of the tool."""
        self._configured: dict[str, Any] = {}
        """Servers of the settings as they were taken last."""
        self._has_served = False
        """Whether there ever was a server, so that there may be one to end."""

    @property
    def variables(self) -> Mapping[str, object]:
        """The functions that are tools, by the names of their variables, as of whenever it is looked at."""
        return _Variables(self._functions)

    # -- functions -----------------------------------------------------------------------------------------------------

    def has_function(self, variable: str) -> bool:
        """Whether something that can be called stands under that name in the notebook."""
        return callable(self._namespace().get(variable))

    def add_functions(self, wanted: Mapping[str, str | None]) -> list[Tool]:
        """Make tools of what stands under these names in the notebook, by other names where they are given.

        Raises:
            UnknownNameError: there is no such variable. InputError: one cannot be a tool. No tool was added then.
        """
        namespace, made = self._namespace(), []
        for variable, name in wanted.items():
            if variable not in namespace:
                raise UnknownNameError(f"the notebook has no {variable}: define the function first")
            made.append(_followed(variable, name, namespace[variable]))
        for followed in made:
            self._take(followed)
        return [followed.tool for followed in made]

    def _take(self, followed: _Followed) -> None:
        self.catalogue.add(followed.tool)
        self._functions[followed.tool.name] = followed

    def whence(self, tool: Tool) -> str:
        """Where a tool comes from, in a word or two."""
        if tool.source.startswith("mcp:"):
            return f"of the server {tool.source.removeprefix('mcp:')}"
        followed = self._functions.get(tool.name)
        if followed is None or followed.tool is not tool:
            return "of lash_nb" if tool.source == "lash_nb" else "a function"
        return "a function of the notebook" + (f", {followed.variable}" if followed.variable != tool.name else "")

    def follow(self) -> list[str]:
        """Take functions as they stand in the notebook now; which tools are gone by that, in sentences."""
        told, tools = [], self.catalogue.tools
        for name, followed in list(self._functions.items()):
            if tools.get(name) is not followed.tool:  # somebody else has taken the name, or removed it
                del self._functions[name]
                continue
            if followed.variable not in self._namespace():
                self.remove(name)
                told.append(f"the tool {name} was removed: the notebook has no {followed.variable} any more")
                continue
            function = self._namespace()[followed.variable]
            if function is followed.function:
                continue
            try:
                again = _followed(followed.variable, followed.asked, function)
                if again.tool.name != name:
                    self.remove(name)
                self._take(again)
            except InputError as error:
                self.remove(name)
                told.append(f"the tool {name} was removed: {error}")
        return told

    # -- servers -------------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Take the servers of the settings as they are now. Raises InputError."""
        wanted = dict(self._servers())
        if wanted == self._configured:
            return
        from .toolkits.mcp import server_of

        made = {
            name: server_of(name, settings, base_dir=self._base_dir)
            for name, settings in wanted.items()
            if self._configured.get(name) != settings
        }
        self._has_served = True
        there = {source.name for source in self.catalogue.sources}
        for name in (self._configured.keys() - wanted.keys()) & there:
            self.catalogue.remove(name)
        for server in made.values():
            self.catalogue.add_source(server)
        self._configured = wanted

    def add_server(self, name: str, settings: Mapping[str, Any]) -> tuple[ToolSource, tuple[str, ...]]:
        """Start a server and add it, in the place of one that has its name; with what there is to tell of it. Blocks.

        Raises:
            InputError: the settings are none, or it does not start, or has no tools that can be used. Nothing changed.
        """
        from .toolkits.mcp import server_of

        server = server_of(name, settings, base_dir=self._base_dir)
        self._has_served = True
        told = shared_loop().run(server.refresh())
        if told and not server.tools:
            shared_loop().run(server.aclose())
            raise InputError(f"{' '.join(told)} It was not added")
        before = {source.name: source for source in self.catalogue.sources}.get(name)
        self.catalogue.add_source(server)
        if before is not None:
            shared_loop().run(before.aclose())
        return server, told

    # -- both ----------------------------------------------------------------------------------------------------------

    def remove(self, name: str) -> None:
        """Remove a tool that was added, or a server with its tools, which is ended. Raises UnknownNameError."""
        served = {source.name: source for source in self.catalogue.sources}.get(name)
        self.catalogue.remove(name)
        self._functions.pop(name, None)
        if served is not None and served not in self.catalogue.sources:
            shared_loop().run(served.aclose())

    def close(self) -> None:
        """End the servers, and wait for it."""
        if self._has_served:
            shared_loop().run(self.catalogue.aclose())


class _Variables(Mapping[str, object]):
    """Functions by the names under which they stand in the notebook."""

    def __init__(self, functions: Mapping[str, _Followed]) -> None:
        self._functions = functions

    def __getitem__(self, variable: str) -> object:
        for followed in self._functions.values():
            if followed.variable == variable:
                return followed.function
        raise KeyError(variable)

    def __iter__(self) -> Iterator[str]:
        return iter({followed.variable: None for followed in self._functions.values()})

    def __len__(self) -> int:
        return len(list(iter(self)))


def _followed(variable: str, asked: str | None, function: Any) -> _Followed:
    """Raises InputError: it cannot be a tool."""
    if not callable(function):
        raise InputError(f"{variable} is of type {type(function).__name__}, and no function")
    from .toolkits.functions import function_tool, said_name

    name = asked or said_name(function) or variable
    return _Followed(variable, asked, function, function_tool(name, function, on_main=True))
