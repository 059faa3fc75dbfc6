"""The words behind `%lash model`: which models could answer, a test of one, fetching the local one.

Decided here: what is printed. Everything is imported when a word needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .bridge import shared_loop
from .errors import InputError
from .models.choice import ModelChoice
from .sessions import NotebookSessions

__all__ = ["model_word"]


def model_word(line: str, sessions: NotebookSessions, *, announce: Callable[[ModelChoice], None]) -> bool:
    """Do what `%lash model LINE` says, if LINE is a word; False when it is a model's name."""
    word, *rest = line.split() or ["list"]
    if word == "list" and not rest:
        _list(sessions, announce)
    elif word == "test":
        _test(sessions, " ".join(rest).strip("'\""))
    elif word == "pull":
        _pull(rest)
    else:
        return False
    return True


def _list(sessions: NotebookSessions, announce: Callable[[ModelChoice], None]) -> None:
    from .checkups import findings_text
    from .checkups.candidates import candidates

    try:
        announce(sessions.choose())
    except InputError as error:
        print(error)
    print("\nTo pick one: `%lash model NAME`; to try it: `%lash model test [NAME]`. From here:")
    print(findings_text(candidates(os.environ, home=sessions.home)))


def _test(sessions: NotebookSessions, name: str) -> None:
    from .checkups import findings_text
    from .checkups.trial import try_model

    choice = sessions.choose(name or None)
    print(f"one small request to {choice.name}; {choice.sends}")
    trial = shared_loop().run(try_model(sessions.open(choice.name)))
    print(findings_text(trial.findings))


def _pull(options: list[str]) -> None:
    from .pulling import pull_in_notebook

    pull_in_notebook(options)
