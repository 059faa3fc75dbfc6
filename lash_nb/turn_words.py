"""The words of `%lash` that are about the turn at hand: answer, approve, pull, say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .answers import Edit, decision_of, edit_cell, shown
from .deciding import known_mode
from .errors import InputError
from .machine.approvals import Approval, ApprovalMode, Decision, Verdict
from .pulled import Pulled
from .sessions import NotebookSessions

if TYPE_CHECKING:
    from .session import Session

__all__ = ["answer_word", "approve_word", "edited", "pull_word", "say_word"]

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


def answer_word(words: str, sessions: NotebookSessions, *, shell: Any) -> bool:
    """`%lash answer yes|no [WHY]|edit`: whether a turn that was left waiting is to be gone on with.

    Raises:
        InputError: nothing waits, or that is no answer to it.
    """
    session, approval = _waiting(sessions)
    if not words:
        print(shown(approval))
        print(f"`%lash answer {_answers(approval)}`")
        return False
    try:
        decision = decision_of(words, approval)
    except Edit:
        shell.set_next_input(edit_cell(approval))
        print("The cell is below: change it and run it.")
        return False
    if decision is None:
        raise InputError(f"{words!r} is no answer: `%lash answer {_answers(approval)}`")
    return _decided(session, approval, decision)


def edited(code: str, sessions: NotebookSessions) -> bool:
    """`%%lash answer edit`, with the code below: whether a turn is to be gone on with. Raises InputError."""
    session, approval = _waiting(sessions)
    return _decided(session, approval, Decision(verdict=Verdict.EDITED, code=code.strip("\n")))


def _waiting(sessions: NotebookSessions) -> tuple[Session, Approval]:
    session = sessions.current
    approval = session.pending if session is not None else None
    if session is None or approval is None:
        raise InputError(_NOTHING_WAITS)
    return session, approval


def _decided(session: Session, approval: Approval, decision: Decision) -> bool:
    left = not session.running
    if not session.decide(decision, approval_id=approval.id):
        raise InputError(_NOTHING_WAITS)
    if not left:
        print(f"answered: {decision.verdict}")
    return left


def _answers(approval: Approval) -> str:
    return "yes|all|no [WHY]" if approval.wish is not None else "yes|no [WHY]|edit"
