"""What a model can do beyond text, as the host says it: reasoning efforts, prompt caching, how its streams end.

Wire layout: `reference/turn-machine.md` 1.15. The machine carries these through to each request and reads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from .wire import (
    BOOLEAN,
    STRING,
    U32,
    Codec,
    array,
    defaulted,
    enum,
    externally_tagged,
    mapping,
    omit_empty,
    omit_none,
    struct,
    wrapper,
)

__all__ = [
    "MODEL_CAPABILITY",
    "MODEL_VARIANT",
    "BudgetEncoding",
    "CacheControl",
    "DisableEncoding",
    "DisableWithBudget",
    "DisableWithEffort",
    "Effort",
    "EffortEncoding",
    "ModelCapability",
    "ModelVariant",
    "PlainDisable",
    "PlainVariant",
    "ReasoningCapability",
    "StreamTermination",
]


class PlainVariant(StrEnum):
    """A model variant without data."""

    PROVIDER_DEFAULT = "provider_default"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """A model variant that asks for a named reasoning effort."""

    effort: str


ModelVariant: TypeAlias = PlainVariant | Effort


class EffortEncoding(StrEnum):
    """Reasoning effort is sent as its name."""

    EFFORT = "effort"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEncoding:
    """Reasoning effort is sent as a token budget: effort → tokens."""

    budget: Mapping[str, int] = field(default_factory=dict)


class PlainDisable(StrEnum):
    """How "no reasoning" is sent: the ways without data."""

    NATIVE = "native"
    OMIT = "omit"
    TOGGLE_FALSE = "toggle_false"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableWithEffort:
    """ "No reasoning" is sent as an effort of this name."""

    effort: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableWithBudget:
    """ "No reasoning" is sent as a budget of so many tokens."""

    budget: int


DisableEncoding: TypeAlias = PlainDisable | DisableWithEffort | DisableWithBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningCapability:
    """Which reasoning efforts a model knows, and how they are sent."""

    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    encoding: EffortEncoding | BudgetEncoding = EffortEncoding.EFFORT
    disable: DisableEncoding | None = None
    mandatory: bool = False


class CacheControl(StrEnum):
    """The provider's style of prompt-cache breakpoints."""

    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


class StreamTermination(StrEnum):
    """Whether a stream may end without the provider's terminal event."""

    REQUIRE_TERMINAL_EVIDENCE = "require_terminal_evidence"
    EOF_TOLERATED = "eof_tolerated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapability:
    """What a model can do beyond text."""

    reasoning: ReasoningCapability | None = None
    cache_control: CacheControl | None = None
    stream_termination: StreamTermination | None = None


MODEL_VARIANT: Codec[ModelVariant] = externally_tagged(
    "model variant",
    {
        "provider_default": (PlainVariant.PROVIDER_DEFAULT, None),
        "disabled": (PlainVariant.DISABLED, None),
        "effort": (Effort, wrapper(Effort, "effort", STRING)),
    },
)
_ENCODING: Codec[Any] = externally_tagged(
    "reasoning encoding",
    {
        "effort": (EffortEncoding.EFFORT, None),
        "budget": (BudgetEncoding, wrapper(BudgetEncoding, "budget", mapping(U32))),
    },
)
_DISABLE: Codec[DisableEncoding] = externally_tagged(
    "way to disable reasoning",
    {
        "native": (PlainDisable.NATIVE, None),
        "omit": (PlainDisable.OMIT, None),
        "effort": (DisableWithEffort, wrapper(DisableWithEffort, "effort", STRING)),
        "budget": (DisableWithBudget, wrapper(DisableWithBudget, "budget", U32)),
        "toggle_false": (PlainDisable.TOGGLE_FALSE, None),
    },
)
_REASONING: Codec[ReasoningCapability] = struct(
    ReasoningCapability,
    efforts=defaulted(array(STRING)),
    default_effort=omit_none(STRING),
    aliases=omit_empty(mapping(STRING), {}),
    encoding=defaulted(_ENCODING, EffortEncoding.EFFORT),
    disable=omit_none(_DISABLE),
    mandatory=defaulted(BOOLEAN, False),
)
MODEL_CAPABILITY: Codec[ModelCapability] = struct(
    ModelCapability,
    reasoning=omit_none(_REASONING),
    cache_control=omit_none(enum(CacheControl)),
    stream_termination=omit_none(enum(StreamTermination)),
)
