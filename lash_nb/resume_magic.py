"""The words behind `%lash resume` and `%lash history`: an earlier session is gone on with, followed, or looked at.

Decided here: what is outstanding is shown in full before anybody is asked, and nothing runs without a yes: `--yes`, or
an answer to `input()`. Where nobody can be asked the session is opened, and its turn waits. A session that another
process writes is only looked at. Everything heavy is imported when a word needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import can_ask
from .errors import InputError, JournalInUseError
from .machine.approvals import Decision
from .sessions import NotebookSessions
from .turn_words import who_goes_on

if TYPE_CHECKING:
    from .finding import Found
    from .following import Following
    from .live import CellTurn, InCell
    from .session import Session
    from .views import LiveView

__all__ = ["ResumeWord", "history_word"]

_FLAGS = ("--follow", "--no", "--yes")
_LOOK_S = 0.1
_MOST_NAMES = 12
_NOTHING_RUN = (
    "nothing was run; the turn stays interrupted: `%lash resume --yes` goes on with it, the next request leaves it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What stands behind `%lash resume`."""

    which: str = ""
    yes: bool = False
    no: bool = False
    follow: bool = False

    @classmethod
    def read(cls, line: str) -> _Given:
        words = line.split()
        flags = {word for word in words if word.startswith("-")}
        which = " ".join(word for word in words if word not in flags).strip("'\"")
        if not flags <= set(_FLAGS) or flags >= {"--yes", "--no"}:
            raise InputError(f"`%lash resume {line}`: it takes a session, and --yes, --no or --follow")
        return cls(which=which, yes="--yes" in flags, no="--no" in flags, follow="--follow" in flags)


class ResumeWord:
    """`%lash resume [SESSION] [--yes] [--no] [--follow]`, in the cell that runs now."""

    def __init__(self, here: InCell) -> None:
        self._here = here
        self._sessions = here.sessions

    def __call__(self, line: str) -> CellTurn | None:
        """Do it; the turn that is to be gone on with, which the cell has to wait for.

        Raises:
            InputError, UnknownNameError, NotebookError: there is no such session.
            JournalError: its journal cannot be read or written.
        """
        given = _Given.read(line)
        found = self._find(given.which)
        if found is None:
            print(
                "nothing was interrupted, and there is no earlier session of this notebook in "
                f"{self._sessions.state_dir}: `%lash resume SESSION` takes any other by its id, or the path of a "
                "notebook that carries one"
            )
            return None
        if given.follow:
            self._follow(found)
            return None
        try:
            session = self._opened(found)
        except JournalInUseError as error:
            self._offer_to_follow(found, error)
            return None
        outstanding = session.outstanding_sync()
        if outstanding is None:
            print(_holds(session))
            return None
        print(outstanding)
        print()
        return self._go_on(given)

    # -- which session -------------------------------------------------------------------------------------------------

    def _find(self, which: str) -> Found | None:
        """The session that is named, else the one that is next; None: there is none."""
        from .finding import Found, find_session

        if which:
            return find_session(which, state_dir=self._sessions.told_state_dir)
        current = self._sessions.current
        if current is not None and current.interrupted:  # it waits for a yes
            return Found(session=current.id, state_dir=current.state_dir)
        return self._sessions.past.left()

    def _opened(self, found: Found) -> Session:
        """The session, as the current one; says what has to be told of that."""
        before = self._sessions.current
        if before is not None and before.id == found.session:
            return before
        session = self._sessions.resume(found)
        if before is not None and (before.turns or before.interrupted):
            print(f"session {before.label} ({before.id[:8]}) and its kernel were ended")
        for note in session.notes:
            print(f"note: {note}")
        return session

    # -- going on ------------------------------------------------------------------------------------------------------

    def _go_on(self, given: _Given) -> CellTurn | None:
        from .live import CellRequest, CellTurn

        choice = who_goes_on(self._sessions)
        model = self._sessions.open(choice.name)
        self._here.announce(choice)
        if given.no:
            print(_NOTHING_RUN)
            return None
        if not given.yes and not self._agrees("Go on with it? [y/N] ", _NOTHING_RUN):
            return None
        session, pending = self._sessions.session(), self._sessions.session().pending
        if pending is not None and pending.held:
            session.decide(Decision.approve(), approval_id=pending.id)
        self._sessions.conducted = choice
        request = CellRequest(text=None, model=model, live=self._here.live)
        return CellTurn(request, self._sessions, on_shown=self._here.on_shown)

    def _agrees(self, question: str, otherwise: str) -> bool:
        """Whether the person says yes; says `otherwise` where that is not so, or nobody can be asked."""
        agreed = False
        if can_ask(self._here.shell):
            try:
                agreed = input(question).strip().casefold() in ("y", "yes")
            except (EOFError, OSError):
                pass  # no terminal, or the end of its input
            except KeyboardInterrupt as error:
                _shown_as(error, f"KeyboardInterrupt: {otherwise}")
                raise
        if not agreed:
            print(otherwise)
        return agreed

    # -- following -----------------------------------------------------------------------------------------------------

    def _offer_to_follow(self, found: Found, error: JournalInUseError) -> None:
        print(error)
        otherwise = f"`%lash resume {found.session} --follow` shows its turn as it goes on there, and changes nothing."
        if self._agrees("Follow its turn, without changing anything? [y/N] ", otherwise):
            self._follow(found)

    def _follow(self, found: Found) -> None:
        from .following import Following
        from .live import publish
        from .stores.blobs import BlobStore
        from .views.text import static_bundle

        following = Following(found.state_dir, found.session)
        if following.look():
            assert following.turn is not None
            print(
                f"turn {following.turn.number} of session {found.session[:8]} runs in another process: Stop, or "
                "an interrupt of this cell, ends the watching; the turn goes on"
            )
            try:
                self._watch(following)
            except KeyboardInterrupt as error:
                _shown_as(error, f"KeyboardInterrupt: {_followed(following, found.session)}")
                raise
            finally:
                store = BlobStore(found.state_dir / "blobs")
                publish(static_bundle(following.picture, store=store, with_request=True), {})
        print(_followed(following, found.session))

    def _watch(self, following: Following) -> None:
        """Draw the turn until it is over or the person has seen enough."""
        enough = threading.Event()
        view = self._view(enough.set)
        try:
            while True:
                view.show(following.picture)
                view.tick()
                if enough.wait(_LOOK_S) or not following.look():
                    break
        finally:
            view.close(following.picture)

    def _view(self, on_stop: Callable[[], None]) -> LiveView:
        from .views import ViewActions
        from .views.live import QuietView, choose_view

        if not self._here.live:
            return QuietView()
        # The turn is another process's: nothing can be decided or said here.
        return choose_view(actions=ViewActions(stop=on_stop))


def _shown_as(error: BaseException, sentence: str) -> None:
    """What IPython shows of it, in place of what the magics say of any interrupt."""
    error.__dict__["_render_traceback_"] = lambda: [sentence]


def _followed(following: Following, session: str) -> str:
    turn = following.turn
    if turn is None:
        return f"no turn of session {session[:8]} runs now: `%lash history {session[:8]}` shows those that there are"
    if turn.ended:
        return f"turn {turn.number} of session {session[:8]} has ended there"
    if following.abandoned:
        return f"the process that ran turn {turn.number} is gone: `%lash resume {session[:8]}` goes on with it"
    return f"turn {turn.number} of session {session[:8]} goes on there, and is not followed any more"


def _holds(session: Session) -> str:
    """What a session has that is gone on with."""
    from .reports import count

    turns = f"session {session.label} ({session.id[:8]}): {count(len(session.turns), 'turn')}"
    kernel = session.kernel
    before = session.past.kernels.get(kernel.language) if kernel is not None else None
    if kernel is None or before is None:
        return f"{turns}; it had no kernel"
    if kernel.alive and kernel.epoch == before.epoch:
        return f"{turns}; its kernel lives: the variables are there"
    names = [variable.name for variable in session.past.known.variables]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    lost = f", and with it: {', '.join(names[:_MOST_NAMES])}{more} (the model is told)" if names else ""
    return f"{turns}; its kernel is gone{lost}"


# ------------------------------------------------------------------------------------------------------------- history


def history_word(which: str, sessions: NotebookSessions) -> None:
    """`%lash history [N | SESSION | SESSION.N]`: turns of the current session, or of any that has a journal here.

    Raises:
        InputError, UnknownNameError: there is no such turn or session.
        JournalError: its journal cannot be read.
    """
    from .reports import history_text, pick_turn

    if not which:
        print(history_text(sessions.current))
    elif which.isascii() and which.isdigit():
        from .live import publish

        publish(pick_turn(sessions.current, which, word="history").bundle(with_request=True), {})
    else:
        _recorded_history(which, sessions)


def _recorded_history(which: str, sessions: NotebookSessions) -> None:
    from .finding import find_session
    from .following import read_session
    from .live import publish
    from .reports import pick_recorded, recorded_history
    from .stores.blobs import BlobStore
    from .views.text import static_bundle

    name, dot, number = which.rpartition(".")
    by_number = bool(dot and name) and number.isascii() and number.isdigit()
    found = find_session(name if by_number else which, state_dir=sessions.told_state_dir)
    session = read_session(found.state_dir, found.recorded)
    if not by_number:
        print(recorded_history(session))
        return
    turn = pick_recorded(session, int(number))
    if not turn.ended:
        print(f"turn {turn.number} has not ended; this is what is recorded of it")
    bundle = static_bundle(turn.picture(), store=BlobStore(found.state_dir / "blobs"), with_request=True)
    publish(bundle, {})
