"""Where a session is that an earlier process began, and what goes on when journal and notebook do not say the same.

Decided here: a session is named by its id (or the beginning of it), by its directory, or by a notebook. Of a notebook's
session the journal is the truth where there is one. What the notebook carries beyond it, on the same chain, is taken
in; where the two went different ways, the one that came further is gone on with, as a branch if that is the notebook's,
and the other is named. A copy of a notebook whose original is still there goes its own way from what it carries.
Nothing is opened for writing, and nothing runs, unpickles or calls anything.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .earlier import EarlierSession
from .errors import DecodeError, InputError, JournalError, UnknownNameError
from .following import read_session
from .from_notebook import chosen
from .machine.state import TurnCheckpoint
from .machine.wire import Json
from .recorded import RecordedSession, protocol_of
from .stores.bounds import visible
from .stores.carried import CarriedSession, CarriedTurn, carried
from .stores.journal import session_directory
from .stores.segments import segments
from .stores.session_files import sessions_in
from .stores.state_dir import default_state_dir
from .suggestion import read_content, read_document

__all__ = ["Found", "find_carried", "find_left", "find_session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a session is, and what goes on."""

    session: str
    """The id under which it goes on."""
    state_dir: Path
    has_journal: bool = True
    """Whether it was recorded there; else all that is known of it is what the notebook says."""
    notebook: Path | None = None
    """The file that it was asked for by."""
    carried: CarriedSession | None = None
    """What is to be taken from the notebook: all, or what is beyond the journal. None: nothing."""
    forked_from: dict[str, Json] | None = None
    """Where it goes its own way; then `session` is new."""
    original: str = ""
    """The session of which it is a branch."""
    foreign_kernel: bool = False
    """Whether the kernels of before belong to somebody else: to the notebook that this one is a copy of."""
    notes: tuple[str, ...] = ()
    """What has to be told of that."""

    @property
    def recorded(self) -> str:
        """The session whose journal says what there was until now."""
        return self.original or self.session


def find_session(which: str | Path, *, state_dir: Path | None = None) -> Found:
    """The session that `which` names.

    Raises:
        UnknownNameError: there is none, or more than one.
        NotebookError: the notebook cannot be read, or carries no session.
    """
    path = Path(which)
    if path.suffix == ".ipynb":
        from .stores.documents import load_notebook  # nbformat takes long to import

        return find_carried(load_notebook(path), path=path, state_dir=state_dir)
    if path.is_dir():
        return _of_directory(path)
    where = state_dir or default_state_dir()
    known = sessions_in(where)
    wanted = str(which)
    matching = [wanted] if wanted in known else [name for name in known if wanted and name.startswith(wanted)]
    if len(matching) == 1:
        return Found(session=matching[0], state_dir=where)
    problem = f"{len(matching)} sessions begin with it" if matching else "`lash-nb sessions list` shows which there are"
    raise UnknownNameError(f"there is no session {wanted!r} in {where}: {problem}")


def _of_directory(path: Path) -> Found:
    if path.parent.name == "sessions" and path.name not in ("", "sessions"):
        for name in sessions_in(path.parent.parent):
            if session_directory(path.parent.parent, name) == path:
                return Found(session=name, state_dir=path.parent.parent)
    known = sessions_in(path)
    if len(known) != 1:
        raise UnknownNameError(f"there are {len(known)} sessions in {path}: say which one by its id")
    return Found(session=known[0], state_dir=path)


def find_left(
    earlier: EarlierSession | None,
    document: Any,
    *,
    path: Path | None,
    told_state_dir: Path | None,
    but: Collection[str],
) -> Found | None:
    """What earlier processes left for a notebook that is open; None: nothing.

    Args:
        earlier: the one that was used last of those whose journal names the notebook.
        document: what is known of the notebook itself; it may carry another session (it was renamed, copied, or came
            from somewhere else), which is taken if it is the newer one.
        but: sessions of this process.

    Raises:
        NotebookError: the notebook carries one that cannot be read, and there is no other.
    """
    by_journal = None
    if earlier is not None:
        by_journal = Found(session=earlier.session, state_dir=told_state_dir or default_state_dir(), notebook=path)
    everything = carried(document)
    here = everything.session(everything.current)
    if everything.empty or (here is not None and here.session in but):
        return by_journal
    try:
        by_notebook = find_carried(document, path=path, state_dir=told_state_dir)
    except InputError:
        if by_journal is None:
            raise
        return by_journal
    if earlier is None or by_notebook.recorded == earlier.session:
        return by_notebook
    return by_notebook if here is not None and _saved_at(here) > earlier.used_at else by_journal


def _saved_at(here: CarriedSession) -> float:
    """When its newest turn was saved, in seconds since 1970; 0: it does not say."""
    newest = here.head or (here.turns[-1] if here.turns else None)
    return _seconds(newest.envelope["saved_at"]) if newest is not None else 0.0


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


# ----------------------------------------------------------------------------------------------------- of a notebook


def find_carried(document: Any, *, path: Path | None, state_dir: Path | None = None) -> Found:
    """The session of a notebook; `document` is the whole of it, `path` its file, where that is known.

    Raises:
        InputError: it carries none. NotebookError: that can be read.
    """
    everything = carried(document)
    here = chosen(everything, name="the notebook" if path is None else str(path))
    notes = tuple(problem.sentence for problem in everything.problems if problem in here.problems or problem.fatal)
    found = replace(_placed(here, path, state_dir), notes=notes)
    if not found.has_journal:
        return replace(found, carried=here, notes=(*notes, _BY_THE_NOTEBOOK_ALONE))
    try:
        journal = read_session(found.state_dir, here.session)
    except JournalError:
        return found  # whoever opens it says so, and what to do
    if not journal.turns and journal.running is None:
        return replace(found, carried=here)  # it was begun for what the notebook carries, and no more
    original = _original(journal, path)
    if original is not None:
        note = f"this notebook is a copy of {original}, which has session {here.session[:8]}: it goes its own way"
        return _branch(found, here, journal, note=note, foreign_kernel=True)
    return _together(found, here, journal)


_BY_THE_NOTEBOOK_ALONE = (
    "all that is known of this session is what the notebook carries: its conversation goes to the model as it stands "
    "(`lash-nb show` shows it)"
)


def _placed(here: CarriedSession, path: Path | None, state_dir: Path | None) -> Found:
    notebook = path.absolute() if path is not None else None
    beside = path.with_suffix(".lash") if path is not None else None
    places = [state_dir] if state_dir is not None else [*([beside] if beside is not None else []), default_state_dir()]
    for place in places:
        if segments(session_directory(place, here.session)):
            return Found(session=here.session, state_dir=place, notebook=notebook)
    place = beside if beside is not None and beside in places and beside.is_dir() else places[-1]
    return Found(session=here.session, state_dir=place, has_journal=False, notebook=notebook)


def _original(journal: RecordedSession, path: Path | None) -> Path | None:
    """Another notebook than that at `path` that has the session: the one that its journal names, or, when that was
    renamed, one beside it."""
    named = journal.facts.get("notebook")
    if path is None or not isinstance(named, str) or _is_same(Path(named), path):
        return None
    beside = sorted(path.absolute().parent.glob("*.ipynb"))[:_MOST_BESIDE]
    candidates = [Path(named)] if os.path.isfile(named) else [one for one in beside if not _is_same(one, path)]
    return next((one for one in candidates if _has_session(one, journal.id)), None)


_MOST_BESIDE = 200


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except OSError:
        return False


def _has_session(path: Path, session: str) -> bool:
    try:
        content = read_content(path)
    except OSError:
        return False
    # Most have it not, and parsing takes long.
    if content is None or session.encode("utf-8", "surrogatepass") not in content:
        return False
    document = read_document(path)
    return document is not None and carried(document).session(session) is not None


def _together(found: Found, here: CarriedSession, journal: RecordedSession) -> Found:
    """The journal, with what the notebook has beyond it; or the one of them that came further."""
    ours = {turn.number: str(turn.chain["sha256"]) for turn in journal.turns if turn.chain is not None}
    last = journal.turns[-1].number if journal.turns else 0
    apart = next((turn for turn in here.turns if ours.get(turn.number, turn.sha256) != turn.sha256), None)
    beyond = [turn for turn in here.turns if turn.number > last]
    head = here.head if here.head is not None and here.head.number > last else None
    if apart is None and not beyond and (head is None or not _is_ahead(head, journal)):
        return found
    new = beyond or [head] if head is not None else beyond
    if apart is None and journal.running is None and new and _continues(new[0], last, ours):
        return replace(found, carried=here, notes=(*found.notes, _taken_in(beyond, head)))
    first = apart or new[0]
    assert first is not None
    if apart is not None and not _came_further(here, journal):
        saved = visible(first.envelope["saved_at"], most=40)
        note = (
            f"turn {first.number} of the notebook ({first.place}, saved {saved}) is not that of session "
            f"{journal.id[:8]} here, which is gone on with: a fork; the notebook's stays in it"
        )
        return replace(found, notes=(*found.notes, note))
    note = (
        f"turn {first.number} of session {journal.id[:8]} went on elsewhere, and further; the notebook is gone on with "
        f"as a session of its own: a fork. The other one: resume {journal.id[:8]}"
    )
    return _branch(found, here, journal, note=note)


def _taken_in(beyond: Sequence[CarriedTurn], head: CarriedTurn | None) -> str:
    finished = [f"turn {turn.number}" for turn in (beyond[0], beyond[-1])] if beyond else []
    what = " to ".join(dict.fromkeys(finished)) + (" and " if finished and head else "")
    what += f"turn {head.number}, which was interrupted," if head is not None else ""
    return f"{what} came with the notebook, not from here; taken in when you go on"


def _is_ahead(head: CarriedTurn, journal: RecordedSession) -> bool:
    """Whether the turn in progress is none of the journal's, or came further elsewhere."""
    if journal.running is None or journal.running.number != head.number or head.text is None:
        return True
    ours = journal.running.checkpoint
    try:
        theirs = TurnCheckpoint.from_text(head.text, protocol_of(journal.running.asked.protocol))
    except (DecodeError, JournalError):
        return False
    return ours is None or (theirs.outstanding_effect_id or 0) > (ours.outstanding_effect_id or 0)


def _came_further(here: CarriedSession, journal: RecordedSession) -> bool:
    """Whether the notebook has more finished turns than the journal, or as many and is the newer one."""
    last = journal.turns[-1]
    newest = here.turns[-1]
    if newest.number != last.number:
        return newest.number > last.number
    return _saved_at(here) > _seconds(last.ended_at)


def _continues(turn: CarriedTurn, last: int, ours: dict[int, str]) -> bool:
    return turn.number == last + 1 and turn.parent == ours.get(last)


def _branch(
    found: Found, here: CarriedSession, journal: RecordedSession, *, note: str, foreign_kernel: bool = False
) -> Found:
    ours = {turn.number: turn.chain["sha256"] for turn in journal.turns if turn.chain is not None}
    common = [turn for turn in here.turns if ours.get(turn.number) == turn.sha256]
    at: dict[str, Json] = {"session": here.session, "turn": common[-1].number if common else 0}
    return replace(
        found,
        session=uuid.uuid4().hex,
        has_journal=False,
        carried=here,
        forked_from={**at, "sha256": common[-1].sha256 if common else None},
        original=here.session,
        foreign_kernel=foreign_kernel,
        notes=(*found.notes, note),
    )
