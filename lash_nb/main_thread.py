"""Functions of the notebook run on its main thread: that of the cell which waits for the turn.

What was defined in a notebook expects the notebook around it: its output, its `input()`, its loop, a connection that
belongs to its thread. Calls come from the session's loop and wait here until that thread takes them (`serve`), which it
does at once: a call asks for a tick.

Decided here: one function after the other; an asynchronous one runs on the notebook's own loop where the cell awaits,
and on the session's where the cell blocks that loop (`%%time`, a terminal). The user's Stop raises KeyboardInterrupt in
the function, and then in the cell: the turn is stopped. The code of a function runs no turn itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from .asking import interruptible
from .bridge import shared_loop
from .errors import LashError, ToolError

__all__ = ["NotebookThread"]

_RUNNING = "a turn is running, and waits for what it called here: `%lash` can be used when it has ended"
_inside: ContextVar[bool] = ContextVar("lash_nb_inside_a_tool", default=False)
"""Whether the code that asks is that of a function which runs here."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a function gave, or raised. Not as the exception of a future, which takes no StopIteration."""

    value: Any = None
    error: BaseException | None = None


class _Call:
    """A call on its way to the main thread."""

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self.function, self.arguments = function, arguments
        self.future: concurrent.futures.Future[_Outcome] = concurrent.futures.Future()
        self._given_up = False
        self._task: asyncio.Task[None] | None = None

    def end(self, outcome: _Outcome) -> None:
        """Tell whoever made the call."""
        if not self.future.done():
            self.future.set_result(outcome)

    def goes_on_as(self, task: asyncio.Task[None]) -> None:
        """It is a task of the notebook's loop from now on."""
        self._task = task
        if self._given_up:
            task.cancel()

    def give_up(self) -> None:
        """Nobody waits any more, from any thread: what has not begun does not begin."""
        self._given_up = True
        self.future.cancel()
        self.future.add_done_callback(_unread)
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def _unread(future: concurrent.futures.Future[_Outcome]) -> None:
    """A coroutine that nobody will await is told so, or Python reports it."""
    if not future.cancelled() and inspect.iscoroutine(future.result().value):
        future.result().value.close()


class NotebookThread:
    """Runs functions on the thread that waits for a turn (a `toolkits.MainThread`)."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: deque[_Call] = deque()
        self._serving = self._interrupted = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """The notebook's own, while a cell awaits in it."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def serving(self) -> bool:
        """Whether a cell waits for a turn."""
        return self._serving

    @property
    def inside(self) -> bool:
        """Whether the caller is a function that was called here."""
        return _inside.get()

    # -- the session's side --------------------------------------------------------------------------------------------

    async def run(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """What the function gives, called on the main thread with these keywords; awaited where that is to be.

        Awaited on the session's loop. Cancelled: what has not begun is not run any more; of what runs, an asynchronous
        function is cancelled, any other let go of.

        Raises:
            ToolError: no cell waits for the turn (any more).
        """
        call = _Call(function, arguments)
        with self._guard:
            if not self._serving:
                raise _nobody_waits()
            self._queue.append(call)
        shared_loop().tick_now()
        try:
            outcome = await asyncio.wrap_future(call.future)
        except asyncio.CancelledError:
            call.give_up()
            raise
        if outcome.error is not None:
            raise outcome.error
        return await outcome.value if inspect.isawaitable(outcome.value) else outcome.value

    # -- the notebook's side -------------------------------------------------------------------------------------------

    @contextmanager
    def open(self, *, awaits: bool) -> Iterator[None]:
        """Meanwhile a cell waits, and its thread calls `serve` at each tick; `awaits`: in this running loop.

        Raises:
            LashError: another one does.
        """
        self.check_free()
        with self._guard:
            self._serving, self._interrupted = True, False
            self._loop = asyncio.get_running_loop() if awaits else None
        try:
            yield
        finally:
            with self._guard:
                self._serving, self._loop = False, None
                left = [self._queue.popleft() for _ in range(len(self._queue))]
            for call in left:
                call.end(_Outcome(error=_nobody_waits()))
            for task in list(self._tasks):
                task.cancel()

    def check_free(self) -> None:
        """Raise LashError where a cell waits for a turn already."""
        if self._serving:
            raise LashError(_RUNNING)

    def check_outside(self) -> None:
        """Raise LashError in a function that was called here: the turn waits for it, and it would wait for the turn."""
        if self.inside:
            raise LashError(_RUNNING)

    @property
    def waiting(self) -> bool:
        """Whether a function is to be called: then nothing is drawn until it has ended."""
        return bool(self._queue)

    def serve(self) -> None:
        """Run what waits, on this thread.

        Raises:
            KeyboardInterrupt: the user stopped a function.
        """
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        for _ in range(len(self._queue)):  # what comes meanwhile asks for a tick of its own, and views are to be drawn
            call = self._queue.popleft()
            if call.future.set_running_or_notify_cancel():
                self._begin(call)

    def _begin(self, call: _Call) -> None:
        token = _inside.set(True)
        try:
            with interruptible():
                value = call.function(**call.arguments)
            if self._loop is not None and inspect.isawaitable(value):
                task = self._loop.create_task(self._awaited(call, value))  # in the context of the cell, and inside
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                call.goes_on_as(task)
            else:
                call.end(_Outcome(value))
        except KeyboardInterrupt:
            raise  # the turn is stopped by it, and with it the call
        except BaseException as error:
            call.end(_Outcome(error=_as_failure(error)))
        finally:
            _inside.reset(token)

    async def _awaited(self, call: _Call, work: Awaitable[Any]) -> None:
        try:
            value = await (_Interruptible(work) if inspect.iscoroutine(work) else work)
        except asyncio.CancelledError as error:
            call.end(_Outcome(error=error))
            raise
        except KeyboardInterrupt:  # it must not end the notebook's loop: the cell raises it
            self._interrupted = True
            shared_loop().tick_now()
        except BaseException as error:
            call.end(_Outcome(error=_as_failure(error)))
        else:
            call.end(_Outcome(value))


class _Interruptible:
    """A coroutine that can be interrupted also while it computes; ipykernel's handler would wait for its next await."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = partial(self._work.send, None)
        while True:
            try:
                with interruptible():
                    waits_for = step()
            except StopIteration as ended:
                return ended.value
            try:
                step = partial(self._work.send, (yield waits_for))
            except BaseException as error:
                step = partial(self._work.throw, error)


def _as_failure(error: BaseException) -> BaseException:
    """`sys.exit()` in a function ends the call, and neither the cell nor a loop."""
    if isinstance(error, (SystemExit, GeneratorExit)):
        return ToolError(f"the function ended with {type(error).__name__}({error})", code=type(error).__name__)
    return error


def _nobody_waits() -> ToolError:
    return ToolError("no cell of the notebook waits for this turn any more", kind="unavailable", code="no_main_thread")
