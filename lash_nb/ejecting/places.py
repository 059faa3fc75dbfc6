"""Which cell of a closed notebook each turn belongs to, for `lash-nb eject`.

Decided here: a turn belongs to the cell that asked for it, if there is just one with its request that shows no other
turn, wherever it is shown (`%lash resume` shows it in its own cell). Else it belongs to the cell that shows it; of a
turn that none shows, the request decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..stores.mentions import mentions
from .sources import Asking
from .turns import EjectedTurn, Gathered

__all__ = ["Placed", "placed", "slots"]

_Key = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class Placed:
    """Which turns stand where; cells by their index."""

    at: dict[int, list[EjectedTurn]] = field(default_factory=dict)
    """In the place of a cell."""
    before: dict[int, list[EjectedTurn]] = field(default_factory=dict)
    """Those that no cell shows any more: before the cell of the next one."""
    elsewhere: dict[int, list[EjectedTurn]] = field(default_factory=dict)
    """Those that a cell shows, and that stand in the place of another."""
    later: list[EjectedTurn] = field(default_factory=list)
    """Those that no cell shows any more, after the last one that is shown."""
    unplaced: list[EjectedTurn] = field(default_factory=list)
    """Of sessions of which no cell shows anything."""

    def way_to(self, request: str, *, at: int) -> str:
        """Where from cell `at` the answer to what it asks is: "above", "below", or both; empty: there is none."""
        away = self.elsewhere.get(at, ())
        everywhere = (turn for turns in self.at.values() for turn in turns)
        keys = (
            {turn.key for turn in away if turn.request == request}
            or {turn.key for turn in everywhere if turn.request == request}
            or {turn.key for turn in away}
        )
        found = [cell for cell, turns in self.at.items() if any(turn.key in keys for turn in turns)]
        ways = {"above": any(cell < at for cell in found), "below": any(cell > at for cell in found)}
        return " and ".join(way for way, is_there in ways.items() if is_there)


def placed(document: Mapping[str, Any], found: Gathered, asks: Mapping[int, Asking]) -> Placed:
    """Where each turn belongs; `asks` is what each cell asks."""
    turns = {turn.key: turn for turn in found}
    shows: dict[int, dict[_Key, EjectedTurn | None]] = {}
    for one in mentions(document):
        shows.setdefault(one.cell, {})[one.session, one.turn] = turns.get((one.session, one.turn))
    cells: dict[_Key, int] = {}
    for cell, keys in shows.items():
        for key in keys:
            if key in turns:
                cells.setdefault(key, cell)
    cells.update(_askers([turns[key] for key in cells], shows, asks))
    busy = {*cells.values(), *(cell for cell, keys in shows.items() if any(keys.values()))}
    _match_requests(found, asks, cells, busy=busy)
    result = Placed()
    for cell, keys in shows.items():
        away = [turn for key, turn in keys.items() if turn is not None and cells[key] != cell]
        if away:
            result.elsewhere[cell] = away
    for of_session in found.sessions.values():
        _place(of_session, cells, result)
    return result


def _place(turns: Sequence[EjectedTurn], cells: Mapping[_Key, int], result: Placed) -> None:
    """Those of one session."""
    shown = [turn for turn in turns if turn.key in cells]
    if not shown:
        result.unplaced += turns
        return
    for turn in turns:
        if turn.key in cells:
            result.at.setdefault(cells[turn.key], []).append(turn)
            continue
        following = next((cells[other.key] for other in shown if other.number > turn.number), None)
        if following is not None:
            result.before.setdefault(following, []).append(turn)
        else:
            result.later.append(turn)


def _askers(
    shown: Iterable[EjectedTurn], shows: Mapping[int, Mapping[_Key, EjectedTurn | None]], asks: Mapping[int, Asking]
) -> dict[_Key, int]:
    """The cell that asked, for each turn that is shown and of which just one cell can be that."""

    def free(cell: int, but: Sequence[EjectedTurn]) -> list[str]:
        """Which of its requests nothing answers that it shows, but these turns."""
        keys = {turn.key for turn in but}
        others = ["" if turn is None else turn.request for key, turn in shows.get(cell, {}).items() if key not in keys]
        return _without(asks[cell].requests, others)

    claims: dict[int, list[EjectedTurn]] = {}
    for turn in shown:
        # A request within other code is asked wherever that is called.
        those = [cell for cell, one in asks.items() if not one.nested and turn.request in free(cell, [turn])]
        if len(those) == 1:
            claims.setdefault(those[0], []).append(turn)
    return {
        turn.key: cell
        for cell, claimed in claims.items()
        if _fit([turn.request for turn in claimed], free(cell, claimed))
        for turn in claimed
    }


def _without(requests: Sequence[str], answered: Iterable[str]) -> list[str]:
    """What is left of requests; none when there are as many other answers: nobody knows to what."""
    left, others = list(requests), 0
    for text in answered:
        if text in left:
            left.remove(text)
        else:
            others += 1
    return left if len(left) > others else []


def _fit(wanted: Sequence[str], free: Sequence[str]) -> bool:
    return all(wanted.count(text) <= free.count(text) for text in wanted)


def _match_requests(
    found: Gathered, asks: Mapping[int, Asking], cells: dict[_Key, int], *, busy: Iterable[int]
) -> None:
    """Turns that no output names go to cells that ask just that and show none; the last ones first, because of two
    runs of a cell the last one is what it shows."""
    shown = set(busy)
    free = [(cell, text) for cell, one in asks.items() if cell not in shown for text in one.requests]
    for turn in reversed(list(found)):
        if turn.key in cells:
            continue
        slot = next((one for one in reversed(free) if one[1] == turn.request), None)
        if slot is not None:
            free.remove(slot)
            cells[turn.key] = slot[0]


def slots(requests: Sequence[str], turns: Sequence[EjectedTurn]) -> list[EjectedTurn | None]:
    """The answers to a cell's requests, out of the turns in its place: what was asked so, else in order."""
    answers: list[EjectedTurn | None] = [None] * len(requests)
    others = []
    for turn in turns:
        own = next((at for at, text in enumerate(requests) if text == turn.request and answers[at] is None), None)
        if own is None:
            others.append(turn)
        else:
            answers[own] = turn
    for turn in others:
        if None in answers:
            answers[answers.index(None)] = turn
    return answers
