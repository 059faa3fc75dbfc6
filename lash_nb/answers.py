"""How a decision is asked for and given in words: at the prompt of a waiting cell, and by `%lash answer`.

Decided here: the words, what stands before them, and that an edited cell comes as a cell (`%%lash answer edit`), where
code can be written. An empty answer is none: nothing is agreed to by leaning on Enter.
"""

from __future__ import annotations

from .asking import Desk
from .errors import InputError
from .kernels import InputRequest
from .machine.approvals import Approval, Decision
from .views.document import visible
from .views.pieces import cut

__all__ = ["EDIT", "Edit", "ask_at", "decision_of", "edit_cell", "prompt", "shown"]

EDIT = "answer edit"
"""What stands behind `%%lash` above an edited cell."""
_SHOWN_CHARS = 100_000


class Edit(Exception):
    """The person wants to change the cell; never leaves the cell that waits."""


def decision_of(words: str, approval: Approval) -> Decision | None:
    """What somebody answered: yes, no with a reason, for effects also `all`; None: nothing that is known.

    Raises Edit: the cell is to be changed.
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
        case _:
            return None


def shown(approval: Approval) -> str:
    """What is to be decided, with the code in full."""
    code = "\n".join(f"    {line}" for line in visible(approval.code).split("\n"))
    if approval.wish is not None:
        return f"{visible(approval.question)} Its cell:\n\n{cut(code)}\n"
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
        if words.strip().casefold() in ("l", "later"):
            return None
        decision = decision_of(words, approval)
        if decision is not None:
            return decision
        first = ""


def prompt(approval: Approval) -> str:
    """The prompt of `ask_at`."""
    if approval.wish is not None:
        return "Allow it? yes, all (others like it, too), no [why]: "
    return "Run it? yes, no [why], edit, later: "


def edit_cell(approval: Approval) -> str:
    """The cell in which a person changes the agent's: to run it is the answer.

    Raises InputError: what waits is no cell.
    """
    if approval.wish is not None:
        raise InputError("the cell runs already and waits with an effect: `%lash answer yes` or `no [WHY]`")
    return f"%%lash {EDIT}\n{approval.code}"
