"""Runs code of the user's for a moment only: on a thread of its own, watched by the one that waits for it.

A call that takes longer than `CALL_S` is ended by an exception that is thrown into its thread; what does not end then
either (C code, a sleep, code that catches everything) is left behind. A class whose code was late twice, or was left
behind, or took `FAR_S`, is not called again; after `MOST_LEFT` were left behind nothing is. Its prints are dropped.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .kinds import Kinds, held

CALL_S = 0.015
GRACE_S = 0.005
FAR_S = 0.05
TICK_S = 0.002
ABSORB_TRIES = 20
MOST_LEFT = 3
THREAD = "lash_nb describer"


class Late(BaseException):
    """Thrown into code that takes too long."""


class Mute:
    """Drops what some threads write to stdout and stderr, while there are such threads.

    The streams' own `write` is covered: they may be anyone's, and another thread may replace them at any moment.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads: set[int] = set()
        self.users = 0
        self.covered: list[tuple[Any, Any, Any]] = []

    def begin(self) -> None:
        with self.lock:
            self.users += 1
            for stream in (sys.stdout, sys.stderr) if self.users == 1 else ():
                self.cover(stream)

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            while self.covered and not self.users:
                stream, before, cover = self.covered.pop()
                if held(stream, type(stream)).get("write") is cover:  # else someone has covered it once more
                    if before is None:
                        object.__delattr__(stream, "write")
                    else:
                        object.__setattr__(stream, "write", before)

    def cover(self, stream: Any) -> None:
        threads, ident = self.threads, threading.get_ident
        try:
            before, original = held(stream, type(stream)).get("write"), stream.write

            def write(text: Any, *args: Any, **kwargs: Any) -> Any:
                return len(text) if ident() in threads else original(text, *args, **kwargs)

            object.__setattr__(stream, "write", write)
        except Exception:  # no stream, or one that cannot be covered
            return
        self.covered.append((stream, before, write))


MUTE = Mute()


def no_displays() -> None:
    """What this thread displays is dropped, where there is a shell that displays."""
    shell_class = sys.modules.get("IPython.core.interactiveshell")
    shell = getattr(getattr(shell_class, "InteractiveShell", None), "_instance", None)
    register = getattr(getattr(shell, "display_pub", None), "register_hook", None)
    if register is not None:  # of this thread alone
        register(lambda message: None)


class Worker(threading.Thread):
    """Does some jobs, one after the other; each gets a way to call code of the user's."""

    def __init__(self, jobs: Sequence[Callable[[Worker], None]], around: Callable[[], AbstractContextManager[None]]):
        super().__init__(name=THREAD, daemon=True)
        self.jobs, self.around = jobs, around
        self.began: tuple[type, float] | None = None
        """The class whose code runs now, and since when."""
        self.retired = False
        """Nobody waits for it any more."""
        self.overran: list[type] = []
        """Classes whose code took far too long, and could not be ended: it held the interpreter."""
        self.thrown = self.arrived = 0
        self.running = threading.Lock()
        self.running.acquire()

    def run(self) -> None:
        ident = threading.get_ident()
        try:
            MUTE.threads.add(ident)
            with self.around():
                no_displays()
                for job in self.jobs:
                    try:
                        if not self.retired:
                            job(self)
                    except BaseException:  # the user's own, or ours: the next one is another's
                        continue
                self.absorb()
        except BaseException:  # one that was thrown a moment too late
            pass
        finally:
            MUTE.threads.discard(ident)
            self.running.release()

    def call(self, kind: type, function: Callable[..., Any], *args: Any) -> Any:
        """The result of the function, which is code of that class; whatever it raises, Late among it."""
        if self.retired:
            raise Late
        before, self.began = self.began, (kind, time.perf_counter())
        start = self.began[1]
        try:
            return function(*args)
        except Late:
            self.arrived += 1
            raise
        finally:
            self.began = before
            if time.perf_counter() - start > FAR_S:
                self.overran.append(kind)
            self.absorb()

    def absorb(self) -> None:
        """Wait for what was thrown and has not arrived: anywhere else it could leave a lock that is never released."""
        with contextlib.suppress(Late):
            for _ in range(ABSORB_TRIES):
                if self.arrived >= self.thrown:
                    return
                time.sleep(0.001)
        self.arrived = self.thrown

    def throw(self) -> None:
        """Late, at the next step of its Python code; only while that is code of a class."""
        import ctypes

        began = self.began
        self.thrown += 1  # before the second look: whoever leaves the code after it waits for what comes
        if began is None or self.began is not began:
            self.thrown -= 1
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(Late))

    def ended(self, within_s: float) -> bool:
        if self.running.acquire(timeout=within_s):
            self.running.release()
            return True
        return False


class Bounds:
    """Who may be called, and the threads that were left behind."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]] | None = None) -> None:
        self.around = around or unchanged
        self.slow, self.late = Kinds(), Kinds()
        self.left: list[Worker] = []
        self.count = 0
        """How many have been left behind."""

    @property
    def off(self) -> bool:
        return self.count >= MOST_LEFT

    def run(self, jobs: Sequence[Callable[[Worker], None]], end: float) -> None:
        """Do what can be done of the jobs until that time; returns soon after it whatever they do."""
        self.sweep()
        rest = list(jobs)
        done: list[Any] = []
        while rest and not self.off and time.perf_counter() < end:
            worker = Worker([counted(job, done) for job in rest], self.around)
            MUTE.begin()
            worker.start()
            if self.wait(worker, end):
                MUTE.end()
                return
            self.count += 1
            self.left.append(worker)
            rest = rest[len(done) + 1 :]  # but for the one that hangs
            done = []

    def wait(self, worker: Worker, end: float) -> bool:
        """Whether it ended, by itself or because it was told to."""
        thrown: tuple[type, float] | None = None
        thrown_at = over_at = 0.0
        while not worker.ended(TICK_S):
            now, began = time.perf_counter(), worker.began
            if now > end and not worker.retired:
                worker.retired, over_at = True, now
            if thrown is not None and began is thrown:
                if now - thrown_at > GRACE_S:
                    worker.retired = True
                    self.slow.add(thrown[0])
                    return False
            elif began is not None and now - began[1] > CALL_S:
                thrown, thrown_at = began, now
                self.was_late(*began, now)
                worker.throw()
            elif worker.retired and now - over_at > CALL_S + GRACE_S:  # not in code of a class
                return False
        for kind in worker.overran:
            self.slow.add(kind)
        return True

    def was_late(self, kind: type, since: float, now: float) -> None:
        if kind in self.late or now - since > FAR_S:
            self.slow.add(kind)
        self.late.add(kind)

    def sweep(self) -> None:
        """Those that were left behind and have ended; the others are told to once more."""
        for worker in list(self.left):
            if not worker.is_alive():
                self.left.remove(worker)
                MUTE.end()
            else:
                worker.throw()


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    yield


def counted(job: Callable[[Worker], None], done: list[Any]) -> Callable[[Worker], None]:
    def do(worker: Worker) -> None:
        try:
            job(worker)
        finally:
            done.append(None)

    return do
