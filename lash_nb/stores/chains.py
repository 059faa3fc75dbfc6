"""The chain of one session, out of all that a notebook carries of it: which turns count, and what goes another way.

Decided here: a turn that stands in several places is one, a whole envelope before a reference, and the block's word on
parent and seq before an output's. The last turn is the finished one of the highest seq that is whole, or a reference
that follows it; from there the chain goes down by `parent`, and turn and seq fall along it. The turn in progress counts
when it follows the last one. What claims a place on the chain and is not on it is a fork: both are named, neither is
guessed away. What has no connection is kept apart. Nothing here takes longer than n log n.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .bounds import shown
from .carried_turns import CarriedSession, CarriedTurn, Problem, Slot, Trouble

__all__ = ["judged"]


def judged(
    session: str,
    found: Iterable[CarriedTurn],
    *,
    problems: Iterable[Problem] = (),
    forked_from: Mapping[str, Any] | None = None,
    is_elsewhere: Callable[[str], bool] = lambda digest: False,
) -> CarriedSession:
    """The session of which all of `found` is.

    `problems` are those that it is known to have; `is_elsewhere` says of a hash whether another session has that turn:
    a branch took the turns of its origin over, and a notebook does not hold them twice.
    """
    judge = _Judge(session, list(problems), is_elsewhere)
    turns = _merged(found)
    judge.take_chain([turn for turn in turns if _is_finished(turn)])
    judge.take_heads([turn for turn in turns if not _is_finished(turn)])
    return CarriedSession(
        session=session,
        turns=tuple(judge.chain),
        head=judge.head,
        forks=tuple(judge.forks),
        apart=tuple(judge.apart),
        forked_from=forked_from,
        problems=tuple(judge.problems),
    )


def _is_finished(turn: CarriedTurn) -> bool:
    return turn.ended and turn.slot is not Slot.HEAD


def _merged(found: Iterable[CarriedTurn]) -> list[CarriedTurn]:
    """Each turn once, in the order of seq."""
    groups: dict[tuple[int, str], list[CarriedTurn]] = {}
    for turn in found:
        groups.setdefault((turn.number, turn.sha256), []).append(turn)
    merged = []
    for group in groups.values():
        kept = next((turn for turn in group if turn.text is not None), group[0])
        leading = next((turn for turn in group if turn.slot is Slot.TURNS), None) or next(
            (turn for turn in group if turn.slot is not Slot.HEAD and _is_finished(turn)), group[0]
        )
        if leading is not kept:
            envelope = {**kept.envelope, "seq": leading.seq, "parent": leading.parent}
            kept = replace(kept, slot=leading.slot, seq=leading.seq, parent=leading.parent, envelope=envelope)
        merged.append(kept)
    return sorted(merged, key=lambda turn: (turn.seq, turn.number))


@dataclass(slots=True)
class _Judge:
    session: str
    problems: list[Problem]
    is_elsewhere: Callable[[str], bool]
    chain: list[CarriedTurn] = field(default_factory=list)
    head: CarriedTurn | None = None
    forks: list[CarriedTurn] = field(default_factory=list)
    apart: list[CarriedTurn] = field(default_factory=list)
    _places: set[str] = field(default_factory=set)
    """Of which it is known that something is wrong there."""
    _by_hash: dict[str, list[CarriedTurn]] = field(default_factory=dict)
    """Finished ones, in the order of seq."""
    _numbers: dict[int, CarriedTurn] = field(default_factory=dict)
    """Those on the chain."""
    _after: dict[str | None, CarriedTurn] = field(default_factory=dict)
    """Those on the chain, by their parent's hash."""

    def __post_init__(self) -> None:
        self._places = {problem.place for problem in self.problems}

    def tell(self, trouble: Trouble, turn: CarriedTurn, sentence: str) -> None:
        if trouble is not Trouble.DAMAGED or turn.place not in self._places:
            self.problems.append(Problem(trouble=trouble, place=turn.place, sentence=sentence))
            self._places.add(turn.place)

    # -- the finished turns --------------------------------------------------------------------------------------------

    def take_chain(self, finished: list[CarriedTurn]) -> None:
        for turn in finished:
            self._by_hash.setdefault(turn.sha256, []).append(turn)
        self.chain = self._chosen(finished)
        self._numbers = {turn.number: turn for turn in self.chain}
        self._after = {turn.parent: turn for turn in reversed(self.chain)}
        on_chain = {id(turn) for turn in self.chain}
        ways = {turn.sha256: turn for turn in self.chain}
        branches: set[str] = set()
        for turn in finished:
            if id(turn) in on_chain:
                continue
            rival = self._numbers.get(turn.number)
            before = ways.get(turn.parent or "")
            if rival is not None or before is not None:
                self._tell_fork(turn, rival, before)
            elif turn.parent not in branches:
                self._keep_apart(turn)
                continue
            branches.add(turn.sha256)
            self.forks.append(turn)

    def _chosen(self, finished: list[CarriedTurn]) -> list[CarriedTurn]:
        if not finished:
            return []
        whole = [turn for turn in finished if turn.text is not None]
        last = (whole or finished)[-1]
        newest = finished[-1]
        if newest is not last:
            chain, end = self._down(newest)
            if any(turn is last for turn in chain):
                self.tell(
                    Trouble.INCOMPLETE,
                    newest,
                    f"{newest.place} only refers to turn {newest.number}: the last turn whose content is here is "
                    f"{last.number} ({last.place})",
                )
                return self._told(chain, end)
        return self._told(*self._down(last))

    def _down(self, top: CarriedTurn) -> tuple[list[CarriedTurn], str]:
        """From the first turn that can be reached, and what ended the way down: nothing, `missing`, or `order`."""
        chain = [top]
        while (parent := chain[-1].parent) is not None:
            turn, known = chain[-1], self._by_hash.get(parent, [])
            lower = bisect_left(known, turn.seq, key=lambda one: one.seq) - 1
            if not known and self.is_elsewhere(parent):
                break
            if not known or lower < 0 or known[lower].number >= turn.number:
                return chain[::-1], "order" if known else "missing"
            chain.append(known[lower])
        return chain[::-1], ""

    def _told(self, chain: list[CarriedTurn], end: str) -> list[CarriedTurn]:
        first = chain[0]
        if end == "missing":
            self.tell(
                Trouble.INCOMPLETE,
                first,
                f"the turns before turn {first.number} ({first.place}) are not here; those that are can be gone on "
                "with",
            )
        elif end:
            self.tell(
                Trouble.DAMAGED, first, f"{first.place} is out of order: its parent is no earlier turn of its session"
            )
        return chain

    def _tell_fork(self, turn: CarriedTurn, rival: CarriedTurn | None, before: CarriedTurn | None) -> None:
        name = shown(self.session)
        if rival is not None:
            sentence = f"session {name} went two ways: its turn {turn.number} is {rival}, and also {turn}"
        else:
            assert before is not None
            after = self._after.get(before.sha256)
            other = f"turn {after.number}: {after}" if after is not None else "nothing"
            sentence = (
                f"session {name} went two ways after its turn {before.number} ({before.place}): to {other}, and also "
                f"to turn {turn.number}: {turn}"
            )
        self.tell(Trouble.FORKED, turn, sentence)

    def _keep_apart(self, turn: CarriedTurn) -> None:
        self.apart.append(turn)
        sentence = f"turn {turn.number} ({turn.place}) is not connected with the others: those between are not here"
        self.tell(Trouble.INCOMPLETE, turn, sentence)

    # -- the turn in progress ------------------------------------------------------------------------------------------

    def take_heads(self, running: list[CarriedTurn]) -> None:
        last = self.chain[-1] if self.chain else None
        for turn in reversed(running):
            ended = self._numbers.get(turn.number)
            if self.head is None and turn.text is not None and self._follows(turn, last):
                self.head = turn
            elif ended is not None and turn.seq < ended.seq:
                self._pass_over(turn, f"that turn has ended meanwhile ({ended.place})")
            elif self.head is not None and turn.number == self.head.number and turn.seq < self.head.seq:
                self._pass_over(turn, f"a later state of that turn is here ({self.head.place})")
            elif turn.text is None:
                self.apart.append(turn)
            else:
                self._refuse(turn, ended)

    def _follows(self, turn: CarriedTurn, last: CarriedTurn | None) -> bool:
        """Whether it goes on from the last one; a turn that no notebook could hold may be between them."""
        if last is None:
            return turn.parent is None or self.is_elsewhere(turn.parent)
        return turn.parent == last.sha256 and turn.number > last.number and turn.seq > last.seq

    def _pass_over(self, turn: CarriedTurn, why: str) -> None:
        self.apart.append(turn)
        self.tell(Trouble.STALE, turn, f"{turn.place} has turn {turn.number} in progress and is passed over: {why}")

    def _refuse(self, turn: CarriedTurn, ended: CarriedTurn | None) -> None:
        before = next(iter(self._by_hash.get(turn.parent or "", ())), None)
        rival = ended or (self.head if self.head is not None and self.head.number == turn.number else None)
        if rival is not None or before is not None:
            self.forks.append(turn)
            to = f"its turn {turn.number} is {rival}" if rival is not None else "it has turns that this one lacks"
            sentence = f"session {shown(self.session)} went two ways: {to}, and in progress it is {turn}"
            self.tell(Trouble.FORKED, turn, sentence)
        else:
            self.apart.append(turn)
            self.tell(
                Trouble.DAMAGED, turn, f"{turn.place} does not follow the turn before it: `parent` is another hash"
            )
