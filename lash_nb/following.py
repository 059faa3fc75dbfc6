"""What another process writes of a session, read only: a session as it stands, and its running turn as it goes on.

Decided here: nothing is locked, repaired or run. What is followed is the turn that ran at the first look; it is over
when it has ended, or when nobody writes the session any more. A turn is seen as far as it is recorded: a step's words
come when the model has answered, a cell's outputs when it has ended. What was begun last is shown as under way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .machine.activities import TURN_ACTIVITY
from .machine.effects import ExecCode, LlmCall, ToolCalls
from .machine.events import CodeBlockCompleted, CodeBlockStarted, LlmRequestEvent, ToolCallEvent, ToolCallStart
from .machine.execution import CellOutcome
from .machine.picture import TurnPicture
from .machine.tool_calls import ToolCallOutput
from .protocols.run_code import read_cell_output
from .recorded import RecordedSession, RecordedTurn, SessionFold
from .stores.journal import JournalFollower, read_records, session_directory
from .stores.told import told_stream
from .stores.told_records import CELL_LABELS, called_code

__all__ = ["Following", "read_session", "under_way"]

_LOOKS_PER_OWNER = 10
"""Every so often it is asked whether somebody still writes."""


def read_session(state_dir: Path, session: str) -> RecordedSession:
    """A session as its journal says, whoever writes it.

    Raises:
        JournalError: there is none, it cannot be read, or a newer version wrote it.
        CorruptJournalError: it is damaged.
    """
    fold = SessionFold(session)
    for record in read_records(session_directory(state_dir, session)):
        fold.take(record)
    return fold.session


class Following:
    """The running turn of a session, as its journal grows."""

    def __init__(self, state_dir: Path, session: str) -> None:
        self.picture = TurnPicture()
        """What there is to be seen of it so far."""
        self.turn: RecordedTurn | None = None
        """The turn; None: none ran at the first look, or nothing was looked at yet."""
        self.abandoned = False
        """Whether the process that ran it is gone."""
        self._session = session
        self._follower = JournalFollower(session_directory(state_dir, session))
        self._fold = SessionFold(session)
        self._number: int | None = None
        self._folded = TurnPicture()
        self._told = 0
        self._looks = 0

    def look(self) -> bool:
        """Take in what is new; whether the turn goes on.

        Raises:
            JournalError: the journal cannot be read, or was removed.
            CorruptJournalError: it is damaged.
        """
        if self._looks % _LOOKS_PER_OWNER == 0:
            # Asked before reading, so that what it wrote last is read.
            self.abandoned = self._follower.owner() is None
        self._looks += 1
        records = self._follower.poll()
        if records or self._follower.restarted or self.abandoned:
            self._take(records)
        return self.turn is not None and not self.turn.ended and not self.abandoned

    def _take(self, records: list[dict[str, Any]]) -> None:
        if self._follower.restarted:
            self._fold = SessionFold(self._session)
        for record in records:
            self._fold.take(record)
            if self._number is not None and self._is_over():
                break  # what follows is not ours, and after a compaction it is not told in the same way
        running = self._fold.session.running
        if self._number is None and running is not None:
            self._number = running.number
        self._show()

    def _is_over(self) -> bool:
        turns = self._fold.session.turns
        return bool(turns) and turns[-1].number == self._number

    def _show(self) -> None:
        session = self._fold.session
        turn = next((turn for turn in (*session.turns, session.running) if turn and turn.number == self._number), None)
        if turn is None:
            return
        if turn is not self.turn:
            self.turn, self._folded, self._told = turn, TurnPicture(), 0
        if turn.ended:
            self.picture = turn.picture()
            return
        for activity in turn.told[self._told :]:
            self._folded = self._folded.apply(TURN_ACTIVITY.decode(activity))
        self._told = len(turn.told)
        # That it began is recorded with its answer: only shown, or it would be taken in twice.
        self.picture = self._folded if self.abandoned else under_way(self._folded, turn)


def under_way(picture: TurnPicture, turn: RecordedTurn) -> TurnPicture:
    """The picture of a turn with what it waits for."""
    effect = turn.checkpoint.outstanding_effect if turn.checkpoint is not None and turn.answer is None else None
    match effect:
        case ExecCode(id=effect_id, language=language, code=code) if turn.asking is None:
            return picture.apply(CodeBlockStarted(effect_id=effect_id, language=language, code=code))
        case LlmCall():
            return picture.apply(LlmRequestEvent(protocol_iteration=0, message_count=0, tool_list=""))
        case ToolCalls():
            return _with_batch(picture, effect, turn)
    return picture


def _with_batch(picture: TurnPicture, effect: ToolCalls, turn: RecordedTurn) -> TurnPicture:
    """With the calls that were begun, its cells last, and what the ended ones gave."""
    # What was to be seen up to a question is told with it: nothing is drawn twice.
    began: dict[str | None, bool] = {}
    for step in picture.steps:
        began |= {call.call_id: call.succeeded is not None for call in step.tool_calls}
        began |= {step.call_id: step.outcome is not None} if step.call_id else {}
    waits = turn.asking.call_id if turn.asking is not None else ""
    calls = [call for call in effect.calls if call.call_id != waits and not began.get(call.call_id)]
    for call in sorted(calls, key=lambda one: called_code(one) is not None):
        begins, output, code = call.call_id not in began, turn.calls.get(call.call_id), called_code(call)
        if call.call_id not in turn.calls and (waits or code is not None):
            continue
        if code is None:
            what: dict[str, Any] = {"call_id": call.call_id, "name": call.tool_name, "args": call.args}
            picture = picture.apply(ToolCallStart(**what)) if begins else picture
            if output is not None:
                picture = picture.apply(ToolCallEvent(**what, output=output, duration_ms=0))
            continue
        if begins:
            begun = CodeBlockStarted(effect_id=effect.id, call_id=call.call_id, language="python", code=code)
            picture = picture.apply(begun)
        picture = _ended(picture, effect.id, call.call_id, output)
    return picture


def _ended(picture: TurnPicture, effect_id: int, call_id: str, output: ToolCallOutput | None) -> TurnPicture:
    """With what a cell of a batch gave, if it has ended."""
    cell = None if output is None else read_cell_output(output)
    if cell is None:
        return picture
    error = cell.exec_error or ""
    texts = [("stdout", text) for text in cell.output] + ([("stderr", error)] if error else [])
    outcome = CELL_LABELS.get(error.partition(":")[0], CellOutcome.ERROR) if error else CellOutcome.OK
    outputs = tuple(told_stream(name, text) for name, text in texts)
    ended = CodeBlockCompleted(effect_id=effect_id, call_id=call_id, outcome=outcome, outputs=outputs, duration_ms=0)
    return picture.apply(ended)
