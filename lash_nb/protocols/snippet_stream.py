"""Reads a small model's reply as it arrives: shows the code as it is written, says when the cell has ended.

Decided here: where a cell ends. At a fence that closes, at a further request that the model makes up, at a blank line
behind a program that is whole, or where a reply is too long to be one small cell. Prose that a model puts before its
code is shown as it comes; what is run is read from the finished text (`snippet_cells.read_cell`). Whatever way a text
is split into chunks, the concatenated events are the same. Pure.
"""

from __future__ import annotations

import ast
import re

from . import CellEnded, CellStarted, CodeDelta, StreamEvent
from .snippet_cells import MAX_CODE_CHARS, MAX_CODE_LINES, parsed

__all__ = ["SnippetStream"]

_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})")
_MAY_BE_FENCE = re.compile(r"\s*(?:`{0,2}|~{0,2})$")
_REQUEST = re.compile(r"\s*#+\s*(?:request|variables)\b", re.IGNORECASE)
_MAX_HELD = 200
_MAX_TAKEN = 4 * MAX_CODE_CHARS


class SnippetStream:
    """The reader of one model call."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: the call is made anew."""
        self._text = ""
        """The code so far, whole lines only."""
        self._line = ""
        self._shown = 0
        """How much of the line that is being written was given out."""
        self._blanks = ""
        self._carriage = False
        self._fenced = False
        self._started = False
        self._ended = False
        self._taken = 0
        self._out: list[StreamEvent] = []

    @property
    def stop(self) -> bool:
        """Whether the cell has ended."""
        return self._ended

    def feed(self, text: str) -> tuple[StreamEvent, ...]:
        """What a further piece of the reply brings to light."""
        for letter in text:
            if self._ended:
                break
            self._taken += 1
            if self._taken > _MAX_TAKEN:  # blank lines and comments without end are no code, and do not count as it
                self._finish()
                break
            self._take(letter)
        return self._drain()

    def close(self) -> tuple[StreamEvent, ...]:
        """The end of the reply: what was held back."""
        if not self._ended and self._line.strip() and not self._is_mark(self._line):
            self._show()
        return self._drain()

    def _take(self, letter: str) -> None:
        if letter == "\n":
            self._carriage = False
            self._end_line()
            return
        if self._carriage:  # a line end of its own after all, or a sign within the line: shown as it came
            self._line += "\r"
        self._carriage = letter == "\r"
        if self._carriage:
            return
        self._line += letter
        if len(self._text) + len(self._line) > MAX_CODE_CHARS:
            self._finish()
        elif not self._may_be_mark(self._line):
            self._show()

    def _end_line(self) -> None:
        line = self._line
        if self._is_mark(line):
            if self._text or (_FENCE.match(line) and self._fenced):
                self._finish()
            self._fenced = self._fenced or _FENCE.match(line) is not None
        elif line.strip():
            self._show()
            self._text += self._blanks + line + "\n"
            self._emit("\n")
            self._blanks = ""
        elif self._text:
            self._blanks += "\n"
            if not self._fenced and _is_whole(self._text):
                self._finish()
        self._line, self._shown = "", 0
        if self._text.count("\n") >= MAX_CODE_LINES:
            self._finish()

    def _is_mark(self, line: str) -> bool:
        return _FENCE.match(line) is not None or _REQUEST.match(line) is not None

    def _may_be_mark(self, line: str) -> bool:
        """Whether a line that begins so is to be held back: it may be a fence, a request, or blank."""
        if self._shown or len(line) > _MAX_HELD:
            return False
        return bool(_MAY_BE_FENCE.match(line)) or self._is_mark(line) or line.lstrip().startswith("#")

    def _show(self) -> None:
        new = self._line[self._shown :]
        if self._blanks and new:
            new, self._line = new, self._line
            self._emit(self._blanks)
            self._text, self._blanks = self._text + self._blanks, ""
        self._emit(new)
        self._shown = len(self._line)

    def _emit(self, text: str) -> None:
        if not text:
            return
        if not self._started:
            self._started = True
            self._out.append(CellStarted())
        self._out.append(CodeDelta(text))

    def _finish(self) -> None:
        if not self._ended:
            self._ended = True
            if self._started:
                self._out.append(CellEnded())

    def _drain(self) -> tuple[StreamEvent, ...]:
        out, self._out = self._out, []
        return tuple(_joined(out))


def _joined(events: list[StreamEvent]) -> list[StreamEvent]:
    """Neighbouring pieces of code as one."""
    out: list[StreamEvent] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, CodeDelta) and isinstance(last, CodeDelta):
            out[-1] = CodeDelta(last.text + event.text)
        else:
            out.append(event)
    return out


def _is_whole(code: str) -> bool:
    """Whether a program does something: a blank line behind imports or a definition does not end it."""
    tree = parsed(code)
    return tree is not None and not isinstance(
        tree.body[-1], (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    )
