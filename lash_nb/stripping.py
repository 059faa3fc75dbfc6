"""What is ours taken out of a notebook: the block, and what outputs say of turns. The outputs themselves stay.

Decided here: the model that the notebook's author suggests stays unless all is to go; every other character stays as it
is. As a filter of git nothing ever fails by itself: what is not a notebook comes out as it went in, and why is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import NotebookError
from .stores.notebook import MODEL_KEY
from .stores.our_parts import GONE, with_changed_parts

__all__ = ["Stripped", "filtered", "stripped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripped:
    """A notebook without what is ours."""

    text: str
    """The same text when nothing was."""
    turns: int
    """How many turns it carried."""
    size: int
    """Bytes that were taken out."""
    suggestion: bool = False
    """Whether the model that its author suggests was among them."""

    @property
    def sentence(self) -> str:
        """What was taken out."""
        if not self.size:
            return "nothing of lash_nb to take out"
        what = [f"{self.turns} turn{'' if self.turns == 1 else 's'}"] if self.turns else []
        what += ["the suggested model"] if self.suggestion else []
        return f"{' and '.join(what) or 'what was left of lash_nb'} taken out ({self.size:,} bytes)"


def stripped(text: str, *, everything: bool = False) -> Stripped:
    """The notebook's text without what is ours; with `everything` its author's suggestion goes, too.

    Raises:
        NotebookError: it is not a notebook.
    """
    turns: set[tuple[str, int]] = set()
    suggestions: set[str] = set()

    def block(value: Any) -> Any:
        suggests = isinstance(value, dict) and isinstance(value.get(MODEL_KEY), str)
        keeps = suggests and not everything
        if value is GONE or (keeps and len(value) == 1):
            return value
        turns.update(_turns_of(value))
        if suggests and not keeps:
            suggestions.add(value[MODEL_KEY])
        return {MODEL_KEY: value[MODEL_KEY]} if keeps else GONE

    def copy(value: Any) -> Any:
        turns.update(_turn_of(value))
        return GONE

    made = with_changed_parts(text, block=block, copy=copy)
    size = _size(text) - _size(made)
    return Stripped(text=made, turns=len(turns), size=size, suggestion=bool(suggestions))


def filtered(data: bytes, *, everything: bool = False) -> tuple[bytes, str]:
    """What git is to keep of a file, and why that is all of it when it is no notebook. Never raises."""
    try:
        # Some write half a surrogate pair as if it were a character: it comes out as it went in.
        text = data.decode("utf-8", "surrogatepass")
        return stripped(text, everything=everything).text.encode("utf-8", "surrogatepass"), ""
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    except NotebookError as error:
        why = str(error)
    except Exception as error:  # a commit must not fail by us
        why = type(error).__name__
    return data, why


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _turns_of(block: object) -> Iterator[tuple[str, int]]:
    if isinstance(block, Mapping):
        for name in ("earlier", "turns"):
            envelopes = block.get(name)
            for envelope in envelopes if isinstance(envelopes, list) else ():
                yield from _turn_of(envelope)
        yield from _turn_of(block.get("head"))


def _turn_of(envelope: object) -> Iterator[tuple[str, int]]:
    if isinstance(envelope, Mapping):
        session, turn = envelope.get("session"), envelope.get("turn")
        if isinstance(session, str) and isinstance(turn, int):
            yield session, turn
