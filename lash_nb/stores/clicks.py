"""What people click on the pages of a notebook, as its kernel hears of it: a variable to pull, a turn's code as cells.

Decided here: what a page says is looked at before anybody acts on it, and what cannot be done is said at once. A kernel
cannot tell a click from another message: whoever can send it messages can run code in it anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, Protocol, TypeAlias

__all__ = ["OPS", "Clicks", "OnInsert", "OnPull", "Spot", "Tell", "cell_of", "client_of", "running_spot", "short"]

OPS = ("insert", "pull")
"""What a page asks for."""
_LONGEST, _LONGEST_NAME = 4096, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place in a notebook, where something was clicked or runs: a cell of it, on one of its pages."""

    cell: str | None
    """Its id; None: the page does not say."""
    said: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The message that came from there; what is sent because of it is for that page."""

    @property
    def client(self) -> str:
        """The connection of that page."""
        return client_of(self.said)


Tell: TypeAlias = Callable[[str], None]
"""Told how it went, in a sentence, once, from any thread."""
OnPull: TypeAlias = Callable[[str, Tell], None]
"""The name of a variable, and who is to be told how that went."""


class OnInsert(Protocol):
    """Has a turn's code put below the cell of `spot`; False: there is no such turn here, and nobody is told."""

    def __call__(self, turn: int, session: str, done: Tell, *, spot: Spot) -> bool: ...


class Clicks:
    """Who does what is clicked; None: nobody can."""

    def __init__(self, *, on_pull: OnPull | None = None, on_insert: OnInsert | None = None) -> None:
        self._on_pull, self._on_insert = on_pull, on_insert

    def take(self, data: Mapping[str, Any], message: Mapping[str, Any], send: Callable[[dict[str, Any]], None]) -> None:
        """One of `OPS`: have it done; `send` answers the page.

        An insertion takes its time: the page first hears `ok` without a text, when it is taken on.
        """
        answer = {"op": f"{data['op']}ed", "id": short(data.get("id"))}

        def told(text: str, ok: bool = True) -> None:
            send({**answer, "ok": ok, "text": text})

        if data["op"] == "pull":
            self._pull(data.get("name"), told)
        elif self._insert(data, told, Spot(cell=short(data.get("cell")) or None, said=message)):
            send({**answer, "ok": True})
        else:
            told("Nothing was inserted: this kernel does not have that turn.", False)

    def _pull(self, name: object, told: Callable[..., None]) -> None:
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isidentifier() or iskeyword(name):
            told("Nothing was pulled: that is not the name of a variable.", False)
        elif self._on_pull is None:
            told("Nothing was pulled: this kernel cannot do that.", False)
        else:
            self._on_pull(name, told)

    def _insert(self, data: Mapping[str, Any], told: Tell, spot: Spot) -> bool:
        turn, session = data.get("turn"), data.get("session")
        if (
            self._on_insert is None
            or not isinstance(turn, int)
            or isinstance(turn, bool)
            or not isinstance(session, str)
        ):
            return False
        return self._on_insert(turn, session, told, spot=spot)


def short(value: object) -> str:
    """A text that a page sent, cut where none of ours ends; empty when it is none."""
    return value[:_LONGEST] if isinstance(value, str) else ""


def client_of(message: Mapping[str, Any]) -> str:
    """The session of whoever sent a message; that of a cell's request is the page's."""
    header = message.get("header")
    return short(header.get("session")) if isinstance(header, Mapping) else ""


def cell_of(message: Mapping[str, Any]) -> str | None:
    """The id of the cell whose run a message asks for, where its page says it."""
    metadata = message.get("metadata")
    return (short(metadata.get("cellId")) or None) if isinstance(metadata, Mapping) else None


def running_spot(message: Mapping[str, Any]) -> Spot | None:
    """Where the cell stands whose run a message asks for; None: it asks for something else."""
    header = message.get("header")
    runs = isinstance(header, Mapping) and header.get("msg_type") == "execute_request"
    return Spot(cell=cell_of(message), said=message) if runs else None
