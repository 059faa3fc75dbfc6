"""The fewest records that say the same of a session: for a new segment, or for what came from a notebook.

Decided here: of a running turn only where it stands is kept, and no answer. The forms are `recorded.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from .machine.approvals import APPROVAL, DECISION
from .machine.deltas import DeltaWriter
from .machine.effects import ToolCalls
from .machine.execution import NAMESPACE
from .machine.tool_calls import TOOL_CALL_OUTPUT
from .recorded import Record, RecordedSession, RecordedTurn, protocol_of

__all__ = ["beyond", "compacted", "extension"]


def compacted(session: RecordedSession) -> Iterator[Record]:
    """The records of a whole session."""
    deltas = DeltaWriter()
    yield {
        **session.facts,
        "k": "session",
        "label": session.label,
        "seq": session.seq,
        "last_said": session.last_said,
        "began_at": session.began_at,
        "known": NAMESPACE.encode(session.known),
        **({"folded": session.folded} if session.folded else {}),
        **({"forked_from": session.forked_from} if session.forked_from is not None else {}),
    }
    for turn in (*session.turns, *([session.running] if session.running is not None else ())):
        yield from _turn_records(turn, deltas)
    yield from _kernel_records(session)
    for number, text in session.said.items():
        yield {"k": "said", "n": number, "text": text}


def _turn_records(turn: RecordedTurn, deltas: DeltaWriter) -> Iterator[Record]:
    """The fewest records that say the same of one turn, behind those that `deltas` has written."""
    yield {"k": "turn", "turn": turn.number, "at": turn.at, "asked": turn.asked.to_json()}
    if turn.checkpoint is None:
        return
    delta = deltas.write(turn.checkpoint, protocol_of(turn.asked.protocol))
    where: Record = {"turn": turn.number, "at": turn.ended_at or turn.at, "delta": delta, "told": list(turn.told)}
    if turn.ended:
        yield {"k": "end", **where, "chain": turn.chain, "dollars": turn.dollars}
        return
    effect = turn.checkpoint.outstanding_effect_id or 0
    counts: Record = {"steps": turn.steps, "said": turn.said, "calls_known": turn.calls_known}
    yield {"k": "effect", **where, "id": effect, "kind": "", **counts}
    about_effect: Record = {"turn": turn.number, "at": turn.at, "effect": effect}
    for approval_id, decision in turn.decisions.items():
        left: Record = {} if turn.begun else {"left": True}
        yield {"k": "decided", **about_effect, "id": approval_id, "decision": DECISION.encode(decision), **left}
    if turn.asking is not None:
        yield {"k": "ask", **about_effect, "approval": APPROVAL.encode(turn.asking)}
    waits = turn.checkpoint.outstanding_effect
    named = {call.call_id: call for call in waits.calls} if isinstance(waits, ToolCalls) else {}
    for call_id, output in turn.calls.items():  # those that a cell made among them
        call = named.get(call_id)
        told: Record = {"name": call.tool_name, "args": call.args} if call is not None else {"name": "", "args": {}}
        yield {"k": "call", **about_effect, "call": call_id, **told}
        if output is not None:
            yield {"k": "called", **about_effect, "call": call_id, "output": TOOL_CALL_OUTPUT.encode(output)}


def _kernel_records(session: RecordedSession) -> Iterator[Record]:
    """Those of its kernels."""
    for kernel in session.kernels.values():
        known: Record = {"language": kernel.language, "epoch": kernel.epoch}
        yield {"k": "original", **known} if kernel.copied else {"k": "kernel", **known, "file": kernel.file}


def extension(
    journal: RecordedSession, told: RecordedSession, *, deltas: DeltaWriter, opening: Record
) -> Iterator[Record]:
    """The records of what a notebook knows beyond the journal; `opening` is that of the process that writes them."""
    new = beyond(journal, told)
    for turn in (*new.turns, *([new.running] if new.running is not None else ())):
        yield from _turn_records(turn, deltas)
    yield from _kernel_records(new)
    known = NAMESPACE.encode(new.known)
    yield {**opening, "seq": new.seq, "folded": new.folded, "said_anew": True, "known": known}
    for number, text in new.said.items():
        yield {"k": "said", "n": number, "text": text}


def beyond(journal: RecordedSession, told: RecordedSession) -> RecordedSession:
    """What a notebook knows of a session beyond its journal: its later turns, and how things stand after them."""
    last = journal.turns[-1].number if journal.turns else 0
    references = [reference for reference in told.folded if reference["turn"] > last]
    return RecordedSession(
        id=journal.id,
        label=journal.label,
        turns=[turn for turn in told.turns if turn.number > last],
        running=told.running,
        said={journal.last_said + number: text for number, text in enumerate(told.said.values(), 1)},
        last_said=journal.last_said + len(told.said),
        kernels={**journal.kernels, **told.kernels},
        known=told.known,
        seq=max(journal.seq, told.seq),
        folded=[*journal.folded, *references],
        forked_from=journal.forked_from,
    )
