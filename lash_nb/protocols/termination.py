"""How a turn of the code protocol may end: with an answer in prose, or only with a value.

The per-turn options (`TurnMachineConfig.termination`); never in a TurnCheckpoint. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..machine.wire import JSON, Codec, Json, internally_tagged, omit_none, struct

__all__ = ["CODE_TERMINATION", "CodeTermination", "FinishRequired", "Natural"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Natural:
    """A reply in prose alone ends the turn; so does `finish(value)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequired:
    """Only `finish(value)` ends the turn. The model is shown `schema`; values are checked by the injected validator."""

    schema: Json = None


CodeTermination: TypeAlias = Natural | FinishRequired

CODE_TERMINATION: Codec[CodeTermination] = internally_tagged(
    "termination",
    "kind",
    {
        "natural": (Natural, None),
        "finish_required": (FinishRequired, struct(FinishRequired, schema=omit_none(JSON))),
    },
)
