"""IOPub messages → ordered outputs: a fold that never keeps more than its limits.

Rules of this file: no clock, no I/O of its own (what is cut goes to the store it is handed), no third party. Nothing is
dropped in silence: each cut is counted exactly and said in the output, and kept whole in the store when there is one.

- Adjacent chunks of one stream are joined as they arrive, with nothing between them. `\\r` and `\\b` act on the open
  line as frontends do, reaching back at most `LINE_REACH` characters.
- A stream keeps its first and last characters; so does `text/plain`. Other representations are kept whole or
  not at all.
- Of very many outputs the first and the last are kept, one display between them says how many are missing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import LashError
from ..machine.execution import CellOutput, DisplayOutput, ErrorOutput, ResultOutput, StreamOutput
from ..machine.messages import AttachmentRef, AttachmentStore, AttachmentWriter
from .bundles import NOTE_KEY, BundleLimits, Bundler, clip
from .text import HeadTail, strip_ansi

__all__ = ["NOTE_KEY", "OutputFold", "OutputLimits", "fold", "to_nbformat"]

Content = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """How much of one cell's outputs is kept inline; the rest is counted, and stored when there is a store."""

    stream_head_chars: int = 32 * 1024
    stream_tail_chars: int = 32 * 1024
    head_outputs: int = 250
    tail_outputs: int = 250
    bundles: BundleLimits = field(default_factory=BundleLimits)


class _Spill:
    """Text on its way to the store; a store that fails costs the copy, never the cell."""

    def __init__(self, store: AttachmentStore, *, media_type: str, label: str) -> None:
        self._writer: AttachmentWriter | None = None
        try:
            self._writer = store.writer(media_type=media_type, label=label)
        except (LashError, OSError):
            self._writer = None

    def write(self, text: str) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(text.encode("utf-8", "backslashreplace"))
        except (LashError, OSError):
            self.discard()

    def close(self) -> AttachmentRef | None:
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        try:
            return writer.close()
        except (LashError, OSError):
            return None

    def discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.discard()
            except (LashError, OSError):
                return


class _Stream:
    """One open stream output."""

    def __init__(self, name: str, limits: OutputLimits, store: AttachmentStore | None) -> None:
        self.name = name
        self._store = store
        self._spill: _Spill | None = None
        self._ref: AttachmentRef | None = None
        self._text = HeadTail(limits.stream_head_chars, limits.stream_tail_chars, on_overflow=self._overflow)

    def _overflow(self, text: str) -> None:
        if self._store is None:
            return
        if self._spill is None:
            self._spill = _Spill(self._store, media_type="text/plain", label=self.name)
        self._spill.write(text)

    def write(self, text: str) -> None:
        self._text.write(text)

    def freeze(self) -> None:
        self._text.close()
        if self._spill is not None:
            self._ref, self._spill = self._spill.close(), None

    def discard(self) -> None:
        if self._spill is not None:
            self._spill.discard()
            self._spill = None

    def view(self) -> StreamOutput:
        head, tail, chars, lines = self._text.view()
        return StreamOutput(
            name="stderr" if self.name == "stderr" else "stdout",
            head=head,
            tail=tail,
            omitted_chars=chars,
            omitted_lines=lines,
            spilled=self._ref,
        )


class _Entry:
    """One output in its place: an open stream, or a finished value that `update_display_data` may replace."""

    __slots__ = ("built", "inline_bytes", "stream")

    def __init__(self, *, stream: _Stream | None = None, built: CellOutput | None = None, inline_bytes: int = 0):
        self.stream = stream
        self.built = built
        self.inline_bytes = inline_bytes

    def view(self) -> CellOutput:
        if self.built is None:
            assert self.stream is not None
            return self.stream.view()
        return self.built

    def freeze(self) -> None:
        if self.stream is not None:
            self.stream.freeze()
            self.built, self.stream = self.stream.view(), None


class OutputFold:
    """The outputs of one cell, built message by message. Not thread-safe: one owner at a time."""

    def __init__(self, *, limits: OutputLimits | None = None, store: AttachmentStore | None = None) -> None:
        self._limits = limits or OutputLimits()
        self._store = store
        self._bundler = Bundler(self._limits.bundles, store)
        self._head: list[_Entry] = []
        self._tail: deque[_Entry] = deque()
        self._displays: dict[str, list[_Entry]] = {}
        self._inline_bytes = 0
        self._omitted = 0
        self._omitted_spill: _Spill | None = None
        self._omitted_ref: AttachmentRef | None = None
        self._clear_pending = False

    def apply(self, msg_type: str, content: Content) -> bool:
        """Take one IOPub message; True when the outputs changed (False too for types that are no output)."""
        match msg_type:
            case "stream":
                self._clear_if_pending()
                return self._write(str(content.get("name", "stdout")), _text(content.get("text")))
            case "display_data":
                self._clear_if_pending()
                self._display(content)
            case "update_display_data":
                self._update(content)
            case "execute_result":
                self._clear_if_pending()
                self._result(content)
            case "error":
                self._clear_if_pending()
                self._append(_Entry(built=self._error(content)))
            case "clear_output":
                if content.get("wait"):
                    self._clear_pending = True
                    return False
                self._clear()
            case _:
                return False
        return True

    def outputs(self) -> tuple[CellOutput, ...]:
        """What there is so far, in order."""
        kept = [entry.view() for entry in self._head]
        if self._omitted:
            kept.append(self._omission())
        kept.extend(entry.view() for entry in self._tail)
        return tuple(kept)

    def close(self) -> tuple[CellOutput, ...]:
        """The final outputs; what was spilled is in the store when this returns."""
        for entry in (*self._head, *self._tail):
            entry.freeze()
        if self._omitted_spill is not None:
            self._omitted_ref, self._omitted_spill = self._omitted_spill.close(), None
        return self.outputs()

    # -- one kind each ---------------------------------------------------------------------------------------------

    def _write(self, name: str, text: str) -> bool:
        if not text:
            return False
        last = self._tail[-1] if self._tail else self._head[-1] if self._head else None
        if last is None or last.stream is None or last.stream.name != name:
            last = _Entry(stream=_Stream(name, self._limits, self._store))
            self._append(last)
        assert last.stream is not None
        last.stream.write(text)
        return True

    def _display(self, content: Content) -> None:
        display_id = _display_id(content)
        entry = _Entry()
        self._fill(entry, content, display_id)
        self._append(entry)
        if display_id is not None:
            self._displays.setdefault(display_id, []).append(entry)

    def _update(self, content: Content) -> None:
        """A display of this cell changes in its place; one of an earlier cell cannot, so it is shown here."""
        display_id = _display_id(content)
        entries = self._displays.get(display_id, []) if display_id is not None else []
        if not entries:
            self._clear_if_pending()
            self._display(content)
        for entry in entries:
            self._inline_bytes -= entry.inline_bytes
            self._fill(entry, content, display_id)

    def _fill(self, entry: _Entry, content: Content, display_id: str | None) -> None:
        data, metadata, size = self._bundler.bundle(content, inline_so_far=self._inline_bytes)
        if isinstance(entry.built, ResultOutput):
            entry.built = replace(entry.built, data=data, metadata=metadata)
        else:
            entry.built = DisplayOutput(data=data, metadata=metadata, display_id=display_id)
        entry.inline_bytes = size
        self._inline_bytes += size

    def _result(self, content: Content) -> None:
        data, metadata, size = self._bundler.bundle(content, inline_so_far=self._inline_bytes)
        count = content.get("execution_count")
        display_id = _display_id(content)
        built = ResultOutput(
            data=data,
            metadata=metadata,
            execution_count=count if isinstance(count, int) else None,
            display_id=display_id,
        )
        entry = _Entry(built=built, inline_bytes=size)
        self._inline_bytes += size
        self._append(entry)
        if display_id is not None:
            self._displays.setdefault(display_id, []).append(entry)

    def _error(self, content: Content) -> ErrorOutput:
        limits = self._limits.bundles
        lines = content.get("traceback")
        whole = "\n".join(_text(line) for line in lines) if isinstance(lines, list | tuple) else ""
        evalue = clip(strip_ansi(_text(content.get("evalue"))), limits.text_head_chars, limits.text_tail_chars)
        text = clip(strip_ansi(whole), limits.text_head_chars, limits.text_tail_chars)
        return ErrorOutput(
            ename=_text(content.get("ename"))[:1000],
            evalue=evalue,
            traceback=tuple(text.split("\n")) if text else (),
        )

    # -- keeping and forgetting ------------------------------------------------------------------------------------

    def _append(self, entry: _Entry) -> None:
        previous = self._tail[-1] if self._tail else self._head[-1] if self._head else None
        if previous is not None:
            previous.freeze()
        if len(self._head) < self._limits.head_outputs:
            self._head.append(entry)
            return
        self._tail.append(entry)
        if len(self._tail) > max(1, self._limits.tail_outputs):
            self._omit(self._tail.popleft())

    def _omit(self, entry: _Entry) -> None:
        entry.freeze()
        self._omitted += 1
        self._inline_bytes -= entry.inline_bytes
        for display_id, entries in list(self._displays.items()):
            if entry in entries:
                entries.remove(entry)
            if not entries:
                del self._displays[display_id]
        if self._store is None:
            return
        if self._omitted_spill is None:
            self._omitted_spill = _Spill(self._store, media_type="application/x-ndjson", label="outputs left out")
        self._omitted_spill.write(json.dumps(to_nbformat((entry.view(),))[0], ensure_ascii=False) + "\n")

    def _omission(self) -> DisplayOutput:
        where = f"; they are kept in {self._omitted_ref.id}" if self._omitted_ref else ""
        text = f"[{self._omitted:,} outputs left out here{where}]"
        return DisplayOutput(data={"text/plain": text}, metadata={NOTE_KEY: {"omitted_outputs": self._omitted}})

    def _clear_if_pending(self) -> None:
        if self._clear_pending:
            self._clear()

    def _clear(self) -> None:
        for entry in (*self._head, *self._tail):
            if entry.stream is not None:
                entry.stream.discard()
        if self._omitted_spill is not None:
            self._omitted_spill.discard()
        self._head.clear()
        self._tail.clear()
        self._displays.clear()
        self._inline_bytes = self._omitted = 0
        self._omitted_spill = self._omitted_ref = None
        self._clear_pending = False


def fold(
    messages: Iterable[tuple[str, Content]],
    *,
    limits: OutputLimits | None = None,
    store: AttachmentStore | None = None,
) -> tuple[CellOutput, ...]:
    """The outputs of a whole recorded list of `(msg_type, content)`."""
    state = OutputFold(limits=limits, store=store)
    for msg_type, content in messages:
        state.apply(msg_type, content)
    return state.close()


def to_nbformat(outputs: Iterable[CellOutput]) -> list[dict[str, object]]:
    """The outputs as a code cell's `outputs` of nbformat 4; what was cut is said inside the text."""
    return [_nbformat(output) for output in outputs]


def _nbformat(output: CellOutput) -> dict[str, object]:
    match output:
        case StreamOutput():
            text = output.head
            if output.omitted_chars:
                kept = f"; the whole text is {output.spilled.id}" if output.spilled else ""
                text += f"\n[… {output.omitted_chars:,} characters ({output.omitted_lines:,} lines) left out{kept} …]\n"
                text += output.tail
            return {"output_type": "stream", "name": output.name, "text": text}
        case DisplayOutput():
            return {"output_type": "display_data", "data": dict(output.data), "metadata": dict(output.metadata)}
        case ResultOutput():
            return {
                "output_type": "execute_result",
                "data": dict(output.data),
                "metadata": dict(output.metadata),
                "execution_count": output.execution_count,
            }
        case ErrorOutput():
            return {
                "output_type": "error",
                "ename": output.ename,
                "evalue": output.evalue,
                "traceback": list(output.traceback),
            }


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(str(item) for item in value)
    return "" if value is None else str(value)


def _display_id(content: Content) -> str | None:
    transient = content.get("transient")
    found = transient.get("display_id") if isinstance(transient, Mapping) else None
    return str(found) if found else None
