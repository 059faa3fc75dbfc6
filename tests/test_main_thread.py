"""Functions on the notebook's main thread: where they run, what comes back, and how both ends let go of each other."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lash_nb.bridge import shared_loop
from lash_nb.errors import LashError, ToolError
from lash_nb.main_thread import NotebookThread

HERE: contextvars.ContextVar[str] = contextvars.ContextVar("HERE", default="nowhere")


def blocks(thread: NotebookThread, work: Coroutine[Any, Any, Any]) -> Any:
    """A cell that blocks until the turn has ended, which is `work`."""
    with thread.open(awaits=False):
        return shared_loop().run(work, on_tick=thread.serve)


async def awaits(thread: NotebookThread, work: Coroutine[Any, Any, Any]) -> Any:
    """A cell that awaits it."""
    with thread.open(awaits=True):
        return await shared_loop().wait(work, on_tick=thread.serve)


def where() -> str:
    return threading.current_thread().name


# ------------------------------------------------------------------------------------------------------- where it runs


def test_a_function_runs_on_the_thread_that_waits() -> None:
    thread = NotebookThread()
    assert blocks(thread, thread.run(where, {})) == "MainThread"


async def test_also_where_a_cell_awaits() -> None:
    thread = NotebookThread()
    assert await awaits(thread, thread.run(where, {})) == "MainThread"


def test_arguments_are_keywords() -> None:
    thread = NotebookThread()
    assert blocks(thread, thread.run(lambda city, days: f"{city} {days}", {"city": "Bern", "days": 3})) == "Bern 3"


async def test_an_asynchronous_function_runs_on_the_notebook_s_loop() -> None:
    thread, notebooks = NotebookThread(), asyncio.get_running_loop()

    async def work() -> list[Any]:
        await asyncio.sleep(0)
        return [where(), asyncio.get_running_loop() is notebooks, HERE.get()]

    HERE.set("the cell")
    assert await awaits(thread, thread.run(work, {})) == ["MainThread", True, "the cell"]


def test_where_the_cell_blocks_that_loop_it_runs_on_the_session_s() -> None:
    thread = NotebookThread()

    async def work() -> str:
        await asyncio.sleep(0)
        return where()

    assert blocks(thread, thread.run(work, {})) == "lash_nb-loop"


async def test_asynchronous_functions_run_side_by_side() -> None:
    thread, met = NotebookThread(), asyncio.Barrier(3)

    async def work() -> int:
        await met.wait()
        return 1

    async def turn() -> int:
        return sum(await asyncio.gather(*(thread.run(work, {}) for _ in range(3))))

    assert await awaits(thread, turn()) == 3


def test_calls_from_many_tasks_come_in_their_order() -> None:
    thread, ran = NotebookThread(), []

    async def turn() -> None:
        await asyncio.gather(*(thread.run(took, {"n": n}) for n in range(20)))

    def took(n: int) -> None:
        ran.append(n)

    blocks(thread, turn())
    assert ran == list(range(20))


def test_a_call_does_not_wait_for_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ticks an hour apart, a thousand calls come to an end."""
    monkeypatch.setattr("lash_nb.bridge.TICK_S", 3600.0)
    thread = NotebookThread()

    async def turn() -> int:
        return sum([await thread.run(lambda: 1, {}) for _ in range(1000)])

    assert blocks(thread, turn()) == 1000
    assert asyncio.run(awaits(thread, turn())) == 1000


# ------------------------------------------------------------------------------------------------------- what it gives


class Own(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize("error", [KeyError("x"), Own("x"), asyncio.CancelledError("its own")])
def test_what_it_raises_is_raised_where_it_was_called(error: BaseException) -> None:
    thread = NotebookThread()

    def fails() -> None:
        raise error

    async def turn() -> BaseException | None:
        try:
            await thread.run(fails, {})
        except BaseException as raised:
            return raised
        return None

    assert blocks(thread, turn()) is error
    assert asyncio.run(awaits(thread, turn())) is error


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_exit_ends_the_call_alone(asynchronous: bool) -> None:
    thread = NotebookThread()

    def leaves() -> None:
        raise SystemExit(3)

    async def leaves_later() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def turn() -> str:
        with pytest.raises(ToolError, match=r"SystemExit\(3\)"):
            await thread.run(leaves_later if asynchronous else leaves, {})
        return str(await thread.run(where, {}))

    assert asyncio.run(awaits(thread, turn())) == "MainThread"


def test_stop_iteration_is_no_end_of_the_call() -> None:
    thread = NotebookThread()

    async def turn() -> None:
        await thread.run(lambda: next(iter(())), {})

    with pytest.raises(RuntimeError, match="StopIteration"):
        blocks(thread, turn())


# ---------------------------------------------------------------------------------------------------------- letting go


def interrupted(work: Callable[[], Any]) -> Callable[[], Any]:
    """A function that the user stops while it works."""

    def runs() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return work()

    return runs


class Witness:
    """Makes one call, and says how it ended."""

    def __init__(self, thread: NotebookThread) -> None:
        self.thread = thread
        self.ended = ""

    async def turn(self, function: Callable[..., Any]) -> None:
        try:
            await self.thread.run(function, {})
            self.ended = "returned"
        except BaseException as error:
            self.ended = type(error).__name__
            raise


def test_stop_ends_function_and_turn() -> None:
    witness = Witness(NotebookThread())
    with pytest.raises(KeyboardInterrupt):
        blocks(witness.thread, witness.turn(interrupted(threading.Event().wait)))
    assert witness.ended == "CancelledError"


async def test_stop_ends_them_where_a_cell_awaits() -> None:
    """ipykernel's own handler only cancels the cell at its next await."""
    witness, before = Witness(NotebookThread()), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *about: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            await awaits(witness.thread, witness.turn(interrupted(threading.Event().wait)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert witness.ended == "CancelledError"


async def test_stop_ends_an_asynchronous_function_that_computes() -> None:
    witness, before = Witness(NotebookThread()), signal.getsignal(signal.SIGINT)

    async def computes() -> None:
        await asyncio.sleep(0)
        interrupted(threading.Event().wait)()

    signal.signal(signal.SIGINT, lambda *about: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            await awaits(witness.thread, witness.turn(computes))
    finally:
        signal.signal(signal.SIGINT, before)
    assert witness.ended == "CancelledError"


async def test_a_call_that_is_given_up_cancels_its_coroutine() -> None:
    thread, ended = NotebookThread(), asyncio.Event()

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def turn() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await thread.run(lasts, {})
        await thread.run(where, {})

    await awaits(thread, turn())
    await ended.wait()


async def test_a_cell_that_is_cancelled_cancels_what_runs_on_its_loop() -> None:
    """As the user's Stop does where nothing computes."""
    witness, began, ended = Witness(NotebookThread()), asyncio.Event(), asyncio.Event()

    async def lasts() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(awaits(witness.thread, witness.turn(lasts)))
    await began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await ended.wait()
    assert witness.ended == "CancelledError"


def test_what_has_not_begun_when_it_is_given_up_is_not_run() -> None:
    thread, ran = NotebookThread(), []

    async def turn() -> None:
        call = asyncio.ensure_future(thread.run(lambda: ran.append("given up"), {}))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        holds.set()

    holds = threading.Event()

    def serve() -> None:
        if holds.wait(5):
            thread.serve()

    with thread.open(awaits=False):
        shared_loop().run(turn(), on_tick=serve)
        thread.serve()
    assert ran == []


def test_what_runs_is_let_go_of() -> None:
    """Its result is nobody's; a coroutine among them is closed, or Python would warn of it."""
    thread, given_up = NotebookThread(), threading.Event()

    async def work() -> None:
        await asyncio.sleep(0)

    def late() -> Coroutine[Any, Any, None]:
        assert given_up.wait(10)
        return work()

    async def turn() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await thread.run(late, {})
        given_up.set()
        return str(await thread.run(where, {}))

    assert blocks(thread, turn()) == "MainThread"


def test_nobody_serves_before_and_after() -> None:
    thread = NotebookThread()

    async def turn() -> bool:
        return thread.serving

    assert not thread.serving
    assert blocks(thread, turn())
    assert not thread.serving
    with pytest.raises(ToolError, match="no cell") as raised:
        shared_loop().run(thread.run(where, {}))
    assert raised.value.kind == "unavailable"


def test_what_is_left_when_the_cell_ends_is_told() -> None:
    thread = NotebookThread()
    with thread.open(awaits=False):
        call = asyncio.run_coroutine_threadsafe(thread.run(where, {}), shared_loop().loop)
        shared_loop().run(asyncio.sleep(0))
    with pytest.raises(ToolError, match="no cell"):
        call.result(10)


# --------------------------------------------------------------------------------------------------------- turn in turn


def test_a_function_cannot_wait_for_a_turn_itself() -> None:
    thread = NotebookThread()

    def again() -> str:
        assert thread.inside
        with pytest.raises(LashError, match="a turn is running"), thread.open(awaits=False):
            pass
        return "refused"

    assert blocks(thread, thread.run(again, {})) == "refused"
    assert not thread.inside
