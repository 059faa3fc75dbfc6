"""What must hold before a turn may end: expressions over the variables of its kernel.

Decided here: a check is one Python expression; an array, a Series or a table holds when all of it does. It is run as a
cell of its own that leaves nothing behind, and an exception is a check that does not hold. Pure.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InputError
from .machine.execution import CellOutcome, CellResult, ErrorOutput
from .views.pieces import clean, cut

__all__ = ["Failure", "check_cell", "check_failure", "checked_expressions", "checks_told", "failures_told", "held_text"]

_WHY_CHARS = 500
_CELL = """\
def __lash_check__(held):
    while getattr(held, "shape", ()) != () and hasattr(held, "all"):
        held = held.all()
    return bool(held)
try:
    __import__("builtins").finish(__lash_check__(
{expression}
))
finally:
    del __lash_check__
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A check that does not hold, and why."""

    expression: str
    why: str = ""
    """Beside that it is not true."""

    def __str__(self) -> str:
        return f"`{self.expression}`{f' ({self.why})' if self.why else ''}"


def checked_expressions(check: str | Sequence[str] | None) -> tuple[str, ...]:
    """The checks that are asked for, each once. Raises InputError: one is no Python expression."""
    if check is None:
        return ()
    expressions: Sequence[object] = [check] if isinstance(check, str) or not isinstance(check, Sequence) else check
    for expression in expressions:
        if not isinstance(expression, str):
            raise InputError(f"a check is a Python expression in a text, not {type(expression).__name__}")
        try:
            parsed = ast.parse(expression.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said = error.msg if isinstance(error, SyntaxError) else str(error)
            raise InputError(f"the check {expression!r} is no Python expression ({said})") from None
        if isinstance(parsed.body, ast.Tuple):
            raise InputError(
                f"the check {expression!r} is a tuple, which is not looked into: give each part as a check"
            )
    return tuple(dict.fromkeys(str(expression).strip() for expression in expressions))


def check_cell(expression: str) -> str:
    """The cell that finishes with whether the expression holds."""
    return _CELL.format(expression=expression)


def check_failure(expression: str, result: CellResult) -> Failure | None:
    """What came of such a cell; None: it holds."""
    if result.outcome is CellOutcome.OK and result.finish is not None:
        return None if result.finish.value is True else Failure(expression=expression)
    for output in result.outputs if result.outcome is CellOutcome.ERROR else ():
        if isinstance(output, ErrorOutput):
            raised = cut(clean(f"{output.ename}: {output.evalue}"), head_chars=_WHY_CHARS, tail_chars=0)
            return Failure(expression=expression, why=f"it raised {raised}")
    why = f"it could not be evaluated ({result.outcome}{': ' + result.detail if result.detail else ''})"
    return Failure(expression=expression, why=why)


def checks_told(expressions: Sequence[str]) -> str:
    """What the model is told of them with every step; empty without any."""
    if not expressions:
        return ""
    lines = "\n".join(f"- {expression}" for expression in expressions)
    return f"Checks: the turn can end only when these expressions hold in the kernel.\n{lines}"


def failures_told(failures: Sequence[Failure]) -> str:
    """What the model is told of those that do not hold."""
    lines = "\n".join(f"- {failure}" for failure in failures)
    return (
        "The turn cannot end yet: not every check holds in the kernel.\n"
        f"{lines}\nPut right what is wrong with the result, then finish as before."
    )


def held_text(expressions: Sequence[str]) -> str:
    """What the reader is told when all of them hold."""
    return f"check{'s' if len(expressions) > 1 else ''} held: {'; '.join(expressions)}"
