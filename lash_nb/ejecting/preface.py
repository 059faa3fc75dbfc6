"""The words at the top of a plain notebook: where it is from, and what has to be known of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..views.pieces import clean

__all__ = ["preface"]


def preface(name: str, said: Sequence[str]) -> str:
    """As Markdown; `name` is that of the notebook which it was made from, `said` a sentence each."""
    plain = clean(name).replace("`", "'")
    lines = [
        f"Made from `{plain}` by `lash-nb eject`: the code below was written by an agent, in answer to what is quoted "
        "above it. It runs without lash_nb."
    ]
    if said:
        about = "What to know (cells are numbered as they were there):"
        lines += ["", about, "", *(f"- {_listed(sentence)}" for sentence in said)]
    return "\n".join(lines)


def _listed(sentence: str) -> str:
    return re.sub(r"([\\*\[\]<>#|~$&])", r"\\\1", clean(sentence).replace("\n", " "))
