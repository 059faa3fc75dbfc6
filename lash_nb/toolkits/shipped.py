"""The tools that ship: `read_output` reads what was kept instead of shown, `read_file` files of the working directory.

Decided here: both read and change nothing, so nobody is asked. Text comes as text, with a line at its end that says how
to go on; pictures come as attachments; other binary files are told as such, code in a cell can read them. What may be
opened is `reading`'s to say. What they give is redacted by whoever makes the call, as everything that a model is shown.
"""

# Without `from __future__ import annotations`: the annotations of these tools name what is imported on first use.

import codecs
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeAlias

from ..errors import BlobError, ToolError
from ..machine.attachments import AdoptingStore, AttachmentRef, StoredAttachment
from . import Tool, ToolPolicy
from .attaching import Attachment, media_type_of
from .functions import function_tool
from .reading import listed, opened

__all__ = ["shipped_tools"]

Kept: TypeAlias = Callable[[str], Sequence[AttachmentRef]]

_POLICY = ToolPolicy(approve="never", safe=True, timeout_s=60)
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_MOST_PICTURE_BYTES = 5 * 1024 * 1024
_MOST_READ_BYTES = 4_000_000
"""At once."""
_MOST_LINES = 20_000
_MOST_SCANNED_BYTES = 512 * 1024 * 1024
"""On the way to a line."""
_SAMPLE = 8192
_LONGEST_BEGINNING = len("sha256:") + 64
_SHORTEST_BEGINNING = len("sha256:") + 8


def shipped_tools(
    *, directory: Path, store: AdoptingStore | None, kept: Kept = lambda beginning: ()
) -> tuple[Tool, ...]:
    """The tools of one session.

    `directory` is the working directory, `store` where outputs are kept, and `kept` gives those of the session whose
    handles begin like that.
    """
    from pydantic import Field

    def read_output(
        handle: str,
        start: Annotated[int, Field(ge=0)] = 0,
        size: Annotated[int, Field(ge=1, le=_MOST_READ_BYTES)] = 20_000,
    ) -> Any:
        """Read an output or a result that was cut when it was shown, by the handle that stands where it was cut.

        Args:
            handle: `sha256:…`; its first 8 hex digits are enough where nothing else begins like that.
            start: the first byte.
            size: how many bytes.
        """
        return _output(_found(handle, store, kept), store, start, size)

    def read_file(
        path: str,
        start_line: Annotated[int, Field(ge=1)] = 1,
        lines: Annotated[int, Field(ge=1, le=_MOST_LINES)] = 400,
    ) -> Any:
        """Read a text file or a picture of the working directory, or list a directory.

        Args:
            path: relative to the working directory; `.` lists it.
            start_line: the first line, counted from 1.
            lines: how many lines.
        """
        return _file(directory, path, start_line, lines)

    tools = [function_tool(None, function) for function in (read_output, read_file)]
    return tuple(replace(tool, source="lash_nb", policy=_POLICY) for tool in tools)


# -- outputs -----------------------------------------------------------------------------------------------------------


def _found(handle: str, store: AdoptingStore | None, kept: Kept) -> AttachmentRef:
    wanted = handle if handle.startswith("sha256:") else f"sha256:{handle}"
    if store is None:
        raise _no_output("nothing that is cut out of outputs is kept here")
    if not _SHORTEST_BEGINNING <= len(wanted) <= _LONGEST_BEGINNING:
        raise _no_output(f"{handle[:100]!r} is no handle: one is 'sha256:' and 64 hex digits, or the first 8 of them")
    found = {ref.id: ref for ref in kept(wanted)}
    if len(found) > 1:
        raise _no_output(f"{handle!r} is the beginning of {len(found)} handles; give more of it")
    if found:
        return next(iter(found.values()))
    if len(wanted) < _LONGEST_BEGINNING:
        raise _no_output(f"no output of this session has a handle that begins like {handle!r}")
    return AttachmentRef(id=wanted, media_type="application/octet-stream", byte_len=0)


def _no_output(message: str) -> ToolError:
    return ToolError(message, kind="invalid_request", code="no_such_output")


def _output(ref: AttachmentRef, store: AdoptingStore | None, start: int, size: int) -> Any:
    assert store is not None
    try:
        media_type = media_type_of(store.part(ref, start=0, size=_SAMPLE))
        if media_type in _PICTURES:
            length = len(store.part(ref, start=0, size=_MOST_PICTURE_BYTES + 1))
            _check_picture(ref.id, length)
            return StoredAttachment(attachment_ref=replace(ref, media_type=media_type, byte_len=length))
        data = store.part(ref, start=start, size=size + 1)
    except BlobError as error:
        raise _no_output(str(error)) from None
    if not data and start:
        raise ToolError(f"{ref.id} ends before byte {start:,}", kind="invalid_request", code="beyond_the_end")
    begin = _first_character(data) if start else 0
    text, used = _decoded(data[begin:size], ref.id, whole=len(data) <= size)
    end = start + begin + used
    if len(data) > size:
        text = _with_note(text, f"more follows: read_output({ref.id!r}, start={end})")
    return text


def _first_character(data: bytes) -> int:
    """How many bytes at the beginning are the rest of a character."""
    return next((place for place in range(min(4, len(data))) if data[place] & 0xC0 != 0x80), 0)


def _decoded(data: bytes, named: str, *, whole: bool) -> tuple[str, int]:
    """The text, and how many of the bytes it is: without `whole` a character may be cut at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data, final=whole)
    except UnicodeDecodeError:
        raise _binary(named, data) from None
    if "\0" in text:
        raise _binary(named, data)
    return text, len(data) - len(decoder.getstate()[0])


def _binary(named: str, data: bytes) -> ToolError:
    return ToolError(
        f"{named} is no text in UTF-8, but {media_type_of(data)}: read it with code in a cell",
        kind="invalid_request",
        code="binary",
    )


def _with_note(text: str, note: str) -> str:
    return f"{text}{'' if text.endswith(chr(10)) else chr(10)}[… {note}]"


def _check_picture(named: str, length: int) -> None:
    if length > _MOST_PICTURE_BYTES:
        raise ToolError(
            f"{named} is a picture of more than {_MOST_PICTURE_BYTES:,} bytes: make it smaller with code in a cell",
            kind="resource_limit",
            code="picture_too_big",
        )


# -- files -------------------------------------------------------------------------------------------------------------


def _file(directory: Path, path: str, start_line: int, lines: int) -> Any:
    with opened(directory, path) as descriptor:
        told = os.fstat(descriptor)
        if stat.S_ISDIR(told.st_mode):
            return listed(descriptor, path)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            sample = file.read(_SAMPLE)
            media_type = media_type_of(sample)
            if media_type in _PICTURES:
                data = sample + file.read(_MOST_PICTURE_BYTES + 1)
                _check_picture(path, len(data))
                return Attachment(data, media_type, label=os.path.basename(path))
            _decoded(sample, path, whole=False)
            file.seek(0)
            return _text(file, path, start_line, lines, told.st_size)


def _text(file: BinaryIO, path: str, start_line: int, lines: int, size: int) -> str:
    _skip(file, path, start_line)
    kept: list[bytes] = []
    room, number = _MOST_READ_BYTES, start_line
    while number < start_line + lines and room > 0 and (piece := file.readline(room)):
        kept.append(piece)
        room -= len(piece)
        number += piece.endswith(b"\n")
    if not kept and start_line > 1:
        raise _too_short(path, start_line)
    text = b"".join(kept).decode("utf-8-sig" if start_line == 1 else "utf-8", "replace")
    if not file.read(1):
        return text
    if not text.endswith("\n"):  # within a line that is longer than all that can be read at once
        return _with_note(text, f"line {number:,} is cut here; the file has {size:,} bytes")
    return _with_note(text, f"more follows: read_file({path!r}, start_line={number}); the file has {size:,} bytes")


def _too_short(path: str, start_line: int) -> ToolError:
    return ToolError(f"{path!r} ends before line {start_line:,}", kind="invalid_request", code="beyond_the_end")


def _skip(file: BinaryIO, path: str, start_line: int) -> None:
    """Go to the beginning of a line."""
    number, scanned = 1, 0
    while number < start_line:
        piece = file.readline(_MOST_READ_BYTES)
        scanned += len(piece)
        number += piece.endswith(b"\n")
        if not piece:
            raise _too_short(path, start_line)
        if scanned > _MOST_SCANNED_BYTES:
            raise ToolError(
                f"line {start_line:,} of {path!r} is too far from its beginning: read it with code in a cell",
                kind="resource_limit",
                code="too_far",
            )
