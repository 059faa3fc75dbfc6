"""The outputs of one cell, folded message by message and never beyond their limits. Runs in the kernel and in its host.

Decided here: what is kept of a cell's outputs, on every axis. In a Python kernel this is where they are capped at the
source; for kernels without it the host does the same on arrival. Nothing is dropped in silence: each cut is counted
exactly, and goes whole to `spill` when there is one.

- Adjacent chunks of one stream are joined as they come, with nothing between them. `\\r` and `\\b` act on the open line
  as frontends do, reaching back at most `LINE_REACH` characters.
- A stream keeps its first and last characters; so do `text/plain` and tracebacks. Other representations are kept whole
  or moved out whole. When a cell's streams have passed their limit together, later ones are kept shorter.
- Of very many outputs the first and the last are kept.

An entry is JSON, so that it can travel; `entries` lists its forms.
Pure but for `spill`; standard library only.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from .entries import Entry, Token, as_bytes, cut_line, nbformat_output
from .text import HeadTail, clip, strip_ansi

__all__ = ["DEFAULTS", "Entry", "Record", "Spill", "SpillFile", "Token"]

DEFAULTS = {
    "stream_head_chars": 32 * 1024,
    "stream_tail_chars": 32 * 1024,
    "cell_stream_chars": 1024 * 1024,
    "head_outputs": 250,
    "tail_outputs": 250,
    "text_head_chars": 32 * 1024,
    "text_tail_chars": 32 * 1024,
    "value_bytes": 4 * 1024 * 1024,
    "cell_bytes": 16 * 1024 * 1024,
}
"""Limits of one cell: characters of a stream's first and last part, of all streams together; outputs; characters of
text/plain and tracebacks; bytes of one representation, and of all."""
MAX_METADATA = 64 * 1024
_LATER = 16
"""How much shorter streams are kept once the cell's streams have passed their limit."""


class SpillFile(Protocol):
    """Bytes on their way out. Its methods do not raise: what cannot be kept is given up, and `close` says None."""

    def write(self, data: bytes) -> None: ...
    def peek(self) -> Token | None:
        """What `close` would say by and by, marked `open`; None where that says nothing to anyone."""
        ...

    def close(self) -> Token | None: ...
    def discard(self) -> None: ...


class Spill(Protocol):
    """Where bytes go that are not kept inline; None when nothing more fits."""

    def open(self, media_type: str, label: str) -> SpillFile | None: ...
    def forget(self, token: Token) -> None:
        """The output that it belonged to was replaced or cleared."""
        ...


class _Stream:
    """One open stream output."""

    def __init__(self, name: str, limits: Mapping[str, int], share: int, spill: Spill | None) -> None:
        self.name = name
        self._spill = spill
        self._file: SpillFile | None = None
        self.cut = False
        self.text = HeadTail(
            limits["stream_head_chars"] // share, limits["stream_tail_chars"] // share, on_overflow=self._overflow
        )

    def _overflow(self, text: str) -> None:
        self.cut = True
        if self._spill is None:
            return
        if self._file is None:
            self._file = self._spill.open("text/plain", self.name)
            if self._file is None:
                self._spill = None
                return
        self._file.write(text.encode("utf-8", "backslashreplace"))

    def entry(self, kept: Token | None = None) -> Entry:
        head, tail, chars, lines = self.text.view()
        if self._file is not None:
            kept = self._file.peek()
        return {
            "t": "stream", "name": self.name, "head": head, "tail": tail, "chars": chars, "lines": lines, "kept": kept
        }  # fmt: skip

    def freeze(self) -> Entry:
        self.text.close()
        file, self._file = self._file, None
        return self.entry(file.close() if file is not None else None)

    def discard(self) -> None:
        if self._file is not None:
            self._file.discard()
            self._file = None


class _Slot:
    """One output in its place: an open stream, or an entry that `update_display_data` may replace."""

    __slots__ = ("entry", "inline_bytes", "stream")

    def __init__(self, *, stream: _Stream | None = None, entry: Entry | None = None, inline_bytes: int = 0) -> None:
        self.stream = stream
        self.entry: Entry = entry or {}
        self.inline_bytes = inline_bytes

    def view(self) -> Entry:
        return self.stream.entry() if self.stream is not None else self.entry

    def freeze(self) -> None:
        if self.stream is not None:
            self.entry, self.stream = self.stream.freeze(), None


class Record:
    """The outputs of one cell. Not thread-safe: its owner has the lock."""

    def __init__(self, limits: Mapping[str, int] | None = None, spill: Spill | None = None) -> None:
        self._limits = {**DEFAULTS, **(limits or {})}
        self._spill = spill
        self._base: list[Entry] = []
        self._head: list[_Slot] = []
        self._tail: deque[_Slot] = deque()
        self._displays: dict[str, list[_Slot]] = {}
        self._inline_bytes = self._stream_chars = self._omitted = 0
        self._omitted_file: SpillFile | None = None
        self._omitted_kept: Token | None = None
        self._clear_pending = False
        self._cut = False

    @property
    def cut(self) -> bool:
        """Whether anything was left out or moved out so far."""
        last = self._last()
        return self._cut or (last is not None and last.stream is not None and last.stream.cut)

    @property
    def weight(self) -> int:
        """About how many bytes the entries take."""
        open_stream = self._limits["stream_head_chars"] + self._limits["stream_tail_chars"]
        return self._inline_bytes + self._stream_chars + open_stream + 500 * (len(self._head) + len(self._tail))

    def apply(self, msg_type: str, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> bool:
        """Take one IOPub message; True when the outputs changed (False too for types that are no output)."""
        match msg_type:
            case "stream":
                self._clear_if_pending()
                return self._write(str(content.get("name", "stdout")), _text(content.get("text")))
            case "display_data":
                self._clear_if_pending()
                self._show("display", content, buffers)
            case "update_display_data":
                self._update(content, buffers)
            case "execute_result":
                self._clear_if_pending()
                self._show("result", content, buffers)
            case "error":
                self._clear_if_pending()
                self._append(_Slot(entry=self._error(content)))
            case "clear_output":
                if content.get("wait"):
                    self._clear_pending = True
                    return False
                self._clear()
            case _:
                return False
        return True

    def load(self, entries: Iterable[Entry]) -> None:
        """Take over what another record held: these entries are the outputs, what is applied from now on follows."""
        self._clear()
        self._base = list(entries)

    def entries(self) -> list[Entry]:
        """What there is so far, in order. Each entry has `t`:

        stream: name, head, tail, chars and lines (left out between them), kept (a token or None).
        display, result: data, metadata, id (display id), count (execution count), kept ({mime: token}), left ({mime:
            bytes}: over the limit, and no place for it), buffers ([token], [] as a rule).
        error: ename, evalue, head, tail, chars, lines, kept. omitted: n, kept.
        """
        found = [*self._base, *(slot.view() for slot in self._head)]
        if self._omitted:
            found.append({"t": "omitted", "n": self._omitted, "kept": self._omitted_kept})
        found.extend(slot.view() for slot in self._tail)
        return found

    def close(self) -> list[Entry]:
        """The final entries; what was spilled is complete when this returns."""
        for slot in (*self._head, *self._tail):
            slot.freeze()
        if self._omitted_file is not None:
            self._omitted_kept, self._omitted_file = self._omitted_file.close(), None
        return self.entries()

    # -- one kind each -------------------------------------------------------------------------------------------------

    def _last(self) -> _Slot | None:
        return self._tail[-1] if self._tail else self._head[-1] if self._head else None

    def _write(self, name: str, text: str) -> bool:
        if not text:
            return False
        last = self._last()
        if last is None or last.stream is None or last.stream.name != name:
            share = _LATER if self._stream_chars > self._limits["cell_stream_chars"] else 1
            last = _Slot(stream=_Stream(name, self._limits, share, self._spill))
            self._append(last)
        assert last.stream is not None
        last.stream.text.write(text)
        return True

    def _show(self, kind: str, content: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        slot = _Slot()
        self._fill(slot, kind, content, buffers)
        self._append(slot)
        display_id = slot.entry["id"]
        if display_id is not None:
            self._displays.setdefault(display_id, []).append(slot)

    def _update(self, content: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        """A display of this cell changes in its place; one of an earlier cell cannot, so it is shown here."""
        slots = self._displays.get(_display_id(content) or "", [])
        if not slots:
            self._clear_if_pending()
            self._show("display", content, buffers)
        for slot in slots:
            self._inline_bytes -= slot.inline_bytes
            self._forget(slot.entry)
            self._fill(slot, slot.entry["t"], content, buffers)

    def _fill(self, slot: _Slot, kind: str, content: Mapping[str, Any], buffers: Sequence[bytes]) -> None:
        raw, metadata, count = content.get("data"), content.get("metadata"), content.get("execution_count")
        entry: Entry = {
            "t": kind,
            "data": {},
            "metadata": self._bounded(metadata),
            "id": _display_id(content),
            "count": count if isinstance(count, int) else slot.entry.get("count"),
            "kept": {},
            "left": {},
            "buffers": [],
        }
        used = 0
        for mime, value in raw.items() if isinstance(raw, Mapping) else ():
            used += self._keep(entry, str(mime), value, used)
        for buffer in buffers:
            self._cut = True
            token = self._spilled(bytes(buffer), "application/octet-stream", "buffer")
            entry["buffers"].append(token or {"left": len(buffer)})
        slot.entry, slot.inline_bytes = entry, used
        self._inline_bytes += used

    def _bounded(self, metadata: Any) -> dict[str, Any]:
        """Metadata are small, or they are not metadata."""
        if not isinstance(metadata, Mapping) or not metadata:
            return {}
        size = len(json.dumps(metadata, default=str))
        if size <= MAX_METADATA:
            return dict(metadata)
        self._cut = True
        return {"lash_nb": {"omitted_metadata": size}}

    def _keep(self, entry: Entry, mime: str, value: Any, used: int) -> int:
        """One representation, inline or moved out; the bytes kept inline."""
        limits = self._limits
        size = len(value) if isinstance(value, str) else len(json.dumps(value, default=str))
        kept = 0
        if mime == "text/plain" and isinstance(value, str):
            head, tail, chars, lines = clip(value, limits["text_head_chars"], limits["text_tail_chars"])
            entry["data"][mime] = head + (cut_line(chars, lines) + tail if chars else "")
            kept = len(entry["data"][mime])
            if not chars:
                return kept
        elif size <= limits["value_bytes"] and self._inline_bytes + used + size <= limits["cell_bytes"]:
            entry["data"][mime] = value
            return size
        self._cut = True
        token = self._spilled(as_bytes(mime, value), mime, "")
        if token is None:
            entry["left"][mime] = size
        else:
            entry["kept"][mime] = token
        return kept

    def _spilled(self, data: bytes, media_type: str, label: str) -> Token | None:
        file = self._spill.open(media_type, label) if self._spill is not None else None
        if file is None:
            return None
        file.write(data)
        return file.close()

    def _error(self, content: Mapping[str, Any]) -> Entry:
        limits = (self._limits["text_head_chars"], self._limits["text_tail_chars"])
        lines = content.get("traceback")
        whole = strip_ansi("\n".join(map(_text, lines))) if isinstance(lines, list | tuple) else ""
        said, end, cut, newlines = clip(strip_ansi(_text(content.get("evalue"))), *limits)
        head, tail, chars, count = clip(whole, *limits)
        kept = None
        if chars or cut:
            self._cut = True
            kept = self._spilled(whole.encode("utf-8", "backslashreplace"), "text/plain", "traceback")
        return {
            "t": "error",
            "ename": _text(content.get("ename"))[:1000],
            "evalue": said + (cut_line(cut, newlines) + end if cut else ""),
            "head": head, "tail": tail, "chars": chars, "lines": count, "kept": kept,
        }  # fmt: skip

    # -- keeping and forgetting ----------------------------------------------------------------------------------------

    def _append(self, slot: _Slot) -> None:
        previous = self._last()
        if previous is not None and previous.stream is not None:
            previous.freeze()
            self._cut = self._cut or bool(previous.entry["chars"])
            self._stream_chars += len(previous.entry["head"]) + len(previous.entry["tail"])
        if len(self._base) + len(self._head) < self._limits["head_outputs"]:
            self._head.append(slot)
            return
        self._tail.append(slot)
        if len(self._tail) > max(1, self._limits["tail_outputs"]):
            self._omit(self._tail.popleft())

    def _omit(self, slot: _Slot) -> None:
        self._omitted += 1
        self._cut = True
        self._inline_bytes -= slot.inline_bytes
        display_id = slot.entry.get("id")
        if display_id is not None and slot in self._displays.get(display_id, ()):
            self._displays[display_id].remove(slot)
            if not self._displays[display_id]:
                del self._displays[display_id]
        if self._spill is None:
            return
        if self._omitted_file is None:
            self._omitted_file = self._spill.open("application/x-ndjson", "outputs left out")
        if self._omitted_file is not None:
            line = json.dumps(nbformat_output(slot.entry), ensure_ascii=False, default=str) + "\n"
            self._omitted_file.write(line.encode("utf-8", "backslashreplace"))

    def _clear_if_pending(self) -> None:
        if self._clear_pending:
            self._clear()

    def _forget(self, entry: Entry) -> None:
        if self._spill is None:
            return
        kept = entry.get("kept")
        tokens = kept.values() if entry.get("t") in ("display", "result") and isinstance(kept, dict) else [kept]
        for token in (*tokens, *entry.get("buffers", ())):
            if token:
                self._spill.forget(token)

    def _clear(self) -> None:
        for slot in (*self._head, *self._tail):
            if slot.stream is not None:
                slot.stream.discard()
            self._forget(slot.entry)
        if self._omitted_file is not None:
            self._omitted_file.discard()
        self._base.clear()
        self._head.clear()
        self._tail.clear()
        self._displays.clear()
        self._inline_bytes = self._stream_chars = self._omitted = 0
        self._omitted_file = self._omitted_kept = None
        self._clear_pending = False


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(str(item) for item in value)
    return "" if value is None else str(value)


def _display_id(content: Mapping[str, Any]) -> str | None:
    transient = content.get("transient")
    found = transient.get("display_id") if isinstance(transient, Mapping) else None
    return str(found) if found else None
