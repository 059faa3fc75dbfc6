"""Models of the providers' adapter on one loopback server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import LlmCallError, LlmRequest, LlmResponse, LlmTerminalReason, TextOutput
from lash_nb.models import CallContext
from lash_nb.models.providers import ProviderModel

from .cases import context, request
from .http_server import Answer, ModelServer
from .wires import Wire

__all__ = ["Place"]


class Place:
    """Models of one dialect on one server, closed at the end of the test."""

    def __init__(self, server: ModelServer, wire: Wire) -> None:
        self.server = server
        self.wire = wire
        self.url = wire.address(server.root)
        self.models: list[ProviderModel] = []

    async def open(self, responses: Sequence[LlmResponse]) -> ProviderModel:
        self.server.answers += [self.wire.answer(response) for response in responses]
        return self.model()

    def model(self, name: str = "m", **options: Any) -> ProviderModel:
        self.models.append(ProviderModel(self.wire.word, name, base_url=self.url, **options))
        return self.models[-1]

    def text(self, text: str) -> Answer:
        """A whole answer of text."""
        parts = (TextOutput(text=text),)
        return self.wire.answer(LlmResponse(full_text=text, parts=parts, terminal_reason=LlmTerminalReason.STOP))

    async def complete(self, *answers: Answer, asked: LlmRequest | None = None, **options: Any) -> LlmResponse:
        self.server.answers += answers
        return await self.model(**options).complete(asked or request(), context=context())

    async def outcome(self, answer: Answer, *, of: ProviderModel | None = None) -> LlmResponse | ModelCallError:
        """What a call comes to; nothing but a ModelCallError may come out of it."""
        self.server.answers.append(answer)
        try:
            return await (of or self.model()).complete(request(), context=context())
        except ModelCallError as error:
            return error

    async def refused(self, *answers: Answer, **options: Any) -> ModelCallError:
        with pytest.raises(ModelCallError) as caught:
            await self.complete(*answers, **options)
        return caught.value

    async def failure(self, *answers: Answer, **options: Any) -> LlmCallError:
        return (await self.refused(*answers, **options)).error

    async def sent(self, asked: LlmRequest, where: CallContext | None = None, **options: Any) -> dict[str, Any]:
        """What arrives at the server for a request."""
        self.server.answers.append(self.text("ok"))
        await self.model(**options).complete(asked, context=where or context())
        return self.server.requests[-1]
