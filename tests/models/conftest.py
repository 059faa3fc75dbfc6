"""The place where the tests of providers get their models: one loopback server a test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .openai_place import Providers
from .openai_server import OpenAIServer


@pytest.fixture
async def place() -> AsyncIterator[Providers]:
    async with OpenAIServer() as server:
        providers = Providers(server)
        yield providers
        for model in providers.models:
            await model.aclose()
