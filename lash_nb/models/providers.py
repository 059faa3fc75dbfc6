"""Providers with an OpenAI-compatible chat endpoint, through pydantic-ai's direct API.

What is decided here: `openai:MODEL` takes its key from OPENAI_API_KEY and its address from OPENAI_BASE_URL;
`openai:MODEL@URL` names the address, and needs no key there. A key never goes over plain HTTP to another machine
because a name says so. Nothing is retried: retries are the host's. A stream that ends without the provider's word
why it ended is a failure, not an answer. Foreign types and exceptions stay here and in `_pydantic_ai`; their messages
are passed on, never matched on. The foreign imports cost seconds, so they happen at the first call, in a thread.
Imports the contract, `machine` and `errors`; pydantic_ai and openai only inside functions.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError, MissingExtraError, MissingKeyError, ModelCallError
from ..machine.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    ToolCallOutputPart,
)
from . import CallContext, Delta, OnDelta, Opening, ReasoningChunk, TextChunk, ToolCallChunk
from ._pydantic_ai import from_response, from_usage, to_messages, to_parameters, to_settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from pydantic_ai.models import StreamedResponse
    from pydantic_ai.models.openai import OpenAIChatModel

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "OpenAIModel", "open_openai"]

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
_OPENAI_URL = "https://api.openai.com/v1"
_NO_KEY = "none"
"""Sent where no key is needed: the client insists on one."""
_MAX_MESSAGE_CHARS = 500
_FINISH = {
    "stop": LlmTerminalReason.STOP,
    "length": LlmTerminalReason.OUTPUT_LIMIT,
    "tool_calls": LlmTerminalReason.TOOL_USE,
    "function_call": LlmTerminalReason.TOOL_USE,
    "content_filter": LlmTerminalReason.CONTENT_FILTER,
}


# -- names -------------------------------------------------------------------------------------------


def open_openai(opening: Opening) -> OpenAIModel:
    """The model of `openai:MODEL` or `openai:MODEL@URL`. Raises: MissingKeyError, MissingExtraError, InputError."""
    if find_spec("pydantic_ai") is None or find_spec("openai") is None:
        raise MissingExtraError("openai: models need two packages: pip install 'pydantic-ai-slim[openai]'")
    model, at, address = opening.argument.partition("@http")
    if not model:
        raise InputError("`openai` needs a model: openai:MODEL")
    key = opening.env.get(KEY_VARIABLE) or None
    name = f"openai:{opening.argument}"
    if at:
        url = f"http{address}"
        if not _is_private(url):
            key = None
    else:
        url = opening.env.get(URL_VARIABLE) or ""
        if key is None and not (url and _is_loopback(url)):
            raise MissingKeyError(f"{name} needs a key: set {KEY_VARIABLE} in the environment")
    return OpenAIModel(model, base_url=url or None, api_key=key, name=name)


def _host(url: str) -> str:
    """The host of an address. Raises: InputError when it is none, or holds a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is not an address of a model server ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{url!r} is not an address of a model server (http://HOST:PORT/v1)")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"the address of {host} holds a user name or password: use {KEY_VARIABLE} instead")
    return host


def _is_loopback(url: str) -> bool:
    host = _host(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(url: str) -> bool:
    """Whether what is sent there is safe from being read on the way."""
    return _is_loopback(url) or urlsplit(url).scheme == "https"


# -- the model ---------------------------------------------------------------------------------------


class OpenAIModel:
    """A chat model behind an OpenAI-compatible address; the connection pool is made at the first call.

    `timeout_s` bounds a whole call, `stall_s` the silence between two events of its stream. After on_delta said
    enough, `usage_wait_s` is how long the end of the stream, which brings the usage, is waited for.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        name: str | None = None,
        timeout_s: float = 600.0,
        stall_s: float = 300.0,
        usage_wait_s: float = 0.5,
    ) -> None:
        if base_url is not None:
            _host(base_url)
        self.name = name or f"openai:{model}" + (f"@{base_url}" if base_url else "")
        self._model = model
        self._base_url = base_url
        self._key = api_key or _NO_KEY
        self._timeout_s = timeout_s
        self._stall_s = stall_s
        self._usage_wait_s = usage_wait_s
        self._client: AsyncOpenAI | None = None
        self._opening = threading.Lock()

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The provider's answer. Raises: ModelCallError; CancelledError, with the connection closed."""
        call = _Call(on_delta)
        try:
            model = await asyncio.to_thread(self._open)
        except Exception as error:  # certificates or a proxy of the environment that cannot be used
            raise ModelCallError(self._failure(error, call, late=False)) from error
        from pydantic_ai.direct import model_request_stream

        messages = to_messages(request, context)
        settings, parameters = to_settings(request, context, model), to_parameters(request)
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
        except Exception as error:
            if call.answer is None and call.raised is None:
                late = isinstance(error, TimeoutError) and deadline.expired()
                raise ModelCallError(self._failure(error, call, late=late)) from error
        if call.raised is not None:
            raise call.raised
        return call.answer or self._answer(call)

    def _open(self) -> OpenAIChatModel:
        """In a thread: the imports and the client's certificates take seconds the first time."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        import_module("pydantic_ai.direct")  # complete() takes it from there, on the loop
        with self._opening:
            if self._client is None:
                # A proxy of the environment is no way to this machine itself.
                direct = self._base_url is not None and _is_loopback(self._base_url)
                self._client = AsyncOpenAI(
                    api_key=self._key,
                    base_url=self._base_url or _OPENAI_URL,
                    max_retries=0,
                    timeout=Timeout(self._stall_s, connect=min(15.0, self._stall_s)),
                    http_client=DefaultAsyncHttpxClient(trust_env=False) if direct else None,
                )
            return OpenAIChatModel(self._model, provider=OpenAIProvider(openai_client=self._client))

    def _answer(self, call: _Call) -> LlmResponse:
        """The answer of a stream that ran to its end. Raises: ModelCallError when it was cut off."""
        assert call.stream is not None
        final = call.stream.get()
        details = final.provider_details or {}
        refusal = details.get("refusal")
        finish = "content_filter" if refusal else details.get("finish_reason")
        if not finish:
            raise ModelCallError(
                LlmCallError(
                    message=f"{self.name}: the answer broke off before its end",
                    retryable=True,
                    kind=ProviderFailureKind.STREAM,
                    terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
                    partial_response=from_response(final, LlmTerminalReason.PROVIDER_ERROR),
                )
            )
        reason = _FINISH.get(finish, LlmTerminalReason.UNKNOWN)
        diagnostic = refusal or (None if finish in _FINISH else finish)
        response = from_response(final, reason, diagnostic=diagnostic)
        calls_tool = any(isinstance(part, ToolCallOutputPart) for part in response.parts)
        if calls_tool and reason is LlmTerminalReason.STOP:  # some servers say so of tool calls too
            return from_response(final, LlmTerminalReason.TOOL_USE)
        return response

    def _failure(self, error: Exception, call: _Call, *, late: bool) -> LlmCallError:
        from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

        started = call.stream is not None
        kind, retryable, reason = _classify(error, started=started)
        body = getattr(error, "body", None) if isinstance(error, ModelAPIError) else None
        said = body.get("message") if isinstance(body, dict) else None
        code = getattr(error, "provider_error_code", None)
        if late:
            kind, retryable = ProviderFailureKind.TIMEOUT, True
            text = f"no answer within the bounds ({self._stall_s:g} s of silence, {self._timeout_s:g} s in all)"
        elif isinstance(error, ModelHTTPError):
            text = f"the provider answered {error.status_code}: {said or body or 'without a reason'}"
            code = code or str(error.status_code)
        elif kind is ProviderFailureKind.TRANSPORT:
            text = f"{self._base_url or 'the provider'} cannot be reached ({error})"
        else:
            text = str(said or str(error) or type(error).__name__)
        if kind is ProviderFailureKind.AUTH:
            text += f" (is {KEY_VARIABLE} right?)"
        partial = call.stream.get() if call.stream is not None else None
        return LlmCallError(
            message=f"{self.name}: {self._hide(text)[:_MAX_MESSAGE_CHARS]}",
            retryable=retryable,
            kind=kind,
            raw=None if body is None else self._hide(str(body))[: 4 * _MAX_MESSAGE_CHARS],
            code=code,
            terminal_reason=reason,
            partial_response=from_response(partial, reason) if partial is not None and partial.parts else None,
        )

    def _hide(self, text: str) -> str:
        """Providers quote keys in their refusals."""
        return text if self._key == _NO_KEY else text.replace(self._key, "[key]")

    async def aclose(self) -> None:
        """Closes the connections; a later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class _Call:
    """One stream on its way: what on_delta made of it, and the answer when it said enough."""

    def __init__(self, on_delta: OnDelta | None) -> None:
        self.stream: StreamedResponse | None = None
        self.answer: LlmResponse | None = None
        self.raised: BaseException | None = None
        """What on_delta raised: the caller's own, so it is not a failure of the provider."""
        self._on_delta = on_delta
        self._calls: dict[int, tuple[str, str]] = {}

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
            self.answer = from_response(self.stream.get(), LlmTerminalReason.STOP, whole=False)
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
        self.answer = replace(self.answer, usage=from_usage(self.stream.get()))

    def _delta(self, event: object) -> Delta | None:
        from pydantic_ai import messages as foreign

        match event:
            case foreign.PartStartEvent(part=foreign.TextPart(content=text)) if text:
                return TextChunk(text=text)
            case foreign.PartStartEvent(part=foreign.ThinkingPart(content=text)) if text:
                return ReasoningChunk(text=text)
            case foreign.PartStartEvent(index=index, part=foreign.ToolCallPart() as part):
                self._calls[index] = (part.tool_call_id, part.tool_name)
                return self._call_chunk(index, part.args)
            case foreign.PartDeltaEvent(delta=foreign.TextPartDelta(content_delta=text)) if text:
                return TextChunk(text=text)
            case foreign.PartDeltaEvent(delta=foreign.ThinkingPartDelta(content_delta=str(text))) if text:
                return ReasoningChunk(text=text)
            case foreign.PartDeltaEvent(index=index, delta=foreign.ToolCallPartDelta(args_delta=args)) if args:
                return self._call_chunk(index, args)
        return None

    def _call_chunk(self, index: int, args: str | dict[str, Any] | None) -> ToolCallChunk:
        call_id, tool_name = self._calls[index]
        text = args if isinstance(args, str) else json.dumps(args) if args else ""
        return ToolCallChunk(call_id=call_id, tool_name=tool_name, input_json_delta=text)


# -- failures ----------------------------------------------------------------------------------------


def _classify(error: Exception, *, started: bool) -> tuple[ProviderFailureKind, bool, LlmTerminalReason]:
    """Kind, whether another try may help, and the reason that the machine is given; by type and status only."""
    from pydantic_ai import exceptions as foreign

    failed = LlmTerminalReason.PROVIDER_ERROR
    match error:
        case foreign.ModelContextWindowExceededError():
            return ProviderFailureKind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW
        case foreign.ModelQuotaExceededError():
            return ProviderFailureKind.QUOTA, False, failed
        case foreign.ModelRateLimitError():
            return ProviderFailureKind.QUOTA, True, failed
        case foreign.ModelTimeoutError() | foreign.ModelRequestTimeout() | TimeoutError():
            return ProviderFailureKind.TIMEOUT, True, failed
        case foreign.ModelConnectionError():
            return ProviderFailureKind.STREAM if started else ProviderFailureKind.TRANSPORT, True, failed
        case foreign.ModelHTTPError(status_code=status):
            return *_of_status(status), failed
        case foreign.ModelServerError() | foreign.ModelUnavailableError():
            return ProviderFailureKind.HTTP, True, failed
        case foreign.ModelAPIError() | foreign.UnexpectedModelBehavior():
            return ProviderFailureKind.STREAM, True, failed
        case foreign.UserError():
            return ProviderFailureKind.VALIDATION, False, failed
    # What has no type of its own breaks while an answer is read: servers send anything.
    return ProviderFailureKind.STREAM, True, failed


def _of_status(status: int) -> tuple[ProviderFailureKind, bool]:
    match status:
        case 401 | 403:
            return ProviderFailureKind.AUTH, False
        case 402:
            return ProviderFailureKind.QUOTA, False
        case 408:
            return ProviderFailureKind.TIMEOUT, True
        case 409 | 425:
            return ProviderFailureKind.HTTP, True
        case 429:
            return ProviderFailureKind.QUOTA, True
    return (ProviderFailureKind.HTTP, True) if status >= 500 else (ProviderFailureKind.VALIDATION, False)
