"""What code needs of the code before it: read from the last statement to the first."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..used_names import used_names
from .lasting import Lasting, Turned, bound_names
from .statements import Statement

__all__ = ["Later"]

_CALLED_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(slots=True, kw_only=True)
class Later:
    """What the code needs that stands behind the statement that is looked at."""

    turned: Turned
    reads: dict[str, frozenset[str]]
    """By the names of functions and classes, what they read when they are called."""
    needed: set[str]
    said: set[str] = field(default_factory=set)
    """Its statements."""

    @classmethod
    def of(cls, parts: Iterable[Statement], *, needed: Collection[str] = ()) -> Later:
        """Before anything of these statements (all that there are) is taken; `needed` are names that it is to leave."""
        parts = tuple(parts)
        reads: dict[str, frozenset[str]] = {}
        for part in parts:
            if any(isinstance(one, _CALLED_LATER) for node in part.nodes for one in ast.walk(node)):
                for name in _bound(part):
                    reads[name] = reads.get(name, frozenset()) | used_names(part.python)
        return cls(turned=Turned.of(node for part in parts for node in part.nodes), reads=reads, needed=set(needed))

    def take(self, code: str, parts: Sequence[Statement]) -> None:
        """This code is there: what it binds for sure nobody needs from before, what it uses somebody does."""
        self.needed -= {name for part in parts for node in part.nodes for name in _surely_bound(node)}
        self.need(code)
        self.said |= {part.source.strip() for part in parts}

    def need(self, code: str) -> None:
        """This code is there, as far as it comes."""
        new = set(used_names(code))
        while new - self.needed:
            self.needed |= new
            new = {read for name in new for read in self.reads.get(name, ())}

    def keeps(self, part: Statement, *, acts: bool = True, had: Collection[str] = ()) -> bool:
        """Whether a statement is kept; then it is taken.

        `acts`: also one that did something outside. Names that are `had` need not be bound by it, unless it imports
        them, or binds them to what it makes of them.
        """
        lasting = self.lasting(part)
        spared: frozenset[str] = frozenset()
        if not all(isinstance(node, ast.Import | ast.ImportFrom) for node in part.nodes):
            spared = frozenset(had) - used_names(part.python)
        matters = bool(((lasting.bound - spared) | lasting.changed) & self.needed)
        if not matters and not (acts and lasting.outside and part.source.strip() not in self.said):
            return False
        self.take(part.source, (part,))
        return True

    def lasting(self, part: Statement, *, wary: bool = True) -> Lasting:
        """What stands when it has run; see `lasting`."""
        found = Lasting()
        for node in part.nodes:
            found |= self.turned.lasting(node, wary=wary)
        return found

    def matters(self, lasting: Lasting) -> bool:
        """Whether any of that is needed."""
        return bool((lasting.bound | lasting.changed) & self.needed)


def _bound(part: Statement) -> Iterator[str]:
    for node in part.nodes:
        yield from bound_names(node)


def _surely_bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign() | ast.AnnAssign(value=ast.expr()) | ast.Import() | ast.ImportFrom():
            yield from bound_names(node)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
