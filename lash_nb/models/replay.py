"""Cassettes: answers kept in a file beside the notebook, replayed offline, and recorded from any other model.

What is decided here:
- The file, `NAME.cassette.jsonl`: a header `{"lash_nb_cassette": 1}`, then one exchange a line (`Exchange`).
  The request itself is not kept, only the user's text and a digest, so nothing else that was sent lies in the
  file.
- An exchange is found by session, turn, step and the user's text with its whitespace and Unicode form evened
  out: another pandas version, home directory or traceback does not break a cassette, another question does.
  The digest of the whole request (but for the model's name and the ids of the run) is compared under `strict`
  only. A turn is replayed under the protocol that it was recorded under, or not at all.
- A recording rewrites the file at each exchange (temporary file, fsync, rename), so that a killed run leaves
  whole lines. It first drops what the file holds of the same session from that step on: that followed from
  another conversation.
- What is wrong with a cassette is the user's to mend: CassetteError, never a failed model call.

Imports the contract, `machine` and `errors` only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from pathlib import Path

from ..errors import CassetteError, DecodeError, InputError
from ..machine.llm import LLM_REQUEST, LLM_RESPONSE, LlmRequest, LlmResponse
from ..machine.wire import (
    BOOLEAN,
    STRING,
    Codec,
    bounded_integer,
    canonical_json,
    dumps,
    enum,
    loads,
    omit_empty,
    struct,
)
from . import CallContext, Model, ModelTraits, OnDelta, Opening, play
from ._questions import difference, normal_text

__all__ = [
    "SUFFIX",
    "VERSION",
    "Exchange",
    "Origin",
    "RecordingModel",
    "ReplayModel",
    "normal_text",
    "open_replay",
    "read_cassette",
    "request_sha256",
    "write_cassette",
]

SUFFIX = ".cassette.jsonl"
VERSION = 1
_HEADER = "lash_nb_cassette"
_WHAT_TO_DO = (
    "For a live answer name a model (`%lash model NAME`); "
    "to record the cassette again: `lash-nb run NOTEBOOK -m NAME --record`."
)
_RUN_VARIES = ("model", "model_variant", "model_capability", "scope")
"""Fields of a request that differ between recording and replay though nothing was asked differently."""


class Origin(StrEnum):
    """Where an answer came from: written by a person, or a model."""

    SCRIPTED = "scripted"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One recorded answer and what it answered."""

    session: str
    turn: int
    step: int
    user_text: str
    """Of the turn's request, in normal form (`normal_text`)."""
    request_sha256: str
    origin: Origin
    model: str
    """The name of the model that answered."""
    date: str
    """The day of the recording, ISO 8601."""
    protocol: str = "code"
    """Which protocol conducted the turn: its replies are of that form."""
    vision: bool = True
    """Whether the model was shown images, which the prompt tells it."""
    kept: str = ""
    """Which kept code it was to repair."""
    response: LlmResponse


_Place = tuple[str, int, int, str]


_FROM_ONE = bounded_integer(1, 2**31)
_EXCHANGE: Codec[Exchange] = struct(
    Exchange,
    session=STRING,
    turn=_FROM_ONE,
    step=_FROM_ONE,
    user_text=STRING,
    request_sha256=STRING,
    origin=enum(Origin),
    model=STRING,
    date=STRING,
    protocol=omit_empty(STRING, "code"),
    vision=omit_empty(BOOLEAN, True),
    kept=omit_empty(STRING, ""),
    response=LLM_RESPONSE,
)


def _same_question(one: str, other: str) -> bool:
    """Where lines are broken does not matter either."""
    return normal_text(one).split() == normal_text(other).split()


def request_sha256(request: LlmRequest) -> str:
    """Digest of all that was asked; the model's name and the ids of the run are left out."""
    wire = {name: value for name, value in LLM_REQUEST.encode(request).items() if name not in _RUN_VARIES}
    return hashlib.sha256(dumps(canonical_json(wire)).encode("utf-8", "surrogatepass")).hexdigest()


# -- the file ------------------------------------------------------------------------------------------------


def read_cassette(path: Path) -> tuple[Exchange, ...]:
    """All exchanges of a cassette. Raises: CassetteError that names the file and the line; the file is left
    as it is."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise CassetteError(f"{path}: there is no such cassette") from error
    except OSError as error:
        raise CassetteError(f"{path}: the cassette cannot be read ({error.strerror})") from error
    cut_off = lines.pop() if not lines[-1] else lines[-1]  # what follows the last newline: nothing, in a whole file
    if not lines:
        raise CassetteError(f"{path}:1: the cassette is empty")
    _check_header(f"{path}:1", lines[0])
    exchanges: dict[_Place, tuple[int, Exchange]] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            exchange = _EXCHANGE.decode(loads(line))
        except DecodeError as error:
            if cut_off and number == len(lines):
                raise CassetteError(f"{path}:{number}: the cassette is cut off in this line") from error
            raise CassetteError(f"{path}:{number}: {error}") from error
        key = _position(exchange)
        if key in exchanges:
            first = exchanges[key][0]
            raise CassetteError(
                f"{path}:{number}: turn {exchange.turn}, step {exchange.step} is in line {first} already"
            )
        exchanges[key] = (number, exchange)
    return tuple(exchange for _, exchange in exchanges.values())


def _check_header(place: str, line: bytes) -> None:
    try:
        header = loads(line)
    except DecodeError as error:
        raise CassetteError(f"{place}: this is not a cassette's header: {error.problem}") from error
    if type(header) is not dict or _HEADER not in header:
        raise CassetteError(f'{place}: a cassette begins with {{"{_HEADER}": {VERSION}}}')
    version = header[_HEADER]
    if type(version) is not int or version != VERSION:
        raise CassetteError(f"{place}: the cassette is of version {version!r}, this lash_nb reads version {VERSION}")


def write_cassette(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Puts a cassette in place of whatever is at `path`, in one step. Raises: CassetteError; the old file
    stays."""
    header = {_HEADER: VERSION, "about": "answers of a model, one a line, replayed offline by lash_nb"}
    text = "".join(dumps(line) + "\n" for line in (header, *(_EXCHANGE.encode(entry) for entry in exchanges)))
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CassetteError(f"{path}: the cassette cannot be written ({error.strerror})") from error


def _position(at: Exchange | CallContext) -> _Place:
    return at.session, at.turn, at.step, at.kept


# -- replay --------------------------------------------------------------------------------------------------


class ReplayModel:
    """Answers from a cassette, which is read when the model is made (CassetteError then, if it is broken)."""

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        strict: bool = False,
        chunk_size: int = 16,
        delay_s: float = 0.0,
    ) -> None:
        self.name = name or f"replay:{path.name}"
        self.exchanges = read_cassette(path)
        self._path = path
        self._strict = strict
        self._chunk_size = chunk_size
        self._delay_s = delay_s
        self._by_position = {_position(exchange): exchange for exchange in self.exchanges}

    @property
    def provenance(self) -> str:
        """Whose answers these are, for the announcement: `scripted answers of 2026-11-22`."""
        sources = {
            f"answers of {entry.model} recorded {entry.date}"
            if entry.origin is Origin.RECORDED
            else f"scripted answers of {entry.date}"
            for entry in self.exchanges
        }
        return "; ".join(sorted(sources)) or "no answers yet"

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """As it was when the turn was recorded."""
        of_turn = (e for e in self.exchanges if (e.session, e.turn) == (session, turn))
        recorded = next(of_turn, None)
        if recorded is None:
            return ModelTraits()
        return ModelTraits(protocol=recorded.protocol, vision=recorded.vision)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The recorded answer. Raises: CassetteError when there is none for this question at this place."""
        exchange = self._find(context)
        if self._strict:
            self._compare(exchange, request)
        return await play(exchange.response, on_delta=on_delta, chunk_size=self._chunk_size, delay_s=self._delay_s)

    def _find(self, context: CallContext) -> Exchange:
        of_turn = [e for e in self.exchanges if e.session == context.session and e.turn == context.turn]
        place = f"{self._path}: turn {context.turn}"
        if not of_turn:
            raise CassetteError(f"{place} is not recorded{self._elsewhere(context)}. {_WHAT_TO_DO}")
        exchange = self._by_position.get(_position(context))
        asked_of = exchange or of_turn[0]
        if not _same_question(asked_of.user_text, context.user_text):
            raise CassetteError(
                f"{place}, step {context.step} is recorded for another question{self._elsewhere(context)}.\n"
                f"{difference(asked_of.user_text, context.user_text)}\n{_WHAT_TO_DO}"
            )
        if asked_of.protocol != context.protocol:
            raise CassetteError(
                f"{place} is recorded under the protocol {asked_of.protocol!r}, and conducted under "
                f"{context.protocol!r}, to which these replies mean nothing. Leave it to the cassette: "
                "`%config Lash.protocol = 'auto'`, no `protocol=`"
            )
        if exchange is None:
            steps = ", ".join(str(e.step) for e in sorted(of_turn, key=_position))
            raise CassetteError(f"{place} asks for step {context.step}, recorded: {steps}. {_WHAT_TO_DO}")
        return exchange

    def _elsewhere(self, context: CallContext) -> str:
        """Cells that were run twice or out of order are the commonest cause, and have another cure."""
        for exchange in self.exchanges:
            if _same_question(exchange.user_text, context.user_text):
                session = "" if exchange.session == context.session else f" of session {exchange.session}"
                return (
                    f" (this question is turn {exchange.turn}{session} there: restart the kernel and run the "
                    "cells in order, each once)"
                )
        return ""

    def _compare(self, exchange: Exchange, request: LlmRequest) -> None:
        asked = request_sha256(request)
        if asked != exchange.request_sha256:
            raise CassetteError(
                f"{self._path}: turn {exchange.turn}, step {exchange.step} is recorded for another request; "
                "the question is the same, the prompt, the history or an observation differs (strict replay: "
                f"{exchange.request_sha256[:12]} recorded, {asked[:12]} asked). "
                "Replay without strict, or record again."
            )

    async def aclose(self) -> None:
        """Nothing is held open."""


def open_replay(opening: Opening) -> ReplayModel:
    """The model of `replay:PATH`; `.cassette.jsonl` may be left out. Raises: CassetteError."""
    if not opening.argument:
        raise InputError(f"`replay` needs a cassette: replay:PATH (NAME{SUFFIX})")
    path = opening.base_dir / Path(opening.argument).expanduser()
    candidates = [path] if path.name.endswith(SUFFIX) else [path, path.with_name(path.name + SUFFIX)]
    for candidate in candidates:
        if candidate.is_file():
            return ReplayModel(candidate, name=f"replay:{opening.argument}", strict=opening.strict)
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise CassetteError(f"there is no cassette {opening.argument} (looked for {looked})")


# -- recording -----------------------------------------------------------------------------------------------


def _today() -> str:
    return date.today().isoformat()


class RecordingModel:
    """Passes calls on to `inner` and keeps its answers in the cassette at `path`; failed and cancelled calls
    leave none.

    An existing cassette is read first (CassetteError if it is broken: it is not overwritten). `redact` takes secrets
    out of what is kept.
    """

    def __init__(
        self,
        inner: Model,
        path: Path,
        *,
        origin: Origin = Origin.RECORDED,
        redact: Callable[[LlmResponse], LlmResponse] = lambda response: response,
        today: Callable[[], str] = _today,
    ) -> None:
        if not os.access(path.resolve().parent, os.W_OK):
            raise CassetteError(f"{path}: no cassette can be written there")
        self._inner = inner
        self._path = path
        self._origin = origin
        self._redact = redact
        self._today = today
        self._exchanges = read_cassette(path) if path.exists() else ()

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self._inner.name

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """Those of the inner model."""
        return self._inner.traits(session=session, turn=turn)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The answer of the inner model, on disk when this returns."""
        response = await self._inner.complete(request, context=context, on_delta=on_delta)
        here = (context.turn, context.step)
        kept = [
            e
            for e in self._exchanges
            if (e.session, e.kept) != (context.session, context.kept) or (e.turn, e.step) < here
        ]
        exchange = Exchange(
            session=context.session,
            turn=context.turn,
            step=context.step,
            user_text=normal_text(context.user_text),
            request_sha256=request_sha256(request),
            origin=self._origin,
            model=self._inner.name,
            date=self._today(),
            protocol=context.protocol,
            kept=context.kept,
            vision=self._inner.traits(session=context.session, turn=context.turn).vision,
            # What the provider or its adapter reports of the traffic may repeat the request or its headers.
            response=replace(self._redact(response), request_body=None, http_summary=None, execution_evidence=None),
        )
        self._exchanges = (*kept, exchange)
        write_cassette(self._path, self._exchanges)
        return response

    async def aclose(self) -> None:
        """Closes the inner model; the cassette is complete after every call."""
        await self._inner.aclose()
