"""Code of turns that is kept: run again in the place of a model. What it is, where this user has it, what a notebook
carries of it.

Decided here: kept code is addressed by what it holds, so that what a notebook carries is recognised as what this user
kept, or not: code that is not here was written by nobody knows whom. A file for each, which also says of which cells it
is; that of a request and a cell that was kept last counts. A file that cannot be read is passed over: then a model is
asked again. A notebook carries the newest of each cell, within a bound.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import DecodeError, JournalError
from ..machine.wire import Json
from .bounds import beyond
from .durable import make_private, sync_directory, write_all

__all__ = ["KEPT_KEY", "KeptCode", "KeptStore", "carried_kept", "merged_kept"]

KEPT_KEY = "kept"
"""The field of `metadata.lash_nb`."""
_VERSION = 1
_MOST_CELLS, _MOST_CHARS = 200, 400_000
_MOST_CARRIED_CHARS = 100_000
"""Of a notebook's block, which is bounded as a whole."""
_MOST_PLACES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCode:
    """The accepted code of one turn."""

    request: str
    """The request that it answers."""
    cells: tuple[str, ...]
    """Python, in the order in which they run."""
    answer: str | None = None
    """What the model said of the results; None: the turn ended with a value."""
    results: str = ""
    """The digest of what the cells gave when that was said (`results_digest`)."""
    cell: str | None = None
    """The id of the notebook's cell, where that is known."""
    at: str = ""
    """When it was kept, ISO 8601, UTC."""
    turn: str = ""
    """By which turn: `SESSION.TURN`."""
    parent: str = ""
    """The kept code in whose place it came."""
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        content = json.dumps([_VERSION, self.request, self.cells, self.answer, self.results], ensure_ascii=False)
        object.__setattr__(self, "sha256", hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest())

    @property
    def program(self) -> str:
        """The digest of its cells alone."""
        return hashlib.sha256("\0".join(self.cells).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def date(self) -> str:
        """The day on which it was kept."""
        return self.at[:10]

    def is_for(self, request: str, cell: str | None) -> bool:
        """Whether it answers that request in that cell; a cell that nobody can tell apart has it, too."""
        return self.request == request and (None in (cell, self.cell) or cell == self.cell)

    def to_json(self) -> dict[str, Json]:
        """As a notebook carries it: code as lists of lines, so that it can be read and compared."""
        written: dict[str, Json] = {
            "version": _VERSION,
            "sha256": self.sha256,
            "request": self.request,
            "cells": [cell.splitlines(keepends=True) for cell in self.cells],
            "answer": self.answer,
            "results": self.results,
        }
        about: dict[str, Json] = {"cell": self.cell, "at": self.at, "turn": self.turn, "parent": self.parent}
        return written | {name: value for name, value in about.items() if value}

    @classmethod
    def from_json(cls, value: object) -> KeptCode:
        """What `to_json` gave. Raises DecodeError: it is damaged, or of a newer version."""
        if not isinstance(value, Mapping) or beyond(value):
            raise DecodeError("is no kept code")
        if value.get("version") != _VERSION:
            raise DecodeError("is of a version that this lash_nb does not know; upgrade it", path="version")
        cells = value.get("cells")
        if not isinstance(cells, Sequence) or isinstance(cells, str) or not 0 < len(cells) <= _MOST_CELLS:
            raise DecodeError("expected a list of cells", path="cells")
        answer, cell = value.get("answer"), value.get("cell")
        texts = {name: value.get(name, "") for name in ("request", "results", "at", "turn", "parent")}
        optional = [text for text in (answer, cell) if text is not None]
        if not all(isinstance(text, str) for text in (*texts.values(), *optional)):
            raise DecodeError("expected texts")
        if texts["at"] and not _is_moment(texts["at"]):
            raise DecodeError("is no moment", path="at")
        code = cls(**texts, cells=tuple(map(_joined, cells)), answer=answer, cell=cell or None)
        if sum(map(len, code.cells)) > _MOST_CHARS:
            raise DecodeError("is too long", path="cells")
        if value.get("sha256") != code.sha256:
            raise DecodeError("does not hash to what it says", path="sha256")
        return code


def _joined(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Sequence) or not all(isinstance(line, str) for line in cell):
        raise DecodeError("expected lines", path="cells")
    return "".join(cell)


def _is_moment(text: str) -> bool:
    """Whether that is a moment: it is shown before anybody trusts whoever wrote it."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# ----------------------------------------------------------------------------------------------- what this user has


class KeptStore:
    """What this user has kept on this machine: `kept/` in the user's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "kept"

    def keep(self, code: KeptCode, *, place: str) -> None:
        """Have it here, for a cell of the notebook `place`; durable when it returns.

        Raises:
            JournalError: it cannot be written.
        """
        if len(code.cells) > _MOST_CELLS or sum(map(len, code.cells)) > _MOST_CHARS:
            raise JournalError(f"the code is too long to be kept (more than {_MOST_CHARS:,} characters)")
        path = self._path(code)
        known = [one for one in self._places(path) if (one["place"], one["cell"]) != (place, code.cell)]
        here = {"place": place, "cell": code.cell, "at": code.at, "turn": code.turn, "parent": code.parent}
        content = {"code": code.to_json(), "places": [*known, here][-_MOST_PLACES:]}
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            make_private(self._directory)
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace"))
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(aside, path)
            sync_directory(self._directory)
        except OSError as error:
            with suppress(OSError):  # where nothing can be written, there is nothing to take away either
                aside.unlink()
            raise JournalError(f"the code cannot be kept in {self._directory}: {error.strerror}") from error

    def newest(self, request: str, *, place: str, cell: str | None) -> KeptCode | None:
        """What was kept last for that request in that cell of that notebook; else, under the id of the cell, in another
        one: this one may be a copy of it, or have been moved."""
        found = [
            (told["place"] == place, code)
            for path in self._directory.glob(f"{_digest(request)}-*.json")
            for told, code in self._all(path)
            if code.is_for(request, cell) and (told["place"] == place or (cell is not None and code.cell == cell))
        ]
        return max(found, key=lambda one: (one[0], one[1].at), default=(False, None))[1]

    def known(self, code: KeptCode) -> KeptCode | None:
        """That very code as this user kept it last, for whatever notebook: when is not what a notebook says."""
        found = [one for _, one in self._all(self._path(code)) if one.sha256 == code.sha256]
        return max(found, key=lambda one: one.at, default=None)

    def _all(self, path: Path) -> Iterator[tuple[Mapping[str, Any], KeptCode]]:
        """The code of a file, as it is known for each place."""
        code = self._read(path)
        if code is None:
            return
        for told in self._places(path):
            yield told, replace(code, **{name: told[name] for name in ("cell", "at", "turn", "parent")})

    def _path(self, code: KeptCode) -> Path:
        return self._directory / f"{_digest(code.request)}-{code.sha256[:32]}.json"

    def _read(self, path: Path) -> KeptCode | None:
        with suppress(DecodeError):
            return KeptCode.from_json(_content(path).get("code"))
        return None

    def _places(self, path: Path) -> list[dict[str, Any]]:
        places = _content(path).get("places")
        return [
            {"cell": None, "turn": "", "parent": "", **one}
            for one in (places if isinstance(places, list) else [])
            if isinstance(one, dict)
            and isinstance(one.get("cell"), str | None)
            and all(isinstance(one.get(name, ""), str) for name in ("turn", "parent"))
            and all(isinstance(one.get(name), str) for name in ("place", "at"))
        ]


def _content(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _digest(request: str) -> str:
    return hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# ------------------------------------------------------------------------------------------ what a notebook carries


def carried_kept(block: object) -> Iterator[KeptCode]:
    """What the value of `metadata.lash_nb` carries; untrusted. What cannot be read is passed over."""
    carried = block.get(KEPT_KEY) if isinstance(block, Mapping) else None
    for value in carried if isinstance(carried, list | tuple) else ():
        with suppress(DecodeError):
            yield KeptCode.from_json(value)


def merged_kept(blocks: Iterable[object], ours: Iterable[KeptCode]) -> dict[str, list[dict[str, Json]]]:
    """The field for a new block: the newest for each request and cell, out of earlier blocks and of ours; {}: none."""
    newest: dict[tuple[str, str | None], KeptCode] = {}
    for code in (*(code for block in blocks for code in carried_kept(block)), *ours):
        before = newest.get((code.request, code.cell))
        if before is None or before.at <= code.at:
            newest[code.request, code.cell] = code
    chosen, room = [], _MOST_CARRIED_CHARS
    for code in sorted(newest.values(), key=lambda code: code.at, reverse=True):
        length = len(json.dumps(code.to_json(), ensure_ascii=False))
        if length <= room:  # one that is too long leaves the room to others
            room -= length
            chosen.append(code)
    return {KEPT_KEY: [code.to_json() for code in reversed(chosen)]} if chosen else {}
