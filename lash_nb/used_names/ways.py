"""What is bound for sure on the ways through a cell, and what has been read before; how ways part and meet again.

`bound` only grows along a way, so that to take another way is to undo what was added since they parted: nothing is
copied, and long cells with many branches are no matter.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence

from .scopes import Scope, is_plain

__all__ = ["Added", "Loop", "Out", "Ways"]

Added = Sequence[str]
"""What a way through the code has bound since it parted from the others."""

Out = Added | None
"""The same; None when nothing goes on from there."""


class Loop:
    """What is bound where one is left, or begins anew."""

    __slots__ = ("breaks", "ends", "mark")

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.breaks: list[Out] = []
        self.ends: list[Out] = []


class Ways:
    """The state of the one who follows the code in the order in which it runs.

    `pending` is what functions read that were defined, `settled` those of them that were bound when they could be
    called. `dead`: nothing goes on from here.
    """

    def __init__(self, *, walrus: bool) -> None:
        self.used: set[str] = set()
        self.walrus = walrus
        self.bound: set[str] = set()
        self.trail: list[str] = []
        self.pending: set[str] = set()
        self.settled: set[str] = set()
        self.dead = False
        self.loops: list[Loop] = []
        self.scope = Scope("module")
        self.lazy_annotations = False
        self.classes = 0

    def read(self, name: str) -> None:
        scope = self.scope
        key = scope.key_of(name)
        if key is not None and key not in self.bound and not (scope.prefix and scope.prefix + name in self.bound):
            self.used.add(key)

    def bind(self, name: str) -> None:
        key = self.scope.bound_key(name)
        if key is not None:
            self.add(key)

    def add(self, key: str) -> None:
        if key not in self.bound:
            self.bound.add(key)
            self.trail.append(key)

    def undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            key = self.trail.pop()
            self.bound.discard(key)
            if key in self.settled:
                self.settled.discard(key)
                self.pending.add(key)
        self.dead = False

    def out(self, mark: int) -> Out:
        return None if self.dead else self.trail[mark:]

    def join(self, outs: Iterable[Out]) -> None:
        live = [out for out in outs if out is not None]
        if not live:
            self.dead = True
            return
        for key in set(live[0]).intersection(*live[1:]):
            self.add(key)

    def called(self, node: ast.AST | None = None) -> None:
        """Anything may be called here, so also what was defined before, unless `node` is plainly without effect."""
        if self.pending and (node is None or not is_plain(node)):
            self.settled |= self.pending & self.bound
            self.used |= self.pending - self.bound
            self.pending.clear()

    def deferred(self, scope: Scope, run: Callable[[], None]) -> None:
        """What is only read when the function that was made here is called."""
        before = (self.scope, self.used, self.pending, self.settled, self.dead, self.loops)
        mark, reads = len(self.trail), set[str]()
        self.scope, self.used, self.pending, self.settled, self.dead, self.loops = (
            scope,
            reads,
            set(),
            set(),
            False,
            [],
        )
        run()
        self.called()
        self.undo(mark)
        self.scope, self.used, self.pending, self.settled, self.dead, self.loops = before
        self.pending |= reads
