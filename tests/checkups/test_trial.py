"""`model test`: what one small request shows of a model."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest

from lash_nb.checkups import Finding, State, findings_text
from lash_nb.checkups.trial import try_model
from lash_nb.machine.attachments import InlineAttachment
from lash_nb.machine.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel

WORDS = "one two three four five six seven"


def answer(text: str = WORDS, *, colour: str | None = "red", counted: bool = True) -> LlmResponse:
    call = ToolCallOutputPart(call_id="c", tool_name="report", input_json=f'{{"colour": "{colour}"}}')
    return LlmResponse(
        full_text=text,
        parts=(TextOutput(text=text), *((call,) if colour else ())),
        usage=LlmUsage(input_tokens=150, output_tokens=20) if counted else LlmUsage(),
        terminal_reason=LlmTerminalReason.STOP,
    )


def refusal(kind: ProviderFailureKind, message: str = "no") -> LlmCallError:
    return LlmCallError(message=message, retryable=False, kind=kind, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)


async def states(*replies: Any, **traits: Any) -> tuple[dict[str, str], ScriptedModel]:
    model = ScriptedModel(list(replies), traits=ModelTraits(**traits), chunk_size=4)
    trial = await try_model(model)
    return {finding.what: finding.state.value for finding in trial.findings}, model


async def test_everything_works_in_one_request() -> None:
    found, model = await states(answer())
    assert found == {"answer": "✓", "stream": "✓", "tools": "✓", "images": "✓", "usage": "✓"}
    (request,) = model.requests
    assert [tool.name for tool in request.tools] == ["report"]
    assert request.generation.output_token_cap == 1024


async def test_the_image_is_a_red_square() -> None:
    _, model = await states(answer())
    (image,) = model.requests[0].attachments
    assert isinstance(image, InlineAttachment)
    assert image.media_type == "image/png"
    start = image.bytes.index(b"IDAT")
    (length,) = struct.unpack(">I", image.bytes[start - 4 : start])
    rows = zlib.decompress(image.bytes[start + 4 : start + 4 + length])
    assert rows == (b"\0" + bytes([224, 16, 16]) * 32) * 32
    assert base64.b64encode(image.bytes).startswith(b"iVBORw0KGgo")


async def test_a_refused_image_and_a_refused_tool_are_left_out_one_after_the_other() -> None:
    no = refusal(ProviderFailureKind.VALIDATION)
    found, model = await states(no, no, answer(colour=None))
    assert found == {"answer": "✓", "stream": "✓", "tools": "–", "images": "–", "usage": "✓"}
    assert [(len(request.attachments), len(request.tools)) for request in model.requests] == [(1, 1), (0, 1), (0, 0)]


async def test_no_image_goes_to_a_model_that_is_not_known_to_see() -> None:
    found, model = await states(answer(colour="none"), vision=False)
    assert (found["images"], found["tools"]) == ("–", "✓")
    assert model.requests[0].attachments == ()


async def test_a_model_for_snippets_is_asked_for_words_alone() -> None:
    found, model = await states(answer(colour=None), vision=False, protocol="snippet")
    assert found == {"answer": "✓", "stream": "✓", "tools": "–", "images": "–", "usage": "✓"}
    assert model.requests[0].tools == ()


async def test_what_a_model_does_not_do_is_said() -> None:
    model = ScriptedModel([answer("1", colour=None, counted=False)], chunk_size=100)
    found = {finding.what: finding.state.value for finding in (await try_model(model)).findings}
    assert found == {"answer": "✓", "stream": "–", "tools": "–", "images": "–", "usage": "–"}


@pytest.mark.parametrize("kind", [ProviderFailureKind.AUTH, ProviderFailureKind.TRANSPORT, ProviderFailureKind.QUOTA])
async def test_a_failure_is_a_finding_and_nothing_is_repeated(kind: ProviderFailureKind) -> None:
    model = ScriptedModel([refusal(kind, "the key is wrong"), answer()])
    trial = await try_model(model)
    assert not trial.ok
    assert [(finding.state, finding.said) for finding in trial.findings] == [(State.BAD, "the key is wrong")]
    assert len(model.requests) == 1


async def test_a_price_stands_with_its_day() -> None:
    model = ScriptedModel([answer()], traits=ModelTraits(priced_as="anthropic/claude-haiku-4-5"))
    usage = (await try_model(model)).findings[-1].said
    assert usage.startswith("150 tokens in, 20 out, $0.000250 (prices of 2026-")


def test_findings_stand_in_columns() -> None:
    rows = (
        Finding(state=State.GOOD, what="a", said="there"),
        Finding(state=State.BAD, what="longer", said="missing: do this"),
    )
    assert findings_text(rows) == "✓ a       there\n✗ longer  missing: do this"
    assert findings_text(()) == ""
