"""Real providers (OpenAI-compatible, Anthropic, Google) over HTTP, through pydantic-ai's direct API.

What is decided here: one call is one request; nothing is retried, retries are the host's. A stream that ends without
the provider's word why it ended is a failure, not an answer. When a call ends, however it ends, its connection is
closed. Every failure is a typed record; a key is in none of its texts, nor in the exceptions behind it. A model that
was closed takes no more calls. Foreign types and exceptions stay here and in this file's private siblings: `_names`
(which host, which key), `_dialects` (the clients), `_wire` (their connections), `_call` (one stream), `_usage` (what
it cost), `_pydantic_ai` (translation), `_failures` (what an exception means), `_told` (failures in words), `_vision`
(which models see). The foreign imports cost seconds: they happen at the first call, in a thread. Imports the contract,
`machine` and `errors`; foreign modules only inside functions.
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
from ..machine.llm import LlmRequest, LlmResponse, LlmTerminalReason, ToolCallOutputPart
from . import CallContext, ModelTraits, OnDelta, Opening
from ._call import Call
from ._dialects import DIALECTS, Line
from ._names import PROVIDERS, Endpoint, Provider, endpoint_of, host_of, is_loopback
from ._pydantic_ai import Target, to_messages, to_parameters
from ._told import Teller
from ._vision import sees
from ._wire import http_client

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model as ForeignModel

__all__ = ["ProviderModel", "open_anthropic", "open_google", "open_openai"]

_NO_KEY = "none"
"""Sent where no key is needed: the clients insist on one."""


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
        self._teller = Teller(
            name=self.name, provider=self._provider, endpoint=self._endpoint, stall_s=stall_s, timeout_s=timeout_s
        )
        self._opened: tuple[ForeignModel, httpx2.AsyncClient] | None = None
        self._opening = threading.Lock()
        """Held while the client is made, which takes seconds."""
        self._state = threading.Lock()
        """Guards what follows, and the change of `_opened`; held for a moment only."""
        self._running = 0
        self._closed = False

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """Writes code; sees when its name is of a family that does; has a price at the provider's own address."""
        priced_as = f"{self._provider.word}/{self._endpoint.model}" if self._own_host else ""
        return ModelTraits(protocol="code", vision=self._vision, priced_as=priced_as)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The provider's answer. Raises: ModelCallError, InputError; CancelledError, with the connection closed."""
        with self._state:
            if self._closed:
                raise self._teller.closed()
            self._running += 1
        call = Call(on_delta, self._target.origin)
        try:
            outcome = await self._outcome(request, context, call)
        finally:
            try:
                await call.close()
            finally:
                with self._state:
                    self._running -= 1
                if (pool := self._last_is_out()) is not None:
                    await pool.aclose()
        if call.raised is not None:
            raise call.raised
        if isinstance(outcome, ModelCallError):
            raise outcome  # here, where no foreign exception is its context: those hold keys
        return outcome

    async def _outcome(self, request: LlmRequest, context: CallContext, call: Call) -> LlmResponse | ModelCallError:
        """The answer, or the failure to raise; neither counts when on_delta raised. Raises: InputError."""
        try:
            with call.current():
                await self._stream(request, context, call)
            return call.answer or self._answer(call)
        except LashError:
            raise
        except Exception as error:
            if call.answer is not None:  # it was enough, and the rest broke
                return call.answer
            failure = self._teller.failure(error, call)
            if call.sent_bytes is None and not self._teller.quotes_key(error):  # perhaps a fault of ours
                failure.__cause__ = error
            return failure

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
            if self._opened is not None:
                return self._opened[0]
            url = (self._endpoint.url or self._provider.url).rstrip("/").removesuffix(self._provider.suffix)
            http = http_client(
                stall_s=self._stall_s, direct=is_loopback(url), stranger=self._endpoint.stranger, env=self._env
            )
            line = Line(url=url, key=self._endpoint.key or _NO_KEY, http=http, stall_s=self._stall_s)
            model = self._dialect.open(self._endpoint.model, line)
            with self._state:
                # The call may have been cancelled meanwhile and the model closed; an unused pool holds nothing.
                if self._running or not self._closed:
                    self._opened = (model, http)
            return model

    def _answer(self, call: Call) -> LlmResponse | ModelCallError:
        """The answer of a stream that ran to its end; a failure when it was cut off."""
        assert call.stream is not None
        final = call.stream.get()
        details = final.provider_details or {}
        refusal = details.get("refusal") or details.get("block_reason_message") or details.get("block_reason")
        finish = str(details.get("finish_reason") or "")
        if not finish and not refusal:
            return self._teller.broken_off(call)
        reason = self._dialect.finish.get(finish, LlmTerminalReason.UNKNOWN)
        diagnostic = None
        if refusal:
            reason, diagnostic = LlmTerminalReason.CONTENT_FILTER, self._teller.line(str(refusal))
        elif reason not in (LlmTerminalReason.STOP, LlmTerminalReason.TOOL_USE, LlmTerminalReason.OUTPUT_LIMIT):
            diagnostic = self._teller.line(finish)
        response = call.response(final, reason, diagnostic=diagnostic)
        calls_tool = any(isinstance(part, ToolCallOutputPart) for part in response.parts)
        if calls_tool and reason is LlmTerminalReason.STOP:  # some servers say so of tool calls too
            return replace(response, terminal_reason=LlmTerminalReason.TOOL_USE)
        return response

    def _last_is_out(self) -> httpx2.AsyncClient | None:
        """The pool to close, when the model is closed and no call runs."""
        with self._state:
            if not self._closed or self._running or self._opened is None:
                return None
            (_, pool), self._opened = self._opened, None
            return pool

    async def aclose(self) -> None:
        """Takes no more calls, and closes the connections as soon as no call runs; idempotent."""
        with self._state:
            self._closed = True
        if (pool := self._last_is_out()) is not None:
            await pool.aclose()
