"""Ways of describing a class that installed packages bring: entry points of the group `lash_nb.describers`.

The name of one is `module:Class`, its object a `function(value) -> str`. Both are looked for on a thread of their own,
when the first value of a class that could have one is met: until they are there the value is told as any other.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from .kinds import module_of, mro_of, name_of

GROUP = "lash_nb.describers"
Found = Callable[[Any], Any] | str


class Plugins:
    """Looked for once, each loaded once."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        self.around = around
        self.lock = threading.Lock()
        self.points: dict[str, Any] | None = None
        self.loaded: dict[str, Found] = {}
        self.wanted: set[str] = set()
        self.at_work = False

    def of(self, kind: type) -> Found | None:
        """What describes a class or one that it derives from; a sentence where that cannot be loaded."""
        points = self.points
        if points is None:
            self.work("")
            return None
        if not points:
            return None
        for base in mro_of(kind):
            name = f"{module_of(base)}:{name_of(base)}"
            if name in self.loaded:
                return self.loaded[name]
            if name in points:
                self.work(name)
                return None
        return None

    def work(self, name: str) -> None:
        with self.lock:
            self.wanted.add(name)
            if self.at_work:
                return
            self.at_work = True
        _thread.start_new_thread(self.load, ())  # a `Thread` is waited for until it has begun

    def load(self) -> None:
        with self.around():
            while (name := self.next()) is not None:
                if name:
                    self.loaded[name] = self.load_one(name)
                elif self.points is None:
                    self.points = self.look()

    def next(self) -> str | None:
        with self.lock:
            self.at_work = bool(self.wanted)
            return self.wanted.pop() if self.wanted else None

    def look(self) -> dict[str, Any]:
        try:
            from importlib.metadata import entry_points

            return {point.name: point for point in entry_points(group=GROUP)}
        except Exception:  # packages that are damaged are not ours to tell of
            return {}

    def load_one(self, name: str) -> Found:
        try:
            found = (self.points or {})[name].load()
        except BaseException as error:  # a package's own code
            return f"the describer {name} cannot be loaded ({name_of(type(error))})"
        return found if callable(found) else f"the describer {name} is no function"
