"""The one way onto the event loop: results, errors, cancellation that waits, ticks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading

import pytest

from lash_nb.bridge import LoopThread, shared_loop
from lash_nb.errors import LashError


async def seven() -> int:
    await asyncio.sleep(0)
    return 7


def test_from_plain_code() -> None:
    assert shared_loop().run(seven()) == 7


async def test_from_another_loop() -> None:
    assert await shared_loop().wait(seven()) == 7


def test_an_exception_comes_back() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        shared_loop().run(fail())


def test_one_loop_for_the_process() -> None:
    assert shared_loop() is shared_loop()


def test_waiting_on_its_own_thread_is_refused() -> None:
    loop = shared_loop()

    async def inside() -> str:
        with pytest.raises(RuntimeError, match="own thread"):
            loop.run(seven())
        return str(await loop.wait(seven()))

    assert loop.run(inside()) == "7"


class Slow:
    """Works until it is cancelled, then cleans up for a while."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cleaned = threading.Event()

    async def work(self) -> None:
        try:
            self.began.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            self.cleaned.set()


async def test_cancelling_the_caller_waits_until_the_work_has_cleaned_up() -> None:
    slow = Slow()
    task = asyncio.create_task(shared_loop().wait(slow.work()))
    assert await asyncio.to_thread(slow.began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.cleaned.is_set()


async def test_cancelling_before_the_first_step_does_not_hang() -> None:
    loop = LoopThread()
    blocked = threading.Event()
    loop.loop.call_soon_threadsafe(blocked.wait, 0.5)
    task = asyncio.create_task(loop.wait(seven()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):  # the bound of a caller that waits in vain is 10 s
            await task
    loop.close()


def test_what_a_tick_raises_stops_the_work() -> None:
    slow = Slow()

    def tick() -> None:
        if slow.began.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared_loop().run(slow.work(), on_tick=tick)
    assert slow.cleaned.is_set()


def test_a_forked_child_gets_a_loop_of_its_own() -> None:
    shared_loop().run(seven())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(shared_loop().run(seven())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"7"
    os.close(read)
    os.close(write)


def test_a_forked_child_is_refused_the_loop_of_its_parent() -> None:
    loop = shared_loop()
    loop.run(seven())
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        code = 1
        try:
            loop.run(seven())
        except LashError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_giving_up_leaves_no_exception_that_nobody_reads() -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    slow = Slow()
    task = asyncio.create_task(shared_loop().wait(slow.work()))
    assert await asyncio.to_thread(slow.began.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert reported == []


# ------------------------------------------------------------------------------------------------- a tick that is asked


def test_a_tick_that_is_asked_for_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ticks an hour apart, the work would wait for ever."""
    monkeypatch.setattr("lash_nb.bridge.TICK_S", 3600.0)
    loop = shared_loop()

    async def work(ticked: threading.Event) -> int:
        loop.tick_now()
        await asyncio.to_thread(ticked.wait)
        return 7

    blocked, awaited = threading.Event(), threading.Event()
    assert loop.run(work(blocked), on_tick=blocked.set) == 7
    assert asyncio.run(loop.wait(work(awaited), on_tick=awaited.set)) == 7


def test_all_who_wait_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lash_nb.bridge.TICK_S", 3600.0)
    loop, ended = LoopThread(), threading.Event()
    ticked = [threading.Event() for _ in range(3)]

    async def work() -> None:
        await asyncio.to_thread(ended.wait)

    waiting = [threading.Thread(target=lambda one=one: loop.run(work(), on_tick=one.set)) for one in ticked[:2]]
    waiting.append(threading.Thread(target=lambda: asyncio.run(loop.wait(work(), on_tick=ticked[2].set))))
    for thread in waiting:
        thread.start()
    while not all(one.wait(0.01) for one in ticked):
        loop.tick_now()
    ended.set()
    for thread in waiting:
        thread.join()
    loop.tick_now()  # nobody waits any more
    loop.close()
