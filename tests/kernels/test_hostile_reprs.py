"""Code of the user's that runs when a value is described: whatever it does, it is bounded, mute and said.

A class's `__repr__` or `_repr_lash_`, and what a class derived from a library's computes.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pandas as pd
import pytest

from lash_nb.kernels.inside.bounded import CALL_S, MOST_LEFT, MUTE
from lash_nb.kernels.inside.describer import BUDGET_S, Describer

from .descriptions import described

LOG: list[str] = []
"""What was called of the classes below."""
SLACK_S = 0.4
"""What a loaded machine may add; far less than any of the values here would take."""


@pytest.fixture(autouse=True)
def nothing_called() -> Iterator[None]:
    LOG.clear()
    yield
    LOG.clear()


class Sleeps:
    def __repr__(self) -> str:
        time.sleep(0.5)
        return "slept"


class SleepsAgain(Sleeps):
    def __repr__(self) -> str:
        return super().__repr__()


class Loops:
    def __repr__(self) -> str:
        LOG.append("Loops")
        while True:
            pass


class Stubborn:
    """Catches what would end it, for a while."""

    def __repr__(self) -> str:
        LOG.append("Stubborn")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                time.sleep(0.001)
            except BaseException:
                continue
        return "stubborn"


class Exits:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Interrupts:
    def __repr__(self) -> str:
        raise KeyboardInterrupt


class Recurses:
    def __repr__(self) -> str:
        return f"<{self!r}>"


class Wordless:
    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]


class Floods:
    def __repr__(self) -> str:
        LOG.append("Floods")
        return "x" * 1_000_000_000


class Prints:
    def __repr__(self) -> str:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.write("more")
        return "Prints()"


class Text(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        LOG.append("getitem")
        return str.__getitem__(self, key)

    def __len__(self) -> int:
        LOG.append("len")
        return 10**9


class Tricky:
    def __repr__(self) -> str:
        return Text("tricky")


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        (Exits(), "<Exits: its repr raises SystemExit>"),
        (Interrupts(), "<Interrupts: its repr raises KeyboardInterrupt>"),
        (Recurses(), "<Recurses: its repr raises RecursionError>"),
        (Wordless(), "<Wordless: its repr raises TypeError>"),
        (Tricky(), "tricky"),
        ([Exits(), 1], "[<Exits: its repr raises SystemExit>, 1]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_repr_does_is_said(value: Any, preview: str) -> None:
    describer = Describer()
    assert described(value, describer=describer)[3] == preview
    assert described(value, describer=describer)[3:5] == [preview, False]
    assert LOG == []


def test_what_a_repr_prints_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.StringIO()
    with redirect_stdout(buffer):
        assert described(Prints())[3] == "Prints()"
    assert described(Prints())[3] == "Prints()"
    print("mine")
    assert (buffer.getvalue(), capfd.readouterr()) == ("", ("mine\n", ""))


@pytest.mark.parametrize("value", [Sleeps(), Loops(), Stubborn()], ids=lambda value: type(value).__name__)
def test_a_repr_that_does_not_end_holds_nothing_up(value: Any) -> None:
    describer = Describer()
    names = {"a": value, "b": [value, 7], "c": "text"}
    name = type(value).__name__
    for _ in range(3):
        begun = time.monotonic()
        found = describer.summary(names, {}, 10)["variables"]
        assert time.monotonic() - begun < BUDGET_S + SLACK_S
        assert [preview for _, _, _, preview, _, _ in found][2] == "'text'"
    assert [preview for _, _, _, preview, _, _ in found] == [f"<{name}>", f"[<{name}>, 7]", "'text'"]
    assert not any(changed for _, _, _, _, changed, _ in found)
    assert len(LOG) <= 2


def test_after_a_few_that_did_not_end_nothing_is_called_any_more() -> None:
    describer = Describer()
    slow = [type(f"Slow{number}", (SleepsAgain,), {})() for number in range(MOST_LEFT + 1)]
    for value in slow:
        described(value, describer=describer)
    assert described(Prints(), describer=describer)[3] == "<Prints>"
    assert described(Prints())[3] == "Prints()"


def test_the_threads_of_those_end_with_them() -> None:
    described(Stubborn())
    deadline = time.monotonic() + 10
    while any(thread.name == "lash_nb describer" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    described(Prints(), describer=Describer())
    assert not MUTE.threads


def test_a_repr_of_a_gigabyte_is_made_once_at_most() -> None:
    """It holds the interpreter all the while, so nobody can end it; none of it is walked or kept."""
    describer = Describer()
    while not LOG:  # on a loaded machine the time may be over before it is called
        assert len(described(Floods(), describer=describer)[3]) <= 120
    begun = time.monotonic()
    for _ in range(3):
        assert described(Floods(), describer=describer)[3] == "<Floods>"
    assert time.monotonic() - begun < SLACK_S
    assert LOG == ["Floods"]


def test_other_threads_may_ask_at_the_same_time() -> None:
    describer, problems = Describer(), []
    names = {f"v{number}": [Prints(), Exits()] for number in range(20)}

    def ask() -> None:
        try:
            for _ in range(5):
                assert len(describer.summary(names, {}, 50)["variables"]) == 20
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# ------------------------------------------------------------------------------------------------------- of one's own


class Frame(pd.DataFrame):  # type: ignore[misc]
    """What a class derived from a library's computes is the user's code."""

    @property
    def shape(self) -> Any:
        LOG.append("shape")
        time.sleep(0.3)
        return (1, 1)


class Sub(pd.DataFrame):  # type: ignore[misc]
    pass


def test_classes_derived_from_a_library_s_are_told_on_a_thread_that_is_watched() -> None:
    describer = Describer()
    begun = time.monotonic()
    assert described(Frame({"a": [1]}), describer=describer)[3] == "<Frame>"
    assert time.monotonic() - begun < BUDGET_S + CALL_S + 0.25
    assert described(Sub({"a": [1]}))[1:4] == ["Sub", "shape (1, 1); columns a int64", "first row: 1"]
    assert described(Sub({"a": [1]}), "schema")[1:4] == ["Sub", "", ""]


class Hooked:
    def _repr_lash_(self) -> str:
        return "what a model needs " * 50


class BadHook:
    def _repr_lash_(self) -> str:
        return 3  # type: ignore[return-value]

    def __repr__(self) -> str:
        return "BadHook()"


class ProxyWithHook:
    def __getattr__(self, name: str) -> Any:
        LOG.append(name)
        return self

    def _repr_lash_(self) -> str:
        return "says it itself"


def test_a_class_can_say_something_for_models_alone() -> None:
    assert described(Hooked())[3] == ("what a model needs " * 50)[:119] + "…"
    assert described(Hooked(), "full")[3] == "what a model needs " * 50
    assert described(Hooked(), "schema")[1:4] == ["Hooked", "", ""]
    assert described([Hooked()])[3].startswith("[what a model needs")
    assert described(BadHook())[2:4] == ["_repr_lash_ gives no str", "<BadHook: _repr_lash_ gives no str>"]
    assert described(ProxyWithHook())[3] == "says it itself"
    assert LOG == []
