"""A session's turns put from its journal into the notebook's metadata, where no frontend did that.

Decided here: which session is meant, where its journal is looked for, and what is refused: a session that a process
writes, and one of which the notebook carries turns that the journal does not have. Of two copies of a turn the whole
one is kept; copies in outputs become references once the block has the turn whole. Nothing is run; the journal is only
read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conversation import Conversation
from .earlier import earlier_sessions
from .errors import InputError, JournalError, JournalInUseError, LashError, NotebookError, UnknownNameError
from .finding import find_session
from .following import read_session
from .machine.approvals import APPROVAL
from .machine.wire import Json
from .recorded import RecordedSession, RecordedTurn, protocol_of
from .stores.blobs import MemoryBlobStore
from .stores.carried import Carried, carried
from .stores.closed import ClosedNotebook
from .stores.documents import load_notebook
from .stores.envelopes import checkpoint_text, is_reference
from .stores.mentions import journal_place, journal_places, mentions, session_beside
from .stores.notebook import METADATA_KEY, folded, following, read_block
from .stores.our_parts import with_changed_parts
from .stores.ownership import holder
from .stores.segments import session_directory
from .stores.session_files import sessions_in

__all__ = ["Embedded", "block_of", "embedded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A notebook with what the journals have."""

    text: str
    """The same text when it carried all of it."""
    sentences: tuple[str, ...]
    """What was put in, a session each."""
    notes: tuple[str, ...] = ()
    """What else has to be known."""


def embedded(file: ClosedNotebook, *, which: str | None = None, state_dir: Path | None = None) -> Embedded:
    """The notebook with its session's turns in its metadata.

    Args:
        which: the session, or how its id begins; None: the block's, else those that outputs name, else the newest of
            this notebook's, else the only one in `NAME.lash` beside it, which is noted.
        state_dir: where journals are; None: `NAME.lash` beside the notebook, then the user's own place.

    Raises:
        InputError: nothing says which session, or the notebook cannot be read (NotebookError).
        JournalError: there is no such journal, it cannot be read, or a process writes it.
        LashError: the notebook carries turns of a session that its journal does not have.
    """
    load_notebook(file.path)
    file.check()
    document = json.loads(file.data)
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise NotebookError(f"{file.path} has no metadata, so that nothing can be put into it")
    read_block(metadata)
    found = carried(document)
    block: dict[str, Any] | None = metadata.get(METADATA_KEY)
    sentences: list[str] = []
    notes: list[str] = []
    for session, place in _sessions(file.path, document, notes, which=which, state_dir=state_dir):
        _check_same(file.path, found, session, place)
        made = block_of(session)
        if made is None:
            sentences.append(f"session {session.id} has no turn to put in")
            continue
        sentences.append(_sentence(session, made, block))
        block = _without_doubles(following(block, _as_it_was(made, block)))
    return Embedded(text=_put_in(file.text, block), sentences=tuple(sentences), notes=tuple(notes))


def _put_in(text: str, block: dict[str, Any] | None) -> str:
    if block is None or "session" not in block:
        return text
    block = folded(block)
    whole = {_key(envelope) for envelope in _whole(block)}

    def copy(value: Any) -> Any:
        if not isinstance(value, dict) or "checkpoint" not in value or _key(value) not in whole:
            return value
        return {name: value[name] for name in ("session", "turn", "sha256")}

    return with_changed_parts(text, block=lambda before: before if before == block else block, copy=copy)


# ------------------------------------------------------------------------------------------------------ which session


def _sessions(
    path: Path, document: Mapping[str, Any], notes: list[str], *, which: str | None, state_dir: Path | None
) -> list[tuple[RecordedSession, Path]]:
    """Those that are put in, the one that was used last last, and where their journals are."""
    places = journal_places(path, state_dir)
    if which is not None:
        return [_read(*_named(which, places))]
    block = read_block(document["metadata"])
    names = [block.session] if block is not None else list(dict.fromkeys(one.session for one in mentions(document)))
    if not names:
        for place in places:
            newest = earlier_sessions(place, notebook=path.resolve(), directory=path.resolve().parent, most=1)
            if newest:
                return [_read(newest[0].session, place)]
        alone = session_beside(path, places)
        if alone is not None:
            notes.append(alone.sentence)
            return [_read(alone.session, alone.place)]
        where = " or ".join(str(place) for place in places)
        raise InputError(f"{path} names no session, and no journal in {where} names this file: name the session")
    known = [(name, found) for name in names if (found := journal_place(name, places)) is not None]
    if not known:
        where = " nor in ".join(str(place) for place in places)
        raise JournalError(f"session {names[-1]} has no journal in {where}: `--state-dir` says where it is")
    return sorted((_read(*one) for one in known), key=lambda one: one[0].last_at)


def _named(which: str, places: list[Path]) -> tuple[str, Path]:
    """Raises UnknownNameError: there is none, or more than one."""
    place = journal_place(which, places)
    if place is not None:
        return which, place
    matching: dict[str, Path] = {}
    for place in places:
        for name in sessions_in(place):
            if which and name.startswith(which):
                matching.setdefault(name, place)
    if len(matching) == 1:
        return matching.popitem()
    if which and not matching and Path(which).is_dir():
        found = find_session(which)
        return found.session, found.state_dir
    where = " or ".join(str(place) for place in places)
    many = f"{len(matching)} sessions begin with it: say more of its id"
    problem = many if matching else "`--state-dir` says where else it is"
    raise UnknownNameError(f"there is no session {which!r} in {where}: {problem}")


def _read(name: str, place: Path) -> tuple[RecordedSession, Path]:
    owner = holder(session_directory(place, name))
    if owner is not None:
        raise JournalInUseError(
            f"session {name} is in use by process {owner.get('pid', '?')}: end that first, its turns go on", owner=owner
        )
    return read_session(place, name), place


# -------------------------------------------------------------------------------------------------------- what goes in


def block_of(session: RecordedSession) -> dict[str, Any] | None:
    """The block of a recorded session, a turn in progress as its head; None: there is nothing to carry."""
    blocks: list[dict[str, Any]] = []
    engine = str(session.facts.get("engine", ""))
    conversation = Conversation(session.id, engine=engine, on_block=lambda block, final: blocks.append(block))
    conversation.restore(session, store=MemoryBlobStore())
    conversation.publish(_head(conversation, session))
    block = blocks[-1] if blocks else None
    if block is None or not (block["turns"] or block["head"]):
        return None
    last = block["turns"][-1] if block["turns"] and block["head"] is None else None
    if last is not None and session.turns and last["turn"] == session.turns[-1].number:
        # What goes on from here needs to know more than what was asked.
        block["turns"][-1] = {**last, "resume": _facts(session, session.turns[-1])}
    return block


def _head(conversation: Conversation, session: RecordedSession) -> dict[str, Any] | None:
    """The envelope of the turn in progress, as its process would have made it at this effect."""
    running = session.running
    if running is None or running.checkpoint is None:
        return None
    made = conversation.envelope(
        running.number,
        running.checkpoint,
        protocol_of(running.asked.protocol),
        dollars=running.dollars,
        resume=_facts(session, running),
    )
    # Every effect on record was counted: this one has a number, and a time that is the same whenever this is done.
    return made and {**made, "seq": session.seq, "saved_at": session.last_at}


def _facts(session: RecordedSession, turn: RecordedTurn) -> dict[str, Json]:
    """As `TurnRecorder.resume_facts`."""
    waits = turn.asking if turn.asking is not None and turn.asking.held else None
    asking: dict[str, Json] = {"asking": APPROVAL.encode(waits)} if waits is not None else {}
    return {
        "asked": turn.asked.to_json(),
        "label": session.label,
        "kernels": {kernel.language: kernel.epoch for kernel in session.kernels.values() if not kernel.copied},
        "known": [variable.name for variable in session.known.variables],
        "steps": turn.steps,
        "said": turn.said,
        "waiting": list(session.said.values()),
        **asking,
    }


def _as_it_was(made: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """With the envelopes that are there already: their process knew more of what was around a turn."""
    there = {(*_key(one), one["parent"]): one for one in _whole(before or {})}
    return {**made, "turns": [there.get((*_key(turn), turn["parent"]), turn) for turn in made["turns"]]}


def _check_same(path: Path, found: Carried, session: RecordedSession, place: Path) -> None:
    """See that the journal has every turn of the session that the notebook carries. Raises LashError."""
    known = {turn.number: turn.chain["sha256"] for turn in session.turns if turn.chain is not None}
    for folded_turn in session.folded:
        reference: Any = folded_turn
        known[reference["turn"]] = reference["sha256"]
    carries = found.session(session.id)
    if carries is None:
        return
    strange = [
        turn for turn in (*carries.turns, *carries.forks) if turn.ended and known.get(turn.number) != turn.sha256
    ]
    head, running = carries.head, session.running
    if head is not None and head.number not in known:
        strange += [] if running is not None and running.number == head.number and head.seq <= session.seq else [head]
    if strange:
        raise LashError(
            f"{path} carries turn {strange[0].number} of session {session.id} ({strange[0].place}), which the journal "
            f"in {place} does not have: the two went their own ways, and nothing was put in"
        )


def _sentence(session: RecordedSession, made: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    there = {_key(envelope) for envelope in _whole(before or {})}
    turns, head = made["turns"], made["head"]
    new = sum(_key(envelope) not in there for envelope in turns)
    parts = [f"{new} of {len(turns)} turn{'' if len(turns) == 1 else 's'} put in"] if new else []
    if head is not None and _key(head) not in there:
        parts.append(f"turn {head['turn']}, which is not finished, put in")
    lacking = len(session.turns) + len(session.folded) - len(turns)
    if lacking:
        parts.append(f"{lacking} could not be made again as they were, and are in the journal alone")
    return f"session {session.id}: {'; '.join(parts) or 'all of it was there already'}"


def _envelopes(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from block.get("earlier", ())
    yield from block.get("turns", ())
    if block.get("head") is not None:
        yield block["head"]


def _whole(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that can be opened."""
    return (envelope for envelope in _envelopes(block) if _is_whole(envelope))


def _is_whole(envelope: Mapping[str, Any]) -> bool:
    if is_reference(envelope):
        return False
    try:
        checkpoint_text(envelope)
    except NotebookError:
        return False
    return True


def _key(envelope: Mapping[str, Any]) -> tuple[Any, ...]:
    return envelope.get("session"), envelope.get("turn"), envelope.get("sha256")


def _without_doubles(block: dict[str, Any]) -> dict[str, Any]:
    """With each earlier turn once (whole, where it is), and none of the session's own."""
    earlier: dict[tuple[Any, ...], dict[str, Any]] = {}
    for envelope in block.get("earlier", ()):
        known = earlier.get(_key(envelope))
        if envelope["session"] == block["session"]:
            continue
        if known is None or (not _is_whole(known) and _is_whole(envelope)):
            earlier[_key(envelope)] = envelope
    kept = {name: value for name, value in block.items() if name != "earlier"}
    return {**kept, "earlier": list(earlier.values())} if earlier else kept
