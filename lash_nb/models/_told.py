"""A failed call in words: what happened, what the server said, and what to do next.

What is decided here: a message is one line of a bounded length; a key is in none of its texts, nor is anything that a
terminal obeys or UTF-8 cannot hold. Imports its siblings, the contract and `machine`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ModelCallError
from ..machine.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from ._call import Call
from ._failures import (
    Verdict,
    chain,
    code_of,
    code_within,
    gist,
    is_page,
    printable,
    reason_of,
    retry_after_s,
    said,
    verdict_of,
    verdict_of_code,
)
from ._names import Endpoint, Provider, is_loopback

__all__ = ["Teller"]

_MAX_MESSAGE_CHARS = 500
_MAX_NAME_CHARS = 160
_MAX_SAID_CHARS = 250
_MAX_RAW_CHARS = 2000
_SHORTEST_KEY = 6
"""What is shorter is no secret, and a part of words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells of the failures of one model's calls."""

    name: str
    provider: Provider
    endpoint: Endpoint
    stall_s: float
    timeout_s: float

    def failure(self, error: Exception, call: Call) -> ModelCallError:
        """What a call's exception means."""
        body = call.body if call.no_stream is not None else getattr(error, "body", None) or call.body
        code = code_of(error)
        if call.late:
            verdict = Verdict(ProviderFailureKind.TIMEOUT, True)
        elif call.no_stream is not None:
            code = code_within(body)
            verdict = verdict_of_code(code)
        else:
            verdict = verdict_of(error, status=call.status, sent_bytes=call.sent_bytes)
        record = LlmCallError(
            message=self._message(self._told(error, body, verdict, call)),
            retryable=verdict.retryable,
            kind=verdict.kind,
            raw=None if body is None else printable(self._hide(_text(body)), _MAX_RAW_CHARS),
            code=None if code is None else self.line(code),
            terminal_reason=verdict.reason,
            partial_response=call.partial(verdict.reason),
        )
        return ModelCallError(record, retry_after_s=retry_after_s(error))

    def broken_off(self, call: Call) -> ModelCallError:
        """An answer without the provider's word why it ended."""
        record = LlmCallError(
            message=self._message("the answer broke off before its end"),
            retryable=True,
            kind=ProviderFailureKind.STREAM,
            terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
            partial_response=call.partial(LlmTerminalReason.PROVIDER_ERROR),
        )
        return ModelCallError(record)

    def closed(self) -> ModelCallError:
        """A call of a model that was closed."""
        record = LlmCallError(
            message=self._message("this model was closed and answers no more; choose a model again"),
            retryable=False,
            kind=ProviderFailureKind.VALIDATION,
            terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        )
        return ModelCallError(record)

    def line(self, text: str) -> str:
        """What a server said, fit to be told."""
        return printable(self._hide(gist(self._hide(text))), _MAX_SAID_CHARS)

    def quotes_key(self, error: BaseException) -> bool:
        """Whether a traceback, which prints the whole chain of causes, would print the key."""
        return any(self._hide(str(cause)) != str(cause) for cause in chain(error))

    def _hide(self, text: str) -> str:
        """Providers quote keys in their refusals."""
        key = self.endpoint.key
        return text.replace(key, "[key]") if key and len(key) >= _SHORTEST_KEY else text

    def _message(self, told: str) -> str:
        return printable(f"{printable(self.name, _MAX_NAME_CHARS)}: {told}", _MAX_MESSAGE_CHARS)

    def _told(self, error: Exception, body: object, verdict: Verdict, call: Call) -> str:
        """The failure in a sentence."""
        if call.late or (verdict.kind is ProviderFailureKind.TIMEOUT and call.status == 200):
            return f"no answer within the bounds ({self.stall_s:g} s of silence, {self.timeout_s:g} s in all)"
        status = getattr(error, "status_code", None) or (call.status if (call.status or 0) >= 300 else None)
        if call.no_stream is not None:
            status, text = None, self._no_stream(body)
        elif status is not None:
            text = f"the provider answered {status}: {self.line(said(body)) or 'without a reason'}"
        elif verdict.kind is ProviderFailureKind.TRANSPORT:
            text = self._unreachable(error, verdict, call)
        else:
            text = self.line(said(body)) or self.line(_own_words(error))
            if verdict.kind is ProviderFailureKind.STREAM:
                text = f"the answer broke off, or is not of {self.provider.title}'s dialect ({text})"
        return text + self._hint(error, status, verdict)

    def _no_stream(self, body: object) -> str:
        if isinstance(body, str) and is_page(body):
            return f"the server answered with a page and not as a model ({self.line(body)}); is the address right?"
        if isinstance(body, dict) and ("choices" in body or "candidates" in body or "content" in body):
            return "the server does not stream: it sent a whole answer at once, which is not read"
        words = self.line(said(body)) or "nothing"
        if (isinstance(body, dict) and "error" in body) or code_within(body) is not None:
            return f"the server answered with an error: {words}"
        return f"the answer is not of {self.provider.title}'s dialect ({words})"

    def _unreachable(self, error: Exception, verdict: Verdict, call: Call) -> str:
        text = "the server" if "@" in self.name else self._host()
        if not verdict.retryable:
            size = (call.sent_bytes or 0) / 1_000_000
            return f"{text} closed the connection while a request of {size:.1f} MB was sent; it may take no more"
        hint = "; is it running?" if is_loopback(self.endpoint.url or self.provider.url) else ""
        return f"{text} cannot be reached ({self.line(reason_of(error))}){hint}"

    def _hint(self, error: Exception, status: int | None, verdict: Verdict) -> str:
        """What to do about it, where that is known."""
        keys = " or ".join(self.provider.keys)
        if status == 404:
            meant = getattr(error, "suggested_model_id", None)
            return f" (there is no model {self.endpoint.model!r} at {self._host()}" + (
                f"; did you mean {meant}?)" if meant else ")"
            )
        if status is not None and 300 <= status < 400:
            return f" ({self._host()} points to another address, which is not followed; name that one)"
        if verdict.kind is not ProviderFailureKind.AUTH:
            return ""
        if self.endpoint.stranger:
            return (
                f" (a key is not sent to a host because a name says so; if this one is yours: "
                f"{self.provider.url_variable}={self.endpoint.url} and {self.provider.word}:{self.endpoint.model})"
            )
        return f" (it wants a key, and {keys} is not set)" if self.endpoint.key is None else f" (is {keys} right?)"

    def _host(self) -> str:
        return self.endpoint.url or self.provider.title


def _text(body: object) -> str:
    try:
        return str(body)
    except (RecursionError, ValueError):
        return ""


def _own_words(error: Exception) -> str:
    from pydantic_ai import exceptions as foreign

    if isinstance(error, foreign.ModelConnectionError):
        return reason_of(error)
    return str(error) or type(error).__name__
