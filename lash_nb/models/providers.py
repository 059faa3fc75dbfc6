"""Real providers (OpenAI-compatible, Anthropic, Google) over HTTP, through pydantic-ai's direct API.

What is decided here: one call is one request; nothing is retried, retries are the host's. A stream that ends without
the provider's word why it ended is a failure, not an answer. When a call ends, however it ends, its connection is
closed. Every failure is a typed record; a key is in none of its texts. Foreign types and exceptions stay here and in
this file's private siblings: `_names` (which host, which key), `_dialects` (the clients), `_call` (one stream),
`_pydantic_ai` (translation), `_failures` (what an exception means), `_vision` (which models see). The foreign imports
cost seconds: they happen at the first call, in a thread. Imports the contract, `machine` and `errors`; foreign modules
only inside functions.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import LashError, MissingExtraError, ModelCallError
from ..machine.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    ToolCallOutputPart,
)
from . import CallContext, ModelTraits, OnDelta, Opening
from ._call import Call, note_request, note_response
from ._dialects import DIALECTS, Line, http_client
from ._failures import Verdict, code_of, retry_after_s, said, verdict_of
from ._names import PROVIDERS, Endpoint, Provider, endpoint_of, host_of, is_loopback
from ._pydantic_ai import Target, from_response, to_messages, to_parameters
from ._vision import sees

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model as ForeignModel

__all__ = ["ProviderModel", "open_anthropic", "open_google", "open_openai"]

_NO_KEY = "none"
"""Sent where no key is needed: the clients insist on one."""
_MAX_MESSAGE_CHARS = 500
_MAX_SAID_CHARS = 300


# -- names -----------------------------------------------------------------------------------------------------------


def open_anthropic(opening: Opening) -> ProviderModel:
    """The model of `anthropic:MODEL[@URL]`. Raises: MissingKeyError, MissingExtraError, InputError."""
    return _open("anthropic", opening)


def open_google(opening: Opening) -> ProviderModel:
    """The model of `google:MODEL[@URL]`. Raises: MissingKeyError, MissingExtraError, InputError."""
    return _open("google", opening)


def open_openai(opening: Opening) -> ProviderModel:
    """The model of `openai:MODEL[@URL]`. Raises: MissingKeyError, MissingExtraError, InputError."""
    return _open("openai", opening)


def _open(word: str, opening: Opening) -> ProviderModel:
    provider = PROVIDERS[word]
    if not _installed("pydantic_ai") or not _installed(provider.package):
        raise MissingExtraError(f"{word}: models need a package that is not installed: {provider.install}")
    endpoint = endpoint_of(provider, opening.argument, opening.env)
    return ProviderModel(
        word,
        endpoint.model,
        base_url=endpoint.url,
        api_key=endpoint.key,
        name=f"{word}:{opening.argument}",
        stranger=endpoint.stranger,
        env=opening.env,
    )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in is not there
        return False


# -- the model -------------------------------------------------------------------------------------------------------


class ProviderModel:
    """A chat model behind an address of one of the three dialects; the connection pool is made at the first call.

    `word` is a dialect's ("openai", "anthropic", "google"). `timeout_s` bounds a whole call, `stall_s` the silence
    between two events of its stream. After on_delta said enough, `usage_wait_s` is how long the end of the stream,
    which brings the usage, is waited for. `vision` None asks the table of known models. `stranger`: the host is one
    that only a name gave; headers that `env` adds for the user's own gateway are not sent there.
    """

    def __init__(
        self,
        word: str,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        name: str | None = None,
        vision: bool | None = None,
        stranger: bool = False,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 600.0,
        stall_s: float = 300.0,
        usage_wait_s: float = 0.5,
    ) -> None:
        self._provider: Provider = PROVIDERS[word]
        host = None if base_url is None else host_of(base_url, self._provider)
        self.name = name or f"{word}:{model}" + (f"@{base_url}" if base_url else "")
        self._dialect = DIALECTS[word]
        self._endpoint = Endpoint(model=model, url=base_url, key=api_key, stranger=stranger)
        self._own_host = host is None or host == urlsplit(self._provider.url).hostname
        self._vision = sees(model) if vision is None else vision
        self._target = Target(
            system=self._dialect.system,
            origin=word if self._own_host else f"{word}@{host}",
            vision=self._vision,
            cache_points=self._dialect.cache_points,
            fetches_urls=self._dialect.fetches_urls,
            late_notes=self._dialect.late_notes,
        )
        self._env = os.environ if env is None else env
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._usage_wait_s = usage_wait_s
        self._opened: tuple[ForeignModel, httpx2.AsyncClient] | None = None
        self._opening = threading.Lock()

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """Writes code; sees when its name is of a family that does; has a price at the provider's own address."""
        priced_as = f"{self._provider.word}/{self._endpoint.model}" if self._own_host else ""
        return ModelTraits(protocol="code", vision=self._vision, priced_as=priced_as)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The provider's answer. Raises: ModelCallError, InputError; CancelledError, with the connection closed."""
        call = Call(on_delta, self._target.origin)
        try:
            with call.current():
                await self._stream(request, context, call)
            if call.raised is None:
                return call.answer or self._answer(call)
        except LashError:
            raise
        except Exception as error:
            if call.answer is None and call.raised is None:
                raise self._failed(error, call) from (None if self._quotes_key(error) else error)
        finally:
            await call.close()
        if call.raised is not None:
            raise call.raised
        assert call.answer is not None  # it was enough, and the rest broke
        return call.answer

    async def _stream(self, request: LlmRequest, context: CallContext, call: Call) -> None:
        """Asks, and listens until the stream ends or on_delta says enough."""
        model = await asyncio.to_thread(self._open)  # also when the pool is there: another call may be opening it
        from pydantic_ai.direct import model_request_stream

        messages = to_messages(request, context, self._target)
        settings: Any = self._dialect.settings(request, context.sampling, model)
        parameters = to_parameters(request, self._target)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout_s
        deadline = asyncio.timeout_at(min(end, loop.time() + self._stall_s))
        try:
            async with (
                deadline,
                model_request_stream(
                    model, messages, model_settings=settings, model_request_parameters=parameters
                ) as stream,
            ):
                call.stream = stream
                events = aiter(stream)
                async for event in events:
                    deadline.reschedule(min(end, loop.time() + self._stall_s))
                    if call.take(event):
                        await call.drain(events, self._usage_wait_s)
                        break
        finally:
            call.late = deadline.expired()

    def _open(self) -> ForeignModel:
        """In a thread: the imports and the client's certificates take seconds the first time."""
        import_module("pydantic_ai.direct")  # it is taken from there on the loop
        with self._opening:
            if self._opened is None:
                url = (self._endpoint.url or self._provider.url).rstrip("/").removesuffix(self._provider.suffix)
                http = http_client(
                    stall_s=self._stall_s,
                    direct=is_loopback(url),
                    stranger=self._endpoint.stranger,
                    env=self._env,
                    on_request=note_request,
                    on_response=note_response,
                )
                line = Line(url=url, key=self._endpoint.key or _NO_KEY, http=http, stall_s=self._stall_s)
                self._opened = (self._dialect.open(self._endpoint.model, line), http)
            return self._opened[0]

    def _answer(self, call: Call) -> LlmResponse:
        """The answer of a stream that ran to its end. Raises: ModelCallError when it was cut off."""
        assert call.stream is not None
        final = call.stream.get()
        details = final.provider_details or {}
        refusal = details.get("refusal") or details.get("block_reason_message") or details.get("block_reason")
        finish = str(details.get("finish_reason") or "")
        if not finish and not refusal:
            raise ModelCallError(
                LlmCallError(
                    message=f"{self.name}: the answer broke off before its end",
                    retryable=True,
                    kind=ProviderFailureKind.STREAM,
                    terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
                    partial_response=call.partial(LlmTerminalReason.PROVIDER_ERROR),
                )
            )
        reason = self._dialect.finish.get(finish, LlmTerminalReason.UNKNOWN)
        diagnostic = None
        if refusal:
            reason, diagnostic = LlmTerminalReason.CONTENT_FILTER, self._hide(str(refusal))
        elif reason not in (LlmTerminalReason.STOP, LlmTerminalReason.TOOL_USE, LlmTerminalReason.OUTPUT_LIMIT):
            diagnostic = self._hide(finish)
        response = from_response(final, reason, origin=self._target.origin, diagnostic=diagnostic)
        calls_tool = any(isinstance(part, ToolCallOutputPart) for part in response.parts)
        if calls_tool and reason is LlmTerminalReason.STOP:  # some servers say so of tool calls too
            return replace(response, terminal_reason=LlmTerminalReason.TOOL_USE)
        return response

    # -- failures ----------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception, call: Call) -> ModelCallError:
        body = getattr(error, "body", None) or call.refusal
        if call.late:
            verdict = Verdict(ProviderFailureKind.TIMEOUT, True)
        else:
            verdict = verdict_of(error, status=call.status, sent=call.sent)
        text = self._told(error, body, verdict, call)
        code = code_of(error)
        record = LlmCallError(
            message=f"{self.name}: {self._hide(text)[:_MAX_MESSAGE_CHARS]}",
            retryable=verdict.retryable,
            kind=verdict.kind,
            raw=None if body is None else self._hide(str(body))[: 4 * _MAX_MESSAGE_CHARS],
            code=None if code is None else self._hide(code),
            terminal_reason=verdict.reason,
            partial_response=call.partial(verdict.reason),
        )
        return ModelCallError(record, retry_after_s=retry_after_s(error))

    def _told(self, error: Exception, body: object, verdict: Verdict, call: Call) -> str:
        """The failure in a sentence."""
        words = self._hide(said(body))[:_MAX_SAID_CHARS]
        status = getattr(error, "status_code", None) or (call.status if (call.status or 0) >= 300 else None)
        host = self._endpoint.url or self._provider.title
        if call.late:
            return f"no answer within the bounds ({self._stall_s:g} s of silence, {self._timeout_s:g} s in all)"
        if status is not None:
            text = f"the provider answered {status}: {words or 'without a reason'}"
        elif verdict.kind is ProviderFailureKind.TRANSPORT:
            text = "the server" if "@" in self.name else host
            hint = "; is it running?" if is_loopback(self._endpoint.url or self._provider.url) else ""
            text += f" cannot be reached ({error}){hint}"
        else:
            text = words or str(error) or type(error).__name__
            if verdict.kind is ProviderFailureKind.STREAM:
                text = f"the answer broke off, or is not of {self._provider.title}'s dialect ({text})"
        if status == 404:
            meant = getattr(error, "suggested_model_id", None)
            text += f" (there is no model {self._endpoint.model!r} at {host}" + (
                f"; did you mean {meant}?)" if meant else ")"
            )
        elif status is not None and 300 <= status < 400:
            text += f" ({host} points to another address, which is not followed; name that one)"
        elif verdict.kind is ProviderFailureKind.AUTH and self._endpoint.stranger:
            text += (
                f" (a key is not sent to a host because a name says so; if this one is yours: "
                f"{self._provider.url_variable}={self._endpoint.url} and {self._provider.word}:{self._endpoint.model})"
            )
        elif verdict.kind is ProviderFailureKind.AUTH and self._endpoint.key is None:
            text += f" (it wants a key, and {' or '.join(self._provider.keys)} is not set)"
        elif verdict.kind is ProviderFailureKind.AUTH:
            text += f" (is {' or '.join(self._provider.keys)} right?)"
        return text

    def _hide(self, text: str) -> str:
        """Providers quote keys in their refusals."""
        return text.replace(self._endpoint.key, "[key]") if self._endpoint.key else text

    def _quotes_key(self, error: BaseException | None) -> bool:
        """A traceback prints the whole chain of causes."""
        while error is not None:
            if self._hide(str(error)) != str(error):
                return True
            error = error.__cause__ or error.__context__
        return False

    async def aclose(self) -> None:
        """Closes the connections; a later call opens new ones."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[1].aclose()
