"""The cells that a turn's code makes, tried out before they are offered: in a kernel of their own, on copies.

Decided here: the tidiest way comes first, and the first one that runs from top to bottom and gives the turn's results
is taken: the same value, else the same text, wherever objects lie in memory. Where none gives the same, one that runs
is offered all the same, and it is said. Nothing of the notebook, and nothing of the session, is touched. What earlier
turns did outside is not done again to find out more, and what the turn did there is done but once.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..accepted import AcceptedCell, accepted_cells, empties
from ..accepted.later import Later
from ..accepted.model_calls import called_names
from ..accepted.statements import statements
from ..errors import InputError, KernelError
from ..machine.execution import CellOutcome, CellOutput, CellResult, DisplayOutput, ResultOutput, StreamOutput
from ..machine.picture import TurnPicture
from ..machine.wire import Json
from ..scratch import Scratch
from .consolidating import Consolidated, Way, consolidated, lacking
from .finishes import Shown

if TYPE_CHECKING:
    from ..session_parts import SessionParts
    from ..sharing import Sharing
    from ..turns import Turn

__all__ = ["CELL_S", "Offer", "offered"]

CELL_S = 120.0
"""How long one cell may take when it is tried out."""
DIFFERS = "what it gives differs from the turn's: data has changed since, or it depends on the time"

_KEPT_OFF = "; what else ran was not tried with it, since that would do again what it did outside"
_NAMED = 5
"""So many variables are named that are written over, and so many tools that were called."""
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Cells for a turn's code."""

    cells: tuple[str, ...] = ()
    verified: bool = False
    """Whether they ran from top to bottom."""
    problem: str = ""
    """Why not, in a sentence without a period."""
    note: str = ""
    """What else has to be known of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    same: bool = False
    """Whether they gave the turn's results."""
    problem: str = ""
    """Why they did not run."""
    acted: bool = False
    """Whether a cell was begun that may do something that stays when its kernel is gone."""


async def offered(session: SessionParts, turn: Turn, *, names: Collection[str] = ()) -> Offer:
    """The cells of a turn of the session; `names` are those that the notebook has. Runs on the session's loop."""
    picture, note = turn.picture, _left_out(turn.picture)
    if not accepted_cells(picture, needed=turn.results):
        return Offer(problem=f"turn {turn.number} ran no Python code to its end", note=note)
    tried: list[Consolidated] = []
    running: Consolidated | None = None
    problem, kept_off, acted = "", "", False
    for way in Way:
        made = _made(session, turn, names=names, way=way)
        if any(made.cells == one.cells for one in tried):
            continue
        if tried and _repeats(made, tried[0], acted=acted, ran=running is not None):
            kept_off = _KEPT_OFF
            continue
        tried.append(made)
        result = await _try(session, made, picture)
        if result.same:
            return _running(made, session, names=names, notes=(note,))
        acted = acted or result.acted
        if result.problem:
            problem = problem or result.problem
        elif running is None:
            running = made
    if running is not None:
        return _running(running, session, names=names, notes=(DIFFERS, note))
    return Offer(cells=tried[0].cells, problem=f"{problem}{kept_off}", note=note)


def _repeats(made: Consolidated, first: Consolidated, *, acted: bool, ran: bool) -> bool:
    """Whether to try it would do again what was done outside: by earlier turns, or by the cells that were tried.

    What the turn needs of earlier ones (`first`) is done, and what it does itself, but once.
    """
    if Counter(made.acts_before) - Counter(first.acts_before):
        return True
    return (acted or ran) and any(made.acting)


def _running(made: Consolidated, session: SessionParts, *, names: Collection[str], notes: Sequence[str]) -> Offer:
    notes = [*notes, _written_over(made, session.sharing, names)]
    return Offer(cells=made.cells, verified=True, note="; ".join(filter(None, notes)))


def _written_over(made: Consolidated, sharing: Sharing | None, names: Collection[str]) -> str:
    """Which variables of the notebook will have another value, in words."""
    others = {name for name, means in made.imported if not _is_imported(name, means, sharing)}
    over = sorted({*made.bound, *others}.intersection(names))
    if not over:
        return ""
    listed = [f"`{name}`" for name in over[:_NAMED]]
    if len(over) > _NAMED:
        listed.append(f"{len(over) - _NAMED} more")
    first = ", ".join(listed[:-1])
    return f"it writes over your {f'{first} and ' if first else ''}{listed[-1]}"


def _is_imported(name: str, means: str, sharing: Sharing | None) -> bool:
    """Whether the notebook has under that name what the import gives. Nothing is imported for that."""
    module, _, attribute = means.partition(":")
    given: object = sys.modules.get(module)
    if attribute and given is not None:
        given = vars(given).get(attribute)
    try:
        return sharing is not None and given is not None and sharing.value(name) is given
    except InputError:  # it is hidden: what it is is not looked at
        return False


def _left_out(picture: TurnPicture) -> str:
    others = {step.language for step in picture.steps if step.code is not None and step.outcome is CellOutcome.OK}
    named = sorted(name for name in others if not name.casefold().startswith("python"))
    called = list(called_names(picture))
    if len(called) > _NAMED:
        called[_NAMED:] = [f"{len(called) - _NAMED} more"]
    parts = [f"its cells in {' and '.join(named)} are not among them"] if named else []
    if called:
        parts.append(
            f"the model also called tools itself ({', '.join(called)}): what they did is not done again, and what they "
            "gave is in the code only where the model wrote it in"
        )
    return "; ".join(parts)


def _made(session: SessionParts, turn: Turn, *, names: Collection[str], way: Way) -> Consolidated:
    whole = way is Way.AS_RUN
    own = accepted_cells(turn.picture, needed=turn.results, whole=whole)
    earlier: list[Sequence[AcceptedCell]] = []
    for one in session.turns if not empties(turn.picture) else ():
        if one.number >= turn.number:
            break
        if empties(one.picture):
            earlier.clear()
        if one.afresh:
            continue  # it has left nothing
        # What later turns need of it is found out over all of them: here nothing is left out that stands.
        earlier.append(accepted_cells(one.picture, needed=_bound_by(one.picture), whole=whole))
    finished = turn.picture.value is not None and own[-1].step == _last_step(turn.picture)
    return consolidated(earlier, own, names=names, finished=finished, way=way)


def _bound_by(picture: TurnPicture) -> frozenset[str]:
    return frozenset(variable.name for variable in picture.variables)


def _last_step(picture: TurnPicture) -> int:
    return max((at for at, step in enumerate(picture.steps) if step.code is not None), default=-1)


# ----------------------------------------------------------------------------------------------------------- trying out


async def _try(session: SessionParts, made: Consolidated, picture: TurnPicture) -> _Tried:
    for number, cell in enumerate(made.cells, start=1):
        why = lacking(cell)
        if why:
            return _Tried(problem=f"{_named(number, made)} cannot run in a notebook: {why}")
    results: list[CellResult] = []
    acted = False
    try:
        async with Scratch(session) as scratch:
            await scratch.prepare()
            refused = await _share(scratch, made.cells)
            for number, cell in enumerate(made.cells, start=1):
                acted = acted or made.acting[number - 1]
                result = await scratch.run(cell, timeout_s=CELL_S)
                if result.outcome is not CellOutcome.OK:
                    return _Tried(problem=f"{_named(number, made)} {_failure(result)}{refused}", acted=acted)
                results.append(result)
            return _Tried(same=await _is_same(scratch, made, results, picture), acted=acted)
    except KernelError as error:
        return _Tried(problem=f"no kernel could try them out: {error}", acted=acted)


async def _share(scratch: Scratch, cells: Sequence[str]) -> str:
    """Copies of what they use go over; what could not, in words for a failure."""
    read = [statements(cell) or () for cell in cells]
    later = Later.of(part for parts in read for part in parts)
    for cell, parts in zip(reversed(cells), reversed(read), strict=True):
        later.take(cell, parts)
    names = sorted(name for name in later.needed if name.isidentifier())
    shared = await scratch.share("\n".join(names)) if names else None
    refused = shared.refused if shared is not None else ()
    return "".join(f"; the notebook's {one.name} could not be copied ({one.why})" for one in refused)


def _named(number: int, made: Consolidated) -> str:
    return "the cell" if len(made.cells) == 1 else f"cell {number} of {len(made.cells)}"


def _failure(result: CellResult) -> str:
    if result.error is not None:
        said = " ".join(result.error.evalue.split())[:300]
        return f"fails in a fresh kernel: {result.error.ename}{f': {said}' if said else ''}"
    if result.outcome is CellOutcome.TIMEOUT:
        return f"took longer than {CELL_S:.0f} s in a fresh kernel"
    return f"does not run in a fresh kernel: {result.detail or result.outcome}"


# -------------------------------------------------------------------------------------------------------------- results


async def _is_same(scratch: Scratch, made: Consolidated, results: Sequence[CellResult], picture: TurnPicture) -> bool:
    """Whether the turn's results came out: its value, else what its cells showed."""
    if picture.value is not None and made.shown:
        return await _gives(scratch, made.shown, results[-1], picture.value.value)
    pairs = [
        (_text(picture.steps[step].outputs), _text(result.outputs))
        for step, result in zip(made.steps, results, strict=True)
        if step is not None and picture.steps[step].outcome is CellOutcome.OK
    ]
    if pairs and pairs[-1][0]:
        pairs = pairs[-1:]
    return all(before == now for before, now in pairs)


async def _gives(scratch: Scratch, shown: str, result: CellResult, value: Json) -> bool:
    if shown == Shown.DISPLAYED:
        texts = [one.data.get("text/plain") for one in result.outputs if isinstance(one, DisplayOutput)]
        try:
            return bool(texts) and _alike(ast.literal_eval(str(texts[-1])), value)
        except (ValueError, SyntaxError):
            return bool(texts)  # it is shown otherwise than it was handed over
    code = "finish.value" if shown == Shown.CAUGHT else "None"
    if shown == Shown.LAST:
        number = next((one.execution_count for one in result.outputs if isinstance(one, ResultOutput)), None)
        code = "None" if number is None else f"get_ipython().user_ns['Out'].get({number})"
    told = await scratch.run(f"__import__('builtins').finish({code})", timeout_s=CELL_S)
    return told.finish is not None and _alike(told.finish.value, value)


def _alike(one: object, other: object) -> bool:
    """Whether two JSON values are the same, but for the last digits of a number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other


def _text(outputs: Sequence[CellOutput]) -> str:
    """What a cell showed; pictures count, but not what is in them."""
    return _ADDRESS.sub("0x…", "\n".join(_texts(outputs))).strip()


def _texts(outputs: Sequence[CellOutput]) -> Iterator[str]:
    for output in outputs:
        if isinstance(output, StreamOutput) and output.name == "stdout":
            yield f"{output.head}{output.tail}"
        elif isinstance(output, ResultOutput | DisplayOutput):
            yield str(output.data.get("text/plain", ""))
            yield from sorted(kind for kind in output.data if kind.startswith("image/"))
