"""IOPub messages → ordered outputs: a fold that never keeps more than its limits.

Rules of this file: no clock, no I/O of its own (what is cut goes to the store it is handed), no third party. What is
kept and how it is cut is decided by `inside/record.py`, which Python kernels run themselves; here it becomes typed, and
the files that a kernel spilled become references into the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LashError
from ..machine.attachments import AttachmentRef, AttachmentStore, AttachmentWriter
from ..machine.execution import CellOutput, DisplayOutput, ErrorOutput, ResultOutput, StreamOutput
from .bundles import NOTE_KEY, BundleLimits, noted_bundle
from .inside.entries import Entry, Token, cut_line
from .inside.record import Record

__all__ = ["NOTE_KEY", "OutputFold", "OutputLimits", "fold", "to_nbformat"]

Content = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """How much of one cell's outputs is kept inline; the rest is counted, and stored when there is a store."""

    stream_head_chars: int = 32 * 1024
    stream_tail_chars: int = 32 * 1024
    cell_stream_chars: int = 1024 * 1024
    """Of all streams together; later ones are kept sixteen times shorter."""
    head_outputs: int = 250
    tail_outputs: int = 250
    bundles: BundleLimits = field(default_factory=BundleLimits)

    def as_options(self) -> dict[str, int]:
        """As the kernel takes them."""
        return {
            "stream_head_chars": self.stream_head_chars,
            "stream_tail_chars": self.stream_tail_chars,
            "cell_stream_chars": self.cell_stream_chars,
            "head_outputs": self.head_outputs,
            "tail_outputs": self.tail_outputs,
            "text_head_chars": self.bundles.text_head_chars,
            "text_tail_chars": self.bundles.text_tail_chars,
            "value_bytes": self.bundles.value_bytes,
            "cell_bytes": self.bundles.cell_bytes,
        }


class _StoredFile:
    """Bytes on their way to the store; a store that fails costs the copy, never the cell."""

    def __init__(self, writer: AttachmentWriter) -> None:
        self._writer: AttachmentWriter | None = writer

    def write(self, data: bytes) -> None:
        if self._writer is not None:
            try:
                self._writer.write(data)
            except (LashError, OSError):
                self.discard()

    def close(self) -> Token | None:
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        try:
            ref = writer.close()
        except (LashError, OSError):
            return None
        return {"id": ref.id, "media_type": ref.media_type, "byte_len": ref.byte_len, "label": ref.label}

    def peek(self) -> Token | None:
        return None

    def discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.discard()
            except (LashError, OSError):
                return


class _StoreSpill:
    """What is cut on arrival goes to the host's store."""

    def __init__(self, store: AttachmentStore) -> None:
        self._store = store

    def open(self, media_type: str, label: str) -> _StoredFile | None:
        try:
            return _StoredFile(self._store.writer(media_type=media_type, label=label or None))
        except (LashError, OSError):
            return None

    def forget(self, token: Token) -> None:
        """Stored bytes may be others' too: they stay."""


class OutputFold:
    """The outputs of one cell, built message by message. Not thread-safe: one owner at a time."""

    def __init__(self, *, limits: OutputLimits | None = None, store: AttachmentStore | None = None) -> None:
        self.store = store
        self._record = Record(
            limits.as_options() if limits is not None else None, _StoreSpill(store) if store is not None else None
        )
        self._adopted: dict[str, AttachmentRef] = {}

    def apply(self, msg_type: str, content: Content, buffers: Sequence[bytes] = ()) -> bool:
        """Take one IOPub message; True when the outputs changed (False too for types that are no output)."""
        return self._record.apply(msg_type, content, buffers)

    def load(self, entries: Iterable[Entry]) -> None:
        """Take over the outputs as the kernel itself has recorded them."""
        self._record.load(entries)

    def outputs(self) -> tuple[CellOutput, ...]:
        """What there is so far, in order."""
        return tuple(self._typed(entry) for entry in self._record.entries())

    def close(self) -> tuple[CellOutput, ...]:
        """The final outputs; what was spilled on arrival is in the store when this returns."""
        self._record.close()
        return self.outputs()

    def spilled_files(self, *, of_the_dead: bool = False) -> list[Token]:
        """Tokens of files that the kernel spilled and that `adopt` was not told of.

        `of_the_dead`: also of those that were still written to when it died.
        """
        return [
            token
            for entry in self._record.entries()
            for token in _tokens(entry)
            if "file" in token and token["file"] not in self._adopted and (of_the_dead or not token.get("open"))
        ]

    def refs(self) -> dict[str, AttachmentRef]:
        """What is in the store of these outputs, by id."""
        found = (self._ref(token) for entry in self._record.entries() for token in _tokens(entry))
        return {ref.id: ref for ref in found if ref is not None}

    def adopt(self, token: Token, ref: AttachmentRef) -> None:
        """The file of `token` is now in the store as `ref`."""
        self._adopted[token["file"]] = ref

    # -- typed ---------------------------------------------------------------------------------------------------------

    def _ref(self, token: Mapping[str, Any] | None) -> AttachmentRef | None:
        if token is None:
            return None
        if "file" in token:
            return self._adopted.get(token["file"])
        if "id" not in token:
            return None
        return AttachmentRef(
            id=token["id"],
            media_type=token["media_type"],
            byte_len=token["byte_len"],
            label=token.get("label"),
        )

    def _typed(self, entry: Entry) -> CellOutput:
        match entry["t"]:
            case "stream":
                return StreamOutput(
                    name="stderr" if entry["name"] == "stderr" else "stdout",
                    head=entry["head"],
                    tail=entry["tail"],
                    omitted_chars=entry["chars"],
                    omitted_lines=entry["lines"],
                    spilled=self._ref(entry["kept"]),
                )
            case "display":
                data, metadata = noted_bundle(entry, self._ref)
                return DisplayOutput(data=data, metadata=metadata, display_id=entry["id"])
            case "result":
                data, metadata = noted_bundle(entry, self._ref)
                return ResultOutput(
                    data=data, metadata=metadata, execution_count=entry["count"], display_id=entry["id"]
                )
            case "error":
                return self._error(entry)
            case _:
                return self._omission(entry)

    def _error(self, entry: Entry) -> ErrorOutput:
        text = entry["head"]
        if entry["chars"]:
            ref = self._ref(entry["kept"])
            where = f"; the whole traceback is {ref.id}" if ref else ""
            text += cut_line(entry["chars"], entry["lines"], where) + entry["tail"]
        return ErrorOutput(
            ename=entry["ename"], evalue=entry["evalue"], traceback=tuple(text.split("\n")) if text else ()
        )

    def _omission(self, entry: Entry) -> DisplayOutput:
        ref = self._ref(entry["kept"])
        where = f"; they are kept in {ref.id}" if ref else ""
        text = f"[{entry['n']:,} outputs left out here{where}]"
        return DisplayOutput(data={"text/plain": text}, metadata={NOTE_KEY: {"omitted_outputs": entry["n"]}})


def _tokens(entry: Entry) -> list[Token]:
    kept = entry.get("kept")
    if entry["t"] in ("display", "result"):
        return [*kept.values(), *entry["buffers"]] if isinstance(kept, dict) else []
    return [kept] if isinstance(kept, dict) else []


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
                text += cut_line(output.omitted_chars, output.omitted_lines, kept) + output.tail
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
