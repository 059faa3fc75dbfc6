"""How errors are shown in a notebook: ours as one sentence, and where a missing variable is to be had."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .errors import LashError

if TYPE_CHECKING:
    from .session import Session

__all__ = ["one_sentence", "say_where_it_is"]


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """What is raised on purpose is shown by IPython as one sentence; its class and message stay what they are."""
    try:
        yield
    except LashError as error:
        _shown_as(error, f"{type(error).__name__}: {error}")
        raise
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        _shown_as(error, f"{type(error).__name__}: stopped by you; what was done is kept")
        raise


def _shown_as(error: BaseException, sentence: str) -> None:
    # A word may have said more exactly what became of it.
    error.__dict__.setdefault("_render_traceback_", lambda: [sentence])


def say_where_it_is(result: object, session: Session | None) -> None:
    """After a cell of the user's that lacked a variable: the agent has one of that name."""
    error = getattr(result, "error_in_exec", None)
    if not isinstance(error, NameError) or session is None:
        return
    made = {variable.name for turn in session.turns for variable in turn.picture.variables}
    if error.name in made:
        print(f"lash_nb: {error.name} is in the agent's kernel: `%lash pull {error.name}`", file=sys.stderr)
