"""How a decision is asked for and given in words: at the prompt of a waiting cell, and by `%lash answer`.

Decided here: the words, what stands before them, and that an edited cell comes as a cell (`%%lash answer edit`), where
code can be written. An empty answer is none: nothing is agreed to by leaning on Enter. A cell can be left for later, an
effect cannot: its cell runs, and would take silence for a refusal.
"""

from __future__ import annotations

from dataclasses import replace

from .asking import Desk
from .errors import InputError
from .kernels import InputRequest
from .machine.approvals import Approval, Decision
from .machine.picture import TurnPicture
from .machine.sequences import GrowingText
from .views.document import visible
from .views.pieces import cut
from .views.text import picture_text

__all__ = ["EDIT", "Edit", "Later", "ask_at", "decision_of", "edit_cell", "led_here", "prompt", "shown", "unknown"]

EDIT = "answer edit"
"""What stands behind `%%lash` above an edited cell."""
_SHOWN_CHARS = 100_000
_LED_CHARS = 2_000
"""Of the beginning and of the end each, of what led to a question."""
_CANNOT_WAIT = "This cannot wait: the cell runs already. Allow it, or say no, which the cell sees as a PermissionError."
_CANNOT_BE_EDITED = "Only a cell can be edited, and this one runs already: allow what it asks, or say no."


class Edit(Exception):
    """The person wants to change the cell; never leaves the cell that waits."""


class Later(Exception):
    """The person wants to decide another time; never leaves what asked."""


def decision_of(words: str, approval: Approval) -> Decision | None:
    """What somebody answered: yes, no with a reason, for effects also `all`; None: nothing that can be taken.

    Raises Edit, Later: the cell is to be changed, or to be decided on another time; of cells only.
    """
    word, _, why = words.strip().partition(" ")
    match word.casefold().rstrip(":,"):
        case "y" | "yes":
            return Decision.approve()
        case "a" | "all" if approval.wish is not None:
            return Decision.approve(alike=True)
        case "n" | "no":
            return Decision.reject(why.strip())
        case "e" | "edit" if approval.wish is None and not why:
            raise Edit
        case "l" | "later" if approval.held and not why:
            raise Later
        case _:
            return None


def unknown(words: str, approval: Approval) -> str:
    """What is to be said of an answer that is none before it is asked again; empty: nothing."""
    word = words.strip().casefold()
    if not approval.held and word in ("l", "later"):
        return _CANNOT_WAIT
    return _CANNOT_BE_EDITED if approval.wish is not None and word in ("e", "edit") else ""


def shown(approval: Approval) -> str:
    """What is to be decided, with the code in full."""
    code = "\n".join(f"    {line}" for line in visible(approval.code).split("\n"))
    if approval.wish is not None:
        return f"{visible(approval.question)}" + ("\n" if approval.call_id else f" Its cell:\n\n{cut(code)}\n")
    return f"{approval.question}\n\n{cut(code, head_chars=_SHOWN_CHARS, tail_chars=_SHOWN_CHARS)}\n"


def ask_at(desk: Desk, approval: Approval, request: InputRequest) -> Decision | None:
    """Ask at a cell's prompt until there is an answer; None: later, or nobody can be asked. Blocks.

    Raises Edit: the cell is to be changed.
    """
    first = shown(approval)
    while True:
        try:
            words = desk.ask(request, asks="", first=first)
        except EOFError:
            return None
        try:
            decision = decision_of(words, approval)
        except Later:
            return None
        if decision is not None:
            return decision
        first = unknown(words, approval)


def prompt(approval: Approval) -> str:
    """The prompt of `ask_at`."""
    if approval.wish is not None:
        return f"Allow it? yes, all (others like it, too), no [why]{', later' if approval.call_id else ''}: "
    return "Run it? yes, no [why], edit, later: "


def edit_cell(approval: Approval) -> str:
    """The cell in which a person changes the agent's: to run it is the answer.

    Raises InputError: what waits is no cell.
    """
    if approval.wish is not None:
        what = "what waits is no cell" if approval.call_id else "the cell runs already and waits with an effect"
        raise InputError(f"{what}: `%lash answer yes` or `no [WHY]`")
    return f"%%lash {EDIT}\n{approval.code}"


def led_here(picture: TurnPicture) -> str:
    """What a turn that waits did until then, in short: prose, cells and outputs, without what waits; empty: nothing."""
    steps = picture.steps
    if picture.pending is not None and picture.pending.wish is None and steps:
        # The cell that waits is shown with the question.
        steps = (*steps[:-1], replace(steps[-1], code=None, draft=GrowingText()))
    steps = tuple(step for step in steps if step.prose.strip() or step.source is not None or step.tool_calls)
    if not steps and not picture.notes:
        return ""
    text = picture_text(replace(picture, steps=steps, pending=None))
    return visible(cut(text.rpartition("\n\n[")[0], head_chars=_LED_CHARS, tail_chars=_LED_CHARS))
