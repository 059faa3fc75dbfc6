"""A traceback for reading: the user's own frames, and what of libraries it takes to see where it went. Pure.

Both the model and the reader of a notebook are shown tracebacks in this form; the whole one stays in the outputs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .execution import ErrorOutput

__all__ = ["traceback_text"]

_MAX_TRACEBACK_CHARS = 8_000
_MAX_EXCEPTION_CHARS = 4_000

_LIBRARY_FRAME = re.compile(
    r"\s*File (?:[^\n]*(?:site-packages|dist-packages|lib[\\/]python3[^\\/]*)[\\/]"
    r"|<frozen "
    r"|[^/\\~<:\n][^:\n]*\.p(?:yx|xi|xd):)"
)
"""A frame of an installed library, of the standard library, or of compiled code (that has no absolute path)."""
_LIBRARY_PATH = re.compile(r"^(\s*File )[^\n]*(?:site-packages|dist-packages|lib[\\/]python3[^\\/]*)[\\/]")
_RULE = re.compile(r"-{20,}\s*")
_FRAME = re.compile(r"\s*(?:File |Cell In\[|<frozen )")
_OUTSIDE = re.compile(r"[^\s-]")
"""A line that belongs to no frame: those of frames are indented, or begin with an arrow."""
_BETWEEN = re.compile(r"(?:\S+ +)?Traceback \(most|The above exception was the direct|During handling of the above")


def traceback_text(error: ErrorOutput) -> str:
    """A traceback cut down to the user's own frames; of each run of library frames one line and a count stay.

    Bounded; when it must be cut, the tail stays, since that is where the exception is.
    """
    entries = _entries(error.traceback)
    kept: list[str] = []
    library: list[str] = []
    for entry in entries:
        if _LIBRARY_FRAME.match(entry):
            library.append(_LIBRARY_PATH.sub(r"\1", entry.split("\n", 1)[0]))
            continue
        kept.extend(_folded(library))
        library = []
        kept.append(entry)
    kept.extend(_folded(library))
    last = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
    if not kept:
        return _tail(last, _MAX_EXCEPTION_CHARS)
    if kept[-1].startswith(error.ename):
        kept[-1] = _middle(kept[-1], _MAX_EXCEPTION_CHARS)
    return _tail("\n".join(kept), _MAX_TRACEBACK_CHARS)


def _entries(traceback: Sequence[str]) -> list[str]:
    """Frames, and what stands between them, however the kernel divided the text: by frames, or by lines."""
    entries: list[list[str]] = []
    in_frame = False
    for line in "\n".join(entry.strip("\n") for entry in traceback).split("\n"):
        if _RULE.fullmatch(line):
            continue
        begins_frame = bool(_FRAME.match(line))
        if not entries or begins_frame or _BETWEEN.match(line) or (in_frame and _OUTSIDE.match(line)):
            entries.append([])
            in_frame = begins_frame
        entries[-1].append(line)
    return [text for entry in entries if (text := "\n".join(entry).strip("\n"))]


def _folded(frames: Sequence[str]) -> list[str]:
    """A run of library frames: a count, and where the exception left the last of them."""
    if len(frames) <= 1:
        return list(frames)
    return [f"[… {len(frames) - 1} frames of libraries]", frames[-1]]


def _tail(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    back = text[-max_chars:]
    back = back[back.find("\n") + 1 :] if "\n" in back[: max_chars // 2] else back
    return f"[… {len(text) - len(back):,} of {len(text):,} characters of the traceback cut here]\n{back}"


def _middle(text: str, max_chars: int) -> str:
    """An exception's message, which may hold a whole document: its beginning names the problem, its end the place."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters of the message cut here]\n{text[-half:]}"
