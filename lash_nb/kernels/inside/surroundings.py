"""What the notebook's process has set is set here: `sys.path`, directory, options of libraries. Runs in the kernel.

Decided here: nothing is imported for it. Options of a library that is not imported yet wait for the cell that imports
it: they are set when the library's own code has run, before the importing code goes on. What this kernel's libraries do
not know is left out. What the agent has changed is left as it is: only what has changed in the notebook is set again,
and the directory only while it is the one that was given last. What the notebook takes back is taken back here.
numpy keeps its options by context: here the ones of all contexts that have set none of their own are set.
It runs on a thread of its own, because code of the libraries runs; effects of such code are asked about as the cell's.
"""

from __future__ import annotations

import contextvars
import importlib
import json
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

FORMAT = "$format"
"""`{"$format": "{:.2f}"}` stands for the method `"{:.2f}".format`."""
RAW = frozenset({"plotting.backend"})
"""Options of pandas that import something when they are set by the front door."""
INLINE: dict[str, Any] = {
    "figure_formats": {"png"},
    "rc": {},
    "print_figure_kwargs": {"bbox_inches": "tight"},
    "close_figures": True,
}
"""The settings of the inline backend, and their defaults."""
LOCK_S = 1.0
"""An import must not wait for long for options that are being set."""


class Library(NamedTuple):
    """How options of a library are read and set."""

    get: Callable[[Any, str], Any]
    put: Callable[[Any, str, Any], None]


class Put(NamedTuple):
    """An option that was set here: as it was sent, as the library keeps it, and what was there before."""

    sent: Any
    kept: Any
    before: Any


# -- libraries ---------------------------------------------------------------------------------------------------------


def get_rc(module: Any, name: str) -> Any:
    return module.rcParams[name]


def put_rc(module: Any, name: str, value: Any) -> None:
    module.rcParams[name] = value


def get_pandas(module: Any, name: str) -> Any:
    return module.get_option(name)


def put_pandas(module: Any, name: str, value: Any) -> None:
    if name not in RAW:
        module.set_option(name, value)
        return
    module.get_option(name)  # it is one
    root, leaf = module._config.config._get_root(name)
    root[leaf] = value


def get_numpy(module: Any, name: str) -> Any:
    return contextvars.Context().run(module.get_printoptions)[name]


def put_numpy(module: Any, name: str, value: Any) -> None:
    context = contextvars.Context()
    context.run(module.set_printoptions, **{name: value})
    kept = sys.modules.get("numpy._core.printoptions")
    if kept is not None:
        every = contextvars.Context().run(kept.format_options.get)  # what contexts have that have set nothing
        every[name] = context.run(kept.format_options.get)[name]


def inline_place(shell: Any) -> tuple[Any, Any]:
    """The inline backend's settings object, if there is one, and where its settings are read from when it is made."""
    kind = getattr(sys.modules.get("matplotlib_inline.config"), "InlineBackend", None)
    instance = kind.instance() if kind is not None and kind.initialized() else None
    return instance, shell.config.InlineBackend


def get_inline(shell: Any, name: str) -> Any:
    instance, config = inline_place(shell)
    return getattr(instance, name) if instance is not None else config.get(name, INLINE[name])


def put_inline(shell: Any, name: str, value: Any) -> None:
    value = set(value) if isinstance(INLINE[name], set) else value
    instance, config = inline_place(shell)
    if instance is not None:
        setattr(instance, name, value)
    else:
        config[name] = value


LIBRARIES = {
    "matplotlib": Library(get_rc, put_rc),
    "numpy": Library(get_numpy, put_numpy),
    "pandas": Library(get_pandas, put_pandas),
}
INLINE_BACKEND = "matplotlib_inline"


def decoded(value: Any) -> Any:
    """An option's value as the library takes it."""
    if isinstance(value, dict) and value.keys() == {FORMAT}:
        return str(value[FORMAT]).format
    return value


def ready(name: str) -> Any:
    """A module whose own code has run; None when it was not imported, or is being imported at this moment."""
    module = sys.modules.get(name)
    initializing = getattr(getattr(module, "__spec__", None), "_initializing", False)
    return None if module is None or initializing else module


# -- all of it ---------------------------------------------------------------------------------------------------------


class Surroundings:
    """What was taken over; also the finder that waits for imports, in `sys.meta_path` only while there are any."""

    def __init__(self, shell: Any, moved: Callable[[str, str], None]) -> None:
        self.shell = shell
        self.moved = moved
        self.lock = threading.RLock()
        self.cwd = os.path.realpath(os.getcwd())
        self.paths: tuple[list[str], list[str]] = ([], [])
        self.wanted: dict[str, dict[str, Any]] = {}
        self.put: dict[str, dict[str, Put]] = {}
        self.looking = threading.local()

    def take_over(self, sent: dict[str, Any], busy: bool) -> bool:
        """Whether all of it is in force, or will be with an import; with `busy` a cell runs, and is not moved."""
        if not self.lock.acquire(timeout=LOCK_S):
            return False
        try:
            self.add_paths([str(p) for p in sent["front"]], [str(p) for p in sent["back"]])
            moved = self.move(str(sent["cwd"]), busy)
            self.wanted = {name: dict(options) for name, options in sent["options"].items()}
            settled = [self.settle_now(name) for name in LIBRARIES]
            self.settle(INLINE_BACKEND, self.shell, Library(get_inline, put_inline))
            self.look_out()
        finally:
            self.lock.release()
        return moved and all(settled)

    def add_paths(self, front: list[str], back: list[str]) -> None:
        """Before all others, and after all others; those of before that are no longer wanted go."""
        if (front, back) == self.paths:
            return
        for entry in [entry for part in self.paths for entry in part]:
            if entry in sys.path:
                sys.path.remove(entry)
        back = [entry for entry in back if entry not in sys.path]
        self.paths = (front, back)
        sys.path[:0] = front
        sys.path.extend(back)
        importlib.invalidate_caches()  # a directory may have been looked for before it was there

    def move(self, directory: str, busy: bool) -> bool:
        """Go there, unless the agent has gone elsewhere."""
        wanted = os.path.realpath(directory) if directory else self.cwd
        if wanted == self.cwd:
            return True
        if busy:
            return False
        try:
            here = os.getcwd()
            if os.path.realpath(here) == self.cwd:
                os.chdir(wanted)
                self.moved(here, os.getcwd())
            self.cwd = wanted
        except OSError:  # one of them is not there
            pass
        return True

    # -- options -------------------------------------------------------------------------------------------------------

    def settle_now(self, name: str) -> bool:
        """Set a library's options, if it is there; False when it is being imported at this moment."""
        module = ready(name)
        if module is not None:
            self.settle(name, module, LIBRARIES[name])
        return module is not None or name not in sys.modules or not self.wanted.get(name)

    def settle(self, name: str, module: Any, library: Library) -> None:
        wanted, put = self.wanted.get(name, {}), self.put.setdefault(name, {})
        if not wanted and not put:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an option will go one day is the notebook's to hear
            for option in [option for option in put if option not in wanted]:
                self.take_back(module, library, option, put.pop(option))
            for option, value in wanted.items():
                if option in put and put[option].sent == value:
                    continue
                try:
                    before = put[option].before if option in put else library.get(module, option)
                    library.put(module, option, decoded(value))
                    put[option] = Put(value, library.get(module, option), before)
                except Exception:
                    continue  # not known here, or not with this value

    def take_back(self, module: Any, library: Library, option: str, was: Put) -> None:
        try:
            if library.get(module, option) == was.kept:
                library.put(module, option, was.before)
        except Exception:
            pass

    # -- imports -------------------------------------------------------------------------------------------------------

    def waits_for(self, name: str) -> bool:
        return name in LIBRARIES and bool(self.wanted.get(name)) and name not in sys.modules

    def look_out(self) -> None:
        waiting = any(self.waits_for(name) for name in LIBRARIES)
        if waiting and self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        elif not waiting and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: types.ModuleType | None = None) -> Any:
        """What the other finders find, with a loader that comes back here once."""
        if name not in LIBRARIES or not self.wanted.get(name) or getattr(self.looking, "busy", False):
            return None
        self.looking.busy = True
        try:
            for finder in list(sys.meta_path):
                find = None if finder is self else getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find is not None else None
                if spec is not None:
                    self.come_back(name, spec.loader)
                    return spec
        finally:
            self.looking.busy = False
        return None

    def come_back(self, name: str, loader: Any) -> None:
        original = getattr(loader, "exec_module", None)
        if original is None or isinstance(loader, type) or "exec_module" in getattr(loader, "__dict__", {}):
            return

        def exec_module(module: types.ModuleType) -> None:
            if module.__name__ == name:
                vars(loader).pop("exec_module", None)
            original(module)
            if module.__name__ == name:
                self.imported(name, module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # its loader takes none
            pass

    def imported(self, name: str, module: types.ModuleType) -> None:
        """Its own code has run."""
        if not self.lock.acquire(timeout=LOCK_S):
            return
        try:
            self.put.pop(name, None)  # what was put was put into the module of before
            self.settle(name, module, LIBRARIES[name])
            self.look_out()
        except Exception:  # an import does not fail for it
            pass
        finally:
            self.lock.release()


def versions(wanted: dict[str, str]) -> dict[str, str | None]:
    """The versions of distributions, by the name of their module; None where there is none, "" where none is told."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    found: dict[str, str | None] = {}
    for root, distribution in wanted.items():
        told = getattr(sys.modules.get(root), "__version__", None)
        try:
            found[root] = told if isinstance(told, str) else version(distribution)
        except PackageNotFoundError:
            found[root] = "" if root in sys.modules or find_spec(root) is not None else None
        except Exception:
            found[root] = ""
    return found


def code_of(names: dict[str, Any]) -> list[types.CodeType]:
    """All code of this module."""
    found: list[types.CodeType] = []
    waiting = [
        function.__code__
        for owner in (names, *(vars(one) for one in names.values() if isinstance(one, type)))
        for function in owner.values()
        if isinstance(function, types.FunctionType) and function.__globals__ is names
    ]
    while waiting:
        code = waiting.pop()
        found.append(code)
        waiting += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return found


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_surroundings_request` and `lash_packages_request`; the feature test is that there is a guard."""
    surroundings = Surroundings(shell, lambda here, there: inside.moved(here, there))
    inside.moved = lambda here, there: None
    # What code of a cell, or of a library, does by way of ours is still its own, and asked about.
    inside.watch.passed_through.extend(code_of(globals()))

    def answer(made: Callable[[], dict[str, Any]], respond: Callable[[dict[str, Any]], None]) -> None:
        try:
            respond({"status": "ok", **made()})
        except Exception as error:
            respond({"status": "error", "ename": type(error).__name__, "evalue": str(error)})

    def on_thread(made: Callable[[], dict[str, Any]], respond: Callable[[dict[str, Any]], None]) -> None:
        threading.Thread(target=answer, args=(made, respond), name="lash_nb surroundings", daemon=True).start()

    def lash_surroundings_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        sent = json.loads(content["surroundings"])
        on_thread(lambda: {"whole": surroundings.take_over(sent, inside.ledger.in_code)}, respond)

    def lash_packages_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        on_thread(lambda: {"python": python, "versions": versions(dict(content["names"]))}, respond)

    inside.handlers["lash_surroundings_request"] = lash_surroundings_request
    inside.handlers["lash_packages_request"] = lash_packages_request
