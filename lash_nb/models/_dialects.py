"""The three wire dialects as pydantic-ai speaks them: client, settings, and why an answer ended.

What is decided here: no client retries. A dialect is one entry of DIALECTS. Foreign modules are imported inside
functions; they cost seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..machine.llm import Effort, JsonSchemaSpec, LlmRequest, LlmTerminalReason, LlmToolChoice, PlainVariant
from . import Sampling

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model as ForeignModel
    from pydantic_ai.settings import ModelSettings

__all__ = ["DIALECTS", "Dialect", "Line"]

_EFFORTS: Mapping[str, bool | str] = MappingProxyType(
    {
        "none": False,
        "off": False,
        **{word: word for word in ("minimal", "low", "medium", "high", "xhigh", "max")},
    }
)
_STOP, _TOOL = LlmTerminalReason.STOP, LlmTerminalReason.TOOL_USE
_LIMIT, _FILTER = LlmTerminalReason.OUTPUT_LIMIT, LlmTerminalReason.CONTENT_FILTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a model's client reaches its server."""

    url: str
    key: str = field(repr=False)
    http: httpx2.AsyncClient
    stall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What is special about one way to speak with a model."""

    system: str
    """What pydantic-ai calls the provider; what it wants back is sent under this name."""
    open: Callable[[str, Line], ForeignModel]
    settings: Callable[[LlmRequest, Sampling, ForeignModel], dict[str, Any]]
    finish: Mapping[str, LlmTerminalReason]
    """Why an answer ended, in the provider's words; a word that is not here is an unknown reason."""
    cache_points: bool = False
    """It can be told up to where a prompt is worth caching."""
    fetches_urls: bool = True
    """The server fetches images by address itself; otherwise they would be fetched by this process."""
    late_notes: bool = False
    """System messages may stand anywhere in a conversation."""


# -- clients ---------------------------------------------------------------------------------------------------------


def _open_openai(model: str, line: Line) -> ForeignModel:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(
        api_key=line.key, base_url=line.url, max_retries=0, timeout=line.http.timeout, http_client=line.http
    )
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))


def _open_anthropic(model: str, line: Line) -> ForeignModel:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=line.key, base_url=line.url, max_retries=0, timeout=line.http.timeout, http_client=line.http
    )
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))


def _open_google(model: str, line: Line) -> ForeignModel:
    from google.genai.client import Client
    from google.genai.types import HttpOptions, HttpRetryOptions
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    options = HttpOptions(
        base_url=line.url,
        httpx_async_client=line.http,
        timeout=int(line.stall_s * 1000),
        retry_options=HttpRetryOptions(attempts=1),
    )
    client = Client(vertexai=False, api_key=line.key, http_options=options)
    return GoogleModel(model, provider=GoogleProvider(client=client))


# -- settings --------------------------------------------------------------------------------------------------------


def _common(request: LlmRequest, sampling: Sampling) -> ModelSettings:
    """What every dialect takes. The temperature is for each to judge."""
    from pydantic_ai.settings import ModelSettings

    settings = ModelSettings()
    if sampling.seed is not None:
        settings["seed"] = sampling.seed
    if sampling.stop:
        settings["stop_sequences"] = list(sampling.stop)
    if request.generation.output_token_cap is not None:
        settings["max_tokens"] = request.generation.output_token_cap
    if request.tools and request.tool_choice is not LlmToolChoice.AUTO:
        settings["tool_choice"] = "none" if request.tool_choice is LlmToolChoice.NONE else "required"
    return settings


def _thinking(request: LlmRequest) -> bool | str | None:
    """How much reasoning is asked for; None leaves it to the provider. Raises: InputError."""
    if request.model_variant is PlainVariant.DISABLED:
        return False
    if not isinstance(request.model_variant, Effort):
        return None
    effort = request.model_variant.effort
    if effort not in _EFFORTS:
        raise InputError(f"{effort!r} is no reasoning effort: {', '.join(_EFFORTS)}")
    return _EFFORTS[effort]


def _openai_settings(request: LlmRequest, sampling: Sampling, model: ForeignModel) -> dict[str, Any]:
    settings: dict[str, Any] = {**_common(request, sampling)}
    reasons = bool(model.profile.get("openai_supports_reasoning", False))
    if sampling.temperature is not None and not reasons:  # a reasoning model takes none
        settings["temperature"] = sampling.temperature
    if isinstance(request.model_variant, Effort):
        settings["openai_reasoning_effort"] = request.model_variant.effort  # servers have words of their own
    elif request.model_variant is PlainVariant.DISABLED and reasons:
        settings["openai_reasoning_effort"] = "none"
    if isinstance(request.output_spec, JsonSchemaSpec):
        spec = request.output_spec
        schema = {"name": spec.name, "schema": spec.schema.canonical, "strict": spec.strict}
        settings["extra_body"] = {"response_format": {"type": "json_schema", "json_schema": schema}}
    elif request.output_spec is not None:
        settings["extra_body"] = {"response_format": {"type": "json_object"}}
    return settings


def _anthropic_settings(request: LlmRequest, sampling: Sampling, model: ForeignModel) -> dict[str, Any]:
    settings: dict[str, Any] = {**_common(request, sampling), "anthropic_cache_instructions": True}
    settings.pop("seed", None)
    if "stop_sequences" in settings:  # one of whitespace only is refused there
        settings["stop_sequences"] = [word for word in settings["stop_sequences"] if word.strip()]
    if request.tools:
        settings["anthropic_cache_tool_definitions"] = True
    thinking = _thinking(request)
    if thinking is not None:
        settings["thinking"] = thinking
    thinks = bool(thinking) and bool(model.profile.get("supports_thinking", False))
    fixed = thinks or bool(model.profile.get("anthropic_disallows_sampling_settings", False))
    if sampling.temperature is not None and not fixed:
        settings["temperature"] = min(1.0, sampling.temperature)
    return settings


def _google_settings(request: LlmRequest, sampling: Sampling, model: ForeignModel) -> dict[str, Any]:
    settings: dict[str, Any] = {**_common(request, sampling)}
    if sampling.temperature is not None:
        settings["temperature"] = sampling.temperature
    thinking = _thinking(request)
    if thinking is not None:
        settings["thinking"] = thinking
    return settings


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "anthropic": Dialect(
            system="anthropic",
            open=_open_anthropic,
            settings=_anthropic_settings,
            cache_points=True,
            finish={
                "end_turn": _STOP,
                "stop_sequence": _STOP,
                "tool_use": _TOOL,
                "max_tokens": _LIMIT,
                "refusal": _FILTER,
                "model_context_window_exceeded": LlmTerminalReason.CONTEXT_OVERFLOW,
            },
        ),
        "google": Dialect(
            system="google",
            open=_open_google,
            settings=_google_settings,
            fetches_urls=False,
            finish={
                "STOP": _STOP,
                "MAX_TOKENS": _LIMIT,
                "CONTINUATION": _LIMIT,
                **dict.fromkeys(
                    ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"), _FILTER
                ),
            },
        ),
        "openai": Dialect(
            system="openai",
            open=_open_openai,
            settings=_openai_settings,
            late_notes=True,
            finish={
                "stop": _STOP,
                "length": _LIMIT,
                "tool_calls": _TOOL,
                "function_call": _TOOL,
                "content_filter": _FILTER,
            },
        ),
    }
)
"""The word before a name's colon → its dialect."""
