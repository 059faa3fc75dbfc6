"""All variables of a namespace in one summary: bounded in count, in time, and in what it touches.

What is remembered between two of them: what was told of each name, so that a change is seen and what has not changed is
not described again; and when each name was bound to what it is bound to now, so that a cap leaves out the oldest. A
namespace too large to be walked is walked from its newest name on.
"""

from __future__ import annotations

import threading
import time
import types
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, NamedTuple

from .bounded import CALL_S, Bounds, Worker, unchanged
from .describing import MAX_FULL, MAX_PREVIEW, Told, describe, describe_with_calls, told_type
from .libraries import library_of
from .plugins import Plugins
from .showing import PLAIN, Sampler

BUDGET_S = 0.05
"""For everything of a summary that runs here, by this thread's own clock; for code of the user's, by everybody's."""
MOST_S = 0.15
"""However little of it this thread had: a machine may be busy with something else."""
MAX_ALL_FULL = 24_000
AT_LEAST = 10
"""Told however little time there was."""
MOST_WALKED = 5_000


class Known(NamedTuple):
    """What was told of a name."""

    keeper: Any
    """Gives the value, as long as it lives: else another one could have its id."""
    mark: Any
    """What can be compared at once, before anything is described."""
    previews: str
    told: Told
    plain: tuple[Any, ...]
    """What is compared: all that can be told without code of the user's."""
    called: tuple[Any, ...] | None
    """And with it, if it was called: it is not each time."""


class Seen(NamedTuple):
    """The names of a namespace that are told of, newest first; `total` is how many there are, about."""

    names: dict[str, Any]
    total: int
    about: bool


class Describer:
    """Summaries of one namespace; from any thread. `around` is entered on every thread that is started for it."""

    def __init__(self, around: Callable[[], AbstractContextManager[None]] | None = None) -> None:
        self.lock = threading.RLock()
        self.known: dict[str, Known] = {}
        self.bound: dict[str, tuple[int, int]] = {}
        """Name → the id of its value, and the number of the summary that first saw it so."""
        self.number = 0
        self.whole = True
        """There was time for all of the last summary."""
        self.bounds = Bounds(around)
        plugins = Plugins(around or unchanged)
        self.short = Sampler(limit=MAX_PREVIEW, text=60, items=4, levels=2, elements=5, rows=1, plugins=plugins)
        self.long = Sampler(limit=MAX_FULL, text=1500, items=50, levels=3, elements=100, rows=10, plugins=plugins)
        self.short.slow = self.long.slow = self.bounds.slow
        self.plugins = plugins

    def describe(self, value: Any, values: bool = True) -> tuple[str, str, str]:
        """`(type, detail, preview)` of one value; without `values` nothing in them is one."""
        with self.lock:
            told = self.plain(value, values)
            if told.met and values:
                end = time.perf_counter() + BUDGET_S
                told = self.called({"": value}, end, longer=False).get("", (told, ""))[0]
            return told.type, told.detail, told.preview

    # -- all of them -----------------------------------------------------------------------------------------------

    def summary(
        self, namespace: dict[str, Any], hidden: Mapping[str, Any], limit: int, previews: str = "sample"
    ) -> dict[str, Any]:
        """`{variables, omitted, about, removed, previews}`.

        A variable is `[name, type, detail, preview, changed, columns]`; `about` says that `omitted` is not exact.
        """
        with self.lock:
            seen = self.visible(namespace, hidden)
            removed = sorted(name for name in self.known if name not in seen.names)
            for name in removed:
                del self.known[name]
            chosen = self.newest_first(seen.names)[: max(0, limit)]
            order = sorted(reversed(chosen), key=lambda name: -self.bound[name][1])
            found = self.described(seen.names, order, previews)
            room = MAX_ALL_FULL
            variables: list[list[Any]] = []
            for name in order:
                if name in found:
                    told, longer, changed = found[name]
                    preview = longer if longer and len(longer) <= room else told.preview
                    room -= len(preview) if previews == "full" else 0
                    variables.append([name, told.type, told.detail, preview, changed, told.columns])
            variables.sort(key=lambda variable: str(variable[0]))
            omitted = max(0, seen.total - len(variables))
            self.whole = len(variables) == len(chosen)
            return {
                "variables": variables,
                "omitted": omitted,
                "about": seen.about and omitted > 0,
                "removed": removed,
                "previews": previews,
            }

    def newest_first(self, names: dict[str, Any]) -> list[str]:
        """Those that were bound lately first, of those the ones that came last."""
        self.number += 1
        before, now = self.bound, self.number
        self.bound = bound = {}
        for name, value in names.items():
            known = before.get(name)
            bound[name] = known if known is not None and known[0] == id(value) else (id(value), now)
        return sorted(names, key=lambda name: -bound[name][1])

    def visible(self, namespace: dict[Any, Any], hidden: Mapping[str, Any]) -> Seen:
        """What is not hidden; a name that was told stays in view, however old it is."""
        items = list(newest(namespace))
        absent = object()
        names = {
            name: value
            for name, value in items
            if type(name) is str and name[:1] != "_" and hidden.get(name, absent) is not value
        }
        size = dict.__len__(namespace)
        if len(items) >= size:
            return Seen(names, len(names), False)
        for name in self.known:
            value = names.get(name, absent)
            value = dict.get(namespace, name, absent) if value is absent else value
            if value is not absent and hidden.get(name, absent) is not value:
                names[name] = value
        return Seen(names, max(len(names), size - (len(items) - len(names))), True)

    def bindings(self, namespace: dict[Any, Any]) -> dict[Any, int]:
        """What the names are bound to, by identity."""
        return {name: id(value) for name, value in newest(namespace) if type(name) is str}

    # -- each of them ----------------------------------------------------------------------------------------------

    def described(self, names: dict[str, Any], order: list[str], previews: str) -> dict[str, tuple[Told, str, bool]]:
        """Name → what is told, the long preview or "", whether it changed; as many as there is time for."""
        found: dict[str, tuple[Told, str, bool]] = {}
        fresh: dict[str, tuple[Known, str]] = {}
        room = MAX_ALL_FULL if previews == "full" else 0
        end, own_end = time.perf_counter() + MOST_S, time.thread_time() + BUDGET_S
        call_end = end - MOST_S + BUDGET_S
        for name in order:
            left = min(end - time.perf_counter(), own_end - time.thread_time())
            if left < 0 and len(fresh) >= AT_LEAST:
                break
            value, before = names[name], self.known.get(name)
            mark = quick_mark(value)
            if before is not None and previews != "full" and same(before, value, mark, previews):
                found[name] = (before.told, "", False)
                continue
            made = self.known_now(value, mark, previews)
            longer = self.longer(value) if room > 0 and left > BUDGET_S / 2 else ""
            room -= len(longer or made.told.preview)
            fresh[name] = (made, longer)
        waiting = {name: names[name] for name, (made, _) in fresh.items() if made.told.met and previews != "schema"}
        calls = self.called(waiting, max(call_end, time.perf_counter() + CALL_S), longer=room > 0)
        for name, (made, longer) in fresh.items():
            if name in calls:
                told, longer = calls[name]
                shown = (len(self.plugins.loaded), told.detail, told.preview)
                made = made._replace(told=told, called=None if told.late else shown)
            found[name] = (made.told, longer, self.changed(name, made))
            self.remember(name, made)
        return found

    def remember(self, name: str, now: Known) -> None:
        before = self.known.get(name)
        if now.called is None and before is not None and before.plain == now.plain:
            now = now._replace(called=before.called)
        self.known[name] = now
        if len(self.known) > MOST_WALKED:
            del self.known[next(iter(self.known))]

    def changed(self, name: str, now: Known) -> bool:
        before = self.known.get(name)
        if before is None:
            return self.bound[name][1] == self.number
        if before.plain != now.plain:
            return True
        told, was = now.called, before.called
        return told is not None and was is not None and told[0] == was[0] and told != was

    def known_now(self, value: Any, mark: Any, previews: str) -> Known:
        """Described without any code of the user's."""
        full = self.plain(value, True)
        told = self.plain(value, False) if previews == "schema" else full
        compared = (id(value), full.type, full.detail, full.preview, mark and mark[1])
        return Known(keeper_of(value) if mark is not None else None, mark, previews, told, compared, None)

    def plain(self, value: Any, values: bool) -> Told:
        try:
            return describe(value, self.short, values=values)
        except Exception as error:  # a library's own code
            said = f"<cannot be described: {type(error).__name__}>" if values else ""
            return Told(told_type(type(value)), "", said, [])

    def longer(self, value: Any) -> str:
        try:
            return describe(value, self.long, values=True).preview
        except Exception:
            return ""

    def called(self, values: dict[str, Any], end: float, *, longer: bool) -> dict[str, tuple[Told, str]]:
        """What is told with the user's own code, of as many as there is time for."""
        found: dict[str, tuple[Told, str]] = {}

        def job_for(name: str, value: Any) -> Callable[[Worker], None]:
            def job(worker: Worker) -> None:
                told, long = describe_with_calls(value, self.short.with_calls(worker.call)), ""
                if longer and not told.late:
                    long = describe_with_calls(value, self.long.with_calls(worker.call)).preview
                found[name] = (told, long)

            return job

        if values:
            self.bounds.run([job_for(name, value) for name, value in values.items()], end)
        return dict(found)


def newest(namespace: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The last names of a namespace that were made, newest first: all, as a rule."""
    for _ in range(5):
        try:
            return list(islice(reversed(dict.items(namespace)), MOST_WALKED))
        except RuntimeError:  # a cell makes a name at this moment
            continue
    return []


def quick_mark(value: Any) -> Any:
    """`(what changes with a value, the part of it that is its content)`, where it costs less than a description."""
    kind = type(value)
    if id(kind) in PLAIN:
        return None
    if kind is types.FunctionType:
        return ((id(value.__code__), id(value.__defaults__), id(value.__kwdefaults__)), None)
    found = library_of(kind)
    if found is None or found[1]:
        return None
    try:
        return found[0].mark(value) if found[0].plain(value) else None
    except Exception:
        return None


def keeper_of(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        return None


def same(before: Known, value: Any, mark: Any, previews: str) -> bool:
    """Whether what was told still holds."""
    if mark is None or before.keeper is None or before.previews != previews or before.mark != mark:
        return False
    return before.keeper() is value and not before.told.met
