"""How questions reach the person at the notebook: `input()` of the agent's code, and what of it is to be approved.

The managed kernel asks on a thread of its own, which waits (`Desk.ask`); the thread of the cell that waits for the turn
asks the person, with the notebook's own `input()`, at its next tick (`Desk.tick`), because only there a frontend
answers. Decided here: nobody is asked unless such a cell waits and its frontend takes questions; whoever waits is let
go with EOFError when the cell of the agent has ended, the turn is over, or the person stops it.
"""

from __future__ import annotations

import getpass
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .kernels import InputRequest
from .views.pieces import clean, cut

__all__ = ["Desk", "can_ask", "interruptible"]

_NOBODY = "nobody can be asked here: this notebook's frontend takes no input, or no cell waits for the agent"
_UNANSWERED = "there was no answer: the question was withdrawn, or input() was refused"
_PROMPT_CHARS = 2_000


def can_ask(shell: Any) -> bool:
    """Whether the sender of the cell that runs in `shell` answers `input()`."""
    if shell is None:
        return False
    kernel = getattr(shell, "kernel", None)
    # ipykernel says no to `input()` itself by this very flag; it is set for each cell.
    return kernel is None or bool(getattr(kernel, "_allow_stdin", False))


class _Question:
    def __init__(self, request: InputRequest, *, asks: str, first: str) -> None:
        self.request = request
        self.asks, self.first = asks, first
        self.done = threading.Event()
        self.answer: str | None = None
        """None: there is none."""

    def end(self, answer: str | None) -> None:
        if not self.done.is_set():
            self.answer = answer
            self.done.set()

    @property
    def prompt(self) -> str:
        asked = cut(clean(self.request.prompt), head_chars=_PROMPT_CHARS, tail_chars=0)
        if not self.asks:
            return asked
        return f"{self.asks}: {asked}" if asked.strip() else f"{self.asks} for input: "


class Desk:
    """Where questions of the agent's code wait for the person; one cell at a time asks."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._questions: deque[_Question] = deque()
        self._asked: _Question | None = None
        """The one that the person sees now."""
        self._open = self._by_main_thread = self._woken = False

    def ask(self, request: InputRequest, *, asks: str = "The agent's code asks", first: str = "") -> str:
        """The person's answer; for the kernel's thread, or another one that is not the cell's, which waits.

        `asks` says in the prompt who does; `first` is printed before, whole.

        Raises:
            EOFError: nobody can be asked, or the question was withdrawn.
        """
        question = _Question(request, asks=asks, first=first)
        with self._guard:
            if not self._open:
                raise EOFError(_NOBODY)
            self._questions.append(question)
        question.done.wait()
        if question.answer is None:
            raise EOFError(_UNANSWERED)
        return question.answer

    @property
    def waiting(self) -> int:
        """How many questions nobody has been asked yet."""
        return len(self._questions)

    def open(self) -> None:
        """A cell waits that can ask: its thread calls `tick` from now on."""
        with self._guard:
            self._open = True

    def close(self) -> None:
        """No cell waits any more."""
        with self._guard:
            self._open = False
        self.withdraw()

    def withdraw(self, request: InputRequest | None = None) -> None:
        """Let go of whoever waits (or asked just that), from any thread. The person is not kept waiting, either."""
        with self._guard:
            for question in [one for one in self._questions if request is None or one.request is request]:
                self._questions.remove(question)
                question.end(None)
            meant = self._asked is not None and (request is None or self._asked.request is request)
            if self._asked is not None and meant and not self._asked.done.is_set():
                self._asked.end(None)
                if self._by_main_thread and hasattr(signal, "pthread_kill"):
                    # With the handler of `interruptible` that ends the `input()` it is in; elsewhere it takes Enter.
                    self._woken = True
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def tick(self) -> None:
        """Ask the person what waits, in the cell's own thread.

        Raises:
            KeyboardInterrupt: the person interrupted instead of answering; the code that asked gets EOFError.
        """
        if not self.waiting:
            return
        try:
            with interruptible() as by_main_thread:
                self._by_main_thread = by_main_thread
                while (question := self._next()) is not None:
                    self._put(question)
        except KeyboardInterrupt:
            if not self._woken:
                raise
        finally:
            with self._guard:
                asked, self._asked, self._woken = self._asked, None, False
                if asked is not None:
                    asked.end(None)

    def _next(self) -> _Question | None:
        with self._guard:
            self._asked = self._questions.popleft() if self._questions else None
            return self._asked

    def _put(self, question: _Question) -> None:
        answer = None
        # No terminal, a frontend that went, or the end of the input: then there is no answer.
        with suppress(Exception):
            if question.first:
                print(question.first, flush=True)
            answer = getpass.getpass(question.prompt) if question.request.password else input(question.prompt)
        with self._guard:
            question.end(answer)


@contextmanager
def interruptible() -> Iterator[bool]:
    """SIGINT raises KeyboardInterrupt meanwhile: where a cell awaits, ipykernel's handler waits for the event loop.

    Only the main thread gets signals; whether this is the main thread is what it yields.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield True
    finally:
        try:
            signal.signal(signal.SIGINT, before)
        except KeyboardInterrupt:  # one that was pending; nothing was set
            signal.signal(signal.SIGINT, before)
            raise
