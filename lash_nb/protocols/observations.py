"""What a model is shown of a cell's outputs: one text an output, cut in the middle to a budget, images set apart.

Decided here: the budgets (50 KiB and 2,000 lines a value, a share of 100 KiB for all of a cell's), which representation
of a rich output is shown, and the words that say what was cut: cut never means lost, and the text says so, because
models otherwise take cut output for lost state. The host calls `exec_response` to turn a kernel's `CellResult` into the
record that the turn machine takes. Pure: bytes of images go to the attachment store that the caller hands in.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import LashError
from ..machine.attachments import AttachmentRef, AttachmentStore
from ..machine.execution import (
    CellOutput,
    CellResult,
    DisplayOutput,
    ErrorOutput,
    ExecResponse,
    ResultOutput,
    StreamOutput,
    TextProjectionMetadata,
)
from ..machine.tool_calls import ToolCallRecord
from ..machine.wire import Json, dumps
from .failures import failure_text

__all__ = [
    "ObservationBudget",
    "Observed",
    "cut_text",
    "exec_response",
    "finish_marker",
    "observe",
]

_FRONT_SHARE = 0.6
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_TEXTS = ("text/plain", "text/markdown", "text/latex", "application/json", "application/javascript", "text/html")
_STILL_LIVE = (
    "Nothing is lost: every variable is still live in the kernel. To see more, print a smaller part of it "
    "(a slice, head(), some columns)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationBudget:
    """How much of a cell's outputs a model is shown."""

    max_chars: int = 50 * 1024
    """Per output."""
    max_lines: int = 2_000
    """Per output."""
    max_total_chars: int = 100 * 1024
    """For all outputs of a cell; shared so that short outputs stay whole."""
    max_outputs: int = 64
    max_images: int = 8
    max_image_bytes: int = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The outputs of a cell as a model is shown them; `truncation` has one entry for each text."""

    texts: tuple[str, ...] = ()
    truncation: tuple[TextProjectionMetadata, ...] = ()
    images: tuple[AttachmentRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """One output's text before it is fitted: whole in `head`, or already cut on its way here."""

    head: str
    tail: str = ""
    omitted_chars: int = 0
    omitted_lines: int = 0
    label: str = ""
    handle: str = ""
    """With which code of a cell can read the whole text back."""

    @property
    def chars(self) -> int:
        return len(self.head) + self.omitted_chars + len(self.tail)

    @property
    def lines(self) -> int:
        return self.head.count("\n") + self.omitted_lines + self.tail.count("\n") + 1


def finish_marker(value: Json) -> Json:
    """`finish(value)` as `ExecResponse.terminal_finish` has it: wrapped, so that `finish(None)` is not "no finish"."""
    return {"value": value}


def exec_response(
    result: CellResult,
    *,
    first: str = "",
    ran: str | None = None,
    attachments: AttachmentStore | None = None,
    tool_calls: Sequence[ToolCallRecord] = (),
    budget: ObservationBudget | None = None,
    vision: bool = True,
) -> ExecResponse:
    """The record that the turn machine takes of a cell that ended, however it ended.

    `first` stands before its outputs; `ran` is the code that ran, where that is not the cell's own. Every outcome
    becomes an `error` text with its label, never an exception: what a turn must not survive, the host decides before it
    calls this.
    """
    outputs = (StreamOutput(name="stdout", head=first), *result.outputs) if first else result.outputs
    seen = observe(outputs, attachments=attachments, budget=budget, vision=vision)
    return ExecResponse(
        observations=seen.texts,
        observation_truncation=seen.truncation,
        tool_calls=tuple(tool_calls),
        printed_images=seen.images,
        error=failure_text(result, tool_calls=tool_calls),
        duration_ms=max(0, round(result.duration_s * 1000)),
        terminal_finish=None if result.finish is None else finish_marker(result.finish.value),
        ran=ran,
    )


def observe(
    outputs: Sequence[CellOutput],
    *,
    attachments: AttachmentStore | None = None,
    budget: ObservationBudget | None = None,
    vision: bool = True,
) -> Observed:
    """The observations that stand for a cell's outputs, in their order; errors are not among them (`failure_text`).

    Images are put into `attachments` and named in the text; without a store, or with `vision` off, they are only
    named. Outputs that show nothing are left out.
    """
    budget = budget or ObservationBudget()
    images = _Images(attachments if vision else None, budget, "this model cannot see images" if not vision else "")
    texts = [text for output in outputs if (text := _text_of(output, images)) is not None]
    middle = len(texts) - budget.max_outputs
    if middle > 0:
        front = budget.max_outputs // 2
        left_out = texts[front : front + middle]
        chars = sum(text.chars for text in left_out)
        note = _Text(head=f"[… {middle:,} outputs ({chars:,} characters) left out here. {_STILL_LIVE}]")
        texts = [*texts[:front], note, *texts[front + middle :]]
    share = _fair_share([min(text.chars, budget.max_chars) for text in texts], budget.max_total_chars)
    fitted = [_fit(text, replace(budget, max_chars=min(budget.max_chars, share))) for text in texts]
    return Observed(
        texts=tuple(text for text, _ in fitted),
        truncation=tuple(metadata for _, metadata in fitted),
        images=tuple(images.stored),
    )


def cut_text(text: str, *, budget: ObservationBudget | None = None) -> tuple[str, TextProjectionMetadata]:
    """One text within the budget: whole, or its head and tail with a line between them that counts what was cut."""
    return _fit(_Text(head=text), budget or ObservationBudget())


def _fit(text: _Text, budget: ObservationBudget) -> tuple[str, TextProjectionMetadata]:
    max_chars, max_lines = budget.max_chars, budget.max_lines
    if text.omitted_chars == 0 and text.chars <= max_chars and text.lines <= max_lines:
        shown, kept_chars, kept_lines = text.head, text.chars, text.lines
    else:
        front = _front(text.head, int(max_chars * _FRONT_SHARE), max(1, int(max_lines * _FRONT_SHARE)))
        # A line that is cut through counts as shown, on each side of the cut.
        front_lines = front.count("\n") + (not front.endswith("\n"))
        rest = text.tail if text.omitted_chars else text.head
        back = _back(rest, max_chars - len(front), max(1, max_lines - front_lines))
        kept_chars = len(front) + len(back)
        kept_lines = min(text.lines, front_lines + back.count("\n") + 1)
        cut_chars, cut_lines = text.chars - kept_chars, text.lines - kept_lines
        count = f"{cut_chars:,} of {text.chars:,} characters ({cut_lines:,} of {text.lines:,} lines)"
        where = f"The whole text is kept: read_output({text.handle!r}) gives it." if text.handle else _STILL_LIVE
        shown = f"{front.rstrip(chr(10))}\n[… {count} cut here. {where}]\n{back.lstrip(chr(10))}"
    metadata = TextProjectionMetadata(
        truncated=kept_chars < text.chars,
        original_chars=text.chars,
        projected_chars=kept_chars,
        original_lines=text.lines,
        projected_lines=kept_lines,
        limit=max_chars,
        limit_mode="chars",
        max_lines=max_lines,
    )
    return text.label + shown, metadata


def _front(text: str, max_chars: int, max_lines: int) -> str:
    """The first characters and lines; ends with a whole line when one ends near the limit."""
    end = _nth_newline(text, max_lines)
    front = text[: min(end, max_chars)]
    line_end = front.rfind("\n") + 1
    return front[:line_end] if line_end > 0.8 * len(front) else front


def _back(text: str, max_chars: int, max_lines: int) -> str:
    """The last characters and lines; begins with a whole line when one begins near the limit."""
    if max_chars <= 0:
        return ""
    back = text[-max_chars:]
    position = len(back)
    for _ in range(max_lines):
        position = back.rfind("\n", 0, position)
        if position < 0:
            break
    else:
        back = back[position + 1 :]
    line_start = back.find("\n") + 1
    return back[line_start:] if len(back) < len(text) and 0 < line_start < 0.2 * len(back) else back


def _nth_newline(text: str, count: int) -> int:
    """Where the `count`-th line ends; the length of the text when it has fewer."""
    position = -1
    for _ in range(count):
        position = text.find("\n", position + 1)
        if position < 0:
            return len(text)
    return position + 1


def _fair_share(sizes: Sequence[int], total: int) -> int:
    """The largest limit per value that keeps the sum within `total`: short values stay whole, long ones share."""
    left, share = total, total
    for index, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - index)
        if size > share:
            return share
        left -= size
    return max(share, *sizes, 0) if sizes else total


# -- one output --------------------------------------------------------------------------------------------------------


def _text_of(output: CellOutput, images: _Images) -> _Text | None:
    """What is shown of one output; None for nothing."""
    match output:
        case StreamOutput():
            return _stream_text(output)
        case DisplayOutput() | ResultOutput():
            text = _bundle_text(output.data, images)
            return _Text(head=text) if text.strip() else None
        case ErrorOutput():
            return None


def _stream_text(output: StreamOutput) -> _Text | None:
    label = "[stderr]\n" if output.name == "stderr" else ""
    if output.omitted_chars:
        return _Text(
            head=_plain(output.head),
            tail=_plain(output.tail).rstrip("\n"),
            omitted_chars=output.omitted_chars,
            omitted_lines=output.omitted_lines,
            label=label,
            handle=output.spilled.id if output.spilled is not None else "",
        )
    text = _plain(output.head + output.tail).rstrip("\n")
    return _Text(head=text, label=label) if text.strip() else None


def _plain(text: str) -> str:
    """Text as a terminal leaves it: no colours, and of a line that was rewritten (progress bars) its last state."""
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _bundle_text(data: Mapping[str, Json], images: _Images) -> str:
    """The most telling text of a MIME bundle; an image is named, with the text beside it if that is one short line."""
    image = next((mime for mime in _IMAGES if mime in data), None)
    plain = _plain(_joined(data["text/plain"])).strip("\n") if "text/plain" in data else ""
    if image is not None:
        named = images.name(image, _joined(data[image]))
        return f"[{named}: {plain}]" if plain and "\n" not in plain and len(plain) <= 200 else f"[{named}]"
    for mime in _TEXTS:
        if mime in data and (text := _plain(_joined(data[mime])).strip("\n")):
            return text
    sizes = [f"{mime}, {_size(len(_joined(value)))}" for mime, value in sorted(data.items()) if mime != "text/plain"]
    return f"[{'; '.join(sizes)}: not shown]" if sizes else ""


def _joined(value: Json) -> str:
    """A MIME bundle's value as text: a string, nbformat's list of lines, or JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return "".join(str(line) for line in value)
    return dumps(value)


def _size(count: int) -> str:
    return f"{count} bytes" if count < 1024 else f"{round(count / 1024)} KB"


class _Images:
    """The images of one cell on their way into the store, counted against the budget."""

    def __init__(self, store: AttachmentStore | None, budget: ObservationBudget, reason: str) -> None:
        self._put: Callable[[bytes, str], AttachmentRef] | None = None
        if store is not None:
            self._put = lambda data, media_type: store.put(data, media_type=media_type)
        self._budget = budget
        self._reason = reason
        self.stored: list[AttachmentRef] = []

    def name(self, media_type: str, encoded: str) -> str:
        """Store an image if it may be attached; `image/png, 48 KB, attached`, or why it is not."""
        try:
            data = binascii.a2b_base64(encoded)
        except binascii.Error:
            return f"{media_type}, not attached (its data cannot be read)"
        named = f"{media_type}, {_size(len(data))}"
        if self._put is None:
            return f"{named}, not attached ({self._reason})" if self._reason else f"{named}, not attached"
        if len(data) > self._budget.max_image_bytes:
            return f"{named}, not attached (larger than {_size(self._budget.max_image_bytes)})"
        if len(self.stored) >= self._budget.max_images:
            return f"{named}, not attached (only the first {self._budget.max_images} images of a cell are)"
        try:
            self.stored.append(self._put(data, media_type))
        except LashError as error:  # a full disk costs the picture, not the turn
            return f"{named}, not attached ({error})"
        return f"{named}, attached"
