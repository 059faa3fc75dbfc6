"""Text that may be without end, kept as an exact head and tail; pure. Used in the kernel and by its host.

Decided here: how a stream is cut and counted, and what `\\r`, `\\b` and ANSI codes do to text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

__all__ = ["LINE_REACH", "HeadTail", "clip", "strip_ansi"]

LINE_REACH = 4096
"""How many characters of an open line `\\r` and `\\b` can still change."""

_CONTROLS = re.compile(r"([\r\b\n])")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def strip_ansi(text: str) -> str:
    """The text without terminal colour and cursor codes."""
    return _ANSI.sub("", text)


def clip(text: str, head_chars: int, tail_chars: int) -> tuple[str, str, int, int]:
    """`(head, tail, omitted characters, omitted newlines)`; the tail is empty when the text fits."""
    cut = len(text) - head_chars - tail_chars
    if cut <= 0:
        return text, "", 0, 0
    return text[:head_chars], text[head_chars + cut :], cut, text.count("\n", head_chars, head_chars + cut)


class HeadTail:
    """The first and the last characters of everything written, and exact counts of what lies between.

    `on_overflow` gets the whole text, piece by piece, from the moment the first character is left out.
    """

    def __init__(self, head_chars: int, tail_chars: int, *, on_overflow: Callable[[str], None] | None = None) -> None:
        self._head_cap, self._tail_cap = head_chars, tail_chars
        self._on_overflow = on_overflow
        self._head: list[str] = []
        self._head_len = 0
        self._tail: deque[str] = deque()
        self._tail_len = 0
        self._chars = self._lines = 0
        self._line, self._column = "", 0

    def write(self, text: str) -> None:
        """Append, with `\\r` (back to the line's start, overwriting) and `\\b` (delete one character) obeyed."""
        if "\r" not in text and "\b" not in text and self._column == len(self._line):
            newline = text.rfind("\n") + 1
            if newline:
                self._commit(self._line + text[:newline])
                self._line = text[newline:]
            else:
                self._line += text
            self._column = len(self._line)
        else:
            for token in _CONTROLS.split(text):
                self._type(token)
        excess = min(len(self._line) - LINE_REACH, self._column)
        if excess > 0:
            self._commit(self._line[:excess])
            self._line = self._line[excess:]
            self._column -= excess

    def close(self) -> None:
        """Nothing more comes: the open line is final."""
        self._commit(self._line)
        self._line, self._column = "", 0

    def view(self) -> tuple[str, str, int, int]:
        """`(head, tail, omitted characters, omitted newlines)`; the tail is empty when nothing is left out."""
        head, rest = "".join(self._head), "".join(self._tail) + self._line
        missing = self._head_cap - self._head_len
        if missing > 0:
            head, rest = head + rest[:missing], rest[missing:]
        if not self._chars and len(rest) <= self._tail_cap:
            return head + rest, "", 0, 0
        cut = max(0, len(rest) - self._tail_cap)
        return head, rest[cut:], self._chars + cut, self._lines + rest.count("\n", 0, cut)

    def _type(self, token: str) -> None:
        match token:
            case "":
                return
            case "\n":
                self._commit(self._line + "\n")
                self._line, self._column = "", 0
            case "\r":
                self._column = 0
            case "\b":
                if self._column:
                    self._line = self._line[: self._column - 1] + self._line[self._column :]
                    self._column -= 1
            case _:
                end = self._column + len(token)
                self._line = self._line[: self._column] + token + self._line[end:]
                self._column = end

    def _commit(self, text: str) -> None:
        if not text:
            return
        overflowing = self._chars > 0
        rest = text
        if self._head_len < self._head_cap:
            part = text[: self._head_cap - self._head_len]
            self._head.append(part)
            self._head_len += len(part)
            rest = text[len(part) :]
        if rest:
            self._tail.append(rest)
            self._tail_len += len(rest)
        if self._on_overflow is not None:
            if overflowing:
                self._on_overflow(text)
            elif self._tail_len > self._tail_cap:
                self._on_overflow("".join(self._head) + "".join(self._tail))
        while self._tail_len > self._tail_cap:
            oldest = self._tail.popleft()
            surplus = self._tail_len - self._tail_cap
            gone, kept = oldest[:surplus], oldest[surplus:]
            self._chars += len(gone)
            self._lines += gone.count("\n")
            self._tail_len -= len(gone)
            if kept:
                self._tail.appendleft(kept)
