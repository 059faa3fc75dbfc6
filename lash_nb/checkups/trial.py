"""`%lash model test`: one tiny request to a model, and what works: answer, stream, tools, images, usage.

Decided here: the one request asks for all of it at once (a few words, a tool call, the colour of a small image). Where
the provider refuses it as not valid, it is asked again without the image, then without the tool; nothing else is
repeated, so a test costs about 200 tokens. Images go only to models that are known to see.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelCallError
from ..machine.attachments import InlineAttachment
from ..machine.llm import (
    AttachmentBlock,
    GenerationOptions,
    LlmContentBlock,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
    TextBlock,
    ToolCallOutputPart,
)
from ..machine.tool_specs import ToolSchema
from ..models import CallContext, Delta, Model
from ..models.prices import call_price
from . import Finding, State

__all__ = ["Trial", "try_model"]

_MAX_TOKENS = 1024
_COLOUR = "red"
_TOOL = LlmToolSpec(
    name="report",
    description="Report the result of the test.",
    input_schema=ToolSchema(
        canonical={
            "type": "object",
            "properties": {"colour": {"type": "string", "description": "one English word; 'none' without an image"}},
            "required": ["colour"],
        }
    ),
    output_schema=ToolSchema(canonical={}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of a test."""

    model: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the model answered."""
        return self.findings[0].state is State.GOOD


@dataclass(slots=True)
class _Seen:
    """The stream of one request."""

    began: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    pieces: int = 0

    def __call__(self, delta: Delta) -> bool:
        if self.first_s is None:
            self.first_s = time.monotonic() - self.began
        self.pieces += 1
        return False


async def try_model(model: Model) -> Trial:
    """Ask once, and say what works. A model that fails is a finding; InputError and cancellation pass through."""
    traits = model.traits(session="test", turn=1)
    tools, image = traits.protocol != "snippet", traits.vision
    refused: list[str] = []
    while True:
        seen = _Seen()
        try:
            response = await model.complete(
                _request(model, tools=tools, image=image),
                context=CallContext(session="test", turn=1, step=1, user_text="(test)", protocol=traits.protocol),
                on_delta=seen,
            )
        except ModelCallError as error:
            judged = error.error.kind in (ProviderFailureKind.VALIDATION, ProviderFailureKind.UNSUPPORTED)
            if judged and image:
                image = False
                refused.append("images")
                continue
            if judged and tools:
                tools = False
                refused.append("tools")
                continue
            failed = Finding(state=State.BAD, what="answer", said=_failure(error))
            return Trial(model=model.name, findings=(failed,))
        asked = _Asked(tools=tools, image=image, refused=tuple(refused), protocol=traits.protocol)
        return Trial(model=model.name, findings=_findings(response, seen, asked, traits.priced_as))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    tools: bool
    image: bool
    refused: tuple[str, ...]
    protocol: str


def _request(model: Model, *, tools: bool, image: bool) -> LlmRequest:
    wanted = "Write: one two three four five six seven."
    if tools:
        wanted += " Then call the tool `report`" + (" with the colour of the image." if image else ", with 'none'.")
    elif image:
        wanted += " Then name the colour of the image."
    blocks: tuple[LlmContentBlock, ...] = (TextBlock(text=wanted),)
    if image:
        blocks = (AttachmentBlock(attachment_idx=0), *blocks)
    return LlmRequest(
        model=model.name,
        messages=(LlmMessage(role=LlmRole.USER, blocks=blocks),),
        attachments=(InlineAttachment(media_type="image/png", bytes=_png()),) if image else (),
        tools=(_TOOL,) if tools else (),
        tool_choice=LlmToolChoice.AUTO if tools else LlmToolChoice.NONE,
        generation=GenerationOptions(output_token_cap=_MAX_TOKENS),
        scope=LlmRequestScope(session_id="test", agent_frame_id="test", request_id="test"),
    )


def _png(side: int = 32) -> bytes:
    """A red square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xe0\x10\x10" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _failure(error: ModelCallError) -> str:
    again = "; it may work later" if error.error.retryable else ""
    return f"{error.error.message}{again}"


def _findings(response: LlmResponse, seen: _Seen, asked: _Asked, priced_as: str) -> tuple[Finding, ...]:
    seconds = time.monotonic() - seen.began
    calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    streamed = seen.pieces > 1 and seen.first_s is not None
    usage, price = response.usage, call_price(priced_as, response.usage)
    counted = f"{usage.total - usage.output_tokens:,} tokens in, {usage.output_tokens:,} out"
    if price is not None:
        counted += f", ${price.dollars:.6f} (prices of {price.as_of})"
    first = "" if seen.first_s is None else f"first piece after {seen.first_s:.1f} s"
    return (
        Finding(state=State.GOOD, what="answer", said=f"in {seconds:.1f} s; turns are conducted by {asked.protocol!r}"),
        Finding(
            state=State.GOOD if streamed else State.ABSENT,
            what="stream",
            said=f"{seen.pieces} pieces, {first}" if streamed else "the answer comes in one piece",
        ),
        _tools(calls, asked),
        _images(response, calls, asked),
        Finding(
            state=State.GOOD if usage.total else State.ABSENT,
            what="usage",
            said=counted if usage.total else "the provider does not say; %lash usage cannot count",
        ),
    )


def _tools(calls: list[ToolCallOutputPart], asked: _Asked) -> Finding:
    if not asked.tools:
        said = "the provider refused a request with tools" if "tools" in asked.refused else "not asked of this model"
        return Finding(state=State.ABSENT, what="tools", said=f"{said}; %%lash needs none")
    if any(call.tool_name == _TOOL.name and _arguments(call) is not None for call in calls):
        return Finding(state=State.GOOD, what="tools", said="a call with arguments came")
    return Finding(state=State.ABSENT, what="tools", said="none was called; %%lash needs none")


def _images(response: LlmResponse, calls: list[ToolCallOutputPart], asked: _Asked) -> Finding:
    if not asked.image:
        refused = "images" in asked.refused
        said = "the provider refused a request with an image" if refused else "not known to see; none are sent to it"
        return Finding(state=State.ABSENT, what="images", said=said)
    said = response.full_text + "".join(str(_arguments(call)) for call in calls)
    if _COLOUR in said.lower():
        return Finding(state=State.GOOD, what="images", said="it named the colour of one")
    return Finding(state=State.ABSENT, what="images", said="it was sent one and did not name its colour")


def _arguments(call: ToolCallOutputPart) -> Any:
    try:
        return json.loads(call.input_json)
    except ValueError:
        return None
