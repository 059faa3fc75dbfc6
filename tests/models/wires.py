"""What the tests need of a wire dialect: answers in a provider's own form, and where its server listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lash_nb.machine.llm import LlmResponse

from .http_server import Answer

__all__ = ["SIGNATURE", "Wire", "pieces_of"]

SIGNATURE = "c2lnbmVk"
"""A signature of a provider: base64, as Google's have to be."""


class Wire(Protocol):
    """One dialect, as its provider speaks it. `usage` false leaves the numbers out."""

    word: str
    """What the names of its models begin with."""

    def address(self, root: str) -> str:
        """The base URL of a server."""

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that arrived."""

    def answer(self, response: LlmResponse) -> Answer:
        """A response as the provider streams it, a few characters at a time, with `cases.TOOL_ANSWER`'s usage."""

    def half(self, text: str = "half") -> list[bytes]:
        """The beginning of an answer of text, without its end."""

    def ended(self, text: str, reason: str) -> Answer:
        """An answer of text that ends for that reason."""

    def refusal(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A refusal; `code` is the provider's own word for it."""

    def broken(self, message: str, *, code: str) -> bytes:
        """An error in the middle of a stream."""

    def two_calls(self) -> Answer:
        """Two calls of tools in one answer: read(a=1) as t1 and write(b=2) as t2."""

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        """The texts of the conversation that a request holds, the system prompt first."""


def pieces_of(text: str, size: int = 3) -> list[str]:
    """A text as it is streamed."""
    return [text[start : start + size] for start in range(0, len(text), size)]
