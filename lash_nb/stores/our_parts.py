"""A notebook's JSON text in which only what is ours is changed: `metadata.lash_nb`, and the same of outputs.

Decided here: every other character stays as it is (numbers, escapes, order, unknown and doubled fields, indentation),
of whichever nbformat the notebook is and however invalid. What goes in is written as nbformat writes it, at the
indentation of its place and with the file's own line ends. Nothing is converted, validated or run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from ..errors import NotebookError
from .notebook import METADATA_KEY

__all__ = ["GONE", "Change", "Gone", "with_changed_parts"]


class Gone(Enum):
    """In the place of a part: there is none."""

    GONE = "gone"


GONE: Final = Gone.GONE

Change = Callable[[Any], Any]
"""Given what stands there (or GONE), what is to stand there (or GONE); the same object stays as it is written."""

_SPACE = re.compile(r"[ \t\n\r]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NUMBER = 640
"""Digits that Python converts whatever it was told of the most; longer ones it may refuse."""


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else math.inf


_READER = json.JSONDecoder(parse_int=_number)
_SKIPPER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
"""For what only has to be passed over: no number is converted."""


def with_changed_parts(text: str, *, block: Change, copy: Change) -> str:
    """The text with `block` applied to the notebook's own part, and `copy` to that of each output that has one.

    Raises:
        NotebookError: it is not a notebook; the message says in a few words why.
    """
    start = _after_space(text, 1 if text.startswith("\ufeff") else 0)
    parts = _Parts(text)
    try:
        members, end = parts.members(start)
        if text[end:].strip(" \t\r\n"):
            raise NotebookError("it is not JSON (something stands behind its end)")
        numbers = [_READER.raw_decode(text, one.value)[0] for one in members if one.key == "nbformat"]
        if not numbers or not isinstance(numbers[-1], int):
            raise NotebookError("it has no `nbformat`")
        for member in members:
            if member.key == "metadata":
                parts.change(member.value, block, add=True)
            elif member.key == "cells":
                parts.cells(member.value, copy)
            elif member.key == "worksheets":  # nbformat 3
                for sheet in parts.items(member.value):
                    for one in parts.named(sheet, "cells"):
                        parts.cells(one, copy)
    except (ValueError, RecursionError, StopIteration) as error:
        if isinstance(error, NotebookError):
            raise
        raise NotebookError(f"it is not JSON ({error})") from None
    return parts.edited()


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


@dataclass(frozen=True, slots=True)
class _Member:
    """Where one member of an object stands."""

    key: str
    start: int
    value: int
    end: int


@dataclass(slots=True)
class _Parts:
    """Finds its way in the text, and keeps what is to be another: from, to, by what it is replaced."""

    text: str
    edits: list[tuple[int, int, str]] = field(default_factory=list)

    def edited(self) -> str:
        pieces, place = [], 0
        for start, end, new in sorted(self.edits):
            pieces += [self.text[place:start], new]
            place = end
        return "".join([*pieces, self.text[place:]])

    # -- finding -------------------------------------------------------------------------------------------------------

    def members(self, at: int) -> tuple[list[_Member], int]:
        """Those of the object that begins there, and where it ends."""
        found: list[_Member] = []

        def member(start: int) -> int:
            key, after = _SKIPPER.raw_decode(self.text, start)
            colon = _after_space(self.text, after)
            if not isinstance(key, str) or self.text[colon : colon + 1] != ":":
                raise NotebookError(f"it is not JSON (no name at {start})")
            value = _after_space(self.text, colon + 1)
            end = _SKIPPER.raw_decode(self.text, value)[1]
            found.append(_Member(key, start, value, end))
            return end

        return found, self._each(at, "{}", member)

    def items(self, at: int) -> list[int]:
        """Where those of the list that begins there begin; none when it is no list."""
        found: list[int] = []

        def item(start: int) -> int:
            found.append(start)
            return _SKIPPER.raw_decode(self.text, start)[1]

        if self.text[at] == "[":
            self._each(at, "[]", item)
        return found

    def named(self, at: int, name: str) -> list[int]:
        """The values of that name in the object that begins there; none when it is no object."""
        return [member.value for member in self.members(at)[0] if member.key == name] if self.text[at] == "{" else []

    def _each(self, at: int, brackets: str, element: Callable[[int], int]) -> int:
        """`element` is told where each begins and says where it ends; where the whole ends."""
        opening, closing = brackets[0], brackets[1]
        if self.text[at : at + 1] != opening:
            raise NotebookError("it is JSON of another kind")
        place = _after_space(self.text, at + 1)
        while self.text[place : place + 1] != closing:
            place = _after_space(self.text, element(place))
            if self.text[place : place + 1] == ",":
                place = _after_space(self.text, place + 1)
                if self.text[place : place + 1] != closing:
                    continue
            if self.text[place : place + 1] != closing or self.text[place - 1] == ",":
                raise NotebookError(f"it is not JSON (no {closing} at {place})")
        return place + 1

    # -- changing ------------------------------------------------------------------------------------------------------

    def cells(self, at: int, copy: Change) -> None:
        """Those of a list of cells."""
        for cell in self.items(at):
            for outputs in self.named(cell, "outputs"):
                for output in self.items(outputs):
                    for metadata in self.named(output, "metadata"):
                        self.change(metadata, copy)

    def change(self, at: int, change: Change, *, add: bool = False) -> None:
        """What is ours in the metadata that begins there; `add`: also when nothing is."""
        if self.text[at] != "{":
            return
        members, end = self.members(at)
        ours = [member for member in members if member.key == METADATA_KEY]
        last = ours[-1] if ours else None
        before = GONE if last is None else _READER.raw_decode(self.text, last.value)[0]
        after = change(before) if last is not None or add else GONE
        if after is before:
            return
        if after is GONE:
            self._remove(at, members, end, ours)
        elif last is None:
            self._add(at, members, end, after)
        else:
            self._remove(at, members, end, ours[:-1])  # of several the last one is the one that is read
            self.edits.append((last.value, last.end, self._written(after, self._indent(last.start))))

    def _remove(self, at: int, members: list[_Member], end: int, gone: list[_Member]) -> None:
        kept = [member for member in members if member not in gone]
        if not kept:
            self.edits.append((at + 1, end - 1, ""))
            return
        first = members.index(kept[0])
        if first:
            self.edits.append((members[0].start, kept[0].start, ""))
        for before, member in zip(members[first:], members[first + 1 :], strict=False):
            if member in gone:
                self.edits.append((before.end, member.end, ""))

    def _add(self, at: int, members: list[_Member], end: int, value: Any) -> None:
        if members:
            indent = self._indent(members[-1].start)
            blank = " " if indent is None else f"{self._line_end}{indent}"
            member = f"{json.dumps(METADATA_KEY)}: {self._written(value, indent)}"
            keys = [one.key for one in members]
            place = sum(key < METADATA_KEY for key in keys) if keys == sorted(keys) else len(keys)
            if place:
                self.edits.append((members[place - 1].end, members[place - 1].end, f",{blank}{member}"))
            else:
                self.edits.append((members[0].start, members[0].start, f"{member},{blank}"))
            return
        outer = self._indent(at)
        indent = None if outer is None else f"{outer} "
        blank, behind = ("", "") if indent is None else (f"{self._line_end}{indent}", f"{self._line_end}{outer}")
        member = f"{json.dumps(METADATA_KEY)}: {self._written(value, indent)}"
        self.edits.append((at + 1, end - 1, f"{blank}{member}{behind}"))

    def _indent(self, at: int) -> str | None:
        """The blanks at the beginning of that line; None when all of the notebook is on one."""
        line = self.text.rfind("\n", 0, at) + 1
        return self.text[line : _after_space(self.text, line)] if line else None

    @property
    def _line_end(self) -> str:
        """As the first line of the notebook has it."""
        first = self.text.find("\n")
        return "\r\n" if first > 0 and self.text[first - 1] == "\r" else "\n"

    def _written(self, value: Any, indent: str | None) -> str:
        """JSON as nbformat writes it; half a surrogate pair, for which there is no UTF-8, as an escape."""
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, indent=None if indent is None else 1)
        text = _LONE_SURROGATE.sub(lambda half: json.dumps(half[0])[1:-1], text)
        return text if indent is None else text.replace("\n", f"{self._line_end}{indent}")
