"""The word `%lash fix`: a turn about the cell that failed, with the correction offered below it.

Decided here: which cell, what of it the model may be told, and where the offer goes: a display with buttons for the
pages, the next input elsewhere. Nothing is brought back from the agent's kernel, and its copies are the user's again
when the turn has ended.
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from .bridge import shared_loop
from .checks import checked_expressions
from .errors import ApprovalNeeded, InputError, KernelError
from .failed_cells import SeenCell, SeenCells
from .fixing import Fixing, fix_context, fix_request
from .live import CellRequest, CellTurn, InCell
from .machine.wire import Json
from .magic_options import unquoted
from .notebook_cells import earlier_cells
from .sessions import NotebookSessions
from .sharing import TakesValues
from .trust import Redactor
from .turns import Turn
from .used_names import used_names
from .variable_words import value_options

__all__ = ["FixTurn", "fix_turn"]

_CHECK = re.compile(r"""(?:^|(?<=\s))--check(?:=|\s+)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\S+)(?=\s|$)""")
_BARE_CHECK = re.compile(r"(?:^|\s)--check=?(?=\s|$)")
_NUMBER = re.compile(r"\[ ?([0-9]{1,9}) ?\][:,]?(?=\s|$)")
_OPTION = re.compile(r"--?[^\W\d][\w-]*")
_MOST_CELLS, _OUTPUT_CHARS = 50, 20_000
"""How far back the output of a cell is looked for, and what may be told of it and of those behind it."""


def fix_turn(line: str, here: InCell, *, cells: SeenCells) -> CellTurn:
    """`%lash fix [--check EXPR]... [[NUMBER]] [TEXT]`: the turn, which the cell has to wait for.

    Raises InputError: there is no such cell, or the model may not be told of it; a check is no expression.
    """
    sessions, shell = here.sessions, here.shell
    number, said, checks = _given(line)
    cell = cells.to_fix(said, number=number)
    redactor = Redactor(os.environ)
    _check_tellable(cell, sessions, redactor)
    choice = sessions.choose()
    model = sessions.open(choice.name)
    here.announce(choice)
    sessions.conducted = choice
    values = sessions.previews != "schema"
    plain = SimpleNamespace(context=None, inputs="", outputs="", no_share=False)
    options = value_options(plain, "", sessions, shell=shell)
    context = fix_context(
        cell,
        lacks=sorted(used_names(cell.source) - sessions.sharing.names() - set(dir(builtins))),
        output=_output(cell, shell, redactor) if values and not cell.failed else "",
        checks=checks,
        values=values,
    )
    fixing = Fixing(cell, session=sessions.session(), checks=checks)
    options |= {
        "context": redactor.text("\n\n".join(filter(None, (options["context"], context)))),
        "approve": sessions.mode(),
        "afresh": True,
        "verify": fixing.verify,
    }
    request = CellRequest(text=fix_request(cell, said, values=values), model=model, options=options, live=here.live)
    return FixTurn(request, sessions, fixing=fixing, shell=shell, on_shown=here.on_shown)


class FixTurn(CellTurn):
    """A turn that ends with an offer."""

    def __init__(
        self,
        request: CellRequest,
        sessions: NotebookSessions,
        *,
        fixing: Fixing,
        shell: Any,
        on_shown: Callable[[Turn], None],
    ) -> None:
        super().__init__(request, sessions, on_shown=on_shown)
        self._fixing, self._user_shell = fixing, shell

    def _end(self, problem: BaseException | None, *, stopped: bool) -> Turn:
        if not isinstance(problem, ApprovalNeeded):  # then it goes on
            self._tidy()
        turn = super()._end(problem, stopped=stopped)
        page = self._sessions.copying.notebook is not None
        if self._fixing.corrected and not page and self._sessions.run is None:
            self._user_shell.set_next_input(self._fixing.source)
        return turn

    def _leave(self, turn: Turn) -> None:
        if not turn.ok:
            self._fixing.corrected = ""  # it was stopped behind its correction
        super()._leave(turn)

    @property
    def _offers(self) -> bool:
        return bool(self._fixing.corrected)

    def _publish_all(self, displays: Sequence[tuple[dict[str, Json], dict[str, Json]]]) -> None:
        offer: list[tuple[dict[str, Json], dict[str, Json]]] = []
        if self._offers:
            offer.append((self._fixing.offer(), {}))
        super()._publish_all([*displays, *offer])

    def _tidy(self) -> None:
        """What the agent's cells did to its copies is undone, so that no later request is told of it."""
        kernel: object = self._session.kernel
        with suppress(KernelError):  # else they go over before they are used
            if isinstance(kernel, TakesValues):
                shared_loop().run(self._sessions.sharing.refresh(kernel))


def _given(line: str) -> tuple[int | None, str, tuple[str, ...]]:
    """The number of the cell, where it is named, what is said of it, and the checks."""
    checks = checked_expressions([unquoted(found) for found in _CHECK.findall(line)])
    said = " ".join(_CHECK.sub(" ", line).split())
    if _BARE_CHECK.search(said):
        raise InputError(
            f"`%lash fix {line}`: behind --check the expression is missing that has to hold, as in "
            '`--check "total > 0"`'
        )
    named = _NUMBER.match(said)
    if named is not None:
        said = said[named.end() :].strip()
    option = _OPTION.match(said)
    if option is not None:
        raise InputError(f"`%lash fix {line}`: {option[0]} is not known here; it takes --check EXPR, and what is wrong")
    return int(named[1]) if named is not None else None, said, checks


def _check_tellable(cell: SeenCell, sessions: NotebookSessions, redactor: Redactor) -> None:
    """Raises InputError: the model may not be told of this cell."""
    if sessions.sharing.names_hidden(cell.source):
        raise InputError(
            f"cell [{cell.number}] uses what is hidden from the agent: `%lash vars --show PATTERN` shows it"
        )
    if redactor.text(cell.source) != cell.source:
        raise InputError(
            f"cell [{cell.number}] holds a secret, which no model is told: take it from the environment there, "
            "and run the cell again"
        )


def _output(cell: SeenCell, shell: Any, redactor: Redactor) -> str:
    """What a cell gave, as far as IPython has kept it."""
    found = earlier_cells(shell, after=cell.number - 1, most=_MOST_CELLS, chars=_OUTPUT_CHARS, clean=redactor.text)
    return next((one.output for one in found if one.number == cell.number), "")
