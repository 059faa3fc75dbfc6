"""A cell as its top-level statements, each with its own lines: comments and formatting stay as they were written.

Decided here: what stands above a statement (comments, blank lines) belongs to it; what stands below the last one, to
that. Statements that share a line are one. A cell magic makes one statement of its cell. Pure: nothing is run.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Statement", "indented", "joined", "plain", "statements"]

_OF_PYTHON = re.compile(r"%%(?:capture|prun|time)\b")
"""What stands below these runs as the cell does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Some lines of a cell, and what they are."""

    source: str
    """As it was written; without a line end at its end."""
    python: str
    """The same after IPython has made Python of it."""
    nodes: tuple[ast.stmt, ...]
    """One; several where they share a line."""
    first: int
    last: int
    """Lines of the cell after IPython has made Python of it, counted from 1."""
    above: int = 0
    """How many of its own lines stand above `first`."""

    @property
    def simple(self) -> bool:
        """Whether it is one statement without a body."""
        body = hasattr(self.nodes[0], "body") or isinstance(self.nodes[0], ast.Match)
        return len(self.nodes) == 1 and not body and not self.source.lstrip().startswith("%%")


def plain(code: str) -> str:
    """The cell as Python, magics and all; as it is where IPython can make nothing of it."""
    from IPython.core import inputtransformer2  # takes a while to load

    transformer: Any = inputtransformer2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(transformer.TransformerManager().transform_cell(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code


def statements(code: str) -> tuple[Statement, ...] | None:
    """The top-level statements of a cell; None where it cannot be parsed, and so does not run."""
    python = plain(code)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a "\d" of somebody else is no news
            body = ast.parse(python).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not body:
        return ()
    lines = python.splitlines()
    if code.lstrip().startswith("%%"):
        inner = statements(code.partition("\n")[2]) if _OF_PYTHON.match(code.lstrip()) else None
        nodes = tuple(node for one in inner or () for node in one.nodes) or tuple(body)
        return (Statement(source=code.strip("\n"), python=python, nodes=nodes, first=1, last=len(lines)),)
    return tuple(_cut(_written(code, lines), lines, body))


def _written(code: str, lines: Sequence[str]) -> list[str]:
    """The lines as they were written, one for each of Python's; Python's own where that cannot be told."""
    own = code.splitlines()
    while own and not own[0].strip():
        own = own[1:]  # as IPython does
    if len(own) != len(lines):
        return list(lines)
    margin = len(own[0]) - len(own[0].lstrip())
    return [
        mine[margin:] if "get_ipython()" in line and "get_ipython()" not in mine else line
        for mine, line in zip(own, lines, strict=True)
    ]


def _cut(written: Sequence[str], lines: Sequence[str], body: Sequence[ast.stmt]) -> Iterator[Statement]:
    groups: list[list[ast.stmt]] = []
    for node in body:
        if groups and _first(node) <= (groups[-1][-1].end_lineno or 0):
            groups[-1].append(node)
        else:
            groups.append([node])
    begin = 0
    for at, group in enumerate(groups):
        end = len(lines) if at == len(groups) - 1 else group[-1].end_lineno or 0
        yield Statement(
            source="\n".join(written[begin:end]).rstrip("\n"),
            python="\n".join(lines[begin:end]),
            nodes=tuple(group),
            first=_first(group[0]),
            last=group[-1].end_lineno or 0,
            above=_first(group[0]) - begin - 1,
        )
        begin = end


def _first(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def joined(parts: Sequence[Statement]) -> str:
    """Statements as one cell."""
    return "\n".join(part.source for part in parts).strip("\n")


def indented(code: str) -> str:
    """The code four columns further to the right; what is within strings stays as it is."""
    inside: set[int] = set()
    begins: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            name = tokenize.tok_name[token.type]
            if name.endswith("STRING_START"):
                begins.append(token.start[0])
            elif name.endswith("STRING_END"):
                inside.update(range(begins.pop() + 1, token.end[0] + 1))
            elif token.type == tokenize.STRING:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError):
        pass  # magics: what could be read tells of what stands above them
    lines = code.split("\n")
    return "\n".join(
        line if not line.strip() or at in inside else f"    {line}" for at, line in enumerate(lines, start=1)
    )
