"""The place where the tests of providers get their models: one loopback server a test, in each of three dialects.

A module (or class) that is about one dialect has a `wire` fixture of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .dialects import WIRES
from .http_server import ModelServer
from .place import Place
from .wires import Wire


@pytest.fixture(params=WIRES, ids=lambda wire: wire.word)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


@pytest.fixture
async def place(wire: Wire) -> AsyncIterator[Place]:
    async with ModelServer() as server:
        place = Place(server, wire)
        yield place
        for model in place.models:
            await model.aclose()
