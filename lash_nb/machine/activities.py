"""How the activity of a turn is written down: one codec for all of it, and what need not be written.

Decided here: the host's activities have types of their own beside those of the stream events; text that comes in
pieces is written in one; outputs of a running cell that were replaced meanwhile are not written. What is written folds
to the same TurnPicture as what happened.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from .activity import (
    ApprovalAsked,
    ApprovalDecided,
    CallPrice,
    CellOutputs,
    ChangesSeen,
    CodeBlockCompleted,
    CodeBlockStarted,
    CodeDelta,
    CodeKept,
    RefusedVariable,
    SharedVariable,
    TurnStarted,
    VariableSeen,
    VariablesSeen,
    VariablesShared,
)
from .approvals import APPROVAL, DECISION
from .events import STREAM_EVENTS, ReasoningDelta, TextDelta, TurnActivity
from .execution import CELL_OUTPUT, CellOutcome
from .wire import (
    BOOLEAN,
    JSON,
    STRING,
    U64,
    Codec,
    DecodeError,
    Field,
    Json,
    array,
    enum,
    internally_tagged,
    omit_empty,
    refined,
    struct,
)

__all__ = ["TURN_ACTIVITY", "Told"]


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise DecodeError("expected a number")
    return float(value)


_CELL: dict[str, Codec[Any] | Field] = {"effect_id": U64, "call_id": omit_empty(STRING, "")}
_OUTPUTS: Codec[Any] = array(CELL_OUTPUT)
_VARIABLE = struct(VariableSeen, name=STRING, type=STRING, detail=omit_empty(STRING, ""), new=omit_empty(BOOLEAN, True))
_SHARED = struct(
    SharedVariable,
    name=STRING,
    bytes=U64,
    sha256=omit_empty(STRING, ""),
    module=omit_empty(BOOLEAN, False),
    before=omit_empty(STRING, ""),
)
_REFUSED = struct(RefusedVariable, name=STRING, why=STRING)
TURN_ACTIVITY: Codec[TurnActivity] = internally_tagged(
    "activity",
    "type",
    {
        **STREAM_EVENTS,
        "turn_started": (
            TurnStarted,
            struct(TurnStarted, turn=U64, request=STRING, model=STRING, protocol=omit_empty(STRING, "code")),
        ),
        "code_delta": (CodeDelta, struct(CodeDelta, content=STRING)),
        "code_block_started": (CodeBlockStarted, struct(CodeBlockStarted, **_CELL, language=STRING, code=STRING)),
        "cell_outputs": (CellOutputs, struct(CellOutputs, **_CELL, outputs=_OUTPUTS)),
        "code_block_completed": (
            CodeBlockCompleted,
            struct(
                CodeBlockCompleted,
                **_CELL,
                outcome=enum(CellOutcome),
                outputs=_OUTPUTS,
                duration_ms=U64,
                detail=omit_empty(STRING, ""),
            ),
        ),
        "approval_asked": (ApprovalAsked, struct(ApprovalAsked, approval=APPROVAL)),
        "approval_decided": (ApprovalDecided, struct(ApprovalDecided, approval=APPROVAL, decision=DECISION)),
        "variables_seen": (VariablesSeen, struct(VariablesSeen, variables=array(_VARIABLE))),
        "variables_shared": (
            VariablesShared,
            struct(VariablesShared, shared=omit_empty(array(_SHARED), ()), refused=omit_empty(array(_REFUSED), ())),
        ),
        "code_kept": (CodeKept, struct(CodeKept, sha256=STRING, cells=U64, diff=omit_empty(STRING, ""))),
        "changes_seen": (ChangesSeen, struct(ChangesSeen, text=STRING)),
        "call_price": (CallPrice, struct(CallPrice, dollars=refined(JSON, _number), as_of=STRING)),
    },
)

_Delta: TypeAlias = TextDelta | ReasoningDelta | CodeDelta


class _Growing:
    """Pieces of text of one kind, on their way to one."""

    __slots__ = ("kind", "texts")

    def __init__(self, first: _Delta) -> None:
        self.kind = type(first)
        self.texts = [first.content]

    def whole(self) -> _Delta:
        return self.kind(content="".join(self.texts))


class Told:
    """Collects activity until it is written down.

    Neighbouring pieces of text of one kind become one. Outputs of a cell are dropped when later ones of it, or its
    end, come before `take`: each holds all that the earlier ones held. Nothing else is lost, and the order is kept.
    """

    def __init__(self) -> None:
        self._entries: dict[int, TurnActivity | _Growing] = {}
        self._number = 0
        self._outputs: dict[tuple[int, str], int] = {}
        """Effect id → entry with the outputs that later ones replace."""
        self._taken: tuple[dict[int, TurnActivity | _Growing], dict[tuple[int, str], int]] = {}, {}
        """What was taken last, in case that it is given back."""

    def __bool__(self) -> bool:
        """Whether there is anything to be written down."""
        return bool(self._entries)

    def add(self, activity: TurnActivity) -> None:
        """Take note of what happened: O(1)."""
        entry: TurnActivity | _Growing = activity
        match activity:
            case TextDelta() | ReasoningDelta() | CodeDelta():
                last = self._entries[next(reversed(self._entries))] if self._entries else None
                if isinstance(last, _Growing) and last.kind is type(activity):
                    last.texts.append(activity.content)
                    return
                entry = _Growing(activity)
            case CellOutputs(effect_id=effect_id, call_id=call_id):
                self._replaced(effect_id, call_id)
                self._outputs[effect_id, call_id] = self._number
            case CodeBlockCompleted(effect_id=effect_id, call_id=call_id):
                self._replaced(effect_id, call_id)
            case CodeBlockStarted(effect_id=effect_id, call_id=call_id):
                # The same effect, performed again after a restore: what the first cell gave stays with the first.
                self._outputs.pop((effect_id, call_id), None)
            case TurnStarted():
                self._outputs.clear()
        self._entries[self._number] = entry
        self._number += 1

    def _replaced(self, effect_id: int, call_id: str) -> None:
        number = self._outputs.pop((effect_id, call_id), None)
        if number is not None:
            del self._entries[number]

    def take(self) -> list[Json]:
        """What is to be written down, each activity as `TURN_ACTIVITY` writes it; nothing is left.

        Raises:
            DecodeError: an activity holds what is not JSON; everything is still there.
        """
        taken: list[Json] = [
            TURN_ACTIVITY.encode(entry.whole() if isinstance(entry, _Growing) else entry)
            for entry in self._entries.values()
        ]
        self._taken = self._entries, self._outputs
        self._entries, self._outputs = {}, {}
        return taken

    def give_back(self) -> None:
        """What was taken last was not written down: it is there again, before anything that came since."""
        entries, outputs = self._taken
        self._entries, self._outputs = {**entries, **self._entries}, {**outputs, **self._outputs}
        self._taken = {}, {}
