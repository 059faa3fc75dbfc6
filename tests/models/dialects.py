"""The wire dialects that there are: a new one joins the fault suite by its line here."""

from __future__ import annotations

from .anthropic_server import AnthropicWire
from .google_server import GoogleWire
from .openai_server import OpenAIWire
from .wires import Wire

__all__ = ["WIRES"]

WIRES: tuple[Wire, ...] = (OpenAIWire(), AnthropicWire(), GoogleWire())
