"""What cells changed outside of variables since a mark: files, directory, environment, packages. Runs in the kernel.

Files are known in two ways. An audit hook hears what Python code of cells opens for writing, renames or removes; what
is noted is how the file was before, so that only a file that is another one now counts. What child processes and C code
(pyarrow, polars, HDF5) do is not heard: for them the working directory is listed at the mark and later, where that is
cheap (`ENTRIES`, `DEPTH`, `LISTING_S`), and a file counts that changed while a cell ran. What they do elsewhere is not
seen. Temporary files, caches and our own are left out. Of the environment only names are told, never values.
The hook comes with the first mark, and cannot be taken away again; see `hook` for what it costs.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .effects import FILES, PROGRAMS, WRITING, Places, places_for_all

MARKS = 4
"""How many are kept."""
NOTED = 2_000
"""Files that are noted for a mark."""
OVERFLOW = 100_000
TOLD = 200
ENTRIES = 2_000
DEPTH = 3
LISTING_S = 0.1
INTERVALS = 1_000
REALTIME_COARSE = 5
CHANGING = frozenset(
    {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "shutil.rmtree"}
    | {"sqlite3.connect"}
)
GOING = frozenset({"os.remove", "os.rmdir"})
HEARD = CHANGING | frozenset(PROGRAMS) | {"os.fork", "os.forkpty"}
OURS, PASSING, LASTING = "ours", "passing", "lasting"
NOT_FILES = re.compile(r"(^|/)(__pycache__|\.ipynb_checkpoints)(/|$)|\.py[co](\.\d+)?$|\.ipynb\.\d+\.tmp$")
NOT_LISTED = frozenset(
    {".git", ".hg", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv"}
    | {"__pycache__", "node_modules", "site-packages", "venv"}
)
NOT_OURS_TO_TELL = (".ipynb", ".lash", ".swp", "~")
"""Ends of names that the notebook's frontend, its host or an editor writes beside a cell: told only when heard."""
NOT_VARIABLES = ("COLUMNS", "JPY_", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "LASH_NB_", "LINES", "PYDEVD_")
"""Set by libraries and by us in passing: names, or how they begin."""
PACKAGE = re.compile(r"^(?P<name>[A-Za-z0-9][\w.]*?)-(?P<version>\d[^-]*)(-py[\d.]+.*)?\.(dist-info|egg-info)$")


class Look(NamedTuple):
    """How a file looks from outside."""

    size: int
    modified: int
    inode: int
    directory: bool
    changed: int
    """Its ctime, which nobody can set."""

    def same(self, other: Look | None) -> bool:
        if other is None or self.directory or other.directory:
            return other is not None and self.directory and other.directory
        return self[:4] == other[:4]


def earliest_time() -> int:
    """That of a file which is changed from now on: on Linux it may be that of the clock's last tick, some ms ago."""
    return time.clock_gettime_ns(REALTIME_COARSE) if sys.platform == "linux" else time.time_ns()


def look(path: str) -> Look | None:
    try:
        return seen(os.lstat(path))
    except (OSError, ValueError):
        return None


def seen(found: os.stat_result) -> Look:
    return Look(found.st_size, found.st_mtime_ns, found.st_ino, stat.S_ISDIR(found.st_mode), found.st_ctime_ns)


def listing(root: str, most: int = ENTRIES, within_s: float = LISTING_S) -> dict[str, Look] | None:
    """The files below a directory; None where there are too many, or where looking takes too long."""
    end = time.perf_counter() + within_s
    found: dict[str, Look] = {}
    waiting = [(root, 1)]
    while waiting:
        directory, level = waiting.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if (
                        entry.name in NOT_LISTED
                        or entry.name.endswith(NOT_OURS_TO_TELL)
                        or NOT_FILES.search(entry.name)
                    ):
                        continue
                    if len(found) >= most or time.perf_counter() > end:
                        return None
                    found[entry.path] = one = seen(entry.stat(follow_symlinks=False))
                    if one.directory and level < DEPTH:
                        waiting.append((entry.path, level + 1))
        except OSError:  # it is gone, or closed to us
            continue
    return found


def packages(known: dict[str, tuple[int, dict[str, str]]]) -> dict[str, str]:
    """Name → version of what is installed; directories that are as they were in `known` are not read again."""
    every: dict[str, str] = {}
    for directory in reversed([str(entry) for entry in sys.path]):
        if os.path.basename(directory) not in ("site-packages", "dist-packages"):
            continue
        try:
            modified = os.stat(directory).st_mtime_ns
            if directory not in known or known[directory][0] != modified:
                parsed = [one for one in map(PACKAGE.match, os.listdir(directory)) if one is not None]
                names = {one["name"].replace("_", "-").lower(): one["version"] for one in parsed}
                known[directory] = (modified, names)
        except OSError:
            continue
        every |= known[directory][1]
    return every


class Mark:
    """How things were at a moment."""

    def __init__(self, token: str, installed: dict[str, str], passing: Places) -> None:
        self.token = token
        self.environ = dict(os.environ)
        self.installed = installed
        self.noted: dict[str, Look | None] = {}
        """How a path was before it was first touched."""
        self.trees: list[str] = []
        """What was removed whole: nothing below it need be noted as it goes."""
        self.overflow: set[int] = set()
        """Hashes of paths that are not noted any more."""
        self.started_programs = False
        self.go_to(os.getcwd(), passing)

    def go_to(self, cwd: str, passing: Places) -> None:
        """That directory is the one to start from."""
        root = cwd.rstrip("/") + "/"
        temporary = os.path.realpath(tempfile.gettempdir()) + "/"
        lasts = not passing.free(cwd)
        self.root = root if not lasts and not temporary.startswith(root) else ""
        """What lasts though it lies among temporary files."""
        self.cwd, self.listed = cwd, listing(cwd) if lasts or self.root else None

    def lacks(self, path: str, *, goes: bool) -> bool:
        """Whether it is not noted; what goes with all of its directory need not be."""
        return path not in self.noted and not (goes and self.trees and path.startswith(tuple(self.trees)))

    def counts(self, path: str, place: str) -> bool:
        """Whether a file is one that somebody may want to know of."""
        return place == LASTING or (place == PASSING and bool(self.root) and f"{path}/".startswith(self.root))

    def note(self, path: str, was: Look | None, *, tree: bool) -> None:
        if len(self.noted) >= NOTED:
            if len(self.overflow) < OVERFLOW:
                self.overflow.add(hash(path))
            return
        self.noted[path] = was
        if tree:
            self.trees.append(path + "/")


class Changes:
    """The marks, and what is heard since."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside
        self.own_threads = inside.watch.own_threads
        self.marks: list[Mark] = []
        self.count = 0
        self.life = os.urandom(4).hex()
        """A mark of an earlier kernel is none of this one's."""
        self.lock = threading.Lock()
        self.local = threading.local()
        self.known_packages: dict[str, tuple[int, dict[str, str]]] = {}
        self.places: dict[str, str] = {}
        """What kind of place a directory is."""
        self.intervals: list[tuple[int, int]] = []
        """When cells ran."""
        self.began = 0
        self.hooked = False
        own = [str(inside.options.get("spill_dir") or "")]
        self.passing = Places([*places_for_all(os.environ), *own])
        """Where files come and go."""
        self.ours = Places([os.environ.get("LASH_NB_RUNTIME_DIR", ""), *own])

    # -- cells ---------------------------------------------------------------------------------------------------------

    def cell_begins(self, *args: Any) -> None:
        self.began = earliest_time()

    def cell_ends(self, *args: Any) -> None:
        if self.began:
            self.intervals.append((self.began, time.time_ns()))
            del self.intervals[:-INTERVALS]
        self.began = 0

    def in_a_cell(self, when_ns: int) -> bool:
        running = [(self.began, when_ns)] if self.began else []
        return any(begin <= when_ns <= end for begin, end in [*self.intervals, *running])

    # -- events --------------------------------------------------------------------------------------------------------

    def make_hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        heard, note, reading = HEARD, self.note, ~WRITING

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event not in heard:
                return
            if event == "open":
                flags = args[2]
                if flags.__class__ is int and flags & reading == flags:
                    return
            note(event, args)

        return hook

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """Keep how what an event is about to change was before; nothing where that cannot be told."""
        if threading.get_ident() in self.own_threads or getattr(self.local, "busy", False):
            return
        self.local.busy = True
        try:
            if event not in CHANGING:
                for mark in self.marks:
                    mark.started_programs = True
                return
            for touched in FILES[event](*args):
                if isinstance(touched.path, int):
                    continue
                path = located(touched.path, touched.dir_fd)
                marks = self.marks_for(path, goes=event in GOING)
                if marks and touched.follow and os.path.islink(path):
                    path = os.path.realpath(path)
                    marks = self.marks_for(path, goes=False)
                if marks:
                    was = look(path)
                    for mark in marks:
                        mark.note(path, was, tree=event == "shutil.rmtree")
        except Exception:
            pass
        finally:
            self.local.busy = False

    def marks_for(self, path: str, *, goes: bool) -> list[Mark]:
        """Those for which a file is of interest, and not yet known."""
        marks = [mark for mark in self.marks if mark.lacks(path, goes=goes)]
        if not marks or NOT_FILES.search(path) is not None:
            return []
        directory = os.path.dirname(path)
        found = self.places.get(directory)
        if found is None:
            if len(self.places) >= NOTED:
                self.places.clear()
            found = self.places[directory] = self.place(directory)
        return [mark for mark in marks if mark.counts(path, found)]

    def place(self, directory: str) -> str:
        """What kind of place it is."""
        real = os.path.realpath(directory)
        if f"{real}/".startswith(("/dev/", "/proc/", "/sys/")) or self.ours.free(real):
            return OURS
        return PASSING if self.passing.free(real) else LASTING

    # -- marks ---------------------------------------------------------------------------------------------------------

    def moved(self, here: str, there: str) -> None:
        """The kernel was given another directory, and nobody changed to it."""
        for mark in self.marks:
            if mark.cwd == here:
                mark.go_to(there, self.passing)

    def mark(self) -> str:
        with self.lock:
            if not self.hooked:
                self.hooked = True
                sys.addaudithook(self.make_hook())
            self.count += 1
            made = Mark(f"{self.life}.{self.count}", packages(self.known_packages), self.passing)
            self.marks = [*self.marks[1 - MARKS :], made]
            return made.token

    def since(self, token: str) -> dict[str, Any] | None:
        """What changed since a mark; None when it is no longer known."""
        with self.lock:
            mark = next((one for one in self.marks if one.token == token), None)
            if mark is None:
                return None
            written, removed = self.files(mark)
            try:
                cwd = os.getcwd()
            except OSError:  # it was removed
                cwd = mark.cwd
            now = dict(os.environ)
            installed = packages(self.known_packages)
        names = {name for name in now.keys() | mark.environ.keys() if not name.startswith(NOT_VARIABLES)}
        new = {name: version for name, version in installed.items() if mark.installed.get(name) != version}
        return {
            "written": [[path, size] for path, size in written[:TOLD]],
            "removed": removed[:TOLD],
            "more": max(0, len(written) - TOLD) + max(0, len(removed) - TOLD) + len(mark.overflow),
            "from": mark.cwd,
            "cwd": cwd if cwd != mark.cwd else "",
            "set": sorted(name for name in names if name in now and now[name] != mark.environ.get(name)),
            "unset": sorted(name for name in names if name not in now),
            "installed": [[name, version] for name, version in sorted(new.items())],
            "uninstalled": sorted(mark.installed.keys() - installed.keys()),
        }

    def files(self, mark: Mark) -> tuple[list[tuple[str, int | None]], list[str]]:
        """What was written, with its size (None for a directory), and what was removed; the topmost of each."""
        written: dict[str, int | None] = {}
        removed: set[str] = set()
        for path, _, now in [*self.heard(mark), *self.listed(mark)]:
            if now is None:
                removed.add(path)
            else:
                written[path] = None if now.directory else now.size
        above = {parent for path in written for parent in parents(path)}
        told = [(path, size) for path, size in written.items() if size is not None or path not in above]
        return told, sorted(path for path in removed if not removed.intersection(parents(path)))

    def heard(self, mark: Mark) -> Iterator[tuple[str, Look | None, Look | None]]:
        for path, was in list(mark.noted.items()):
            now = look(path)
            if (now is not None or was is not None) and not (now is not None and now.same(was)):
                yield path, was, now

    def listed(self, mark: Mark) -> Iterator[tuple[str, Look | None, Look | None]]:
        """What nobody heard of, in the working directory."""
        listed = listing(mark.cwd) if mark.listed is not None else None
        if listed is None or mark.listed is None:
            return
        for path, now in sorted(listed.items()):
            was = mark.listed.get(path)
            unheard = path not in mark.noted and not now.same(was)
            if unheard and self.in_a_cell(now.changed) and NOT_FILES.search(path) is None:
                yield path, was, now
        for path in sorted(mark.listed.keys() - listed.keys()) if mark.started_programs else ():
            if path not in mark.noted and look(path) is None:
                yield path, mark.listed[path], None


def parents(path: str) -> Iterator[str]:
    """The directories that a path lies in."""
    above = os.path.dirname(path)
    while above not in ("", "/"):
        yield above
        above = os.path.dirname(above)


def located(path: Any, dir_fd: Any) -> str:
    """The absolute path that is meant, links left as they are."""
    text = os.fsdecode(path)
    if dir_fd in (None, -1) or os.path.isabs(text):
        return os.path.abspath(text)
    return os.path.normpath(os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), text))


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_mark_request` and `lash_changes_request`; the feature test is that there are a guard and events."""
    sys.addaudithook  # noqa: B018 (a feature test)
    changes = Changes(inside)
    inside.moved = changes.moved
    shell.events.register("pre_execute", changes.cell_begins)
    shell.events.register("post_execute", changes.cell_ends)

    def answer(made: Callable[[], dict[str, Any]], respond: Callable[[dict[str, Any]], None]) -> None:
        changes.own_threads.add(threading.get_ident())
        try:
            respond({"status": "ok", **made()})
        except Exception as error:
            respond({"status": "error", "ename": type(error).__name__, "evalue": str(error)})
        finally:
            changes.own_threads.discard(threading.get_ident())

    def on_thread(made: Callable[[], dict[str, Any]], respond: Callable[[dict[str, Any]], None]) -> None:
        threading.Thread(target=answer, args=(made, respond), name="lash_nb changes", daemon=True).start()

    def lash_mark_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        on_thread(lambda: {"mark": changes.mark()}, respond)

    def lash_changes_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        since = str(content.get("since"))
        on_thread(lambda: {"changes": changes.since(since)}, respond)

    inside.handlers["lash_mark_request"] = lash_mark_request
    inside.handlers["lash_changes_request"] = lash_changes_request
