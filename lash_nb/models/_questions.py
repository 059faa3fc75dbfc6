"""When two requests ask the same, and how they differ. Pure."""

from __future__ import annotations

import difflib
import textwrap
import unicodedata

__all__ = ["difference", "normal_text"]

_DIFF_LINES = 20


def normal_text(text: str) -> str:
    """The user's text as cassettes keep it: Unicode NFC, runs of blanks as one space, no blank lines."""
    lines = (" ".join(line.split()) for line in unicodedata.normalize("NFC", text).splitlines())
    return "\n".join(line for line in lines if line)


def difference(recorded: str, asked: str) -> str:
    """A short unified diff; long lines are wrapped first, so that it shows where they differ."""
    before, after = (
        [piece for line in normal_text(text).splitlines() for piece in textwrap.wrap(line, 88)]
        for text in (recorded, asked)
    )
    lines = list(difflib.unified_diff(before, after, "recorded", "asked", n=1, lineterm=""))
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"… {len(lines) - _DIFF_LINES} more lines"]
    return "\n".join(lines)
