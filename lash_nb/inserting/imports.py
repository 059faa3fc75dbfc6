"""The imports of several cells, once, before everything else.

Decided here: an import goes up when its name means the same in all cells, nothing uses the name before it, and nothing
stands before it that may decide what can be imported. One within other code, or of everything (`*`), stays. What is
said of a library's version in a comment beside it stays with it. Pure: nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..accepted.lasting import bound_names
from ..accepted.statements import Statement

__all__ = ["hoisted", "meanings"]

Cell = Sequence[Statement]

_DECIDES = re.compile(
    r"\bsys\.(?:path|modules)\b|\bos\.(?:environ(?:\[[^\]]*\]\s*=|\.(?:update|setdefault)\b)|chdir\b|putenv\b)|\binstall\b|\bconda\b|\bimportlib\b|\bmatplotlib\.use\b"
    r"|\bwarnings\.|get_ipython\(\)\.run_line_magic\('(?:cd|env|set_env|load_ext|matplotlib|run)'"
)


def hoisted(cells: Sequence[Cell]) -> tuple[tuple[str, ...], tuple[tuple[Statement, ...], ...]]:
    """The lines of imports, and the cells without them."""
    flat = [part for cell in cells for part in cell]
    movable = _movable(flat)
    future: dict[str, None] = {}
    lines: dict[str, None] = {}
    had: set[tuple[str, str]] = set()
    rest: list[tuple[Statement, ...]] = []
    decided = False
    for cell in cells:
        kept: list[Statement] = []
        for part in cell:
            decided = decided or bool(_DECIDES.search(part.python))
            taken = _taken(part, movable, had) if not decided else None
            if taken is None:
                kept.append(part)
                continue
            line, above = taken
            if line:
                (future if line.lstrip("# \n").startswith("from __future__") else lines)[line] = None
            if above:
                kept.append(above)
        rest.append(tuple(kept))
    return (*future, *lines), tuple(rest)


def _movable(parts: Sequence[Statement]) -> frozenset[str]:
    """The names that imports alone bind, all to the same, and that nothing uses before."""
    means: dict[str, set[str]] = {}
    early: set[str] = set()
    for part in parts:
        for node in part.nodes:
            if _is_import(node):
                for name, what in meanings(node):
                    means.setdefault(name, set()).add(f"used before: {what}" if name in early else what)
            else:
                for name in bound_names(node):
                    means.setdefault(name, set()).update(("something", "else"))
                early |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} - means.keys()
    return frozenset(
        name for name, what in means.items() if len(what) == 1 and not next(iter(what)).startswith("used before: ")
    )


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def meanings(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Of the names that an import binds what each means: `module`, or `module:name`."""
    for alias in getattr(node, "names", ()):
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}:{alias.name}"
        else:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2


def _taken(part: Statement, movable: frozenset[str], had: set[tuple[str, str]]) -> tuple[str, Statement | None] | None:
    """The line that goes up (empty: it is there already), and what stays of what stood above; None: it stays."""
    node = part.nodes[0] if len(part.nodes) == 1 else None
    if node is None or not _is_import(node):
        return None
    names = [name for name, _ in meanings(node)]
    if "*" in names or not all(name in movable for name in names):
        return None
    whole = [(one, text) for one, text in zip(getattr(node, "names", ()), _said(node), strict=True)]
    new = [(one, text) for one, text in whole if text not in had]
    had |= {text for _, text in whole}
    above = "\n".join(part.source.split("\n")[: part.above]).strip("\n")
    stays = replace(part, source=above, python=above, nodes=(), above=0) if above else None
    if len(new) == len(whole):
        return "\n".join(part.source.split("\n")[part.above :]), stays
    if not new:
        return "", stays
    only = ast.Import(names=[one for one, _ in new])
    if isinstance(node, ast.ImportFrom):
        return ast.unparse(ast.ImportFrom(module=node.module, names=only.names, level=node.level)), stays
    return ast.unparse(only), stays


def _said(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """What each of its names says, in full."""
    home = f"{'.' * node.level}{node.module or ''}:" if isinstance(node, ast.ImportFrom) else ""
    for alias in getattr(node, "names", ()):
        yield alias.asname or alias.name, f"{home}{alias.name}"
