"""The calls that a model made itself, beside its code: what they gave reached no variable. Pure."""

from __future__ import annotations

from ..machine.picture import StepPicture, ToolCallPicture, TurnPicture

__all__ = ["called_names", "model_calls"]

_CALLING = ("tools", "")
"""The protocols in which a model calls tools itself; of a picture without one no calls of cells are known."""


def model_calls(picture: TurnPicture, step: StepPicture) -> tuple[ToolCallPicture, ...]:
    """Those of one step of the picture, without those that its cell made."""
    return step.native_calls if picture.protocol in _CALLING else ()


def called_names(picture: TurnPicture) -> tuple[str, ...]:
    """The tools that it called itself, each once, sorted."""
    return tuple(sorted({call.name for step in picture.steps for call in model_calls(picture, step)}))
