"""A guarded cell asks its host before it does more than compute: one audit hook. Runs in the kernel.

Decided here: whose code asks (the cell's, its tasks' and its threads'), what needs no question (`effects`, `hosts`, and
the look-ups of the standard library), and what a refusal is: a PermissionError where the effect would have been. What
was decided is remembered until the cell ends; everything else is the host's to remember. Code that cannot ask any more,
because its cell has ended or because it runs in a forked process, is refused and told why. The hook cannot be taken
away again: it comes with the first guarded cell, and does next to nothing while none is known. A courtesy and not a
sandbox: who wants to get around it can. The workers that multiprocessing spawns, or has its fork server fork, start
without a question and run unguarded: no event tells of them, and there is no hook in such a process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from .effects import (
    CONNECT,
    FILES,
    PROCESS,
    PROGRAMS,
    WRITING,
    Effect,
    Places,
    command_line,
    on_files,
    places_for_all,
    refusal,
)
from .hosts import HOSTS, LOOK_UPS, Hosts

ASK = "effect?"
"""No name that a tool can have."""
PREFIX = "<lash_nb "
MOST_REMEMBERED = 1_000
FORKS = frozenset({"os.fork", "os.forkpty"})
HEARD = frozenset({*FILES, *PROGRAMS, *HOSTS, *LOOK_UPS, *FORKS})
LAUNCHERS = frozenset({"subprocess", "os", "asyncio.subprocess"})
LOOK_UP_MODULES = frozenset(
    {
        "ctypes.util",
        "joblib.externals.loky.backend.context",
        "loky.backend.context",
        "matplotlib.font_manager",
        "platform",
        "uuid",
    }
)
"""They start programs by themselves, to find something out about this machine."""
FORKED_FOR = {"_spawnvef": "args", "spawn": "argv"}
"""Functions (of `os`, of `ptyprocess`) that fork in order to start a program: where its command line is."""


class Watched:
    """A guarded cell; known on when it has ended, for the threads and tasks that it leaves."""

    def __init__(self, msg_id: str, places: Places) -> None:
        self.msg_id = msg_id
        self.places = places
        self.allowed: set[tuple[str, str]] = set()
        self.refused: dict[tuple[str, str], str] = {}
        """And what was said: code that tries again is not asked about again."""
        self.trees: list[tuple[str, str]] = []
        self.asking: dict[tuple[str, str], Any] = {}

    def allows(self, effect: Effect) -> bool:
        """Whether it was allowed already."""
        kind, target, _ = effect
        if (kind, target) in self.allowed or any(kind == k and target.startswith(t) for k, t in self.trees):
            return True
        # Where one may connect one may look the name up once more.
        return kind == CONNECT and ":" not in target and any(t.startswith(target + ":") for _, t in self.allowed)

    def allow(self, effect: Effect) -> None:
        self.allowed.add((effect.kind, effect.target))
        if effect.tree:
            self.trees.append((effect.kind, effect.target + os.sep))


class Guard:
    """The hook and what it knows."""

    def __init__(self, shell: Any, inside: Any) -> None:
        self.user_ns = shell.user_ns
        self.inside, self.calls = inside, inside.calls
        self.pid = os.getpid()
        self.own_threads = {t.ident for t in threading.enumerate() if t is not threading.main_thread()}
        """The kernel's."""
        self.start_places = [os.getcwd(), *places_for_all(os.environ)]
        self.hosts = Hosts()
        self.lock = threading.RLock()
        self.local = threading.local()
        self.current: Watched | None = None
        self.watched: dict[str, Watched] = {}
        self.hooked = False
        self.passed_through: list[Any] = []
        """Code of ours that code of a cell calls on its way to an effect."""

    # -- a cell --------------------------------------------------------------------------------------------------------

    def begin(self, header: dict[str, Any], asked: Any) -> None:
        """A cell begins; `asked` is None for one that is not guarded."""
        if not isinstance(asked, dict):
            return
        if not self.hooked:
            self.hooked = True
            self.learn_names()
            self.learn_files()
            sys.addaudithook(self.hook)
        cell = Watched(header["msg_id"], Places([*self.start_places, *map(str, asked.get("free") or ())]))
        while len(self.watched) >= MOST_REMEMBERED:
            del self.watched[next(iter(self.watched))]
        self.watched[cell.msg_id] = self.current = cell

    def end(self) -> None:
        self.current = None

    def learn_names(self) -> None:
        """Hear of the addresses that names stand for."""
        import functools
        import socket

        original, hosts = socket.getaddrinfo, self.hosts

        @functools.wraps(original)
        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(host, *args, **kwargs)
            hosts.learn(host, found)
            return found

        passes: Any = getaddrinfo
        self.passed_through.append(passes.__code__)
        socket.getaddrinfo = passes

    def learn_files(self) -> None:
        """Hear of what no event of Python's tells: the directory that a path is relative to, and special files."""
        import functools

        local = self.local

        def replace(name: str, passes: Any) -> None:
            functools.update_wrapper(passes, getattr(os, name))
            passes.__module__ = "os"  # where it is found when it is unpickled
            setattr(os, name, passes)
            os.supports_dir_fd.add(passes)
            self.passed_through.append(passes.__code__)

        def opening(original: Any) -> Any:
            def open(path: Any, flags: Any, mode: Any = 0o777, *, dir_fd: Any = None) -> Any:
                before, local.dir_fd = getattr(local, "dir_fd", None), dir_fd
                try:
                    return original(path, flags, mode, dir_fd=dir_fd)
                finally:
                    local.dir_fd = before

            return open

        def making(original: Any, event: str) -> Any:
            def make(path: Any, *args: Any, dir_fd: Any = None, **kwargs: Any) -> Any:
                sys.audit(event, path, dir_fd)
                return original(path, *args, dir_fd=dir_fd, **kwargs)

            return make

        replace("open", opening(os.open))
        for name in ("mkfifo", "mknod"):
            if hasattr(os, name):
                replace(name, making(getattr(os, name), f"os.{name}"))

    # -- an event ------------------------------------------------------------------------------------------------------

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in HEARD or (event == "open" and reads(args)):
            return
        if getattr(self.local, "busy", False):  # what asking does is not asked about
            return
        self.local.busy = True
        try:
            for cell, effect in self.questions(event, args):
                self.ask(cell, effect)
        finally:
            self.local.busy = False

    def questions(self, event: str, args: tuple[Any, ...]) -> list[tuple[Watched, Effect]]:
        """What is to be asked of an event; nothing where it cannot be told: then it will fail by itself."""
        try:
            cell = self.cell_of_this_code()
            if cell is None:
                return []
            wanted = [effect for effect in self.effects(event, args, cell) if not cell.allows(effect)]
            return [(cell, effect) for effect in wanted] if wanted and not self.is_ours() else []
        except Exception:
            return []

    def cell_of_this_code(self) -> Watched | None:
        """The guarded cell that the code which runs here belongs to."""
        if threading.get_ident() in self.own_threads and os.getpid() == self.pid:
            return None
        cell = self.watched.get(self.inside.parent().get("msg_id"))
        in_main = threading.current_thread() is threading.main_thread()
        if cell is self.current and in_main and not self.inside.ledger.in_code:
            return None  # the kernel itself, before and after the cell's code
        return cell

    def effects(self, event: str, args: tuple[Any, ...], cell: Watched) -> list[Effect]:
        """What the event is about to do outside of what is free."""
        if event in FILES:
            if event == "open" and args[1] is None:  # of `os.open`
                args = (*args, getattr(self.local, "dir_fd", None))
            return on_files(event, args, cell.places)
        if event in PROGRAMS:
            return [] if self.is_look_up() else [Effect(PROCESS, PROGRAMS[event](*args))]
        if event in FORKS:
            return self.forked_for()
        if event in LOOK_UPS:
            return self.hosts.looked_up(args)
        return self.hosts.reached(args[0], args[1], cell.places)

    def frames(self) -> Iterator[types.FrameType]:
        """Those of the code that has the effect, innermost first."""
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        while frame is not None:
            yield frame
            frame = frame.f_back

    def is_look_up(self) -> bool:
        for frame in self.frames():
            module = frame.f_globals.get("__name__")
            if module not in LAUNCHERS:
                return module in LOOK_UP_MODULES
        return False

    def forked_for(self) -> list[Effect]:
        """A fork is asked about where a program is started that way: its child could not ask."""
        for frame, _ in zip(self.frames(), range(4), strict=False):
            name = FORKED_FOR.get(frame.f_code.co_name)
            if (
                name is not None
                and name in frame.f_locals
                and frame.f_globals.get("__name__") in ("os", "ptyprocess.ptyprocess")
            ):
                return [Effect(PROCESS, command_line(frame.f_locals[name]))]
        return []

    def is_ours(self) -> bool:
        """Whether it is our own code in the kernel that runs, and not a cell's."""
        for frame in self.frames():
            if frame.f_globals is self.user_ns:
                return False
            if frame.f_code.co_filename.startswith(PREFIX) and frame.f_code not in self.passed_through:
                return True
        return False

    # -- a question ----------------------------------------------------------------------------------------------------

    def ask(self, cell: Watched, effect: Effect) -> None:
        """Return when it is allowed; else raise PermissionError."""
        kind, target, _ = effect
        if os.getpid() != self.pid:
            raise nobody(effect, "it runs in a process that was forked from the kernel; do it in the cell itself")
        if cell is not self.current:
            raise nobody(effect, "its cell has ended; do it while a cell runs")
        if (kind, target) in cell.refused:
            raise PermissionError(cell.refused[kind, target])
        entry = self.inside.ledger.running
        before = entry.interrupts if entry is not None else 0  # before it is asked: an interrupt may come at once
        with self.lock:  # who wants the same at the same time waits for the same answer
            call = cell.asking.get((kind, target))
            if call is None:
                error, call = self.started(effect)
                if call is None:
                    raise nobody(effect, error)
                cell.asking[kind, target] = call
        try:
            answer = self.answer(call, effect, lambda: entry is not None and entry.interrupts > before)
        finally:
            cell.asking.pop((kind, target), None)
        if answer.get("allows") is not True:
            why, by_policy = str(answer.get("why") or ""), answer.get("by_policy") is True
            told = cell.refused[kind, target] = refusal(kind, target, why=why, by_policy=by_policy)
            raise PermissionError(told)
        cell.allow(effect)

    def started(self, effect: Effect) -> tuple[str, Any]:
        try:
            return "", self.calls.start(ASK, {"kind": effect.kind, "target": effect.target}, series="q")
        except self.calls.error as error:
            return error.message, None

    def answer(self, call: Any, effect: Effect, interrupted: Callable[[], bool]) -> dict[str, Any]:
        """What the host says; an interrupt ends the waiting, for all who wait."""
        problem = ""
        try:
            answer: dict[str, Any] = self.calls.wait(call, until=interrupted)
            return answer
        except self.calls.error as error:
            problem = error.message
        except BaseException:
            self.calls.fail(call, "the cell was interrupted", "cancelled", "interrupted")
            raise
        if interrupted() and in_task():  # where the loop's own code waits, the handler raises nothing
            raise asyncio.CancelledError("interrupted")
        raise nobody(effect, problem)


def in_task() -> bool:
    """Whether a task of this thread's event loop runs."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def reads(args: tuple[Any, ...]) -> bool:
    """Whether a file is opened for nothing else."""
    flags = args[-1] if args else None
    return isinstance(flags, int) and not flags & WRITING


def nobody(effect: Effect, why: str) -> PermissionError:
    return PermissionError(f"nobody can be asked whether this code may {effect.kind} {effect.target}: {why}")


def install(shell: Any, inside: Any) -> None:
    """Ready for guarded cells; the feature test is that there are audit hooks and calls."""
    sys.addaudithook  # noqa: B018 (a feature test)
    watch: Callable[..., Any] = Guard
    inside.watch = watch(shell, inside)
