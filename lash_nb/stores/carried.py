"""What a notebook carries of sessions, judged: which turns are whole, how they follow each other, and what is wrong.

Decided here: where turns are looked for (the block, and the metadata of every output), that the block is held to its
format strictly, and that what is damaged never hides what is whole. How the turns of a session follow each other is
`chains.py`'s, the bounds are those of `bounds.py`. A notebook is untrusted: whatever it holds, nothing here raises, and
nothing is run, imported or opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

from ..errors import NotebookError
from ..machine.effects import Done
from .bounds import MAX_BYTES, MAX_ENVELOPES, MAX_TOTAL_BYTES, Allowance, shown, visible
from .carried_turns import Carried, CarriedSession, CarriedTurn, Problem, Slot, Trouble
from .chains import judged
from .envelopes import (
    FORMAT_VERSION,
    Envelope,
    check_hash,
    check_version,
    expect_object,
    is_count,
    is_reference,
    open_text,
    read_envelope,
    unpacked,
)
from .notebook import METADATA_KEY, check_own_fields, is_lasting_alone, read_origin
from .references import belied, reference_to

__all__ = ["Carried", "CarriedSession", "CarriedTurn", "Problem", "Slot", "Trouble", "carried"]

_BLOCK = f"metadata.{METADATA_KEY}"
_MOST_PROBLEMS = 1_000
_POINTER = ("session", "turn", "sha256")
"""What an output says of a turn that the notebook's own metadata holds."""


def carried(notebook: object) -> Carried:
    """What a notebook (the whole document) carries. Never raises, whatever JSON it is given."""
    reader = _Reader()
    if isinstance(notebook, Mapping):
        metadata = notebook.get("metadata")
        if isinstance(metadata, Mapping) and METADATA_KEY in metadata:
            reader.take_block(metadata[METADATA_KEY])
        for place, value in _outputs(notebook.get("cells")):
            reader.take_output(value, place)
    return reader.judge()


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _outputs(cells: object) -> Iterator[tuple[str, object]]:
    """What is ours in the metadata of outputs, with its place; cells and outputs are counted from 1."""
    for number, cell in enumerate(cells if _is_list(cells) else (), 1):
        outputs = cell.get("outputs") if isinstance(cell, Mapping) else None
        for count, output in enumerate(outputs if _is_list(outputs) else (), 1):
            metadata = output.get("metadata") if isinstance(output, Mapping) else None
            if isinstance(metadata, Mapping) and METADATA_KEY in metadata:
                yield f"cell {number}, output {count}", metadata[METADATA_KEY]


class _Reader:
    """Takes what a notebook holds, piece by piece."""

    def __init__(self) -> None:
        self._current: str | None = None
        self._forked_from: Mapping[str, Any] | None = None
        self._problems: list[tuple[str | None, Problem]] = []
        self._left_out = 0
        self._turns: dict[str, list[CarriedTurn]] = {}
        """By session, in the order in which they are met."""
        self._opened: dict[tuple[str, int, str], CarriedTurn] = {}
        self._pointers: list[tuple[str, str, int, str]] = []
        self._envelopes = 0
        self._allowance = Allowance()

    def _tell(self, trouble: Trouble, place: str, sentence: str, *, session: str | None = None) -> None:
        if len(self._problems) >= _MOST_PROBLEMS:
            self._left_out += 1
        else:
            self._problems.append((session, Problem(trouble=trouble, place=place, sentence=visible(sentence))))

    # -- the block -----------------------------------------------------------------------------------------------------

    def take_block(self, value: object) -> None:
        try:
            block = expect_object(value, _BLOCK)
            if is_lasting_alone(block):
                return
            if _is_newer(block):
                self._tell(Trouble.NEWER, _BLOCK, _newer(block, _BLOCK))
                return
            check_version(block, _BLOCK)
            check_own_fields(block)
            name = block.get("session")
            if not isinstance(name, str) or not name:
                raise NotebookError(f"{_BLOCK}.session is {shown(name)}, not the name of a session")
        except NotebookError as error:
            self._tell(Trouble.DAMAGED, _BLOCK, str(error))
            block, name = (value if isinstance(value, Mapping) else {}), None
        self._current = name
        if name is not None:
            try:
                self._forked_from = read_origin(block)
            except NotebookError as error:
                self._tell(Trouble.DAMAGED, f"{_BLOCK}.forked_from", str(error), session=name)
        for index, entry in enumerate(self._list(block, "earlier", default=())):
            self._take(entry, f"{_BLOCK}.earlier[{index}]", Slot.EARLIER, current=name)
        if name is not None:
            self._turns.setdefault(name, [])
        self._take_own(block, name)

    def _list(self, block: Mapping[str, Any], field: str, *, default: object = None) -> Sequence[object]:
        entries = block.get(field, default)
        if _is_list(entries):
            return tuple(entries)
        self._tell(Trouble.DAMAGED, f"{_BLOCK}.{field}", f"{_BLOCK}.{field} is {shown(entries)}, not a list")
        return ()

    def _take_own(self, block: Mapping[str, Any], name: str | None) -> None:
        """The session's own envelopes, which follow each other without a gap."""
        entries: list[tuple[str, Slot, object]] = [
            (f"{_BLOCK}.turns[{index}]", Slot.TURNS, entry) for index, entry in enumerate(self._list(block, "turns"))
        ]
        head = block.get("head", "missing")
        if head is not None:
            entries.append((f"{_BLOCK}.head", Slot.HEAD, head))
        before: Envelope | None = None
        gap = False
        for place, slot, entry in entries:
            envelope = self._take(entry, place, slot, current=name)
            if envelope is None or (name is not None and envelope["session"] != name):
                if envelope is not None:
                    other = f"{place} is of session {shown(envelope['session'])}, not {shown(name)}"
                    self._tell(Trouble.FOREIGN, place, other, session=name)
                gap = True
                continue
            problem = _misplaced(envelope, before, gap=gap)
            if problem:
                self._tell(Trouble.DAMAGED, place, f"{place} {problem}", session=name)
            before, gap = envelope, False

    # -- envelopes -----------------------------------------------------------------------------------------------------

    def take_output(self, value: object, place: str) -> None:
        if isinstance(value, Mapping):
            if "checkpoint" not in value and "ref" not in value:
                if "session" in value:
                    self._take_pointer(value, place)
                # Else it is a note on what was left out of the output.
                return
            self._take(value, place, Slot.OUTPUT, current=None)
        else:
            self._tell(Trouble.DAMAGED, place, f"{place}: metadata.{METADATA_KEY} is {shown(value)}, not an object")

    def _take_pointer(self, value: Mapping[str, Any], place: str) -> None:
        session, turn, digest = (value.get(name) for name in _POINTER)
        if isinstance(session, str) and is_count(turn) and isinstance(digest, str):
            self._pointers.append((place, session, turn, digest))
        else:
            self._tell(Trouble.DAMAGED, place, f"{place}: metadata.{METADATA_KEY} does not say which turn it shows")

    def _take(self, value: object, place: str, slot: Slot, *, current: str | None) -> Envelope | None:
        """One more envelope; what is returned has the right fields, and its content may be damaged."""
        self._envelopes += 1
        if self._envelopes > MAX_ENVELOPES:
            if self._envelopes == MAX_ENVELOPES + 1:
                self._tell(Trouble.TOO_LARGE, place, f"from {place} on, nothing is read: at most {MAX_ENVELOPES:,} are")
            return None
        if isinstance(value, Mapping) and _is_newer(value):
            self._tell(Trouble.NEWER, place, _newer(value, place), session=current)
            return None
        try:
            envelope = read_envelope(value, place=place)
        except NotebookError as error:
            self._tell(Trouble.DAMAGED, place, str(error), session=current)
            return None
        try:
            turn = self._turn(envelope, place, slot)
        except NotebookError as error:
            self._tell(Trouble.DAMAGED, place, str(error), session=envelope["session"])
            return envelope
        if turn is not None:
            self._turns.setdefault(turn.session, []).append(turn)
        return envelope

    def _turn(self, envelope: Envelope, place: str, slot: Slot) -> CarriedTurn | None:
        """The turn of an envelope, once all of it is found right; None: it is too large."""
        if is_reference(envelope):
            ref = envelope["ref"]
            return _turn_of(envelope, place, slot, text=None, ref=ref, ended=ref["outcome"] != "")
        key = (envelope["session"], envelope["turn"], envelope["sha256"])
        known = self._opened.get(key)
        if known is not None and known.envelope["checkpoint"] == envelope["checkpoint"]:
            text, ref, ended = known.text, known.ref, known.ended
        else:
            left = self._allowance.left
            found = unpacked(envelope, allowance=self._allowance, place=place)
            if found is None:
                self._tell(Trouble.TOO_LARGE, place, _too_large(place, left), session=envelope["session"])
                return None
            text = found
            check_hash(text, envelope, place=place)
            checkpoint = open_text(text, place=place)
            problem = belied(envelope, checkpoint)
            if problem:
                raise NotebookError(f"{place}.{problem}")
            ref = reference_to(envelope, text, checkpoint)
            ended = any(isinstance(effect, Done) for effect in checkpoint.pending_effects)
        turn = _turn_of(envelope, place, slot, text=text, ref=ref, ended=ended)
        self._opened.setdefault(key, turn)
        if slot is Slot.TURNS and not ended:
            raise NotebookError(f"{place}.checkpoint is of a turn that has not ended")
        return turn

    # -- the judgement -------------------------------------------------------------------------------------------------

    def judge(self) -> Carried:
        of_session: dict[str | None, list[Problem]] = {}
        for session, problem in self._problems:
            of_session.setdefault(session, []).append(problem)
        owners: dict[str, set[str]] = {}
        for name, turns in self._turns.items():
            for turn in turns:
                owners.setdefault(turn.sha256, set()).add(name)
        sessions = tuple(
            judged(
                name,
                turns,
                problems=of_session.pop(name, ()),
                forked_from=self._forked_from if name == self._current else None,
                is_elsewhere=partial(_has_other, owners, name),
            )
            for name, turns in self._turns.items()
        )
        rest = [problem for problems in of_session.values() for problem in problems]
        problems = [*rest, *(problem for session in sessions for problem in session.problems), *self._dangling()]
        left_out = self._left_out + max(0, len(problems) - _MOST_PROBLEMS)
        if left_out:
            sentence = f"{left_out:,} more problems are not listed"
            problems[_MOST_PROBLEMS:] = [Problem(trouble=Trouble.TOO_LARGE, place="notebook", sentence=sentence)]
        return Carried(current=self._current or self._newest(), sessions=sessions, problems=tuple(problems))

    def _newest(self) -> str | None:
        outputs = [turn for turns in self._turns.values() for turn in turns if turn.slot is Slot.OUTPUT]
        return max(outputs, key=lambda turn: turn.saved_at).session if outputs else None

    def _dangling(self) -> Iterator[Problem]:
        """What outputs refer to, and is not here; one problem a session."""
        # A branch has the turns of its origin, to which the outputs of before refer.
        known = {(turn.number, turn.sha256) for turns in self._turns.values() for turn in turns}
        missing: dict[str, list[tuple[str, int]]] = {}
        for place, session, turn, digest in self._pointers:
            if (turn, digest) not in known:
                missing.setdefault(session, []).append((place, turn))
        for session, places in missing.items():
            place, turn = places[0]
            more = f", and so do {len(places) - 1:,} more outputs for theirs" if len(places) > 1 else ""
            sentence = f"{place} shows turn {turn} of session {shown(session)}, whose content is not here{more}"
            yield Problem(trouble=Trouble.INCOMPLETE, place=place, sentence=sentence)


def _turn_of(
    envelope: Envelope, place: str, slot: Slot, *, text: str | None, ref: Mapping[str, Any], ended: bool
) -> CarriedTurn:
    return CarriedTurn(
        place=place,
        slot=slot,
        session=envelope["session"],
        number=envelope["turn"],
        seq=envelope["seq"],
        parent=envelope["parent"],
        sha256=envelope["sha256"],
        envelope=envelope,
        text=text,
        ref=ref,
        ended=ended,
    )


def _too_large(place: str, left: int) -> str:
    if left >= MAX_BYTES:
        return f"{place}.checkpoint is refused: it holds more than {MAX_BYTES:,} bytes"
    return f"{place}.checkpoint is not read: all together hold more than {MAX_TOTAL_BYTES:,} bytes"


def _has_other(owners: Mapping[str, set[str]], name: str, digest: str) -> bool:
    """Whether a turn stands in another session than that."""
    found = owners.get(digest, set())
    return len(found) > (name in found)


def _misplaced(envelope: Envelope, before: Envelope | None, *, gap: bool) -> str:
    """What is wrong with the place of an envelope behind another; a gap is what could not be read between them."""
    if not gap and envelope["parent"] != (before["sha256"] if before is not None else None):
        return "does not follow the turn before it: `parent` is another hash"
    if before is not None and (envelope["seq"] <= before["seq"] or envelope["turn"] <= before["turn"]):
        return "is out of order: `turn` and `seq` must rise"
    return ""


def _is_newer(value: Mapping[str, Any]) -> bool:
    version = value.get("version")
    return is_count(version) and version > FORMAT_VERSION


def _newer(value: Mapping[str, Any], place: str) -> str:
    try:
        check_version(value, place)
    except NotebookError as error:
        return str(error)
    return ""
