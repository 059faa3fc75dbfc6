"""One model call of a turn: streamed to the view, stopped where the protocol says, retried when that may help.

Decided here: only failures that the adapter calls retryable are tried again, at most `RetryPolicy.attempts` times; what
a failed attempt showed is taken back (`RetryStatus`, which the picture heeds); a provider that asks for a wait
(Retry-After) is given it, unless that is longer than anybody would want to wait. Cancellation passes through: waits are
awaits like any other.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from .errors import ModelCallError
from .machine.events import CodeDelta, ErrorEnvelope, ReasoningDelta, RetryStatus, TextDelta, TurnActivity
from .machine.llm import (
    LlmCallError,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from .models import CallContext, Delta, Model, ReasoningChunk, TextChunk
from .protocols import CodeDelta as WrittenCode
from .protocols import ModelProtocol, ProseDelta, StreamEvent
from .trust import Redactor, whole_text

__all__ = ["CallResult", "ModelCall", "RetryPolicy"]

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and after how long a failed model call is made again.

    The waits grow from `first_s` by factors of two up to `longest_s`, each drawn from its upper half, so that many
    sessions do not come back at the same moment. A provider's own Retry-After is kept to, up to `longest_asked_s`.
    """

    attempts: int = 5
    """Calls in all, the first one included."""
    attempts_timeout: int = 2
    """The same after a time-out, which has taken minutes already."""
    first_s: float = 1.0
    longest_s: float = 30.0
    longest_asked_s: float = 120.0
    draw: Callable[[], float] = random.random
    """A number from 0 to 1."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def allowed(self, error: LlmCallError) -> int:
        """How many calls in all an error of this kind may take."""
        if not error.retryable:
            return 1
        return self.attempts_timeout if error.kind is ProviderFailureKind.TIMEOUT else self.attempts

    def wait_s(self, failed: int, asked_s: float | None) -> float | None:
        """Seconds before the next try after `failed` failures; None when the provider asks for more than is waited."""
        own = min(self.longest_s, self.first_s * 2.0 ** (failed - 1)) * (0.5 + 0.5 * self.draw())
        if asked_s is None:
            return own
        return None if asked_s > self.longest_asked_s else max(own, asked_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What a call came to, and whether anything of it was streamed to the view."""

    result: LlmResponse | LlmCallError
    text_streamed: bool


class ModelCall:
    """One call, with its retries."""

    def __init__(
        self,
        model: Model,
        protocol: ModelProtocol,
        *,
        policy: RetryPolicy,
        redactor: Redactor,
        on_activity: Callable[[TurnActivity], None],
    ) -> None:
        self._model = model
        self._protocol = protocol
        self._policy = policy
        self._redactor = redactor
        self._on_activity = on_activity
        self._stream = protocol.open_stream()
        self._streamed = False
        self._spent = LlmUsage()
        """Tokens of attempts that failed: they are paid for, too."""

    async def make(self, request: LlmRequest, *, context: CallContext) -> CallResult:
        """The answer, or the failure that was the last. Raises what is no failure of the provider (InputError)."""
        failed = 0
        while True:
            try:
                response = await self._model.complete(request, context=context, on_delta=self._on_delta)
            except ModelCallError as error:
                failed += 1
                error = ModelCallError(self._redactor.failure(error.error), retry_after_s=error.retry_after_s)
                wait_s = self._wait_s(error, failed)
                if wait_s is None:
                    return CallResult(result=self._told(error, failed), text_streamed=self._streamed)
                self._spend(error.error)
                self._retract(error.error, failed, wait_s)
                await self._policy.sleep(wait_s)
                continue
            response = self._without_secrets(_counted(_whole(response), self._spent))
            if self._stream.stop:
                response = self._spliced(response)
            else:
                self._show(self._stream.close())
            return CallResult(result=response, text_streamed=self._streamed)

    # -- failures ------------------------------------------------------------------------------------------------------

    def _wait_s(self, error: ModelCallError, failed: int) -> float | None:
        if failed >= self._policy.allowed(error.error):
            return None
        return self._policy.wait_s(failed, error.retry_after_s)

    def _spend(self, error: LlmCallError) -> None:
        if error.partial_response is not None:
            self._spent += error.partial_response.usage

    def _retract(self, error: LlmCallError, failed: int, wait_s: float) -> None:
        """Forget what was read, and say so to whoever has shown it."""
        self._stream.reset()
        self._streamed = False
        self._on_activity(
            RetryStatus(
                wait_seconds=math.ceil(wait_s),
                attempt=failed + 1,
                max_attempts=self._policy.allowed(error),
                reason=error.message,
                envelope=ErrorEnvelope(
                    kind="llm_provider",
                    code=error.code,
                    user_message=error.message,
                    terminal_reason=error.terminal_reason,
                ),
            )
        )

    def _without_secrets(self, response: LlmResponse) -> LlmResponse:
        """The answer as it is kept. What was streamed of it is taken back and shown anew where a secret was in it."""
        redacted = self._redactor.response(response)
        if redacted.full_text != response.full_text and self._streamed:
            self._stream.reset()
            self._on_activity(RetryStatus(wait_seconds=0, attempt=1, max_attempts=1, reason="a secret is taken out"))
            self._show(self._stream.feed(redacted.full_text))
        return redacted

    def _told(self, error: ModelCallError, failed: int) -> LlmCallError:
        """The last failure, with what was tried before it was accepted as one."""
        asked_s = error.retry_after_s
        if error.error.retryable and asked_s is not None and asked_s > self._policy.longest_asked_s:
            wait = f"{asked_s:,.0f} s" if asked_s < _DAY_S else "more than a day"
            told = f"the provider asks to wait {wait}, which is longer than is waited here; ask again then"
        elif failed > 1:
            told = f"the last of {failed} attempts"
        else:
            return error.error
        return replace(error.error, message=f"{error.error.message} ({told})")

    # -- the stream ----------------------------------------------------------------------------------------------------

    def _on_delta(self, delta: Delta) -> bool:
        self._streamed = True
        if isinstance(delta, TextChunk):
            self._show(self._stream.feed(delta.text))
        elif isinstance(delta, ReasoningChunk):
            self._on_activity(ReasoningDelta(content=delta.text))
        return self._stream.stop

    def _show(self, events: Iterable[StreamEvent]) -> None:
        for event in events:
            if isinstance(event, ProseDelta):
                self._on_activity(TextDelta(content=event.text))
            elif isinstance(event, WrittenCode):
                self._on_activity(CodeDelta(content=event.text))

    def _spliced(self, response: LlmResponse) -> LlmResponse:
        """The response up to where its stream was stopped: what a chunk held beyond that is as if never written."""
        stream, kept = self._protocol.open_stream(), []
        for line in response.full_text.split("\n"):
            kept.append(line)
            stream.feed(line + "\n")
            if stream.stop:
                break
        text = "\n".join(kept)
        return replace(
            response, full_text=text, parts=_up_to(response.parts, text), terminal_reason=LlmTerminalReason.STOP
        )


def _up_to(parts: Sequence[LlmOutputPart], text: str) -> tuple[LlmOutputPart, ...]:
    """The parts with as much of their text as `text` holds; the order, and what providers want back, is kept."""
    kept: list[LlmOutputPart] = []
    left = len(text)
    for part in parts:
        if not isinstance(part, TextOutput):
            kept.append(part)
        elif left > 0:
            kept.append(replace(part, text=part.text[:left]))
            left -= len(part.text)
    return tuple(kept)


def _counted(response: LlmResponse, spent: LlmUsage) -> LlmResponse:
    return replace(response, usage=response.usage + spent) if spent.total else response


def _whole(response: LlmResponse) -> LlmResponse:
    """The response as text that a kernel and a record can take."""
    parts = tuple(
        replace(part, input_json=whole_text(part.input_json))
        if isinstance(part, ToolCallOutputPart)
        else replace(part, text=whole_text(part.text))
        for part in response.parts
    )
    return replace(response, full_text=whole_text(response.full_text), parts=parts)
