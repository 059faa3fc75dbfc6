"""One call of a provider on its way: what on_delta made of its stream, and the connections it holds.

What is decided here: what on_delta raises is the caller's own and no failure of the provider; a call that has ended
holds no connection, also where a foreign iterator was left in the middle. A connection pool is shared and knows of no
calls, so it finds the current one in a context variable. Imports the contract and `machine`; pydantic_ai only inside
functions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..machine.llm import LlmResponse, LlmTerminalReason
from ..trust import whole_text
from . import Delta, OnDelta, ReasoningChunk, TextChunk, ToolCallChunk
from ._pydantic_ai import from_response
from ._usage import Tally

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import StreamedResponse

__all__ = ["Call", "current_call"]

_CLOSE_S = 1.0
_CURRENT: ContextVar[Call] = ContextVar("lash_nb_provider_call")


def current_call() -> Call | None:
    """The call that the pool works for."""
    return _CURRENT.get(None)


class Call:
    """One stream on its way: what on_delta made of it, and the answer when it said enough."""

    def __init__(self, on_delta: OnDelta | None, origin: str) -> None:
        self.stream: StreamedResponse | None = None
        self.answer: LlmResponse | None = None
        self.raised: BaseException | None = None
        """What on_delta raised: the caller's own, so it is not a failure of the provider."""
        self.responses: list[httpx2.Response] = []
        self.refused: bytes | None = None
        """The beginning of a refusal's body."""
        self.no_stream: bytes | None = None
        """The beginning of what came with a status of success, and is no stream."""
        self.sent_bytes: int | None = None
        """The request of that size is on its way: what fails before that is not the provider's doing."""
        self.tally = Tally()
        self.late = False
        self._on_delta = on_delta
        self._origin = origin
        self._calls: dict[int, tuple[str, str]] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        """What the pool does inside is this call's."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    @property
    def status(self) -> int | None:
        """The HTTP status of the answer that has begun."""
        return self.responses[-1].status_code if self.responses else None

    @property
    def body(self) -> object:
        """What came instead of a stream: JSON, or text as it is; None when a stream came."""
        data = self.refused if self.no_stream is None else self.no_stream
        if data is None:
            return None
        text = data.decode(errors="replace")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text

    async def close(self) -> None:
        """Lets the connection go: iterators that were left in the middle would hold it until they are collected."""
        for response in self.responses:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await response.aclose()
            except Exception:
                pass  # it was broken already; the call's own outcome stands

    def response(
        self, came: ModelResponse, reason: LlmTerminalReason, *, diagnostic: str | None = None, whole: bool = True
    ) -> LlmResponse:
        """What came, in our types, with its cost. Raises: as `from_response`."""
        return from_response(
            came, reason, usage=self.tally.total(), origin=self._origin, diagnostic=diagnostic, whole=whole
        )

    def partial(self, reason: LlmTerminalReason) -> LlmResponse | None:
        """What had come before a failure."""
        came = self._came()
        try:
            return None if came is None or not came.parts else self.response(came, reason)
        except Exception:  # what broke the stream is in what came
            return None

    def _came(self) -> ModelResponse | None:
        try:
            return None if self.stream is None else self.stream.get()
        except Exception:  # a stream that broke may not be able to say what it had
            return None

    def take(self, event: object) -> bool:
        """Passes an event on; True when no more is wanted."""
        assert self.stream is not None
        delta = self._delta(event)
        if delta is None or self._on_delta is None:
            return False
        try:
            enough = self._on_delta(delta)
        except BaseException as error:  # raised again by complete(), once the connection is closed
            self.raised = error
            return True
        if enough:
            response = self.stream.get()
            self.answer = self.response(response, LlmTerminalReason.STOP, whole=False)
        return enough

    async def drain(self, events: AsyncIterator[object], wait_s: float) -> None:
        """Waits for the end of a stream that is wanted no more: the usage comes with it, often at once."""
        if self.answer is None or self.stream is None:
            return
        try:
            async with asyncio.timeout(wait_s):
                async for _ in events:
                    pass
        except Exception:
            pass  # the answer is there; what is lost is its usage
        self.answer = replace(self.answer, usage=self.tally.total())

    def _delta(self, event: object) -> Delta | None:
        from pydantic_ai import messages as foreign

        match event:
            case foreign.PartStartEvent(part=foreign.TextPart(content=text)) if text:
                return TextChunk(text=whole_text(text))
            case foreign.PartStartEvent(part=foreign.ThinkingPart(content=text)) if text:
                return ReasoningChunk(text=whole_text(text))
            case foreign.PartStartEvent(index=index, part=foreign.ToolCallPart() as part):
                self._calls[index] = (whole_text(str(part.tool_call_id)), whole_text(str(part.tool_name)))
                return self._call_chunk(index, part.args)
            case foreign.PartDeltaEvent(delta=foreign.TextPartDelta(content_delta=text)) if text:
                return TextChunk(text=whole_text(text))
            case foreign.PartDeltaEvent(delta=foreign.ThinkingPartDelta(content_delta=str(text))) if text:
                return ReasoningChunk(text=whole_text(text))
            case foreign.PartDeltaEvent(index=index, delta=foreign.ToolCallPartDelta(args_delta=args)) if args:
                return self._call_chunk(index, args)
        return None

    def _call_chunk(self, index: int, args: str | dict[str, Any] | None) -> ToolCallChunk:
        call_id, tool_name = self._calls[index]
        text = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False) if args else ""
        return ToolCallChunk(call_id=call_id, tool_name=tool_name, input_json_delta=whole_text(text))
