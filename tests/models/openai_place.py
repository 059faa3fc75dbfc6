"""Models of the OpenAI-compatible adapter on one loopback server, and answers in the provider's form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import LlmCallError, LlmRequest, LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart
from lash_nb.models import CallContext
from lash_nb.models.providers import OpenAIModel

from .cases import context, request
from .openai_server import Answer, OpenAIServer, chunk, events, finish, text_stream

__all__ = ["Providers", "answer_of", "tool_delta"]


def tool_delta(index: int, arguments: str, *, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call = {"index": index, "function": function, **({"id": call_id, "type": "function"} if call_id else {})}
    return chunk({"tool_calls": [call]})


def answer_of(response: LlmResponse) -> Answer:
    """A response as a provider streams it, three characters at a time."""
    items: list[dict[str, Any]] = [chunk({"role": "assistant", "content": ""})]
    for index, part in enumerate(response.parts):
        text = part.input_json if isinstance(part, ToolCallOutputPart) else part.text
        pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
        match part:
            case TextOutput():
                items += [chunk({"content": piece}) for piece in pieces]
            case ReasoningOutput():
                items += [chunk({"reasoning_content": piece}) for piece in pieces]
            case ToolCallOutputPart(call_id=call_id, tool_name=name):
                items.append(tool_delta(index, "", call_id=call_id, name=name))
                items += [tool_delta(index, piece) for piece in pieces]
    reason = {"stop": "stop", "tool_use": "tool_calls"}[response.terminal_reason]
    return Answer(pieces=events([*items, *finish(reason)]))


class Providers:
    """Models on one server, closed at the end of the test."""

    def __init__(self, server: OpenAIServer) -> None:
        self.server = server
        self.models: list[OpenAIModel] = []

    async def open(self, responses: Sequence[LlmResponse]) -> OpenAIModel:
        self.server.answers += [answer_of(response) for response in responses]
        return self.model()

    def model(self, **options: Any) -> OpenAIModel:
        self.models.append(OpenAIModel("m", base_url=self.server.url, **options))
        return self.models[-1]

    async def complete(self, *answers: Answer, asked: LlmRequest | None = None, **options: Any) -> LlmResponse:
        self.server.answers += answers
        return await self.model(**options).complete(asked or request(), context=context())

    async def failure(self, *answers: Answer, **options: Any) -> LlmCallError:
        with pytest.raises(ModelCallError) as caught:
            await self.complete(*answers, **options)
        return caught.value.error

    async def sent(self, asked: LlmRequest, where: CallContext | None = None) -> dict[str, Any]:
        """What arrives at the server for a request."""
        self.server.answers.append(text_stream("ok"))
        await self.model().complete(asked, context=where or context())
        return self.server.requests[-1]
