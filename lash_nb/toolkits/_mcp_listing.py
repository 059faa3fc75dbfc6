"""A server's list of tools as ours: names that code can write, descriptions that say whose they are, what is left out.

Decided here: what is no Python name is made one; of two that become the same the later gets the server's name before
it. Hints of the server (that a tool only reads, that it may be repeated) are no ground for any policy: the user's
settings are. How many tools there are is bounded.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import InputError
from ._mcp_schemas import ArgumentCheck, SchemaRefused, signature_of, usable_schema, weight
from ._mcp_words import described, one_line
from .catalogue import checked_name
from .mcp_settings import ServerSettings

__all__ = ["MAX_TOOLS", "Listed", "ListedTool", "listed", "python_name"]

MAX_TOOLS = 500
MAX_WEIGHT = 20_000
"""Of the schemas of all tools together (see `_mcp_schemas.weight`)."""
MAX_NAME = 64
"""Providers take no longer ones."""
_LONGEST = 256
"""Of the server's own name for a tool."""


class Announced(Protocol):
    """One tool as the server announced it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def input_schema(self) -> dict[str, Any]: ...
    @property
    def output_schema(self) -> dict[str, Any] | None: ...


_CUT_IS_READ_BY = "read_output"
"""What is cut says so: no stranger gets that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """One tool, as it is called there and here."""

    remote: str
    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    signature: str
    check: ArgumentCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A server's tools, and what is to be told of those that it has not."""

    tools: tuple[ListedTool, ...]
    told: tuple[str, ...]


def python_name(remote: str, prefix: str = "") -> str:
    """The name as code writes it: `tools.NAME(...)`. Raises InputError: nothing can be made of it."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", remote).strip("_")
    if not name:
        raise InputError("its name has no letter")
    if prefix:
        name = f"{prefix}_{name}"
    elif name[0].isdigit():
        name = f"tool_{name}"
    if keyword.iskeyword(name):
        name = f"{name}_"
    return checked_name(name[:MAX_NAME])


def listed(settings: ServerSettings, announced: Iterable[Announced], left_out: Iterable[str] = ()) -> Listed:
    """The tools that are taken. `left_out`: what was not even of the form of a tool."""
    found: dict[str, ListedTool] = {}
    told, remotes, parts = list(left_out), set[str](), 0
    for tool in announced:
        if settings.tools is not None and tool.name not in settings.tools:
            continue
        if tool.name in remotes:
            told.append(f"{one_line(tool.name, 80)!r} (it is there twice)")
            continue
        remotes.add(tool.name)
        parts += weight(tool.input_schema) + weight(tool.output_schema)
        try:
            if parts > MAX_WEIGHT:
                raise SchemaRefused("the schemas of all tools together have too many parts")
            made = _made(settings, tool, found)
        except (InputError, SchemaRefused) as error:
            told.append(f"{one_line(tool.name, 80)!r} ({error})")
            continue
        found[made.name] = made
    sentences = []
    if told:
        some = ", ".join(told[:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")
        sentences.append(f"Of the MCP server {settings.name!r} some tools are left out: {some}.")
    missing = sorted((settings.tools or frozenset()) - remotes)
    if missing:
        sentences.append(f"The MCP server {settings.name!r} has no tool {', '.join(map(repr, missing))}.")
    return Listed(tools=tuple(found.values()), told=tuple(sentences))


def _made(settings: ServerSettings, tool: Announced, taken: dict[str, ListedTool]) -> ListedTool:
    if len(tool.name) > _LONGEST:
        raise InputError("its name is too long")
    name = python_name(tool.name, settings.prefix)
    if name in taken or name == _CUT_IS_READ_BY:
        name = python_name(tool.name, python_name(settings.name))
        if name in taken:
            raise InputError("its name is another's, too")
    schema = usable_schema(tool.input_schema)
    try:
        output = usable_schema(tool.output_schema) if tool.output_schema is not None else {}
    except SchemaRefused:  # it only tells what will come
        output = {}
    return ListedTool(
        remote=tool.name,
        name=name,
        description=described(settings.name, tool.description),
        input_schema=schema,
        output_schema=output,
        signature=signature_of(schema, output),
        check=ArgumentCheck(schema),
    )
