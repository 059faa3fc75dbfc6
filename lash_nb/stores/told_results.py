"""The result of a tool call as the conversation has it, taken apart: what a call gave, what a cell gave.

Decided here: a text between lines of tildes is the text alone; the outputs of a cell are told apart by their headings
and these lines, and what has another form is shown whole. Whoever wrote it: nothing here raises. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CellTexts", "cell_texts", "plain_result"]

_FENCE = re.compile(r"~{3,}")
_HEAD = re.compile(r"(?:output\[[0-9]+\] \([^\n]*\)|Final output:)\n")
_ERROR = "Error:\n"
_NOTHING = re.compile(r"\([^\n]*\)")
"""What stands for an output that was empty."""


@dataclass(slots=True)
class CellTexts:
    """What the model saw of a cell that it ran by a call."""

    outputs: list[str]
    """Its outputs, and the value that it gave to `finish`, if it did, as the last one."""
    error: str = ""
    rest: str = ""
    """What is behind all that, or of another form."""


def cell_texts(content: str) -> CellTexts:
    """Take the result of a cell apart."""
    found = CellTexts([])
    left = content
    while left:
        heading = _HEAD.match(left)
        if heading is not None and (one := _fenced(left[heading.end() :])) is not None:
            text, left = one
            found.outputs.append(text)
        elif left.startswith(_ERROR):
            label, _, behind = left.removeprefix(_ERROR).partition("\n")
            evidence = _fenced(behind)
            found.error = label if evidence is None else f"{label}\n{evidence[0]}"
            left = behind.removeprefix("\n") if evidence is None else evidence[1]
        elif _NOTHING.fullmatch(left):
            return found
        else:
            found.rest = left
            return found
    return found


def plain_result(content: str) -> str:
    """What a call gave, without what was written around it for the model."""
    for at in _lines(content):
        one = _fenced(content[at:])
        if one is not None and not one[1]:
            return one[0]
    return content


def _lines(text: str) -> Iterator[int]:
    """Where the first two lines begin."""
    yield 0
    behind = text.find("\n") + 1
    if behind:
        yield behind


def _fenced(text: str) -> tuple[str, str] | None:
    """A text between lines of tildes, and what is behind it and a blank line; None: it does not begin with one."""
    fence = _FENCE.match(text)
    if fence is None or not text.startswith("\n", fence.end()):
        return None
    end = text.find(f"\n{fence[0]}", fence.end())
    behind = end + 1 + len(fence[0])
    if end < 0 or (behind < len(text) and text[behind] != "\n"):
        return None
    return text[fence.end() + 1 : end], text[behind:].lstrip("\n")
