"""What a session did, effect by effect: a fold over its records for those who want to know.

Decided here: one entry for each time that an effect was asked, with what was sent and what came back in full, in the
machine's wire forms; a request is rebuilt from the differences in which it is recorded. Turns come out one after the
other. Every segment says again what came before it in fewer words: that is read only where it is all that is left of
the past, and the turns of it are marked incomplete. Opens no file, runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from .conversation import Conversation
from .errors import JournalError
from .machine.activities import TURN_ACTIVITY
from .machine.effects import Checkpoint, ExecCode, LlmCall, LlmComplete, SyncExecutionEnvironment, ToolCalls
from .machine.events import CallPrice, LlmRequestEvent, PluginEvent, RetryStatus, StatusRuntimeEvent
from .machine.llm import LLM_REQUEST, LLM_USAGE, LlmResponse, LlmUsage
from .machine.outcomes import TURN_OUTCOME
from .machine.wire import Json
from .recorded import RecordedSession, RecordedTurn, SessionFold
from .stores.blobs import MemoryBlobStore
from .stores.session_files import ReadSegment
from .turns import Turn

__all__ = ["TracedEffect", "TracedTurn", "Tracer", "ended_turns"]


@dataclass(slots=True, kw_only=True)
class TracedEffect:
    """One time that an effect was asked."""

    id: int
    kind: str
    asked_at: str
    sent: Json
    redelivered: bool = False
    """Whether it had been asked before, by a process that ended meanwhile."""
    answered_at: str | None = None
    got: Json = None
    """The response; None: there is none on record."""
    usage: LlmUsage | None = None
    dollars: float | None = None
    retries: list[Json] = field(default_factory=list)
    calls: list[dict[str, Json]] = field(default_factory=list)
    """The tool calls that were made for it, by the model or by a cell."""

    @property
    def duration_ms(self) -> int | None:
        """From the question to the answer by the clock of the process; None when either has no time."""
        return _between(self.asked_at, self.answered_at)

    def to_json(self) -> dict[str, Json]:
        """As `lash-nb trace --json` prints it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "asked_at": self.asked_at,
            "answered_at": self.answered_at,
            "duration_ms": self.duration_ms,
            "redelivered": self.redelivered,
            "sent": self.sent,
            "got": self.got,
            "usage": None if self.usage is None else LLM_USAGE.encode(self.usage),
            "dollars": self.dollars,
            "retries": self.retries,
            "calls": list(self.calls),
        }


@dataclass(slots=True, kw_only=True)
class TracedTurn:
    """One turn."""

    turn: int
    request: str
    model: str
    protocol: str
    began_at: str
    ended_at: str | None = None
    status: str = "interrupted"
    """As `Turn.status` has it; `interrupted`: there is no end on record."""
    sentence: str = ""
    outcome: Json = None
    usage: LlmUsage = field(default_factory=LlmUsage)
    dollars: float | None = None
    effects: list[TracedEffect] = field(default_factory=list)
    notes: list[Json] = field(default_factory=list)
    """What was told of kernels beside its steps."""
    resumptions: list[Json] = field(default_factory=list)
    """When another process went on with it."""
    incomplete: bool = False
    """Whether effects of it are not on record (any more)."""

    def to_json(self) -> dict[str, Json]:
        """As `lash-nb trace --json` prints it."""
        return {
            "turn": self.turn,
            "request": self.request,
            "model": self.model,
            "protocol": self.protocol,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "status": self.status,
            "sentence": self.sentence,
            "outcome": self.outcome,
            "usage": LLM_USAGE.encode(self.usage),
            "dollars": self.dollars,
            "incomplete": self.incomplete,
            "resumptions": self.resumptions,
            "notes": self.notes,
            "effects": [effect.to_json() for effect in self.effects],
        }


class Tracer:
    """Takes the segments of one session in their order; what is not of a turn is in its fields as it comes."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.label = ""
        self.notebook: str | None = None
        self.processes: list[dict[str, Json]] = []
        """Those that wrote it: when they opened it, and when they closed it in order."""
        self.kernels: list[dict[str, Json]] = []
        """The lives of kernels that cells were given to."""
        self.said: list[dict[str, Json]] = []
        """What the user said to running turns, and to which turn it was delivered."""
        self.incomplete = False
        """Whether some of the past is there in fewer words only."""
        self._fold = SessionFold(session)
        self._turn: TracedTurn | None = None
        self._deltas_only = False

    def turns(self, segments: Iterable[ReadSegment]) -> Iterator[TracedTurn]:
        """The turns, each when it has ended; last the one that has not.

        Raises:
            JournalError: the `problem` of a segment, after what is whole before it.
            CorruptJournalError: a record is not of its form.
        """
        problem: JournalError | None = None
        for index, segment in enumerate(segments):
            # A segment's differences go on from what it says again, not from where the one before it ended.
            self._fold = SessionFold(self.session)
            past = segment.repeated if index == 0 else 0
            self.incomplete = self.incomplete or past > 0
            for number, record in enumerate(segment.records):
                self._deltas_only = index > 0 and number < segment.repeated
                ended = self._take(record, in_fewer_words=number < past)
                if ended is not None and not self._deltas_only:
                    yield ended
            problem = segment.problem
        if self._turn is not None:
            yield self._turn
        if problem is not None:
            raise problem

    def _take(self, record: Mapping[str, Any], *, in_fewer_words: bool) -> TracedTurn | None:
        kind = record.get("k")
        self._fold.take(record)
        if kind == "end":
            recorded = self._fold.session.turns[-1]
            self._fold.session.turns.clear()  # what it held is in the turn that comes out
        if self._deltas_only:
            return None
        match kind:
            case "session":
                self._opened(record)
            case "turn":
                self._began(record, in_fewer_words)
            case "effect":
                self._asked(record, in_fewer_words)
            case "answer":
                self._answered(record)
            case "kernel":
                living = {"language": record["language"], "epoch": record["epoch"], "at": record.get("at")}
                self.kernels.append({**living, "turn": None if self._turn is None else self._turn.turn})
            case "call":
                self._called(record, begun_at=record.get("at"), name=record.get("name", ""), args=record.get("args"))
            case "called":
                self._called(record, ended_at=record.get("at"), output=record["output"])
            case "said":
                said = {"n": record["n"], "at": record.get("at"), "text": record["text"], "delivered_to": None}
                self.said.append(said)
            case "end":
                return self._ended(record, recorded)
            case "closed" if self.processes:
                self.processes[-1]["closed_at"] = record.get("at")
            case _:
                pass
        return None

    # -- records -------------------------------------------------------------------------------------------------------

    def _opened(self, record: Mapping[str, Any]) -> None:
        session = self._fold.session
        notebook = session.facts.get("notebook")
        self.label, self.notebook = session.label, None if notebook is None else str(notebook)
        opened = {"opened_at": record.get("at"), "engine": record.get("engine"), "notebook": notebook}
        self.processes.append({**opened, "closed_at": None})
        if self._turn is not None:
            self._turn.resumptions.append(record.get("at"))

    def _began(self, record: Mapping[str, Any], in_fewer_words: bool) -> None:
        turn = self._recorded()
        self._turn = TracedTurn(
            turn=turn.number,
            request=turn.asked.text,
            model=turn.asked.model,
            protocol=turn.asked.protocol,
            began_at=turn.at,
            incomplete=in_fewer_words,
        )

    def _asked(self, record: Mapping[str, Any], in_fewer_words: bool) -> None:
        recorded, turn = self._recorded(), self._traced()
        self._heard(record)
        self._delivered(record.get("delivered", ()), turn)
        if recorded.checkpoint is not None:
            turn.usage = recorded.checkpoint.cumulative_usage
        turn.incomplete = turn.incomplete or (not turn.effects and _was_asked(record))
        kind, sent = _sent(recorded)
        turn.effects.append(
            TracedEffect(
                id=int(record["id"]),
                kind=kind,
                asked_at="" if in_fewer_words else str(record.get("at", "")),
                sent=sent,
                redelivered=any(effect.id == record["id"] for effect in turn.effects),
            )
        )

    def _answered(self, record: Mapping[str, Any]) -> None:
        answer, turn = self._recorded().answer, self._traced()
        self._heard(record)
        effect = turn.effects[-1]
        effect.answered_at, effect.got = str(record.get("at", "")), record["response"]
        if isinstance(answer, LlmComplete) and isinstance(answer.result, LlmResponse):
            effect.usage = answer.result.usage
        self._delivered(record.get("said", ()), turn)

    def _delivered(self, numbers: Sequence[int], turn: TracedTurn) -> None:
        for said in self.said:
            if said["n"] in numbers:
                said["delivered_to"] = turn.turn

    def _called(self, record: Mapping[str, Any], **told: Json) -> None:
        for effect in reversed(self._traced().effects):
            if effect.id != record["effect"]:
                continue
            known = next((call for call in effect.calls if call["call"] == record["call"]), None)
            if known is None:
                known = {"call": record["call"], "name": None, "args": None, "begun_at": None, "ended_at": None}
                effect.calls.append(known)
            known.update(told)
            return

    def _ended(self, record: Mapping[str, Any], recorded: RecordedTurn) -> TracedTurn:
        turn, self._turn = self._traced(), None
        self._heard(record, turn)
        turn.incomplete = turn.incomplete or (not turn.effects and _was_asked(record))
        ended = ended_turns(RecordedSession(id=self.session, turns=[recorded]))[0]
        turn.ended_at = recorded.ended_at
        turn.status, turn.sentence = ended.status, ended.picture.sentence
        turn.outcome = TURN_OUTCOME.encode(ended.outcome)
        turn.usage, turn.dollars = ended.usage, recorded.dollars
        return turn

    def _heard(self, record: Mapping[str, Any], turn: TracedTurn | None = None) -> None:
        """What a record tells of what was to be seen: of its model call before, of retries, of kernels."""
        turn = turn or self._traced()
        asked = [effect for effect in turn.effects if effect.kind == "LlmCall"]
        for told in record.get("told", ()):
            match TURN_ACTIVITY.decode(told):
                case CallPrice(dollars=dollars) if asked:
                    asked[-1].dollars = dollars
                case RetryStatus(attempt=attempt, max_attempts=most, wait_seconds=wait_s, reason=reason) if asked:
                    retry: dict[str, Json] = {
                        "attempt": attempt,
                        "max_attempts": most,
                        "wait_seconds": wait_s,
                        "reason": reason,
                    }
                    asked[-1].retries.append(retry)
                case PluginEvent(event=StatusRuntimeEvent(label=label, detail=detail)):
                    turn.notes.append(f"{label}: {detail}" if detail else label)
                case _:
                    pass

    def _recorded(self) -> RecordedTurn:
        assert self._fold.session.running is not None  # else the fold had refused the record
        return self._fold.session.running

    def _traced(self) -> TracedTurn:
        if self._turn is None:
            recorded = self._recorded()
            raise JournalError(f"turn {recorded.number} of session {self.session} goes on before it was begun")
        return self._turn


def ended_turns(session: RecordedSession) -> list[Turn]:
    """The turns of a session that have ended, as a resumed session has them; images are left out."""
    conversation = Conversation(session.id, engine="")
    conversation.restore(session, store=MemoryBlobStore())
    return conversation.turns


def _sent(turn: RecordedTurn) -> tuple[str, Json]:
    """The outstanding effect's name, and what it asks for."""
    effect = turn.checkpoint.outstanding_effect if turn.checkpoint is not None else None
    name = type(effect).__name__
    match effect:
        case LlmCall():
            return name, {"request": LLM_REQUEST.encode(effect.request)}
        case ExecCode():
            return name, {"language": effect.language, "code": effect.code}
        case ToolCalls():
            calls = [{"call": call.call_id, "name": call.tool_name, "args": call.args} for call in effect.calls]
            return name, {"calls": calls}
        case Checkpoint():
            return name, {"checkpoint": effect.checkpoint.value}
        case SyncExecutionEnvironment():
            return name, {"update_machine_config": effect.update_machine_config}
        case None:
            return "", None
        case _:
            assert_never(effect)


def _was_asked(record: Mapping[str, Any]) -> bool:
    """Whether a model was called before anything of that is on record."""
    return any(isinstance(TURN_ACTIVITY.decode(told), LlmRequestEvent) for told in record.get("told", ()))


def _between(start: str, end: str | None) -> int | None:
    if not start or not end:
        return None
    try:
        return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)
    except (ValueError, TypeError):
        return None
