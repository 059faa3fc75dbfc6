"""What a small model sees of a conversation: the newest request and the variables. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..machine.execution import NamespaceSummary
from ..machine.llm import LlmMessage, LlmRequest, LlmRole, TextBlock
from ..machine.messages import Message, MessageRole, PartKind
from ..machine.projector import Projection, request_for
from .snippet_prompt import snippet_prompt

__all__ = ["SnippetProjector", "last_request"]


class SnippetProjector:
    """Makes one model request: a text to be continued.

    `namespace` is what the host last said of the kernel's variables: config of the moment, never in a TurnCheckpoint.
    """

    def __init__(self) -> None:
        self.namespace: NamespaceSummary | None = None

    def project(self, projection: Projection) -> LlmRequest:
        """One request: the model's own text so far, which it is to go on with."""
        text = snippet_prompt(last_request(projection.messages)[1], self.namespace)
        return request_for(projection, (LlmMessage(role=LlmRole.ASSISTANT, blocks=(TextBlock(text=text),)),), ())


def last_request(messages: Iterable[Message]) -> tuple[str, str]:
    """Id and text of what the user said last; empty when there is nothing of the user's own."""
    found = ("", "")
    for message in messages:
        if message.role is MessageRole.USER and message.origin is None:
            text = "\n".join(part.content for part in message.parts if part.kind in (PartKind.TEXT, PartKind.PROSE))
            if text.strip():
                found = (message.id, text)
    return found
