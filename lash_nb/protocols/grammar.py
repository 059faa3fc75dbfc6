"""The reply grammar of the code protocol: optional prose, then one cell between two lines that stand alone.

Decided here: which lines open and close a cell, what counts as a mistake, and how the same reader serves a finished
reply (`parse_reply`) and a streaming one (`CellStream`), so that what the user sees grow and what is run cannot
disagree. Whatever way a text is split into chunks, the concatenated events are the same. Only `\\n` (with an optional
`\\r` before it) ends a line: U+2028, form feeds and their like do occur inside strings of real programs.

**Why `<lash-cell>`.** The tag must be a line that nobody writes for another reason. Fences occur in ordinary answers,
`<python>` and `<code>` in answers about markup, `<cell>` in spreadsheet XML that a program may well hold in a string
(and a closing tag inside a string would cut the program in two). `<lash-cell>` occurs nowhere else, names what it is,
costs few tokens, and models follow an XML-like pair readily. The fence grammar is for models that insist on fences;
there a longer fence (four backticks) may hold a program that has a fence of its own.

Pure: imports the package's contract only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, TypeAlias

from . import CellEnded, CellStarted, CodeDelta, ProseDelta, StreamEvent

__all__ = [
    "CLOSE_TAG",
    "OPEN_TAG",
    "CellStream",
    "Grammar",
    "Reply",
    "ReplyProblem",
    "parse_reply",
    "render_cell",
]

Grammar: TypeAlias = Literal["tags", "fence"]

OPEN_TAG, CLOSE_TAG = "<lash-cell>", "</lash-cell>"

_BLANKS = " \t\r"
"""What may stand beside a tag on its line. Not `str.strip`'s set: that one holds the Unicode line separators."""

_MAX_TAG_LINE = 200
"""A longer line is no tag line: what is held back of a stream stays short."""

_LANGUAGES = frozenset({"python", "python3", "py", "ipython", "tool_code"})
"""Info strings that open a cell in the fence grammar (the last is what Gemini models write)."""


class ReplyProblem(StrEnum):
    """What is wrong with the form of a reply; each has its own words for the model (`prompt.py`)."""

    SEVERAL_CELLS = "several_cells"
    TEXT_AFTER_CELL = "text_after_cell"
    UNCLOSED_CELL = "unclosed_cell"
    MISPLACED_TAG = "misplaced_tag"
    EMPTY_CELL = "empty_cell"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply, taken apart.

    `code` is None when there is nothing to run. With SEVERAL_CELLS and TEXT_AFTER_CELL the first cell is to be run and
    the rest is dropped; with any other problem nothing is run.
    """

    prose: str
    code: str | None = None
    problem: ReplyProblem | None = None
    draft: str = ""
    """The text of a cell that could not be read as one."""


class _Kind(Enum):
    TEXT = 0
    OPEN = 1
    CLOSE = 2


class _TagLines:
    """The tag grammar's view of a line."""

    def may_be_tag(self, start: str, *, inside: bool) -> bool:
        """Whether a line that begins so could still turn out to be a tag line."""
        bare = start.lstrip(_BLANKS)
        return len(start) <= _MAX_TAG_LINE and any(
            tag.startswith(bare) or not bare.removeprefix(tag).strip(_BLANKS) for tag in (OPEN_TAG, CLOSE_TAG)
        )

    def read(self, line: str, *, inside: bool) -> _Kind:
        if len(line) > _MAX_TAG_LINE:
            return _Kind.TEXT
        bare = line.strip(_BLANKS)
        return _Kind.OPEN if bare == OPEN_TAG else _Kind.CLOSE if bare == CLOSE_TAG else _Kind.TEXT

    def is_near_miss(self, line: str) -> bool:
        """Whether a line of prose looks like a tag line with something else on it."""
        bare = line.strip(_BLANKS)
        return bare.startswith((OPEN_TAG, CLOSE_TAG)) or bare.endswith((OPEN_TAG, CLOSE_TAG))


class _FenceLines:
    """The fence grammar's view: fences of another language are prose and may hold lines that look like ours."""

    def __init__(self) -> None:
        self._ticks = 0
        """Length of the fence that is open: the cell's, or another block's in the prose."""

    def may_be_tag(self, start: str, *, inside: bool) -> bool:
        if len(start) > _MAX_TAG_LINE:
            return False
        bare = start.lstrip(_BLANKS)
        return bare[:3] == "```"[: len(bare)] and (not inside or not bare.strip("`" + _BLANKS))

    def read(self, line: str, *, inside: bool) -> _Kind:
        bare = line.strip(_BLANKS)
        info = bare.lstrip("`")
        ticks = len(bare) - len(info)
        if ticks < 3 or "`" in info or len(line) > _MAX_TAG_LINE:
            return _Kind.TEXT
        if self._ticks:
            if info or ticks < self._ticks:
                return _Kind.TEXT
            self._ticks = 0
            return _Kind.CLOSE if inside else _Kind.TEXT
        self._ticks = ticks
        return _Kind.OPEN if info.strip(_BLANKS).lower().strip("{}") in _LANGUAGES else _Kind.TEXT

    def is_near_miss(self, line: str) -> bool:
        bare = line.strip(_BLANKS)
        words = bare.lstrip("`").split()
        return bare.startswith("```") and len(words) > 1 and words[0].lower() in _LANGUAGES


class CellStream:
    """Reads a reply as it arrives: hides the cell from the prose, says when to stop the provider's stream.

    Feed it every text delta and show what it returns; when `stop` is true nothing that follows matters. `close` at the
    end of the stream gives what was held back; `reset` makes it new for a retried call.
    """

    def __init__(self, grammar: Grammar = "tags") -> None:
        self._grammar: Grammar = grammar
        self.reset()

    def reset(self) -> None:
        """Forget everything: the call is made anew."""
        self._lines: _TagLines | _FenceLines = _TagLines() if self._grammar == "tags" else _FenceLines()
        self._carriage = ""
        self._line = ""
        self._passing = False
        self._out: list[StreamEvent] = []
        self.started = False
        self.ended = False
        self.misplaced = False
        """A tag line stood where none can: a closing one in the prose, an opening one in the cell."""
        self.later_cells = 0
        self.later_text = False

    @property
    def stop(self) -> bool:
        """Whether the provider's stream can be stopped now: the cell is complete."""
        return self.ended

    def feed(self, text: str) -> tuple[StreamEvent, ...]:
        """What a further piece of the reply's text brings to light."""
        text = self._carriage + text
        self._carriage = ""
        if text.endswith("\r"):
            text, self._carriage = text[:-1], "\r"
        *whole, rest = text.replace("\r\n", "\n").split("\n")
        for piece in whole:
            self._take(piece, complete=True)
        if rest:
            self._take(rest, complete=False)
        return self._drain()

    def close(self) -> tuple[StreamEvent, ...]:
        """The end of the stream: what was held back, read as a last line without a line end."""
        if self._carriage:
            self._carriage = ""
            self._take("\r", complete=False)
        if self._line:
            line, self._line = self._line, ""
            self._read(line, "")
        return self._drain()

    def _drain(self) -> tuple[StreamEvent, ...]:
        out, self._out = self._out, []
        return tuple(out)

    def _take(self, piece: str, *, complete: bool) -> None:
        """A piece of one line; `complete` when its line end came with it."""
        if self._passing:
            self._show(piece + "\n" if complete else piece)
            self._passing = not complete
            return
        self._line += piece
        if complete:
            line, self._line = self._line, ""
            self._read(line, "\n")
        elif not self._lines.may_be_tag(self._line, inside=self.started and not self.ended):
            self._show(self._line)
            self._line, self._passing = "", True

    def _read(self, line: str, end: str) -> None:
        """A whole line that was held back, or came at once."""
        inside = self.started and not self.ended
        kind = self._lines.read(line, inside=inside)
        if self.ended:
            self.later_cells += kind is _Kind.OPEN
            self.later_text = self.later_text or bool(line.strip())
        elif kind is _Kind.OPEN and not inside:
            self.started = True
            self._out.append(CellStarted())
        elif kind is _Kind.CLOSE and inside:
            self.ended = True
            self._out.append(CellEnded())
        elif kind is _Kind.TEXT:
            self._show(line + end)
        else:
            self.misplaced = True
            if inside:
                self._show(line + end)

    def _show(self, text: str) -> None:
        if self.ended:
            self.later_text = self.later_text or bool(text.strip())
        elif text:
            self._out.append(CodeDelta(text) if self.started else ProseDelta(text))


def parse_reply(text: str, grammar: Grammar = "tags", *, truncated: bool = False) -> Reply:
    """Take a finished reply apart; `truncated` when the provider says that the output limit cut it off."""
    stream = CellStream(grammar)
    events = (*stream.feed(text), *stream.close())
    shown = "".join(event.text for event in events if isinstance(event, ProseDelta))
    written = "".join(event.text for event in events if isinstance(event, CodeDelta))
    prose = shown.strip()
    if stream.ended:
        code = _bare_code(written, grammar)
        if stream.misplaced and _has_tag_line(code, grammar):
            return Reply(prose=prose, problem=ReplyProblem.MISPLACED_TAG, draft=code)
        if not code.strip():
            return Reply(prose=prose, problem=ReplyProblem.EMPTY_CELL)
        several, later = ReplyProblem.SEVERAL_CELLS, ReplyProblem.TEXT_AFTER_CELL
        problem = several if stream.later_cells else later if stream.later_text else None
        return Reply(prose=prose, code=code, problem=problem)
    if truncated or stream.started:
        problem = ReplyProblem.TRUNCATED if truncated else ReplyProblem.UNCLOSED_CELL
        return Reply(prose=prose, problem=problem, draft=written.strip("\n"))
    start = _first_near_miss(shown, grammar)
    if stream.misplaced or start is not None:
        good, draft = shown[:start].strip(), "" if start is None else shown[start:].strip("\n")
        return Reply(prose=good, problem=ReplyProblem.MISPLACED_TAG, draft=draft)
    return Reply(prose=prose)


def render_cell(code: str, grammar: Grammar = "tags") -> str:
    """A cell exactly as a model must write it: the form in which past cells stand in the history."""
    if grammar == "tags":
        return f"{OPEN_TAG}\n{code}\n{CLOSE_TAG}"
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}python\n{code}\n{ticks}"


def _has_tag_line(code: str, grammar: Grammar) -> bool:
    return grammar == "tags" and any(line.strip(_BLANKS) == OPEN_TAG for line in code.split("\n"))


def _bare_code(code: str, grammar: Grammar) -> str:
    """The program without blank lines around it, and without a fence that a model put inside the tags by habit.

    A fence is not Python, so nothing that could run is lost.
    """
    lines = code.split("\n")
    _trim_blank_lines(lines)
    if grammar == "tags" and len(lines) >= 2 and lines[0].lstrip().startswith("```") and lines[-1].strip() == "```":
        lines = lines[1:-1]
        _trim_blank_lines(lines)
    return "\n".join(lines)


def _trim_blank_lines(lines: list[str]) -> None:
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)


def _first_near_miss(prose: str, grammar: Grammar) -> int | None:
    """Where the first line of the prose begins that looks like a misplaced tag line; None when there is none."""
    lines = _TagLines() if grammar == "tags" else _FenceLines()
    start = 0
    for line in prose.split("\n"):
        if lines.is_near_miss(line):
            return start
        start += len(line) + 1
    return None
