"""Who answers a model call: the contract of models, what streams out of them, and how their names are opened.

What is decided here: one request in, streamed deltas and one response out, in our own types; every failure of
a provider is a ModelCallError that holds a typed record; what the user got wrong (a broken cassette, a
missing key) is an InputError and goes to the user, never to the model. Imports `machine` and `errors` only;
implementations import this package, never each other, and are found through MODELS (`lash_nb.models.choice`
opens them).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeAlias, assert_never, runtime_checkable

from ..machine.attachments import AttachmentStore
from ..machine.events import TurnActivity
from ..machine.llm import (
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)

__all__ = [
    "KEPT",
    "MODELS",
    "NAME_FORMS",
    "OFFLINE",
    "CallContext",
    "Delta",
    "Model",
    "ModelTraits",
    "OnDelta",
    "Opening",
    "ReasoningChunk",
    "Sampling",
    "TakesPart",
    "TextChunk",
    "ToolCallChunk",
    "play",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the provider draws its tokens, passed beside the request; None leaves it to the provider."""

    temperature: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Where in the conversation a call stands, and what it needs beside the request."""

    session: str
    """A label that is stable across runs: "1" for the first session of a notebook, "2" after `%lash new`."""
    turn: int
    """The turn in the session, from 1."""
    step: int
    """The model call in the turn, from 1."""
    user_text: str
    """What the user asked for in this turn."""
    protocol: str = "code"
    """Which protocol conducts the turn; a recording keeps it for the replay."""
    kept: str = ""
    """The digest of the kept code that began the turn and is to be repaired; empty: there is none."""
    attachments: AttachmentStore | None = None
    """Where the bytes of stored attachments are; None when there is no store."""
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChunk:
    """The next characters of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningChunk:
    """The next characters of the reasoning that the provider shows."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallChunk:
    """The next characters of a tool call's arguments; the first chunk of a call may hold none."""

    call_id: str
    tool_name: str
    input_json_delta: str


Delta: TypeAlias = TextChunk | ReasoningChunk | ToolCallChunk
OnDelta: TypeAlias = Callable[[Delta], bool]
"""Called on the caller's event loop with each delta; True = enough, stop and answer with what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What is known of a model before it is asked anything."""

    protocol: str = "code"
    """How it conducts a turn when nobody says otherwise: a name of `protocols.PROTOCOLS`."""
    vision: bool = True
    """Whether it is shown images."""
    priced_as: str = ""
    """Its key in the table of prices (`openai/gpt-6-luna`); empty where the table does not hold."""


class Model(Protocol):
    """Answers model calls. One instance serves one event loop; calls may overlap."""

    @property
    def name(self) -> str:
        """What opens this model again: `openai:gpt-6-luna`, `replay:x.cassette.jsonl`, `scripted`."""

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """What suits the model in that turn; a replay knows it of each recorded turn, others of themselves."""

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """One answer to one request.

        Raises: ModelCallError for every failure of the provider (nothing is retried here); InputError for
        what the user must put right; CancelledError passes through, with the connection closed.
        """

    async def aclose(self) -> None:
        """Lets go of connections and files; idempotent."""


@runtime_checkable
class TakesPart(Protocol):
    """Answers one turn by what happens in it, without a model, until it hands over to one."""

    @property
    def answered(self) -> int:
        """How many calls it answered itself."""

    @property
    def handed_over(self) -> bool:
        """Whether a model was asked."""

    def join(self, tell: Callable[[TurnActivity], None]) -> None:
        """The turn begins; `tell` takes what it has to say beside its answers."""

    def saw(self, activity: TurnActivity) -> None:
        """What happens in the turn, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a model's factory gets: the part of the name behind the colon, and the surroundings."""

    argument: str
    base_dir: Path
    """Relative paths in names are relative to this: the notebook's directory."""
    strict: bool
    """Replay compares whole requests."""
    env: Mapping[str, str] = field(repr=False)
    """The environment to read keys from."""


MODELS: Mapping[str, str] = MappingProxyType(
    {
        "anthropic": "lash_nb.models.providers:open_anthropic",
        "google": "lash_nb.models.providers:open_google",
        "local": "lash_nb.models.local:open_local",
        "openai": "lash_nb.models.providers:open_openai",
        "replay": "lash_nb.models.replay:open_replay",
        "scripted": "lash_nb.models.scripted:open_scripted",
    }
)
"""The registry: the word before a name's colon → `module:attribute` of a callable (Opening) -> Model."""

KEPT = "kept code"
"""Who answers where code that was kept runs in the place of a model; nothing that could be opened."""

NAME_FORMS = (
    "openai:MODEL",
    "openai:MODEL@http://HOST:PORT/v1",
    "anthropic:MODEL",
    "google:MODEL",
    "local",
    "replay:PATH",
    "scripted:PATH",
)
"""How names are written, for messages."""

OFFLINE = frozenset({"local", "replay", "scripted"})
"""The words whose models send nothing anywhere."""


def _text(part: LlmOutputPart) -> str:
    return part.input_json if isinstance(part, ToolCallOutputPart) else part.text


def _delta(part: LlmOutputPart, new: str) -> Delta:
    match part:
        case TextOutput():
            return TextChunk(text=new)
        case ReasoningOutput():
            return ReasoningChunk(text=new)
        case ToolCallOutputPart():
            return ToolCallChunk(call_id=part.call_id, tool_name=part.tool_name, input_json_delta=new)
    assert_never(part)


def _cut(part: LlmOutputPart, end: int) -> tuple[LlmOutputPart, ...]:
    """What is left of a part that was stopped after `end` characters."""
    if end >= len(_text(part)):
        return (part,)
    # Half of a tool call's arguments are of no use to anybody.
    return () if isinstance(part, ToolCallOutputPart) else (replace(part, text=part.text[:end]),)


async def play(
    response: LlmResponse, *, on_delta: OnDelta | None, chunk_size: int = 16, delay_s: float = 0.0
) -> LlmResponse:
    """Streams a known response as a provider would; the answer is what on_delta let through."""
    if on_delta is None:
        return response
    parts = response.parts or (TextOutput(text=response.full_text),)
    for index, part in enumerate(parts):
        text = _text(part)
        for start in range(0, len(text), chunk_size):
            await asyncio.sleep(delay_s)  # also when it is 0: each chunk is a place to be cancelled at
            if on_delta(_delta(part, text[start : start + chunk_size])):
                kept = (*parts[:index], *_cut(part, start + chunk_size))
                return replace(
                    response,
                    full_text="".join(piece.text for piece in kept if isinstance(piece, TextOutput)),
                    parts=kept,
                    terminal_reason=LlmTerminalReason.STOP,
                    terminal_diagnostic=None,
                )
    return response
