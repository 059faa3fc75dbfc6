"""Notebooks that mean harm are read, judged and drawn: `python -m tests.faults.hostile --json`.

Each case (`hostile_cases`, and seeded mutations of `hostile_parts`) is a file. It goes through everything that reads
what a notebook carries: `carried`, the words and pages of `verify` and `show`, `read_block`, `interrupted_turn`, and
the session that would be gone on with (every second time found as `lash-nb resume` finds it). Meanwhile an audit hook
counts whatever would be an execution of what the file says: code that is compiled or run, imports, files but the one
given, processes, sockets, pickles, foreign functions; every event that is not known to be harmless counts. A case
crashes when it raises what is not lash_nb's own, or takes too long; it is unclear when it is not valid and no sentence
says why; it is unsafe when a control character reaches a terminal or a page holds what could act.

The harness must be able to fail: first, judges that do what is forbidden are watched, and have to be caught.

The last line is one JSON object: `cases`, `executed`, `crashed`, `unclear`, `unsafe`, `seconds`.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import itertools
import json
import os
import pickle
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lash_nb.carried_words import carried_html, carried_text, verdict_json, verdict_text
from lash_nb.errors import LashError
from lash_nb.finding import find_session
from lash_nb.from_notebook import Bounds, session_of, session_of_notebook
from lash_nb.stores.carried import Carried, carried
from lash_nb.stores.notebook import interrupted_turn, read_block
from tests.faults.hostile_cases import few, many
from tests.faults.hostile_parts import PAYLOAD, Case, bases, case, document, mutations
from tests.stores.envelopes import block, notebook

__all__ = ["Result", "Watch", "run", "self_check"]

_LONGEST_S = 10.0
"""Of the processor's time, for one case."""

STATE = "state"
"""Where it is looked whether a session is recorded."""

_HARMLESS = frozenset(
    {
        "array.__new__",
        "builtins.id",
        "gc.get_objects",
        "object.__getattr__",
        "object.__setattr__",
        "signal.setitimer",
        "sys._getframe",
        "sys._getframemodulename",
        "sys.excepthook",
        "sys.unraisablehook",
    }
)


class HungError(BaseException):
    """A case took too long."""


class Watch:
    """Counts what a judge does that reading must not; one a process, for an audit hook cannot be taken off."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self._armed = False
        self._given = self._looked_in = ""
        sys.addaudithook(self._see)

    def __call__(self, given: Path, judge: Callable[[], None]) -> None:
        """Run a judge that may read the file that it was given."""
        known = set(sys.modules)
        self._given, self._looked_in = str(given), f"{given.parent / STATE}/sessions/"
        self._armed = True
        try:
            judge()
        finally:
            self._armed = False
            for name in set(sys.modules) - known:  # importlib does not tell of all that it does
                self.events[f"imported {name}"] += 1

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._armed or event in _HARMLESS:
            return
        name = str(args[0]) if args else ""
        if event == "open" and name == self._given and args[1] in ("r", "rb", None):
            return
        if (
            event in ("os.listdir", "os.scandir")
            and name == os.path.normpath(name)
            and name.startswith(self._looked_in)
        ):
            return
        self._armed = False  # telling must not be seen itself
        self.events[f"{event} {name[:80]}".strip()] += 1
        self._armed = True


@dataclass(slots=True)
class Result:
    """What came of the cases."""

    cases: int = 0
    executed: int = 0
    crashed: int = 0
    unclear: int = 0
    unsafe: int = 0
    seconds: float = 0.0
    told: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        counts = {name: getattr(self, name) for name in ("cases", "executed", "crashed", "unclear", "unsafe")}
        return {**counts, "seconds": round(self.seconds, 1)}


# -------------------------------------------------------------------------------------------------------- the judging

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TAG = re.compile(r"<(/?)([a-zA-Z!][a-zA-Z0-9]*)((?:\"[^\"]*\"|'[^']*'|[^>\"'])*)>")
_TAGS = re.compile(
    "a|article|b|blockquote|body|br|code|del|details|div|em|h[1-6]|head|hr|html|i|img|li|meta|ol|p|pre|s|section|small|"
    "span|strong|style|sub|summary|sup|table|tbody|td|th|thead|title|tr|u|ul|!doctype",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(\"[^\"]*\"|'[^']*'|\S+)")
_LINK = re.compile(r"[\"'](?:https?:|mailto:|#)")
_IMAGE = re.compile(r"[\"']data:image/")


def unsafe_page(page: str) -> str:
    """What in a page could act; empty when nothing could."""
    for _, name, attributes in _TAG.findall(page):
        if not _TAGS.fullmatch(name):
            return f"<{name}>"
        for key, target in _ATTRIBUTE.findall(attributes):
            harmless = {"href": _LINK, "src": _IMAGE}.get(key.lower())
            acts = key.lower().startswith("on") or key.lower() in ("action", "formaction", "srcdoc", "data", "ping")
            if acts or (harmless is not None and not harmless.match(target)):
                return f"{key}={target}"
    return "a loose <" if "<" in _TAG.sub("", page) else ""


@dataclass(slots=True)
class _Outcome:
    found: list[Carried] = field(default_factory=list)
    text: str = ""
    pages: list[str] = field(default_factory=list)


def _draw(outcome: _Outcome, found: Carried, value: object) -> None:
    outcome.text += verdict_text(found, name="n.ipynb", document=value) + carried_text(found, name="n.ipynb")
    outcome.text += json.dumps(verdict_json(found, document=value))
    outcome.pages.append(carried_html(found, name="n.ipynb"))


def _read(value: object, outcome: _Outcome) -> None:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if isinstance(metadata, dict):
        interrupted_turn(metadata)
        read_block(metadata)


def _load(path: Any, outcome: _Outcome) -> None:
    outcome.text += ascii(session_of_notebook(path).id)


def _find(path: Any, outcome: _Outcome) -> None:
    """As `lash-nb resume` does before it asks: also whether its session is recorded here."""
    found = find_session(path, state_dir=path.parent / STATE)
    outcome.text += "".join(found.notes)
    if found.carried is not None:
        outcome.text += ascii(session_of(found.carried, bounds=Bounds()).id)


def judge(path: Path, value: object, outcome: _Outcome, *, find: bool = False) -> None:
    """Everything that reads what a notebook carries, and draws it."""
    found = carried(value)
    outcome.found.append(found)
    _draw(outcome, found, value)
    for read, given in ((_read, value), (_find if find else _load, path)):
        try:
            read(given, outcome)
        except LashError as error:
            outcome.text += str(error)


def _check(result: Result, given: Case, outcome: _Outcome) -> None:
    for found in outcome.found:
        said = all(problem.sentence.strip() for problem in found.problems)
        if not found.ok and not (said and any(problem.fatal for problem in found.problems)):
            result.unclear += 1
            result.told.append(f"unclear: {given.name}")
    seen = _CONTROL.search(outcome.text)
    acts = next((what for page in outcome.pages if (what := unsafe_page(page))), "")
    if seen or acts:
        result.unsafe += 1
        result.told.append(f"unsafe: {given.name}: {acts[:80] if acts else ascii(seen and seen[0])}")


# ---------------------------------------------------------------------------------------------------------- the cases


def chosen(count: int, seed: int) -> Iterator[Case]:
    """The small families, then as many of the large ones as of mutations, until there are enough."""
    small = list(few())
    large = many()
    random.Random(seed).shuffle(large)
    part = (make() for make in large[: max(0, count - len(small)) // 2])
    return itertools.islice(itertools.chain(small, part, mutations(seed)), count)


def _value_of(given: Case) -> object:
    if given.document is not None:
        return given.document
    try:
        return json.loads(given.raw)
    except (ValueError, RecursionError):
        return None


def _time_is_up(number: int, frame: object) -> None:
    raise HungError


def run(cases: Iterator[Case], watch: Watch, *, directory: Path) -> Result:
    """Read, judge and draw every case."""
    result = Result()
    path = directory / "n.ipynb"
    signal.signal(signal.SIGPROF, _time_is_up)
    _warm_up(path)
    began = time.monotonic()
    for given in cases:
        path.write_bytes(given.raw)
        value, outcome = _value_of(given), _Outcome()
        before, since = watch.events.total(), time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, _LONGEST_S)
        try:
            find = result.cases % 2 == 1
            watch(path, lambda value=value, outcome=outcome, find=find: judge(path, value, outcome, find=find))  # type: ignore[misc]
        except (Exception, HungError) as error:
            result.crashed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            result.told.append(f"crashed: {given.name}: {error!r:.200} ({where.filename}:{where.lineno})")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        result.cases += 1
        done = watch.events.total() - before
        result.executed += done
        if done:
            result.told.append(f"executed: {given.name}: {list(watch.events)[-1]}")
        _check(result, given, outcome)
        result.slowest = sorted([*result.slowest, (time.monotonic() - since, given.name)], reverse=True)[:5]
    result.seconds = time.monotonic() - began
    return result


def _warm_up(path: Path) -> None:
    """What is imported once, at the first notebook of a kind, is none of the notebook's doing."""
    whole = document(*bases()[0])
    cell = notebook(None, 7)["cells"][0]
    cells: list[object] = [[{}], 7, [{"cell_type": "code"}], [{**cell, "outputs": [{}]}]]
    cells += [[{**cell, "outputs": [{"output_type": "display_data"}]}]]
    broken: list[dict[str, Any]] = [whole, {**whole, "metadata": 7}, *({**whole, "cells": some} for some in cells)]
    numbers: list[object] = [-1, *range(8)]
    for value in ({**value, "nbformat_minor": minor} for value in broken for minor in numbers):
        path.write_text(json.dumps(value), encoding="utf-8")
        judge(path, value, _Outcome(), find=True)
    for version in range(1, 5):
        path.write_text(json.dumps({**whole, "nbformat": version}), encoding="utf-8")
        judge(path, whole, _Outcome())


# --------------------------------------------------------------------------------------------------------- self-check


def self_check(watch: Watch, *, directory: Path) -> list[str]:
    """Judges that do what is forbidden; the names of those that were not caught."""
    path = directory / "bad.ipynb"
    path.write_bytes(case("bad", notebook({**block(), "model": PAYLOAD})).raw)
    other = directory / "other"
    payload = json.loads(path.read_bytes())["metadata"]["lash_nb"]["model"]
    bad: dict[str, Callable[[], object]] = {
        "unpickles": lambda: pickle.loads(base64.b64decode(payload)),
        "imports": lambda: importlib.import_module("colorsys"),
        "evaluates": lambda: eval("1 + 1"),
        "reads another file": lambda: other.read_bytes(),
        "writes the given file": lambda: path.write_text("{}"),
    }
    missed = []
    for name, act in bad.items():
        before = watch.events.total()
        try:
            watch(path, lambda act=act: act())  # type: ignore[misc]
        except OSError:
            pass
        if watch.events.total() == before:
            missed.append(name)
    return missed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when any of them did what it should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(argv)
    watch = Watch()
    memory = next((place for place in ("/dev/shm",) if os.access(place, os.W_OK)), None)
    with tempfile.TemporaryDirectory(prefix="lash_nb_hostile_", dir=memory) as directory:
        missed = self_check(watch, directory=Path(directory))
        if missed:
            print(f"the harness does not notice a judge that {', '.join(missed)}", file=sys.stderr)
            return 1
        result = run(chosen(options.cases, options.seed), watch, directory=Path(directory))
    for line in result.told[:100]:
        print(ascii(line), file=sys.stderr)
    if not options.json:
        for seconds, name in result.slowest:
            print(f"{seconds:6.2f} s  {name!a}", file=sys.stderr)
    print(json.dumps(result.to_json()))
    return 1 if result.executed or result.crashed or result.unclear or result.unsafe else 0


if __name__ == "__main__":
    sys.exit(main())
