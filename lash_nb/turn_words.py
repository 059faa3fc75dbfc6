"""The words of `%lash` that are about the turn at hand: answer, approve, pull, say.

Decided here: an answer that comes too late (a click was quicker, "Run all" runs the cell again) is told what became of
the question, as the session's record has it, and is no error; where nothing ever waited it is one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .answers import Edit, Later, decision_of, edit_cell, shown
from .deciding import known_mode
from .errors import DecodeError, InputError, JournalError, UnknownModelError
from .following import read_session
from .machine.activities import TURN_ACTIVITY
from .machine.activity import ApprovalAsked, ApprovalDecided
from .machine.approvals import Approval, ApprovalMode, Decision, Verdict
from .models.choice import ModelChoice
from .pulled import Pulled
from .recorded import RecordedTurn
from .sessions import NotebookSessions
from .views.document import visible
from .views.pieces import cut

if TYPE_CHECKING:
    from .session import Session

__all__ = ["answer_word", "approve_word", "edited", "pull_word", "say_word", "who_goes_on"]

_MODES = {
    ApprovalMode.ALL: "nothing is asked",
    ApprovalMode.EFFECTS: (
        "what code does beyond computing is asked: to write or delete outside of the working directory, to start "
        "programs, to connect to new hosts (a courtesy of the agent's kernel, no sandbox)"
    ),
    ApprovalMode.EVERY: "every cell is asked before it runs",
    ApprovalMode.PLAN: "no code runs: the agent says what it would do",
}
_NOTHING_WAITS = (
    "nothing waits for an answer; `%lash` says how things stand, and `%lash resume` shows what an earlier session left"
)


def approve_word(which: str, sessions: NotebookSessions) -> None:
    """`%lash approve [MODE]`: what is asked, or another mode until the session ends. Raises InputError."""
    if which:
        sessions.approve = known_mode(which)
    mode = sessions.mode()
    print(f"approve {mode}: {_MODES[mode]}")
    if which and mode is not known_mode(which):
        print(f"note: {which} was not taken, because the run or its surroundings want {mode}")
    if not which:
        print(f"Others: {', '.join(other for other in ApprovalMode if other is not mode)}. They hold for this session.")


def say_word(text: str, sessions: NotebookSessions) -> None:
    """`%lash say TEXT`. Raises InputError: there is no text, or no session."""
    session = sessions.current
    if not text:
        raise InputError("there is nothing to say: `%lash say TEXT`")
    if session is None:
        raise InputError("there is no session yet to say something to: `%lash ask TEXT` asks something new")
    session.say(text)
    when = "the turn is told at its next pause" if session.running else "it is told with the next turn"
    print(f"said; {when}")


def pull_word(line: str, pulled: Pulled) -> None:
    """`%lash pull NAME... [--as X]`. Raises InputError, KernelError: one cannot be had; no later one is pulled."""
    names = line.split()
    wanted = None
    if "--as" in names:
        at = names.index("--as")
        if at != len(names) - 2 or at != 1:
            raise InputError("`%lash pull NAME --as X` takes one name, and what to call it")
        wanted, names = names[-1], names[:1]
    if not names:
        raise InputError("which variable? `%lash pull NAME...` brings copies of the agent's variables over")
    for name in names:
        print(pulled.now(name, wanted=wanted))


def who_goes_on(sessions: NotebookSessions) -> ModelChoice:
    """The model of the turn that is gone on with, opened: of one that was left waiting here, the one that it had.

    Raises InputError: there is none, or it cannot be opened.
    """
    before, choice = sessions.conducted, None
    with suppress(UnknownModelError):
        choice = sessions.choose()
    if before is not None and not sessions.ordered and (choice is None or choice.name != before.name):
        choice = replace(sessions.choose(before.name), why="the turn that goes on")
    choice = choice or sessions.choose()
    sessions.open(choice.name)
    return choice


def answer_word(words: str, sessions: NotebookSessions, *, shell: Any) -> ModelChoice | None:
    """`%lash answer yes|no [WHY]|edit`: who answers where a turn that was left waiting is to be gone on with.

    Raises:
        InputError: nothing ever waited, that is no answer to it, or no model can go on. Nothing is decided then.
    """
    waiting = _waiting(sessions)
    if waiting is None:
        return None
    _, approval = waiting
    if not words:
        print(shown(approval))
        print(f"`%lash answer {_answers(approval)}`")
        return None
    try:
        decision = decision_of(words, approval)
    except Edit:
        shell.set_next_input(edit_cell(approval))
        print("The cell is below: change it and run it.")
        return None
    except Later:
        print("it goes on waiting; nothing is decided")
        return None
    if decision is None:
        raise InputError(f"{words!r} is no answer: `%lash answer {_answers(approval)}`")
    return _decided(sessions, approval, decision)


def edited(code: str, sessions: NotebookSessions) -> ModelChoice | None:
    """`%%lash answer edit`, with the code below: as `answer_word`. Raises InputError."""
    waiting = _waiting(sessions)
    return None if waiting is None else _decided(sessions, waiting[1], Decision.edit(code.strip("\n")))


def _waiting(sessions: NotebookSessions) -> tuple[Session, Approval] | None:
    """What waits; None: nothing does any more, and what became of it was said."""
    session = sessions.current
    approval = session.pending if session is not None else None
    if session is not None and approval is not None:
        return session, approval
    told = _settled(session) if session is not None else ""
    if not told:
        raise InputError(_NOTHING_WAITS)
    print(f"nothing waits for an answer any more: {told}")
    return None


def _settled(session: Session) -> str:
    """What became of the last question that waited for a person; empty: there was none."""
    try:
        recorded = read_session(session.state_dir, session.id)
    except JournalError:
        return ""  # nothing was recorded yet
    running = [recorded.running] if recorded.running is not None else []
    with suppress(DecodeError):
        return next(filter(None, map(_last_question, reversed([*recorded.turns, *running]))), "")
    return ""


def _last_question(turn: RecordedTurn) -> str:
    decided: dict[str, Decision] = {}
    for told in reversed(turn.told):
        if not isinstance(told, dict) or told.get("type") not in ("approval_asked", "approval_decided"):
            continue
        match TURN_ACTIVITY.decode(told):
            case ApprovalDecided(approval=approval, decision=decision):
                decided.setdefault(approval.id, decision)
            case ApprovalAsked(approval=approval):
                return _became(approval, decided.get(approval.id), turn.number)
            case _:
                pass
    return ""


def _became(approval: Approval, decision: Decision | None, turn: int) -> str:
    what = cut(visible(str(approval.wish)), head_chars=200, tail_chars=0) if approval.wish is not None else "its cell"
    if decision is None or decision.by_policy:
        return f"turn {turn} went on without an answer to its question ({what})"
    verb = {Verdict.APPROVED: "allowed", Verdict.EDITED: "edited", Verdict.REJECTED: "rejected"}[decision.verdict]
    return f"of turn {turn} you {verb}: {what}" + (f" ({visible(decision.why)})" if decision.why else "")


def _decided(sessions: NotebookSessions, approval: Approval, decision: Decision) -> ModelChoice | None:
    waiting = _waiting(sessions)
    if waiting is None:
        return None
    session, _ = waiting
    # Before it is decided: without a model the turn stays as it is.
    choice = None if session.running else who_goes_on(sessions)
    if not session.decide(decision, approval_id=approval.id):
        print(f"nothing waits for this answer any more: {_settled(session) or 'the turn has ended'}")
        return None
    if choice is None:
        print(f"answered: {decision.verdict}")
    return choice


def _answers(approval: Approval) -> str:
    return "yes|all|no [WHY]" if approval.wish is not None else "yes|no [WHY]|edit"
