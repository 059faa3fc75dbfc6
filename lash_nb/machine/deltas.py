"""A session's checkpoints as differences, each to the one before: what a step costs does not grow with the history.

Decided here: the form of a difference, and what writer and reader remember between two of them. Both keep the same
registers: the messages, the events, the causes, and the last request. A difference says first what becomes of the
registers, then gives the checkpoint with counts in the place of what they hold:

    {"messages": {"kept": 41, "new": […]}, "events": {…}, "turn_causes": {…}, "checkpoint": {…}}

- A register that only loses entries, or changes nothing, is left out: a later checkpoint may go on from them.
- `messages`, `events`, `turn_causes` of a checkpoint, and `messages` of Progress and Done, are the number of first
  entries of the register; an array is the whole, where they are not its beginning.
- `event_delta` is `{"start", "count"}` in the events; an array is the whole.
- A request holds what is not as in the last request: its messages and attachments as `{"kept", "new"}`.

Any sequence of checkpoints can be written, also a branch, a rewind, or turns of different protocols. Entries of a
register are encoded once, by the protocol of the turn in which they came, and decoded once. Events are told apart by
identity only: free JSON has values that are equal and written differently (1, 1.0, true).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress, count
from operator import is_, is_not
from typing import Any, TypeVar

from .codec import wrong
from .config import TurnProtocol
from .effects import Done, Progress
from .events import SessionEventRecord, event_record_codec
from .llm import LLM_REQUEST, LlmRequest
from .messages import MESSAGES, TURN_CAUSE, AppendOnly, MessageSequence, TurnCause
from .state import GrowingForms, TurnCheckpoint, checkpoint_codec_with
from .wire import U64, Codec, DecodeError, Json, array, dumps, struct

__all__ = ["DeltaReader", "DeltaWriter"]

T = TypeVar("T")


class DeltaWriter:
    """Writes checkpoint after checkpoint, each as its difference to the one before."""

    def __init__(self) -> None:
        self._registers = _Registers()

    def write(self, checkpoint: TurnCheckpoint, protocol: TurnProtocol[Any, Any, Any]) -> dict[str, Json]:
        """The difference to the checkpoint that was written last, as JSON; to nothing, the first time.

        Raises:
            DecodeError: what is to be written is not JSON; the next one is then compared with the same as this was.
        """
        with self._registers.kept_on_failure():
            return self._registers.write(checkpoint, protocol)


class DeltaReader:
    """Reads what a DeltaWriter wrote, in the same order."""

    def __init__(self) -> None:
        self._registers = _Registers()

    def read(self, delta: Json, protocol: TurnProtocol[Any, Any, Any]) -> TurnCheckpoint:
        """The checkpoint, as it was written.

        Raises:
            DecodeError: naming the field; the next one is then read as if this one had not come.
        """
        with self._registers.kept_on_failure():
            return self._registers.read(delta, protocol)

    def writer(self) -> DeltaWriter:
        """A writer that goes on where the reading ended."""
        writer = DeltaWriter()
        writer._registers.held = self._registers.held
        return writer


# -- registers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What both sides remember."""

    messages: MessageSequence = field(default_factory=AppendOnly)
    events: AppendOnly[SessionEventRecord] = field(default_factory=AppendOnly)
    turn_causes: AppendOnly[TurnCause] = field(default_factory=AppendOnly)
    request: LlmRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grown:
    """What becomes of a sequence: so many first entries stay, then come these."""

    kept: int
    new: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A part of the events."""

    start: int
    count: int


_SPAN: Codec[_Span] = struct(_Span, start=U64, count=U64)
_REQUEST: Mapping[str, Codec[Any]] = {name: entry.codec for name, entry in (LLM_REQUEST.fields or {}).items()}
_LONG: Mapping[str, Codec[_Grown]] = {
    name: struct(_Grown, kept=U64, new=_REQUEST[name]) for name in ("messages", "attachments")
}
"""The fields of a request that grow with the history."""
_CAUSES: Codec[Any] = array(TURN_CAUSE, AppendOnly)


class _Registers:
    """The registers, and the codecs of what is written by them."""

    def __init__(self) -> None:
        self.held = _Held()
        self._cursor = 0
        """Where in the events the next `event_delta` should begin: each begins where the one before ended."""
        self._codecs: dict[TurnProtocol[Any, Any, Any], tuple[dict[str, Codec[_Grown]], Codec[TurnCheckpoint]]] = {}

    @contextmanager
    def kept_on_failure(self) -> Iterator[None]:
        held = self.held
        try:
            yield
        except BaseException:
            self.held = held
            raise

    def write(self, checkpoint: TurnCheckpoint, protocol: TurnProtocol[Any, Any, Any]) -> dict[str, Json]:
        growing, form = self._codecs_of(protocol)
        told = [effect for effect in checkpoint.pending_effects if isinstance(effect, (Progress, Done))]
        # When a turn ends its messages move into Done.
        longest = max((checkpoint.messages, *(effect.messages for effect in told)), key=len)
        self._cursor = checkpoint.progress_event_cursor - sum(len(effect.event_delta) for effect in told)
        views: dict[str, AppendOnly[Any]] = {
            "messages": longest,
            "events": checkpoint.events,
            "turn_causes": checkpoint.turn_causes,
        }
        out: dict[str, Json] = {}
        for name, view in views.items():
            register: AppendOnly[Any] = getattr(self.held, name)
            kept = _beginning(register, view, by_identity=name == "events")
            if kept < len(view):
                out[name] = growing[name].encode(_Grown(kept=kept, new=view[kept:]))
            elif kept < len(register):
                views[name] = register
        self.held = _Held(**views, request=self.held.request)
        out["checkpoint"] = form.encode(checkpoint)
        return out

    def read(self, delta: Any, protocol: TurnProtocol[Any, Any, Any]) -> TurnCheckpoint:
        growing, form = self._codecs_of(protocol)
        if type(delta) is not dict:
            raise wrong("an object", delta)
        for name, codec in growing.items():
            if name in delta:
                with _under(name):
                    grown = _lengthened(getattr(self.held, name), codec.decode(delta[name]))
                self.held = replace(self.held, **{name: grown})  # type: ignore[arg-type]
        if "checkpoint" not in delta:
            raise DecodeError("this field is missing", path="checkpoint")
        with _under("checkpoint"):
            return form.decode(delta["checkpoint"])

    def _codecs_of(
        self, protocol: TurnProtocol[Any, Any, Any]
    ) -> tuple[dict[str, Codec[_Grown]], Codec[TurnCheckpoint]]:
        """How registers grow, and what a checkpoint is written by, under a protocol."""
        known = self._codecs.get(protocol)
        if known is None:
            records = array(event_record_codec(protocol.event), AppendOnly)
            wholes = {"messages": MESSAGES, "events": records, "turn_causes": _CAUSES}
            growing = {name: struct(_Grown, kept=U64, new=whole) for name, whole in wholes.items()}
            forms = GrowingForms(
                request=Codec(self._write_request, self._read_request),
                messages=_counted(lambda: self.held.messages, MESSAGES),
                events=_counted(lambda: self.held.events, records, by_identity=True),
                event_delta=self._event_deltas(array(event_record_codec(protocol.event))),
                turn_causes=_counted(lambda: self.held.turn_causes, _CAUSES),
            )
            known = self._codecs[protocol] = growing, checkpoint_codec_with(protocol, forms)
        return known

    def _event_deltas(self, whole: Codec[Any]) -> Codec[Any]:
        def encode(delta: tuple[SessionEventRecord, ...]) -> Any:
            start, end = self._cursor, self._cursor + len(delta)
            self._cursor = end
            events = self.held.events
            if start >= 0 and end <= len(events) and all(map(is_, events[start:end], delta)):
                return _SPAN.encode(_Span(start=start, count=len(delta)))
            return whole.encode(delta)

        def decode(value: Any) -> tuple[SessionEventRecord, ...]:
            if type(value) is list:
                delta: tuple[SessionEventRecord, ...] = whole.decode(value)
                return delta
            span, events = _SPAN.decode(value), self.held.events
            _within(span.start + span.count, events)
            return events[span.start : span.start + span.count]

        return Codec(encode, decode)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _write_request(self, request: LlmRequest) -> dict[str, Any]:
        last = self.held.request
        out: dict[str, Any] = {}
        if request is last:
            return out
        for name, codec in _REQUEST.items():
            new = getattr(request, name)
            if name in _LONG:
                old = () if last is None else getattr(last, name)
                kept = _equal_beginning(old, new)
                if last is None or not len(old) == kept == len(new):
                    out[name] = _LONG[name].encode(_Grown(kept=kept, new=new[kept:]))
            elif last is None:
                out[name] = codec.encode(new)
            elif (old := getattr(last, name)) is not new:
                written = codec.encode(new)
                # By their text: free JSON may be equal and written differently.
                if dumps(written) != dumps(codec.encode(old)):
                    out[name] = written
        self.held = replace(self.held, request=request)
        return out

    def _read_request(self, value: Any) -> LlmRequest:
        if type(value) is not dict:
            raise wrong("an object", value)
        last = self.held.request
        if last is not None and not value:
            return last
        fields: dict[str, Any] = {}
        for name, codec in _REQUEST.items():
            with _under(name):
                if name not in value:
                    if last is None:
                        raise DecodeError("this field is missing")
                    fields[name] = getattr(last, name)
                elif name in _LONG:
                    grown = _LONG[name].decode(value[name])
                    old: tuple[Any, ...] = () if last is None else getattr(last, name)
                    _within(grown.kept, old, "kept")
                    fields[name] = (*old[: grown.kept], *grown.new)
                else:
                    fields[name] = codec.decode(value[name])
        request = LlmRequest(**fields)
        self.held = replace(self.held, request=request)
        return request


def _counted(register: Callable[[], AppendOnly[Any]], whole: Codec[Any], *, by_identity: bool = False) -> Codec[Any]:
    """A sequence as the number of first entries of a register, or as the whole."""

    def encode(view: AppendOnly[Any]) -> Any:
        kept = _beginning(register(), view, by_identity=by_identity)
        return kept if kept == len(view) else whole.encode(view)

    def decode(value: Any) -> Any:
        if type(value) is list:
            return whole.decode(value)
        _within(U64.decode(value), register())
        return register().first(value)

    return Codec(encode, decode)


def _lengthened(register: AppendOnly[T], grown: _Grown) -> AppendOnly[T]:
    _within(grown.kept, register, "kept")
    return register.first(grown.kept).appended(grown.new)


def _within(number: int, entries: AppendOnly[Any] | tuple[Any, ...], path: str = "") -> None:
    if number > len(entries):
        raise DecodeError(f"{number} entries of the {len(entries)} that came before", path=path)


@contextmanager
def _under(step: str) -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise error.under(step) from None


# -- where two sequences part ------------------------------------------------------------------------------------------


def _beginning(register: AppendOnly[Any], view: AppendOnly[Any], *, by_identity: bool) -> int:
    """How many first entries are the same: O(1) for views of one list, otherwise looked up at the speed of C."""
    most = min(len(register), len(view))
    if view.shared_with(register) == most:
        return most
    if by_identity:
        return next(compress(count(), map(is_not, register, view)), most)
    return _equal_beginning(register[:most], view[:most])


def _equal_beginning(left: tuple[Any, ...], right: tuple[Any, ...]) -> int:
    """How many first entries are equal, by halving: tuples are compared in C, which does not look into what is one."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
