"""Docstrings as a model is told them: what is said of each parameter, and the text without those sections.

Decided here: Google, NumPy and Sphinx sections of parameters are read; whatever else stands in a docstring stays in its
text as it was written. A parser of our own, because what libraries give is sections, and not the text without them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Described", "described"]

_GOOGLE = re.compile(
    r"(?:args|arguments|params|parameters|keyword args|keyword arguments|other args|other parameters)\s*:\s*\Z", re.I
)
_GOOGLE_ITEM = re.compile(r"\*{0,2}(\w+)(?:\s*\(.*?\))?\s*:(?:\s+|\Z)(.*)")
_NUMPY = re.compile(r"(?:other )?parameters\s*\Z", re.I)
_NUMPY_LINE = re.compile(r"-{3,}\s*\Z")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?\Z")
_SPHINX = re.compile(r":(?:param|parameter|arg|argument|key|keyword)\s+([^:]*?)\s*:(?:\s+|\Z)(.*)")
_SPHINX_TYPE = re.compile(r":type\s+[^:]*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a docstring says."""

    text: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """By name, each in one line."""


def described(docstring: str | None) -> Described:
    """A docstring taken apart; of a parameter that is described twice, the first description."""
    lines = inspect.cleandoc(docstring or "").split("\n")
    kept: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        end, items = _section(lines, at)
        for name, text in items:
            found.setdefault(name.lstrip("*"), " ".join(text.split()))
        if end == at:
            kept.append(lines[at])
            end += 1
        at = end
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return Described(text=text, parameters={name: about for name, about in found.items() if about})


def _section(lines: list[str], at: int) -> tuple[int, list[tuple[str, str]]]:
    """Where the section of parameters that begins here ends, and its items; `at` itself where none begins."""
    line, following = lines[at], lines[at + 1] if at + 1 < len(lines) else ""
    if (match := _SPHINX.match(line)) is not None:
        end = _indented(lines, at + 1)
        names = match[1].split()
        return end, [(names[-1], " ".join([match[2], *lines[at + 1 : end]]))] if names else []
    if _SPHINX_TYPE.match(line):
        return _indented(lines, at + 1), []
    if _NUMPY.match(line) and _NUMPY_LINE.match(following):
        return _numpy(lines, at + 2)
    end = _indented(lines, at + 1)
    if _GOOGLE.match(line) and any(one.strip() for one in lines[at + 1 : end]):
        return end, list(_google(lines[at + 1 : end]))
    return at, []


def _indented(lines: list[str], at: int) -> int:
    """The end of the lines from here on that are indented or blank; blank ones at the end do not count."""
    end = at
    for place in range(at, len(lines)):
        if lines[place].strip():
            if not lines[place][0].isspace():
                break
            end = place + 1
    return end


def _google(lines: list[str]) -> Iterator[tuple[str, str]]:
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    name, texts = "", list[str]()
    for line in lines:
        match = _GOOGLE_ITEM.match(line[margin:])
        if match is None:
            texts.append(line)
            continue
        if name:
            yield name, " ".join(texts)
        name, texts = match[1], [match[2]]
    if name:
        yield name, " ".join(texts)


def _numpy(lines: list[str], at: int) -> tuple[int, list[tuple[str, str]]]:
    items: list[tuple[str, str]] = []
    while at < len(lines):
        following = lines[at + 1] if at + 1 < len(lines) else ""
        match = _NUMPY_ITEM.match(lines[at])
        if not lines[at].strip():
            at += 1
        elif match is None or _NUMPY_LINE.match(following):
            break  # the next section, or text
        else:
            end = _indented(lines, at + 1)
            if end == at + 1 and ":" not in lines[at] and not items:
                break  # a line of text, not a parameter
            items += [(name.strip(), " ".join(lines[at + 1 : end])) for name in match[1].split(",")]
            at = end
    return at, items
