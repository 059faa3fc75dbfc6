"""`%lash insert [TURN]`, and the Insert of a page: the agent's code as ordinary cells below.

Decided here: what is inserted was tried out first, and what does not run is not inserted. Where nobody can put cells
into the notebook, they come as the next input, which is one cell; in an unattended run they are printed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .accepted.statements import plain
from .bridge import shared_loop
from .errors import InputError, LashError
from .inserting.offering import Offer, offered

if TYPE_CHECKING:
    from .session import Session
    from .sessions import NotebookSessions
    from .stores.clicks import Spot
    from .turns import Turn

__all__ = ["insert_soon", "insert_word"]

_TRIED = "in a fresh kernel it ran from top to bottom"


def insert_word(line: str, sessions: NotebookSessions, *, shell: Any) -> None:
    """`%lash insert [TURN]`: a turn's code as cells below; without a number, that of the last turn with code. Blocks.

    Raises:
        InputError: there is no such turn, it has no code, or what it has does not run by itself.
    """
    session, turn = _turn(line, sessions)
    offer = shared_loop().run(offered(session, turn, names=_names(sessions)))
    if not offer.verified:
        raise InputError(f"nothing was inserted: {_why_not(offer, turn)}")
    count, note = len(offer.cells), f" Note: {offer.note}." if offer.note else ""
    if sessions.run is not None:
        print(f"# the code of turn {turn.number}; {_TRIED}.{note}\n{_as_one(offer.cells)}")
    elif sessions.copying.insert_cells(offer.cells, _told):
        print(f"{count} cell{'' if count == 1 else 's'} below: the code of turn {turn.number}; {_TRIED}.{note}")
    else:
        shell.set_next_input(_as_one(offer.cells))
        print(f"The next cell has the code of turn {turn.number}; {_TRIED}.{note}")


def _as_one(cells: Sequence[str]) -> str:
    """Several cells as one: a magic that takes a whole cell becomes the call that it is."""
    return (
        cells[0]
        if len(cells) == 1
        else "\n\n".join(plain(one).strip("\n") if one.startswith("%%") else one for one in cells)
    )


def insert_soon(
    turn: int, session: str, sessions: NotebookSessions, done: Callable[[str], None], *, spot: Spot | None = None
) -> bool:
    """Insert a turn's code without waiting, from any thread; `done` is told how it went, once, in a sentence.

    `spot` is where it was clicked. False: there is no such turn here, and nobody is told.
    """
    current = sessions.current
    found = next((one for one in current.turns if one.number == turn), None) if current is not None else None
    if current is None or current.id != session or found is None:
        return False
    work = _inserted(current, found, sessions, done, spot=spot, names=_names(sessions))
    asyncio.run_coroutine_threadsafe(work, shared_loop().loop)
    return True


async def _inserted(
    session: Session,
    turn: Turn,
    sessions: NotebookSessions,
    done: Callable[[str], None],
    *,
    spot: Spot | None,
    names: frozenset[str],
) -> None:
    try:
        offer = await offered(session, turn, names=names)
    except LashError as error:
        done(f"Nothing was inserted: {error}")
        return
    except Exception as error:  # nobody else would hear of it
        done(f"Nothing was inserted: {type(error).__name__}: {error}")
        return
    if not offer.verified:
        done(f"Nothing was inserted: {_why_not(offer, turn)}.")
        return
    note = f" Note: {offer.note}." if offer.note else ""
    if not sessions.copying.insert_cells(offer.cells, lambda said: done(f"{said}{note}"), spot=spot):
        done(f"Nothing was inserted: nobody here can; `%lash insert {turn.number}` in a cell gives the code.")


def _names(sessions: NotebookSessions) -> frozenset[str]:
    """What the notebook has of its own; what came from the agent is made anew. Takes note of its surroundings."""
    sharing = sessions.sharing
    sharing.look_around()
    return frozenset(name for name in sharing.names() - sessions.pulled.names() if sharing.is_ours(name))


def _turn(line: str, sessions: NotebookSessions) -> tuple[Session, Turn]:
    words = line.split()
    if len(words) > 1 or not all(word.isdecimal() for word in words):
        raise InputError(f"%lash insert {line.strip()}: `%lash insert [TURN]` takes the number of a turn")
    if sessions.current is None or not sessions.current.turns:
        raise InputError("there is no turn yet: `%%lash` asks for one")
    session = sessions.session()  # with the settings of now
    if not words:
        with_code = [turn for turn in session.turns if turn.code]
        if not with_code:
            raise InputError("no turn of this session ran any code: there is nothing to insert")
        return session, with_code[-1]
    number = int(words[0])
    turn = next((one for one in session.turns if one.number == number), None)
    if turn is None:
        known = f"{session.turns[0].number} to {session.turns[-1].number}"
        raise InputError(f"there is no turn {number} in this session: it has turns {known}")
    if not turn.code:
        raise InputError(f"turn {number} ran no code: there is nothing to insert")
    return session, turn


def _why_not(offer: Offer, turn: Turn) -> str:
    return f"{offer.problem}; `%lash history {turn.number}` shows the code"


def _told(said: str) -> None:
    """Of an insertion that a page was asked for; it went as said, or it is said here."""
    if said.startswith("Nothing"):
        print(said)
