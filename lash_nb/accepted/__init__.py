"""The cells of a turn that make its result, without its dead attempts.

Decided here: a cell that ran to its end is taken as it is, or was a try and goes (`superseded`). Of one that did not,
what it had done before its failing statement stands in the kernel: those statements are kept that a later cell needs
(it uses what they bind or change), or that did something outside, unless a later cell says the same. A failing
statement that may have done a part of its work by then is kept within a `try`. After a kernel's end nothing of before
is there. Pure: the code is only read.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Collection
from dataclasses import dataclass

from ..machine.execution import CellOutcome, ErrorOutput
from ..machine.picture import StepPicture, TurnPicture
from .later import Later
from .statements import Statement, indented, joined, plain, statements
from .superseded import Superseded

__all__ = ["AcceptedCell", "accepted_cells", "empties", "failing_line"]

_EMPTIED = (CellOutcome.DEAD, CellOutcome.LOST)
"""How a cell ends whose kernel is gone: with it went what earlier cells had left in it."""
_BROKEN_OFF = (CellOutcome.ERROR, CellOutcome.INTERRUPTED, CellOutcome.TIMEOUT)

_FRAME = re.compile(r"\s*(?:Cell In\[\d+\], line (\d+)|Input In \[\d+\], in <cell line: (\d+)>\(\))\s*$")
"""A frame of a cell itself; that of a function has its name behind it."""
_HEAD = re.compile(r"\S+\s+Traceback \(most recent call last\)\s*$")
_WHY_TRIED = "so it failed when the agent ran it; what it had done by then is used below"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCell:
    """Code that was run; `step` is its place in the picture, from 0."""

    code: str
    step: int
    part: bool = False
    """Whether the step ran to its end, and this is a part of it."""


def accepted_cells(
    picture: TurnPicture, *, needed: Collection[str] = (), whole: bool = False
) -> tuple[AcceptedCell, ...]:
    """The Python cells of a turn that make its result, in order; `needed` are names that it is to leave.

    `whole`: of cells that failed everything is kept that had run, needed or not.
    """
    ran = [(at, step) for at, step in enumerate(picture.steps) if step.code is not None and _is_python(step)]
    emptied = max((at for at, step in ran if step.outcome in _EMPTIED), default=-1)
    attempts = [
        _Attempt(step=at, code=step.code or "", parts=statements(step.code or ""), ended=step)
        for at, step in ran
        if at > emptied and step.outcome in (CellOutcome.OK, *_BROKEN_OFF)
    ]
    parts = [part for one in attempts for part in one.parts or ()]
    later = Later.of(parts, needed=needed)
    tries = Superseded(parts, later.turned, needed=needed)
    found: list[AcceptedCell] = []
    for attempt in reversed(attempts):
        done = attempt.ended.outcome is CellOutcome.OK
        left = tries.left(attempt.parts) if done and attempt.parts and not whole else None
        if left is not None:
            later.take(joined(left), left)
            code = joined(left)
        else:
            code = attempt.accepted(later, whole=whole)
        if code:
            tries.stays(statements(code))
            found.append(AcceptedCell(code=code, step=attempt.step, part=left is not None))
    return tuple(reversed(found))


def empties(picture: TurnPicture) -> bool:
    """Whether what earlier turns had left in the kernel was gone after this one, or before its end."""
    return any(step.outcome in _EMPTIED and _is_python(step) for step in picture.steps)


def _is_python(step: StepPicture) -> bool:
    return step.language.casefold().startswith("python")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    step: int
    code: str
    parts: tuple[Statement, ...] | None
    ended: StepPicture

    @property
    def failed(self) -> bool:
        """Else it was broken off, and might never end where it is tried again."""
        return self.ended.outcome is CellOutcome.ERROR

    @property
    def error(self) -> ErrorOutput | None:
        return next((one for one in reversed(self.ended.outputs) if isinstance(one, ErrorOutput)), None)

    def accepted(self, later: Later, *, whole: bool) -> str:
        """What is kept of it; empty: nothing."""
        if self.ended.outcome is CellOutcome.OK:
            later.take(self.code, self.parts or ())
            return self.code
        if self.parts is None:
            return ""  # a syntax error: nothing of it ran
        line = failing_line(self.error) if self.error is not None else None
        at = next((n for n, part in enumerate(self.parts) if line and part.first <= line <= part.last), None)
        if at is None:
            return self._unknown(later, whole=whole)
        kept = self._failing(self.parts[at], later, whole=whole)
        before = [part for part in reversed(self.parts[:at]) if whole or later.keeps(part)]
        return "\n".join(text for text in (joined(before[::-1]), kept) if text)

    def _failing(self, part: Statement, later: Later, *, whole: bool) -> str:
        """The failing statement within a `try`, when what it may have done by then matters; else nothing."""
        if not self.failed:
            return ""
        if whole:
            matters = True
        elif part.simple:
            # What a library does it does, or not; what the turn's functions had done by then stands.
            matters = bool(later.turned.done_by_functions(part.nodes[0]) & later.needed)
        else:
            lasting = later.lasting(part, wary=False)
            matters = later.matters(lasting) or lasting.outside
        return (
            self._tried(part.python if part.source.lstrip().startswith("%%") else part.source, later) if matters else ""
        )

    def _unknown(self, later: Later, *, whole: bool) -> str:
        """The whole cell within a `try`, where nobody knows at which statement it failed."""
        parts = self.parts or ()
        if not parts or not self.failed:
            return ""
        done = [later.lasting(part) for part in parts]
        if not whole and not any(later.matters(lasting) or lasting.outside for lasting in done):
            return ""
        return self._tried(plain(self.code) if self.code.lstrip().startswith("%%") else joined(parts), later)

    def _tried(self, code: str, later: Later) -> str:
        later.need(code)
        name = self.error.ename if self.error is not None else ""
        known = getattr(builtins, name, None)
        caught = name if isinstance(known, type) and issubclass(known, BaseException) else "Exception"
        body = indented(code.strip("\n"))
        return f"try:\n{body}\nexcept {caught}:\n    pass  # {_WHY_TRIED}"


def failing_line(error: ErrorOutput) -> int | None:
    """At which line of its own the cell failed, counted from 1; None where the traceback does not tell."""
    lines = "\n".join(error.traceback).split("\n")
    heads = [at for at, line in enumerate(lines) if _HEAD.match(line) and line.startswith(error.ename)]
    for start in reversed(heads or [0]):
        for line in lines[start:]:
            found = _FRAME.match(line)
            if found is not None:
                return int(found[1] or found[2])
    return None
