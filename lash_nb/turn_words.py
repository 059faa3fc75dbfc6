"""The words of `%lash` that are about the turn at hand: answer, approve, pull, say."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .answers import Edit, decision_of, edit_cell, shown
from .deciding import known_mode
from .errors import InputError, UnknownModelError
from .machine.approvals import Approval, ApprovalMode, Decision
from .models.choice import ModelChoice
from .pulled import Pulled
from .sessions import NotebookSessions

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
        InputError: nothing waits, that is no answer to it, or no model can go on. Nothing is decided then.
    """
    _, approval = _waiting(sessions)
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
    if decision is None:
        raise InputError(f"{words!r} is no answer: `%lash answer {_answers(approval)}`")
    return _decided(sessions, approval, decision)


def edited(code: str, sessions: NotebookSessions) -> ModelChoice | None:
    """`%%lash answer edit`, with the code below: as `answer_word`. Raises InputError."""
    _, approval = _waiting(sessions)
    return _decided(sessions, approval, Decision.edit(code.strip("\n")))


def _waiting(sessions: NotebookSessions) -> tuple[Session, Approval]:
    session = sessions.current
    approval = session.pending if session is not None else None
    if session is None or approval is None:
        raise InputError(_NOTHING_WAITS)
    return session, approval


def _decided(sessions: NotebookSessions, approval: Approval, decision: Decision) -> ModelChoice | None:
    session, _ = _waiting(sessions)
    # Before it is decided: without a model the turn stays as it is.
    choice = None if session.running else who_goes_on(sessions)
    if not session.decide(decision, approval_id=approval.id):
        raise InputError(_NOTHING_WAITS)
    if choice is None:
        print(f"answered: {decision.verdict}")
    return choice


def _answers(approval: Approval) -> str:
    return "yes|all|no [WHY]" if approval.wish is not None else "yes|no [WHY]|edit"
