"""How much of what a kernel's variables hold is told to a model: three words, and the most that is allowed here.

Decided here: `sample` where nobody says anything else; what `LASH_NB_PREVIEWS` says is the most, whatever a notebook or
a configuration wants. A word that is none is refused: nobody should believe that less is sent than is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from .errors import InputError

__all__ = ["PREVIEWS_VARIABLE", "Previews", "allowed_previews", "known_previews", "told_of_variables"]

Previews = Literal["schema", "sample", "full"]
"""From the least: names, types, shapes and columns alone; some dozen characters of each value; up to 2,000 of each."""

PREVIEWS_VARIABLE = "LASH_NB_PREVIEWS"

_WORDS: tuple[Previews, ...] = get_args(Previews)


def known_previews(word: str, *, what: str = "previews") -> Previews:
    """The word, when it is one.

    Raises:
        InputError: it is none; `what` says where it stands.
    """
    found = next((known for known in _WORDS if known == word), None)
    if found is None:
        raise InputError(f"{what} is {word!r}; it is one of: {', '.join(_WORDS)}")
    return found


def allowed_previews(wanted: Previews | None, *, env: Mapping[str, str]) -> Previews:
    """What is wanted (None: `sample`), or less, where the environment allows no more.

    Raises:
        InputError: what the environment says is no such word.
    """
    most = env.get(PREVIEWS_VARIABLE, "").strip()
    allowed = known_previews(most, what=PREVIEWS_VARIABLE) if most else _WORDS[-1]
    return min(wanted or "sample", allowed, key=_WORDS.index)


def told_of_variables(previews: Previews) -> str:
    """What the user is told of it."""
    match previews:
        case "schema":
            return "names and types of your and its variables"
        case "sample":
            return "short values of your and its variables"
        case "full":
            return "long values of your and its variables"
