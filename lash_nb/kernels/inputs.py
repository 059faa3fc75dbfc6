"""What goes back to the `input()` of a cell, and how long a person is waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from . import InputRequest, OnInput
from .wishes import OpenQuestions

__all__ = ["OpenInputs", "answer", "ask"]

_log = logging.getLogger(__name__)

_END_OF_FILE = "\x04"
"""What ipykernel takes for the end of input."""


class OpenInputs:
    """The requests of one cell that wait for an answer, during which its time does not count; from any thread."""

    def __init__(self, questions: OpenQuestions) -> None:
        self._questions = questions
        self._guard = threading.Lock()
        self._open: set[object] = set()

    def begin(self) -> object:
        """One more waits; what names it."""
        token = object()
        with self._guard:
            self._open.add(token)
        self._questions.begin()
        return token

    def end(self, token: object) -> None:
        """It does not any more; a second time it means nothing."""
        with self._guard:
            known = token in self._open
            self._open.discard(token)
        if known:
            self._questions.end()

    def withdraw(self) -> None:
        """None does: the cell is interrupted, whatever the person still does."""
        with self._guard:
            tokens = tuple(self._open)
        for token in tokens:
            self.end(token)


def ask(
    request: InputRequest, on_input: OnInput | None, *, inputs: OpenInputs | None, then: Callable[[str], None]
) -> None:
    """Give the answer to `then`: at once where nobody can be asked, else from a thread, for it may take long."""
    if on_input is None:
        then(answer(request, None))
        return
    token = inputs.begin() if inputs is not None else None

    def wait() -> None:
        try:
            then(answer(request, on_input))
        finally:
            if inputs is not None:
                inputs.end(token)

    threading.Thread(target=wait, name="lash_nb input", daemon=True).start()


def answer(request: InputRequest, on_input: OnInput | None) -> str:
    """The answer of whoever can give one, which may block; else, and when that fails, the end of the file."""
    try:
        value = on_input(request) if on_input is not None else _END_OF_FILE
        if not isinstance(value, str):
            raise TypeError(f"on_input must return a str, not {type(value).__name__}")
    except EOFError:
        return _END_OF_FILE
    except Exception:  # the cell must not wait for ever
        _log.exception("whoever answers input() failed; the cell is told that there is no answer")
        return _END_OF_FILE
    return value
