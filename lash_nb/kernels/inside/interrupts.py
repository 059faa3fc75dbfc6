"""Makes every cell interruptible, a top-level `await` by one SIGINT, and gives SIGINT a second. Runs in the kernel.

ipykernel hands the signal to its event loop in a way that does not wake a loop parked in `select`, so a quiet await
never hears of it. This handler looks at where the signal landed: in the loop, the cell's task is cancelled and the loop
woken; in the cell's own code, KeyboardInterrupt is raised there; in another task's code, CancelledError, because a
KeyboardInterrupt that leaves a task tears the kernel's loop down. Source: `reference/kernels.md` §2.4. A signal that
comes when no code of a cell runs (before it, after it) is ignored.

A cell may ignore SIGINT, block it or handle it itself. Then the host asks on the control channel for more: a second
signal, of a number that nobody uses, does the same as SIGINT did; and when that has no effect either, the exception is
put into the main thread from outside. Both reach code that the event loop runs by itself, too, and keeps a cell out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

NUMBER = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else None
"""The second signal."""
INSIST_AFTER_S = 0.3
HANDLED = tuple(sorted(map(int, signal.valid_signals() - {signal.SIGINT, NUMBER})))
"""Signals for which cells may have handlers, and that may come after them: a timer left on, a child's end."""
FAILURES = 100
"""So often in a row the loop may fail before it ends, which it must where its selector is gone."""

RAW: Any = importlib.import_module("_signal")
"""`signal` without its enumerations, which cost 10 µs a call."""


class Quiet:
    """A handler of a cell's between cells: what it raises has nobody to go to but the kernel's own code."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler

    def __call__(self, signum: int, frame: Any) -> None:
        try:
            self.handler(signum, frame)
        except BaseException as error:
            tell(f"a handler of signal {signum} ({signal.strsignal(signum)})", error)


def tell(who: str, error: BaseException) -> None:
    """Of an error that nobody can take, on a stderr that may be broken."""
    with contextlib.suppress(Exception):
        print(f"{who} raised {type(error).__name__}: {error}", file=sys.stderr)


class Interrupts:
    """Where a signal landed, and what is to be done about it."""

    def __init__(self, shell: Any, inside: Any) -> None:
        import ipykernel
        import IPython
        import jupyter_client
        import tornado
        import zmq

        self.shell, self.inside = shell, inside
        packages = (asyncio, tornado, zmq, ipykernel, jupyter_client, IPython)
        homes = (os.path.dirname(str(package.__file__)) + os.sep for package in packages)
        self.machinery = (selectors.__file__, *homes)
        self.future: asyncio.Future[Any] | None = None
        """The task of the cell that runs, when it awaits."""
        self.thrown = False
        """An exception was put into the main thread."""
        self.waits = False
        """An interrupt waits for the next statement of the cell."""
        self.main = threading.main_thread()
        self.numbers = [signal.SIGINT] if NUMBER is None else [signal.SIGINT, NUMBER]

    def in_cell(self, frame: Any) -> bool:
        """Whether code of a cell is on the stack: then what is raised here ends in IPython's own hands."""
        while frame is not None:
            if frame.f_globals is self.shell.user_ns:
                return True
            frame = frame.f_back
        return False

    def of_cells(self, number: int, handler: Any) -> bool:
        """Whether a handler is a cell's, and in force.

        Not the kernel's own, nor asyncio's; and not one over which C code has set its own, as `faulthandler.register`
        does: Python does not know of that, and would replace it.
        """
        if not callable(handler):
            return False
        code = getattr(handler, "__code__", None)
        if code is not None and code.co_filename.startswith((*self.machinery, "<lash_nb")):
            return False
        return self.action is None or self.action(number) == self.action_of_python

    @functools.cached_property
    def action(self) -> Callable[[int], int | None] | None:
        """Tells the address of the function that the system calls for a signal; None where it cannot be asked."""
        import ctypes

        sigaction: Any = getattr(ctypes.CDLL(None), "sigaction", None)
        found = (ctypes.c_void_p * 64)()  # larger than any `struct sigaction`, of which the handler is the first member
        return None if sigaction is None else lambda number: found[0] if sigaction(number, None, found) == 0 else None

    @functools.cached_property
    def action_of_python(self) -> int | None:
        """The same for each signal with a handler written in Python: SIGINT has ours for a moment."""
        before = RAW.signal(signal.SIGINT, self.of_sync_cell)
        try:
            return self.action(signal.SIGINT) if self.action is not None else None
        finally:
            RAW.signal(signal.SIGINT, before)

    def theirs(self, task: Any) -> bool:
        """Whether a task is user code's, and none of the kernel's own."""
        code = getattr(task.get_coro(), "cr_code", None)
        return code is not None and not code.co_filename.startswith(self.machinery)

    def of_sync_cell(self, signum: int, frame: Any) -> None:
        """Outside of a cell's code there is nothing to interrupt, and an exception would end the kernel.

        One that comes while IPython prepares a statement, or tells of its error, waits for the next one: it would cut
        to pieces there what is being told. The second signal does not wait.
        """
        if self.inside.ledger.interrupted():
            if signum == signal.SIGINT and not self.in_cell(frame):
                self.waits = True
            else:
                raise KeyboardInterrupt

    def of_async_cell(self, future: asyncio.Future[Any], frame: Any) -> None:
        """Only CancelledError may leave a task: asyncio takes KeyboardInterrupt out of the loop, which ends it."""
        self.inside.ledger.interrupted()
        loop = future.get_loop()
        current = asyncio.current_task(loop)
        if frame is not None and current is future and self.in_cell(frame):
            if not frame.f_code.co_filename.startswith(self.machinery):
                raise KeyboardInterrupt
        elif frame is not None and current is not None and current is not future and self.theirs(current):
            raise asyncio.CancelledError("interrupted")
        future.cancel()
        loop.call_soon_threadsafe(lambda: None)

    def of_anything(self, signum: int, frame: Any) -> None:
        """The second signal: the cell, whatever it did with SIGINT, or what keeps the loop from taking one."""
        if self.inside.ledger.in_code and self.future is not None:
            self.of_async_cell(self.future, frame)
        elif self.inside.ledger.in_code:
            self.of_sync_cell(signum, frame)
        elif self.keeps_the_loop(frame):
            raise asyncio.CancelledError("interrupted")  # the loop logs it, and goes on

    def of_nobody(self, error: BaseException) -> None:
        """An error came out of the loop itself; a cell that awaits in it does not wait on for what the error ended."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return  # a thread has thrown it in, or a callback has raised it
        if self.inside.ledger.in_code and self.future is not None:
            self.future.cancel(f"a handler raised {type(error).__name__} in the event loop")
        else:
            tell("a handler that the event loop came upon", error)

    def keeps_the_loop(self, frame: Any) -> bool:
        """Whether the loop is in a callback that is not the kernel's own."""
        callback = None
        while frame is not None and frame.f_code is not asyncio.Handle._run.__code__:
            callback, frame = frame, frame.f_back
        if frame is None:
            return False
        # None: it is in C code, for whose sake nobody would wait but a cell's.
        return callback is None or not callback.f_code.co_filename.startswith((*self.machinery, "<lash_nb"))

    def passes(self, *functions: Callable[..., Any]) -> None:
        """The guard is to see cells' code behind them: it takes what is called by our code for ours."""
        if self.inside.watch is not None:
            self.inside.watch.passed_through.extend(function.__code__ for function in functions)

    # -- on the control thread -----------------------------------------------------------------------------------------

    def asked(self, content: dict[str, Any], respond: Any) -> None:
        """`lash_stop_request`: the host has sent SIGINT, and `msg_id` did not end."""
        entry, recorded = self.inside.ledger.running, self.inside.ledger.recorded
        running = recorded[-1:] if entry is None else [entry]
        # None runs: the cell cannot begin, for what keeps the loop. Or it has just ended.
        if (entry is None) != any(one.msg_id == content.get("msg_id") for one in running):
            self.strike()
            loop = self.shell.kernel.control_thread.io_loop
            loop.call_later(INSIST_AFTER_S, self.insist, entry)

    def strike(self) -> None:
        if NUMBER is not None and self.main.ident is not None:
            signal.pthread_kill(self.main.ident, NUMBER)

    def insist(self, entry: Any) -> None:
        """Put an exception into the main thread, where it runs code of the cell that the signals did not end."""
        import ctypes

        ledger, future = self.inside.ledger, self.future
        if entry is None or ledger.running is not entry or not ledger.in_code:
            return
        if future is not None:
            future.get_loop().call_soon_threadsafe(future.cancel)
        frame = sys._current_frames().get(self.main.ident or 0)
        if not self.in_cell(frame):
            return
        own = future is None or asyncio.current_task(future.get_loop()) is future
        self.thrown = True
        kind = KeyboardInterrupt if own else asyncio.CancelledError
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.main.ident or 0), ctypes.py_object(kind))
        self.strike()  # wakes what waits

    # -- between cells -------------------------------------------------------------------------------------------------

    def at_the_beginning(self) -> None:
        """Of any message: ours are in force whatever earlier cells did."""
        self.waits = False
        RAW.signal(signal.SIGINT, self.of_sync_cell)
        if NUMBER is not None:
            RAW.signal(NUMBER, self.of_anything)

    def at_the_code(self) -> None:
        """A cell's code is about to begin: its handlers are as cells set them."""
        if threading.current_thread() is not self.main:
            return
        for number in HANDLED:
            handler = RAW.getsignal(number)
            if type(handler) is Quiet and self.of_cells(number, handler):
                RAW.signal(number, handler.handler)

    def at_the_end(self) -> None:
        """The cell's code has ended; SIGINT is ignored."""
        if self.thrown:
            import ctypes

            self.thrown = False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.main.ident or 0), None)
        if threading.current_thread() is not self.main:
            return
        for number in HANDLED:
            handler = RAW.getsignal(number)
            if type(handler) is not Quiet and self.of_cells(number, handler):
                RAW.signal(number, Quiet(handler))
        RAW.pthread_sigmask(signal.SIG_UNBLOCK, self.numbers)


def keep_the_loop(interrupts: Interrupts) -> None:
    """Nobody but the kernel stops the kernel's loop: it would end with it, in the middle of what it is doing.

    What a cell runs of it, nested (`nest_asyncio`), the cell may stop. Nor is an error that comes out of it a reason to
    end, while no cell is on the stack: of a signal's handler, say, or SystemExit of a callback.
    """
    loop: Any = asyncio.get_running_loop()
    original_stop, every_error = loop.stop, BaseException
    failures, stopped_nested = 0, False

    def nested(frame: Any) -> bool:
        """Whether a cell runs the loop that is the innermost one there."""
        while frame is not None and frame.f_code is not run_once.__code__:
            frame = frame.f_back
        return interrupts.in_cell(frame)

    def stop() -> None:
        nonlocal stopped_nested
        frame = sys._getframe(1)
        code = frame.f_code
        if code is asyncio.Handle._run.__code__ or not code.co_filename.startswith(interrupts.machinery):
            if not nested(frame):
                raise RuntimeError("the kernel's event loop cannot be stopped: it runs the cells")
            stopped_nested = True
        original_stop()

    def run_once() -> None:
        nonlocal failures, stopped_nested
        try:
            kind._run_once(loop)  # looked up each time: nest_asyncio replaces it
            failures = 0
        except every_error as error:
            failures += 1
            if failures > FAILURES or interrupts.in_cell(sys._getframe()):
                raise
            if failures == 1:
                interrupts.of_nobody(error)
        if stopped_nested and not interrupts.in_cell(sys._getframe()):  # the cell's loop is over, however it ended
            loop._stopping = stopped_nested = False

    kind: Any = type(loop)
    with contextlib.suppress(AttributeError):  # a loop of another kind
        kind._run_once  # noqa: B018 (a feature test)
        loop.stop, loop._run_once = stop, run_once
    interrupts.passes(run_once, Quiet.__call__)


def keep_loops_going(interrupts: Interrupts) -> None:
    """An error in a callback is logged, and logging it may fail, while a cell has a builtin broken: then it is not."""
    events: Any = asyncio.events
    original_source, every_error = events.format_helpers._format_callback_source, BaseException

    def source(*args: Any) -> str:
        try:
            said: str = original_source(*args)
            return said
        except every_error:
            return "a callback"

    def keep(loop: Any) -> None:
        original = loop.call_exception_handler

        def call_exception_handler(context: dict[str, Any]) -> None:
            try:
                original(context)
            except every_error:
                return

        loop.call_exception_handler = call_exception_handler
        interrupts.passes(call_exception_handler)

    events.format_helpers._format_callback_source = source
    kernel = interrupts.shell.kernel
    threads = (kernel.control_thread, kernel.iopub_thread, kernel.shell_channel_thread)
    for loop in (asyncio.get_running_loop(), *(thread.io_loop.asyncio_loop for thread in threads)):
        with contextlib.suppress(AttributeError):  # a loop of another kind
            keep(loop)


def look_between_statements(interrupts: Interrupts, shell: Any) -> None:
    """An interrupt that came before a statement is raised where that begins."""
    original = shell.run_code

    @functools.wraps(original)
    async def run_code(code: Any, result: Any = None, **kwargs: Any) -> Any:
        if not interrupts.waits:
            return await original(code, result, **kwargs)
        interrupts.waits = False
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:  # told as if it had come a moment later
            if result is not None:
                result.error_in_exec = error
            shell.showtraceback()
        return True  # it has raised

    interrupts.passes(run_code)
    shell.run_code = run_code


def install(shell: Any, inside: Any) -> None:
    """Replace the kernel's own handlers; the feature test is that it has them."""
    kernel = shell.kernel
    if not callable(getattr(kernel, "_cancel_on_sigint", None)):
        raise RuntimeError("this ipykernel has no _cancel_on_sigint")
    interrupts = Interrupts(shell, inside)
    original_hook = kernel.pre_handler_hook

    @contextlib.contextmanager
    def cancel_on_sigint(future: asyncio.Future[Any]) -> Iterator[None]:
        def handler(signum: int, frame: Any) -> None:
            interrupts.of_async_cell(future, frame)

        previous = signal.signal(signal.SIGINT, handler)
        interrupts.future = future
        try:
            yield
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # told as such, like in every other cell
        finally:
            interrupts.future = None
            signal.signal(signal.SIGINT, previous)

    def pre_handler_hook() -> None:
        original_hook()
        interrupts.at_the_beginning()

    original_run = shell.run_cell_async

    @functools.wraps(original_run)
    async def run_cell_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original_run(*args, **kwargs)
        except KeyboardInterrupt:  # in a hook of the user's, say, which runs outside of IPython's own hands
            raise asyncio.CancelledError("interrupted") from None

    look_between_statements(interrupts, shell)
    run_cell_async.__signature__ = inspect.signature(original_run)  # type: ignore[attr-defined]  # asked for by each cell
    shell.run_cell_async = run_cell_async
    kernel._cancel_on_sigint = cancel_on_sigint
    kernel.pre_handler_hook = pre_handler_hook
    keep_the_loop(interrupts)
    keep_loops_going(interrupts)
    inside.handlers["lash_stop_request"] = interrupts.asked
    inside.ledger.at_code.append(interrupts.at_the_code)
    inside.ledger.at_end.append(interrupts.at_the_end)
