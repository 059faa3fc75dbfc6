"""The code of a turn as ordinary notebook cells: what it needs of earlier turns, imports once, nothing of ours.

Decided here: three ways, from the tidiest to the most faithful one. Whether one of them runs is found out by whoever
runs it (`offering`); here the code is only read. Comments and formatting stay as they were written.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..accepted import AcceptedCell
from ..accepted.lasting import Turned, bound_names
from ..accepted.later import Later
from ..accepted.statements import Statement, joined, statements
from ..ejecting.sources import asks_person, names_of, uses_us
from .finishes import FINISH, Ended, Shown, ended
from .imports import hoisted, meanings

__all__ = ["Consolidated", "Way", "consolidated", "lacking"]

_OURS = ("tools", "read_output", "ToolError")
"""What a cell had from its host, and has from nobody in a notebook."""


class Way(Enum):
    """How cells are made of a turn."""

    SLICED = "of earlier turns what it needs and the notebook has not"
    NEEDED = "of earlier turns what it needs, and all that acted outside of their values"
    AS_RUN = "all that ran, where it ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated:
    """Cells to be run from top to bottom."""

    cells: tuple[str, ...]
    steps: tuple[int | None, ...]
    """Of each cell the step of the turn that it is, whole, as it ran; None: it is made of parts, or of another turn."""
    shown: str = Shown.NOT
    """How the last one gives the turn's value."""
    acting: tuple[bool, ...] = ()
    """Of each cell whether it may do something that stays when its kernel is gone."""
    acts_before: tuple[str, ...] = ()
    """Those statements of earlier turns that may do so."""
    bound: tuple[str, ...] = ()
    """The names that they bind otherwise than by an import, sorted."""
    imported: tuple[tuple[str, str], ...] = ()
    """Those that imports bind, each with what it means; see `meanings`."""


def lacking(code: str) -> str:
    """Why code cannot run as a cell of a notebook; empty: nothing is known that would keep it from that."""
    names = names_of(code)
    ours = [name for name in _OURS if name in names.used - names.assigned]
    if ours:
        return f"it uses {' and '.join(f'`{name}`' for name in ours)}, which the agent's kernel alone has"
    if uses_us(code):
        return "it uses lash_nb itself"
    if asks_person(code):
        return "it asks whoever runs it for input"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    parts: tuple[Statement, ...]
    own: int | None = None
    """Which step of the turn it is."""
    acts: bool = False


def consolidated(
    earlier: Sequence[Sequence[AcceptedCell]],
    own: Sequence[AcceptedCell],
    *,
    names: Collection[str],
    finished: bool,
    way: Way = Way.SLICED,
) -> Consolidated:
    """The cells of a turn.

    Args:
        earlier: the accepted cells of the turns before it, the oldest turn first.
        own: those of the turn.
        names: what the notebook has.
        finished: whether the last cell ended the turn with a value.
        way: how they are made.
    """
    before = [_Cell(parts=_parts(cell.code)) for cells in earlier for cell in cells]
    mine = [_Cell(parts=_parts(cell.code), own=None if cell.part else cell.step) for cell in own]
    turned = Turned.of(node for cell in (*before, *mine) for part in cell.parts for node in part.nodes)
    if way is not Way.AS_RUN:
        before = _sliced(before, mine, own, had=names if way is Way.SLICED else (), acts=way is Way.NEEDED)
    acts_before = tuple(part.source for cell in before for part in cell.parts if _acts(part, turned))
    cells = [replace(cell, acts=any(_acts(part, turned) for part in cell.parts)) for cell in (*before, *mine)]
    imports: tuple[str, ...] = ()
    if way is not Way.AS_RUN:
        imports, rest = hoisted([cell.parts for cell in cells])
        cells = [replace(cell, parts=parts) for cell, parts in zip(cells, rest, strict=True)]
    made: list[_Cell] = []
    shown, caught = Shown.NOT, False
    for at, cell in enumerate(cells):
        last = finished and at == len(cells) - 1
        made_of: Ended = ended(cell.parts, last=last, turned=turned)
        shown, caught = made_of.shown if last else shown, caught or made_of.caught
        made.append(replace(cell, parts=made_of.parts))
    made = [cell for cell in made if any(part.nodes for part in cell.parts)]
    written = _written(imports, made, caught=caught, shown=shown)
    bound, imported = _bound(part for cell in (*before, *mine) for part in cell.parts)
    return replace(written, acts_before=acts_before, bound=bound, imported=imported)


def _written(imports: Sequence[str], cells: Sequence[_Cell], *, caught: bool, shown: str) -> Consolidated:
    first = [text for text in ("\n".join(imports), FINISH if caught else "") if text]
    texts = [joined(cell.parts) for cell in cells]
    steps: list[int | None] = [cell.own for cell in cells]
    acting = [cell.acts for cell in cells]
    if first and len(texts) == 1 and not caught and not texts[0].startswith("%%"):
        return Consolidated(cells=(f"{first[0]}\n\n{texts[0]}",), steps=tuple(steps), shown=shown, acting=tuple(acting))
    return Consolidated(
        cells=(*first, *texts),
        steps=(*[None] * len(first), *steps),
        shown=shown,
        acting=(*[False] * len(first), *acting),
    )


def _acts(part: Statement, turned: Turned) -> bool:
    unread = bool(part.nodes) and not part.python  # see `_parts`
    return unread or any(turned.lasting(node).stays for node in part.nodes)


def _bound(parts: Iterable[Statement]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    names: set[str] = set()
    imported: set[tuple[str, str]] = set()
    for part in parts:
        for node in part.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported.update(meanings(node))
            else:
                names |= bound_names(node)
    return tuple(sorted(names)), tuple(sorted(imported))


def _parts(code: str) -> tuple[Statement, ...]:
    found = statements(code)
    if found is None:  # it ran, in another Python: as it is
        return (Statement(source=code.strip("\n"), python="", nodes=(ast.Pass(),), first=1, last=1),)
    return found


def _sliced(
    before: Sequence[_Cell], mine: Sequence[_Cell], own: Sequence[AcceptedCell], *, had: Collection[str], acts: bool
) -> list[_Cell]:
    """Of earlier turns the statements that the turn needs, and those need; see `Later.keeps`."""
    later = Later.of(part for cell in (*before, *mine) for part in cell.parts)
    for cell, accepted in zip(reversed(mine), reversed(own), strict=True):
        later.take(accepted.code, cell.parts)
    kept: list[_Cell] = []
    for cell in reversed(before):
        parts = [part for part in reversed(cell.parts) if later.keeps(part, acts=acts, had=had)]
        kept.append(replace(cell, parts=tuple(reversed(parts))))
    return [cell for cell in reversed(kept) if cell.parts]
