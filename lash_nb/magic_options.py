"""The options of `%%lash`: their names, their help, and how a method becomes a magic that takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from IPython.core import magic_arguments
from IPython.core.magic import line_cell_magic, no_var_expand

from .answers import EDIT

__all__ = ["OPTIONS_NOT_BUILT", "as_magic", "is_edit", "unquoted"]

Magic = TypeVar("Magic", bound=Callable[..., Any])

OPTIONS_NOT_BUILT = (
    "--kernel", "--max-cost",
)  # fmt: skip

_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-m", "--model"), {"metavar": "MODEL", "help": "the model for this cell alone"}),
    (("-t", "--type"), {"metavar": "TYPE", "help": "the type of the turn's value, in Python; or a JSON Schema"}),
    (("-i", "--inputs"), {"metavar": "NAMES", "help": "variables of yours of which the agent gets copies at once"}),
    (
        ("-o", "--outputs"),
        {
            "metavar": "NAMES",
            "help": "variables of the agent's that you get copies of at the end; with -t the first is the turn's value",
        },
    ),
    (
        ("--no-share",),
        {
            "action": "store_true",
            "help": "the agent sees none of your variables and gets none (it keeps copies that it has)",
        },
    ),
    (
        ("--check",),
        {
            "metavar": "EXPR",
            "action": "append",
            "help": "what must hold in the agent's kernel before the turn may end; repeatable",
        },
    ),
    (
        ("--keep",),
        {"action": "store_true", "help": "keep the code: the next run of the cell needs a model only where it fails"},
    ),
    (("--refresh",), {"action": "store_true", "help": "ask the model anew for what is kept; with --keep"}),
    (("--context",), {"metavar": "N", "type": int, "help": "of how many of your earlier cells the model is told (20)"}),
    (("--max-steps",), {"metavar": "N", "type": int, "help": "how many model calls the turn may take"}),
    (("--approve",), {"metavar": "MODE", "help": "what is asked about: effects, every (cell), all (nothing is), plan"}),
    (
        ("--sandbox",),
        {
            "action": "store_true",
            "help": "the session's kernel runs without network, and writes in the working directory alone (Linux)",
        },
    ),
    (("--new",), {"action": "store_true", "help": "begin a new session: empty history, fresh kernel"}),
    (("-q", "--quiet"), {"action": "store_true", "help": "draw nothing; leave one line, and the turn's record"}),
    (("--no-raise",), {"action": "store_true", "help": "return a turn that failed instead of raising"}),
)


def as_magic(function: Magic) -> Magic:
    """A line and cell magic with the options above; the one place for decorators whose types say too little."""
    decorated: Any = line_cell_magic(function)
    arguments: Any = magic_arguments
    for names, options in reversed(_OPTIONS):
        decorated = arguments.argument(*names, **options)(decorated)
    magic: Magic = no_var_expand(arguments.magic_arguments()(decorated))
    return magic


def is_edit(line: str) -> bool:
    """Whether `%%lash LINE` holds a cell that a person changed."""
    return line.split() == EDIT.split()


def unquoted(text: str) -> str:
    """An argument as it was meant: IPython leaves the quotes on."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
