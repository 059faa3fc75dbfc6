"""What a call cost, as the server itself says it: read off the events of a stream, before a client adds them up.

What is decided here: each number counts as it was last told, so a report in every event, cumulative as they are, is
not summed up; what is no number is as good as not told. The clients get the events without the reports: they throw a
whole answer away when one is odd. Imports `machine` only.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..machine.llm import LlmUsage

__all__ = ["Tally"]

_REPORT = re.compile(rb'"usage(?:Metadata)?"\s*:(?!\s*null)')
_MOST = 2**63 - 1


class Tally:
    """The tokens of one call, in the words of any of the three dialects."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def total(self) -> LlmUsage:
        """What has been told so far. Some count cached tokens among the input; here they stand beside it."""
        cached = self._first(
            "cache_read_input_tokens",
            "prompt_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "cachedContentTokenCount",
        )
        written = self._first("cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens")
        prompt = self._first("prompt_tokens", "promptTokenCount") + self._first("toolUsePromptTokenCount")
        fresh = max(0, prompt - cached - written) if prompt else self._first("input_tokens")
        thoughts = self._first("thoughtsTokenCount")
        return LlmUsage(
            input_tokens=min(_MOST, fresh),
            output_tokens=min(
                _MOST, self._first("completion_tokens", "output_tokens", "candidatesTokenCount") + thoughts
            ),
            cache_read_input_tokens=cached,
            cache_write_input_tokens=written,
            reasoning_output_tokens=thoughts
            or self._first(
                "completion_tokens_details.reasoning_tokens",
                "output_tokens_details.thinking_tokens",
            ),
        )

    def without(self, lines: bytes) -> bytes:
        """Whole lines of a stream without the reports that they hold, which are noted."""
        if _REPORT.search(lines) is None:
            return lines
        return b"".join(self._line(line) for line in lines.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:") or _REPORT.search(line) is None:
            return line
        text = line.rstrip(b"\r\n")
        try:
            event = json.loads(text[5:])
            if not isinstance(event, dict) or not self._take(event):
                return line
            return b"data: " + json.dumps(event).encode() + line[len(text) :]
        except (ValueError, RecursionError):  # the client says what is wrong with it
            return line

    def _take(self, event: dict[str, Any]) -> bool:
        """Takes the reports out of an event; False when there was none."""
        found = False
        if "usageMetadata" in event:
            found = True
            self._note(event.pop("usageMetadata"))
        if "usage" in event:
            found = True
            self._note(event.pop("usage"))
            if event.get("type") == "message_delta":  # a field that must be there
                event["usage"] = {"output_tokens": 0}
        message = event.get("message")
        if event.get("type") == "message_start" and isinstance(message, dict) and "usage" in message:
            found = True
            self._note(message["usage"])
            message["usage"] = {"input_tokens": 0, "output_tokens": 0}
        return found

    def _note(self, report: object) -> None:
        for name, value in _flat(report).items():
            if number := _number(value):
                self._told[name] = number

    def _first(self, *names: str) -> int:
        return next((self._told[name] for name in names if name in self._told), 0)


def _flat(report: object) -> dict[str, object]:
    """A report's values, those of its details as `details.value`."""
    found: dict[str, object] = {}
    for name, value in report.items() if isinstance(report, dict) else ():
        if isinstance(value, dict):
            found.update({f"{name}.{inner}": detail for inner, detail in value.items()})
        else:
            found[name] = value
    return found


def _number(value: object) -> int:
    """A count of tokens; 0 for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if 0 <= value <= _MOST else 0
