"""What a session's journal says: the forms of its records, and their fold into the session as it stood.

Every record is a JSON object; `k` says which kind, `at` when (for people: nothing goes by it).

| `k`       | holds                                              | written                                             |
|-----------|----------------------------------------------------|----------------------------------------------------|
| `session` | `label`, `notebook`, `directory`, `engine`, …      | first; again by every process that goes on with it  |
| `original` | `language`, `epoch`                               | in a copy, compacted: a kernel of the original's    |
| `turn`    | `turn`, `asked`                                    | before anything of a turn happens                   |
| `effect`  | `turn`, `id`, `kind`, `delta`, `told`, `delivered` | before an effect that carries an id is performed    |
| `kernel`  | `language`, `epoch`, `file`                        | before a kernel gets the first cell of its life     |
| `call`    | `turn`, `effect`, `call`, `name`, `args`           | before a tool is called                             |
| `called`  | `turn`, `effect`, `call`, `output`                 | before the result of that call is passed on         |
| `ask`     | `turn`, `effect`, `approval`, `told`               | before somebody is asked to decide                  |
| `decided` | `turn`, `effect`, `id`, `decision`, `told`, `left` | before anything follows from what was decided       |
| `said`    | `n`, `text`                                        | when the user says something to a turn              |
| `answer`  | `turn`, `id`, `response`, `told`, `known`, `said`  | before the machine gets an answer                   |
| `end`     | `turn`, `delta`, `told`, `chain`, `known`, …       | before the outcome of a turn is shown               |
| `closed`  |                                                    | when a process lets go of the session               |

`delta` is a TurnCheckpoint as its difference to the one before (`machine.deltas`), `told` the activities since the
record before (`machine.activities`), `chain` the turn's envelope without its checkpoint; `delivered` and an answer's
`said` are numbers of `said` records, which the turn's conversation holds from there on. A kind that is not known is
passed over. Reads records only: opens no file, runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

from .asked import Asked
from .errors import CorruptJournalError, DecodeError, JournalError
from .machine.activities import TURN_ACTIVITY
from .machine.approvals import APPROVAL, DECISION, Approval, Decision
from .machine.config import TurnProtocol
from .machine.deltas import DeltaReader, DeltaWriter
from .machine.effects import RESPONSE, Done, Emit, LlmComplete, Response
from .machine.execution import NAMESPACE, NamespaceSummary
from .machine.picture import TurnPicture
from .machine.state import TurnCheckpoint
from .machine.tool_calls import TOOL_CALL_OUTPUT, ToolCallOutput
from .machine.wire import Json
from .protocols import PROTOCOLS

__all__ = ["Record", "RecordedKernel", "RecordedSession", "RecordedTurn", "SessionFold", "protocol_of"]

Record = dict[str, Json]


@lru_cache(maxsize=16)
def protocol_of(name: str) -> TurnProtocol[Any, Any, Any]:
    """How the records of a protocol's turns are read. Raises JournalError: this lash_nb has no such protocol."""
    if name not in PROTOCOLS:
        raise JournalError(f"a turn was conducted by the protocol {name!r}, which is not here; upgrade lash_nb")
    module, _, attribute = PROTOCOLS[name].partition(":")
    found: TurnProtocol[Any, Any, Any] = getattr(import_module(module), attribute).turn_protocol
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedKernel:
    """A life of a kernel that cells were given to."""

    language: str
    epoch: str
    file: str | None = None
    """Its connection file, where it has one: with it a living kernel can be taken over."""
    copied: bool = False
    """It was recorded before the session was copied: whoever goes on with the original has it, and nobody else."""


@dataclass(slots=True, kw_only=True)
class RecordedTurn:
    """One turn, as far as it is recorded."""

    number: int
    asked: Asked
    at: str = ""
    told: list[Json] = field(default_factory=list)
    """What was to be seen of it (`TURN_ACTIVITY`)."""
    checkpoint: TurnCheckpoint | None = None
    """At the outstanding effect; of a turn that ended, the last one. None: it was stopped before its first effect."""
    effect: int | None = None
    """The effect that was asked last."""
    answer: Response | None = None
    """Its answer."""
    calls: dict[str, ToolCallOutput | None] = field(default_factory=dict)
    """Its tool calls; None: begun, and nothing more is known."""
    calls_known: bool = True
    """Whether those are all: a notebook does not say which were begun."""
    asking: Approval | None = None
    """What waits for a decision."""
    begun: bool = True
    """Whether its outstanding effect may have begun; not when it was decided on while nobody ran the turn."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    """What was decided on its outstanding effect, by the id of the approval."""
    steps: int = 0
    """Model calls that were answered."""
    said: int = 0
    """Texts that were delivered to it."""
    ended: bool = False
    ended_at: str = ""
    chain: dict[str, Any] | None = None
    dollars: float | None = None

    def picture(self) -> TurnPicture:
        """What there was to be seen of it, with what its last checkpoint had still to tell. Raises DecodeError."""
        picture = TurnPicture()
        for activity in self.told:
            picture = picture.apply(TURN_ACTIVITY.decode(activity))
        if self.ended and self.checkpoint is not None:
            for effect in self.checkpoint.pending_effects:
                picture = picture.apply(effect.event) if isinstance(effect, Emit) else picture
        return picture

    @property
    def done(self) -> Done | None:
        """Its last effect, which holds the conversation."""
        pending = self.checkpoint.pending_effects if self.checkpoint is not None else ()
        return next((effect for effect in reversed(pending) if isinstance(effect, Done)), None)


@dataclass(slots=True, kw_only=True)
class RecordedSession:
    """A session, as far as it is recorded."""

    id: str
    label: str = "1"
    facts: dict[str, Json] = field(default_factory=dict)
    """What the process that wrote last said of itself: `notebook`, `directory`, `engine`."""
    turns: list[RecordedTurn] = field(default_factory=list)
    """Those that have ended."""
    running: RecordedTurn | None = None
    """The one that has not."""
    said: dict[int, str] = field(default_factory=dict)
    """What was said and has not been delivered."""
    last_said: int = 0
    kernels: dict[str, RecordedKernel] = field(default_factory=dict)
    """By language."""
    copied: int | None = None
    """The inode of the file in which it was last taken up as a copy."""
    known: NamespaceSummary = field(default_factory=NamespaceSummary)
    """The main kernel's variables as last seen."""
    seq: int = 0
    """At least as high as that of any envelope that was made."""
    folded: list[dict[str, Any]] = field(default_factory=list)
    """References to turns before those, of which nothing more is known (`stores.envelopes`)."""
    forked_from: dict[str, Json] | None = None
    """Of which session, after which turn, it went its own way (`session`, `turn`, `sha256`)."""
    began_at: str = ""
    last_at: str = ""
    closed: bool = False


class SessionFold:
    """Takes the records of one session in their order."""

    def __init__(self, session: str) -> None:
        self.session = RecordedSession(id=session)
        self._deltas = DeltaReader()
        self._count = 0

    def take(self, record: Mapping[str, Any]) -> None:
        """One more record.

        Raises:
            CorruptJournalError: it is whole, and not what such a record holds; names its number and the field.
            JournalError: it needs a protocol that is not here.
        """
        self._count += 1
        kind = record.get("k")
        take = _TAKES.get(kind) if isinstance(kind, str) else None
        if take is None:
            return
        try:
            take(self, record)
        except (DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"field {error}" if isinstance(error, KeyError) else str(error)
            raise CorruptJournalError(
                f"the journal of session {self.session.id} is damaged: record {self._count} ({kind}) is not of its "
                f"form ({what})"
            ) from error
        self.session.last_at = str(record.get("at") or self.session.last_at)
        self.session.began_at = self.session.began_at or self.session.last_at

    def writer(self) -> DeltaWriter:
        """Goes on writing deltas where these records end."""
        return self._deltas.writer()

    def _turn(self, record: Mapping[str, Any]) -> RecordedTurn:
        running = self.session.running
        if running is None or running.number != record["turn"]:
            raise DecodeError(f"turn {record['turn']} is not running", path="turn")
        return running

    def _session(self, record: Mapping[str, Any]) -> None:
        session = self.session
        session.label, session.closed = str(record["label"]), False
        session.facts = {name: value for name, value in record.items() if name not in _NO_FACTS}
        session.seq = max(session.seq, int(record.get("seq", 0)))
        session.last_said = max(session.last_said, int(record.get("last_said", 0)))
        session.began_at = str(record.get("began_at") or session.began_at)
        if "known" in record:
            session.known = NAMESPACE.decode(record["known"])
        session.folded = list(record.get("folded", session.folded))
        session.forked_from = record.get("forked_from", session.forked_from)
        if record.get("said_anew") is True:
            session.said = {}
        if "copied" in record:
            session.copied = int(record["copied"])
            for language, kernel in session.kernels.items():
                session.kernels[language] = replace(kernel, file=None, copied=True)

    def _begun(self, record: Mapping[str, Any]) -> None:
        if self.session.running is not None:
            raise DecodeError(f"turn {self.session.running.number} has not ended", path="turn")
        self.session.running = RecordedTurn(
            number=int(record["turn"]), asked=Asked.from_json(record["asked"]), at=str(record.get("at", ""))
        )

    def _effect(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        turn.checkpoint = self._deltas.read(record["delta"], protocol_of(turn.asked.protocol))
        again = turn.effect == record["id"] and turn.answer is None
        turn.effect, turn.answer = int(record["id"]), None
        if not again:
            turn.calls, turn.calls_known = {}, record.get("calls_known") is not False
            turn.asking, turn.decisions, turn.begun = None, {}, True
        turn.steps, turn.said = int(record.get("steps", turn.steps)), int(record.get("said", turn.said))
        self._deliver(turn, record.get("delivered", ()))
        self.session.seq += 1
        turn.told += record.get("told", [])

    def _answer(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        response = RESPONSE.decode(record["response"])
        if turn.effect != record["id"] or response.id != record["id"]:
            raise DecodeError(f"effect {record['id']} is not outstanding", path="id")
        turn.answer, turn.asking = response, None
        turn.steps += isinstance(response, LlmComplete)
        turn.told += record.get("told", [])
        self._deliver(turn, record.get("said", ()))
        if "known" in record:
            self.session.known = NAMESPACE.decode(record["known"])

    def _deliver(self, turn: RecordedTurn, numbers: Iterable[int]) -> None:
        """What was said is in the turn's conversation from this record on."""
        for number in numbers:
            self.session.said.pop(number, None)
            turn.said += 1

    def _kernel(self, record: Mapping[str, Any]) -> None:
        kernel = RecordedKernel(
            language=str(record["language"]),
            epoch=str(record["epoch"]),
            file=None if record.get("file") is None else str(record["file"]),
        )
        self.session.kernels[kernel.language] = kernel

    def _original(self, record: Mapping[str, Any]) -> None:
        language = str(record["language"])
        self.session.kernels[language] = RecordedKernel(language=language, epoch=str(record["epoch"]), copied=True)

    def _call(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        if turn.effect == record["effect"]:
            turn.calls[str(record["call"])] = None

    def _called(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        if turn.effect == record["effect"]:
            turn.calls[str(record["call"])] = TOOL_CALL_OUTPUT.decode(record["output"])

    def _ask(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        turn.told += record.get("told", [])
        if turn.effect == record["effect"]:
            turn.asking = APPROVAL.decode(record["approval"])

    def _decided(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        turn.told += record.get("told", [])
        if turn.effect == record["effect"]:
            turn.decisions[str(record["id"])] = DECISION.decode(record["decision"])
            turn.asking, turn.begun = None, record.get("left") is not True

    def _said(self, record: Mapping[str, Any]) -> None:
        number = int(record["n"])
        self.session.said[number] = str(record["text"])
        self.session.last_said = max(self.session.last_said, number)

    def _end(self, record: Mapping[str, Any]) -> None:
        turn = self._turn(record)
        turn.checkpoint = self._deltas.read(record["delta"], protocol_of(turn.asked.protocol))
        turn.told += record.get("told", [])
        turn.ended, turn.ended_at = True, str(record.get("at", ""))
        turn.chain = cast("dict[str, Any] | None", record.get("chain"))
        turn.dollars = cast("float | None", record.get("dollars"))
        if turn.done is None:
            raise DecodeError("the turn's last checkpoint has no end", path="delta")
        if turn.chain is not None:
            self.session.seq = max(self.session.seq, int(turn.chain["seq"]))
        if "known" in record:
            self.session.known = NAMESPACE.decode(record["known"])
        turn.calls, turn.answer, turn.asking, turn.decisions = {}, None, None, {}
        self.session.turns.append(turn)
        self.session.running = None

    def _closed(self, record: Mapping[str, Any]) -> None:
        self.session.closed = True


_TAKES = {
    "session": SessionFold._session,
    "turn": SessionFold._begun,
    "effect": SessionFold._effect,
    "answer": SessionFold._answer,
    "kernel": SessionFold._kernel,
    "original": SessionFold._original,
    "call": SessionFold._call,
    "called": SessionFold._called,
    "ask": SessionFold._ask,
    "decided": SessionFold._decided,
    "said": SessionFold._said,
    "end": SessionFold._end,
    "closed": SessionFold._closed,
}
_NO_FACTS = ("k", "seq", "last_said", "known", "copied", "folded", "forked_from", "said_anew")
"""What a `session` record says of the session itself."""
