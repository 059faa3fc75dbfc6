"""Which cells that ran were tries: what they bound is bound again before anything reads it, and no more came of them.

Decided here: a cell goes when it binds something, all of that is surely bound again by the code that stays behind it,
nothing of the turn may read it before, and what it may have changed in place or done outside is nothing. Its imports
stay, but for those that are made again. A mere look binds nothing, and stays. Pure: nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from ..used_names import used_names
from .lasting import Lasting, Turned, bound_names
from .statements import Statement, indented

__all__ = ["Superseded"]

_DEFERRED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)


class Superseded:
    """Finds such cells, from the last one to the first.

    `parts` are all statements of the turn, in their order; `needed` are names that it is to leave.
    """

    def __init__(self, parts: Sequence[Statement], turned: Turned, *, needed: Collection[str] = ()) -> None:
        self._parts, self._turned, self._needed = parts, turned, frozenset(needed)
        self._ends = any(_names_finish(node) for part in parts for node in _deferred(part))
        """Whether a function may end the cell that calls it."""
        self._behind: list[str] = []
        """The code that stays behind, as Python, the last cell first."""
        self._unread = False

    def stays(self, parts: Sequence[Statement] | None) -> None:
        """This is the code in front of what there was until now; None: nobody can read it."""
        if parts is None:
            self._unread = True
            return
        texts = [part.python for part in parts]
        at = next((n for n, part in enumerate(parts) if self._ends or any(map(_names_finish, part.nodes))), len(parts))
        if at < len(parts):
            texts[at:] = [f"try:\n{indented(chr(10).join(texts[at:]))}\nexcept BaseException:\n    pass"]
        self._behind.append("\n".join(texts))

    def left(self, parts: Sequence[Statement]) -> tuple[Statement, ...] | None:
        """What is to stay of a cell that ran to its end: nothing, or imports; None: all of it."""
        imports = [part for part in parts if all(_is_import(node) for node in part.nodes)]
        rest = [part for part in parts if part not in imports]
        bound = frozenset(name for part in rest for name in _bound(part))
        if not bound or not self._behind or self._unread:
            return None
        loops = _looped(rest) & self._bound_behind() - self._needed
        if not self._are_gone(bound - loops) or loops & used_names(self._code()):
            return None
        if bound & self._read_later(parts):
            return None
        done = Lasting()
        for part in rest:
            for node in part.nodes:
                done |= self._turned.lasting(node)
        if done.outside or done.changed - bound:
            return None
        return tuple(part for part in imports if not self._are_gone(_bound(part)))

    def _code(self, names: Collection[str] = ()) -> str:
        return "\n".join((*reversed(self._behind), *sorted(names)))

    def _are_gone(self, names: frozenset[str]) -> bool:
        """Whether all of them are surely bound again before anything reads them, be it behind all that code."""
        return names.isdisjoint(used_names(self._code(names)))

    def _bound_behind(self) -> frozenset[str]:
        return frozenset(name for node in ast.parse(self._code()).body for name in bound_names(node))

    def _read_later(self, parts: Sequence[Statement]) -> frozenset[str]:
        """What functions, classes and generators from before the cell may read when they are called."""
        found: set[str] = set()
        for part in self._parts:
            if part is parts[0]:
                break
            if next(_deferred(part), None) is not None:
                found |= used_names(part.python)
        return frozenset(found)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _bound(part: Statement) -> frozenset[str]:
    return frozenset(name for node in part.nodes for name in bound_names(node))


def _looped(parts: Sequence[Statement]) -> frozenset[str]:
    """The names that loops at the top bind, and nothing else does: nobody is to see what a loop left in them."""
    loops: set[str] = set()
    others: set[str] = set()
    for part in parts:
        for node in part.nodes:
            if isinstance(node, ast.For | ast.AsyncFor):
                loops |= bound_names(node.target)
                others |= frozenset().union(*(bound_names(one) for one in (*node.body, *node.orelse)))
            else:
                others |= bound_names(node)
    return frozenset(loops - others)


def _deferred(part: Statement) -> Iterator[ast.AST]:
    for node in part.nodes:
        for one in ast.walk(node):
            if isinstance(one, _DEFERRED):
                yield one


def _names_finish(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "finish" for one in ast.walk(node))
