"""A provider's model that is closed: it takes no more calls, and lets go of its connections."""

from __future__ import annotations

import asyncio

import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import ProviderFailureKind

from .cases import context, request
from .http_server import Answer
from .place import Place


async def test_a_closed_model_takes_no_calls(place: Place) -> None:
    place.server.answers += [place.text("one"), place.text("two")]
    model = place.model()
    assert (await model.complete(request(), context=context())).full_text == "one"
    await model.aclose()
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context())
    assert (caught.value.error.kind, caught.value.error.retryable) == (ProviderFailureKind.VALIDATION, False)
    assert caught.value.error.message == (
        f"{model.name}: this model was closed and answers no more; choose a model again"
    )
    assert len(place.server.requests) == 1
    await model.aclose()


async def test_a_call_that_runs_ends_in_order(place: Place) -> None:
    begin = asyncio.Event()
    place.server.answers.append(Answer(pieces=place.text("at last").pieces, begin=begin))
    model = place.model()
    task = asyncio.create_task(model.complete(request(), context=context()))
    await place.server.asked.wait()
    await model.aclose()
    begin.set()
    assert (await task).full_text == "at last"
    assert model._opened is None
    with pytest.raises(ModelCallError, match="was closed"):
        await model.complete(request(), context=context())


async def test_a_call_that_runs_may_still_be_stopped(place: Place) -> None:
    place.server.answers.append(Answer(wait=True))
    model = place.model()
    task = asyncio.create_task(model.complete(request(), context=context()))
    await place.server.asked.wait()
    await model.aclose()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await place.server.client_left.wait()
    assert model._opened is None


async def test_closing_while_the_client_is_made_leaves_nothing_open(place: Place) -> None:
    model = place.model()
    with model._opening:  # what makes the client has to wait here
        task = asyncio.create_task(model.complete(request(), context=context()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await model.aclose()
    await asyncio.to_thread(model._open)  # waits for the other one
    assert model._opened is None
    assert place.server.requests == []
