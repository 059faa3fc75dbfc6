"""The global names that a cell may read before it has bound them itself: what the user's variables are delivered by.

The rule: a name is used when some path through the cell can read the *global* before the cell has bound it for sure.

- A branch, a loop or a `try` binds for sure what each of its ways out binds; a loop may run no time at all, unless that
  can be seen (`while True`, a literal, `range(3)`). `del` reads. After it, and after `except … as e`, what was there
  before the cell is gone, so these bind.
- A body of a `with` may be left in its middle, as `suppress` does, unless its manager is one of a few that are known.
- What a function, lambda, generator, method or alias of a type reads, it reads when it is called: that may be as soon
  as anything runs that is not plainly without effect (constants, definitions), and at the end of the cell.
  Calls bind nothing: neither `global` in a function nor `exec`.
- Names that are the function's own or closed over are not global; in the body of a class, a name is until it is bound.
- Strings that are run or evaluated count as code (`strings.py`), and so do magics and shell commands. Annotations
  count, unless `annotations` of `__future__` is imported.
- Builtins count: a name that the notebook does not have is of no interest to whoever asks. `import *` binds nothing.

Code that does not parse uses nothing, the kernel will say what is wrong. Code nested too deeply uses all of its words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from .statements import Statements
from .strings import CodeString, Words, parsed

__all__ = ["used_names"]

_WORD = re.compile(r"[^\W\d]\w*")
_DEEPEST = 4
"""So many strings of code within each other are looked into."""


def used_names(code: str) -> frozenset[str]:
    """The global names that a cell may read before it has bound them itself; the code is only looked at."""
    names = _names(code, depth=0, cell=True)
    # IPython's syntax is a call of this in the end.
    return names if "get_ipython" in code else names - {"get_ipython"}


def _names(code: str, *, depth: int, cell: bool, otherwise: bool = False) -> frozenset[str]:
    """`otherwise`: its words where it cannot be parsed."""
    try:
        tree = parsed(code, cell=cell)
        if tree is not None:
            reader = _Reader(walrus=":=" in code, depth=depth)
            reader.read_cell(tree)
            return frozenset(reader.used)
    except RecursionError:
        otherwise = True
    return frozenset(_WORD.findall(code)) if otherwise else frozenset()


class _Reader(Statements):
    """Follows a cell, and the code in its strings."""

    def __init__(self, *, walrus: bool, depth: int) -> None:
        super().__init__(walrus=walrus)
        self._depth = depth

    def read_cell(self, tree: ast.Module) -> None:
        self.block(tree.body)
        self.called()

    def run_strings(self, found: Sequence[CodeString | Words]) -> None:
        for one in found:
            if isinstance(one, Words):
                self.words(one.words)
            elif self._depth >= _DEEPEST:
                self.words(_WORD.findall(one.code))
            elif not one.here:
                self.words(_names(one.code, depth=self._depth + 1, cell=one.cell, otherwise=True))
            else:
                self._here(one)

    def _here(self, one: CodeString) -> None:
        """Code that a magic runs in the place of the cell."""
        tree = parsed(one.code, cell=True)
        if tree is None:
            self.words(_WORD.findall(one.code))
            return
        self._depth += 1
        mark, loops, self.loops = len(self.trail), self.loops, []
        walrus, self.walrus = self.walrus, True
        self.block(tree.body)
        added = self.out(mark) if one.binds and self.scope.kind == "module" else ()
        self.undo(mark)
        for key in added or ():
            self.add(key)
        self.walrus, self.loops = walrus, loops
        self._depth -= 1
