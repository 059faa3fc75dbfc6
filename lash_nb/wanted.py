"""Which variables a request is to leave for the notebook, and what the model is told of it.

Decided here: those that are named (`-o`), and names in backticks in the request that nothing has yet: whoever writes
"clean it as `tidy`" wants `tidy`. Pure.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Collection, Iterable, Sequence

from .errors import InputError

__all__ = ["checked_names", "context_text", "names_of", "wanted_names"]

_BACKTICKED = re.compile(r"(?<!`)`([^\W\d]\w*)`(?!`)")
_FENCED = re.compile(r"^(```+|~~~+).*?(?:^\1|\Z)", re.DOTALL | re.MULTILINE)


def wanted_names(text: str, *, known: Collection[str]) -> tuple[str, ...]:
    """The names in backticks in a request that are none of `known`, in order; none of Python's own."""
    found = dict.fromkeys(_BACKTICKED.findall(_FENCED.sub("", text)))
    return tuple(name for name in found if name not in known and _is_name(name) and not hasattr(builtins, name))


def names_of(text: str) -> tuple[str, ...]:
    """The names of an option, between commas or spaces."""
    return tuple(re.split(r"[\s,]+", text.strip(" ,\t"))) if text.strip(" ,\t") else ()


def checked_names(names: Iterable[object], *, what: str) -> tuple[str, ...]:
    """The names, each once. Raises InputError: one can be no variable's; `what` says where it stands."""
    checked: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or not _is_name(name):
            raise InputError(f"{what}: {name!r} is not the name of a variable")
        checked[name] = None
    return tuple(checked)


def context_text(context: str, results: Sequence[str], maybe: Collection[str] = (), *, typed: bool = False) -> str:
    """What the model is told with a request; empty: nothing.

    `typed`: the turn has to give a value, and the first result is that.
    """
    value = wanted = likely = ""
    if typed and results:
        value = (
            f"The value that you give to finish(…) becomes the user's variable {results[0]}; you need not leave one of "
            "that name in your kernel."
        )
        results = results[1:]
    if results:
        named = ", ".join(results)
        wanted = (
            f"The user wants these variables; leave them in your kernel under just these names: {named}. "
            "They are copied into the user's notebook when you have answered."
        )
    if maybe:
        likely = (
            "Names in backticks that do not exist yet may be what the user wants to call a result. If so, leave it in "
            f"your kernel under just that name, and it is copied into the user's notebook: {', '.join(maybe)}."
        )
    return "\n\n".join(filter(None, (context, value, wanted, likely)))


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)
