"""Loading a local model: what is cancelled or closed meanwhile, and warming up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lash_nb.errors import WeightsError
from lash_nb.models._engine import EngineSpec

from .cases import context, request
from .scripted_engine import Place, text_chunk

END = text_chunk("", finish="stop")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    await place.close()


async def test_a_call_that_is_cancelled_while_the_weights_load_does_not_wait_for_them(place: Place) -> None:
    place.hold_load()
    model = place.model([text_chunk("next"), END])
    task = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.to_thread(place.loading.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):  # the load goes on: were it waited for, this would never end
        await task
    place.go_on.set()
    assert (await model.complete(request(), context=context())).full_text == "next"
    assert len(place.engines) == 1
    assert len(place.engines[0].bodies) == 1


async def test_what_is_closed_while_it_loads_is_unloaded_when_it_has(place: Place) -> None:
    place.hold_load()
    model = place.model([END])
    task = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.to_thread(place.loading.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closing = asyncio.create_task(model.aclose())
    await asyncio.sleep(0)
    place.go_on.set()
    await closing
    [engine] = place.engines
    assert (engine.bodies, engine.closed) == ([], 1)


async def test_nothing_is_loaded_for_a_call_that_was_cancelled_while_the_file_was_checked(place: Place) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def check(path: Path) -> None:
        begun.set()
        go_on.wait()

    wanted = EngineSpec(path=Path("x.gguf"), n_ctx=4096, threads=1, check=check)
    model = place.model([END], wanted=wanted)
    task = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await model.aclose()
    assert place.engines == []


def test_a_loop_that_is_gone_when_the_load_ends_is_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.hold_load()
    model = place.model([text_chunk("next"), END])

    async def left() -> None:
        task = asyncio.create_task(model.complete(request(), context=context()))
        await asyncio.to_thread(place.loading.wait)
        task.cancel()
        await asyncio.wait([task])

    async def again() -> None:
        assert (await model.complete(request(), context=context())).full_text == "next"
        await model.aclose()

    asyncio.run(left())
    place.go_on.set()
    asyncio.run(again())
    assert caplog.records == []


# -- warming up --------------------------------------------------------------------------------------------------------


async def test_warming_up_loads_in_the_background(place: Place) -> None:
    model = place.model([text_chunk("1"), END])
    place.hold_load()
    model.warm_up()
    model.warm_up()
    await asyncio.to_thread(place.loading.wait)
    place.go_on.set()
    assert (await model.complete(request(), context=context())).full_text == "1"
    model.warm_up()
    await model.aclose()
    [engine] = place.engines
    assert (len(engine.bodies), engine.closed) == (1, 1)


async def test_what_fails_while_warming_up_is_said_by_the_first_call(place: Place) -> None:
    def check(path: Path) -> None:
        raise WeightsError(f"{path} is damaged")

    model = place.model([END], wanted=EngineSpec(path=Path("x.gguf"), n_ctx=4096, threads=1, check=check))
    model.warm_up()
    with pytest.raises(WeightsError, match=r"x\.gguf is damaged"):
        await model.complete(request(), context=context())


async def test_a_closed_model_does_not_warm_up_until_it_is_used_again(place: Place) -> None:
    model = place.model([text_chunk("1"), END])
    await model.aclose()
    model.warm_up()
    assert place.specs == []
    assert (await model.complete(request(), context=context())).full_text == "1"


async def test_what_is_closed_before_its_turn_to_warm_up_is_not_loaded(place: Place) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def check(path: Path) -> None:
        begun.set()
        go_on.wait()

    model = place.model([END], wanted=EngineSpec(path=Path("x.gguf"), n_ctx=4096, threads=1, check=check))
    model.warm_up()
    await asyncio.to_thread(begun.wait)
    closing = asyncio.create_task(model.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert place.engines == []
