"""What a model is shown of a call's output; what is too long is cut and kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import BlobError
from lash_nb.machine.attachments import AttachmentRef, AttachmentSource, InlineAttachment, StoredAttachment
from lash_nb.machine.tool_calls import (
    RESERVED_KEY,
    TOOL_VALUE,
    AttachmentReturn,
    RetryExhausted,
    RetryNever,
    RetrySafe,
    TextReturn,
    ToolCallOutput,
    ToolCancellation,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.stores.blobs import MemoryBlobStore
from lash_nb.toolkits import ToolPolicy
from lash_nb.toolkits.results import bounded, model_return
from lash_nb.toolkits.showing import bounded as bounded_too

from .calls import failed, pending, result

REF = AttachmentRef(id="sha256:" + "ab" * 32, media_type="image/png", byte_len=3)
STORED = StoredAttachment(attachment_ref=REF)
INLINE = InlineAttachment(media_type="image/gif", bytes=b"\1\2")
TAGGED: dict[str, Any] = {
    RESERVED_KEY: "attachment",
    "source": {
        "source": "stored",
        "attachment_ref": {"id": REF.id, "media_type": "image/png", "byte_len": 3},
    },
}
TAGGED_INLINE: dict[str, Any] = {
    RESERVED_KEY: "attachment",
    "source": {"source": "inline", "media_type": "image/gif", "bytes": [1, 2]},
}


def success(payload: Any) -> ToolCallOutput:
    return ToolCallOutput(outcome=ToolSucceeded(payload=TOOL_VALUE.encode(payload)))


def failure(retry: Any, raw: Any = None, message: str = "no") -> ToolCallOutput:
    return ToolCallOutput(
        outcome=ToolFailed(
            payload=ToolFailure(
                class_=ToolFailureClass.EXTERNAL,
                code="E7",
                message=message,
                source=ToolFailureSource.TOOL,
                retry=retry,
                raw=raw,
            )
        )
    )


def shown(output: ToolCallOutput) -> list[str | AttachmentSource]:
    told = model_return(pending("it", {}), output)
    assert (told.call_id, told.tool_name) == ("a", "it")
    return [part.text if isinstance(part, TextReturn) else part.source for part in told.parts]


@pytest.mark.parametrize(
    ("payload", "parts"),
    [
        ("bare\ntext", ["bare\ntext"]),
        ("", [""]),
        (None, ["null"]),
        (1.0, ["1.0"]),
        ({"b": [1, "ä"], "a": None}, ['{"a":null,"b":[1,"ä"]}']),
        (TAGGED, [STORED]),
        ([TAGGED, TAGGED_INLINE], ["[", STORED, ",", INLINE, "]"]),
        ({"a": 1, "b": TAGGED, "c": [2]}, ['{"a":1,"b":', STORED, ',"c":[2]}']),
        ({"a": {"x": [TAGGED]}}, ['{"a":{"x":[', STORED, "]}}"]),
        (
            {RESERVED_KEY: "object", "entries": {RESERVED_KEY: "attachment", "n": 1}},
            ['{"$lash_tool_value":"attachment","n":1}'],
        ),
        (
            {RESERVED_KEY: "object", "entries": {RESERVED_KEY: "x", "n": TAGGED}},
            ['{"$lash_tool_value":"x","n":', STORED, "}"],
        ),
    ],
)
def test_a_success_is_its_text_around_its_attachments(payload: Any, parts: list[Any]) -> None:
    assert shown(success(payload)) == parts


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        (RetryNever(), "do not repeat the same call"),
        (RetrySafe(), "the same call may be made again"),
        (RetrySafe(after_ms=500), "the same call may be made again in 500 ms"),
        (RetryExhausted(attempts=3), "it was tried 3 times"),
    ],
)
def test_a_failure_says_its_kind_and_whether_to_repeat_it(retry: Any, again: str) -> None:
    assert shown(failure(retry)) == [f"[Tool execution failed]\nno\n(external, code E7; {again})"]


def test_the_attachments_of_a_failure_follow_it() -> None:
    parts = shown(failure(RetryNever(), raw={"seen": [TAGGED, 1, TAGGED_INLINE]}))
    assert parts[1:] == [STORED, INLINE]


def test_a_cancellation() -> None:
    cancellation = ToolCancellation(message="stopped", source=ToolFailureSource.CANCELLATION, raw=TAGGED)
    output = ToolCallOutput(outcome=ToolCancelled(payload=cancellation))
    assert shown(output) == ["[Tool call cancelled]\nstopped", STORED]


# -- what is too long --------------------------------------------------------------------------------------------------

POLICY = ToolPolicy(max_chars=100)


def test_what_fits_stays_as_it_is() -> None:
    for payload in ("x " * 50, {"a": "x " * 45}, [TAGGED] * 20):
        output = success(payload)
        assert bounded(output, policy=POLICY, store=MemoryBlobStore()) is output
    assert bounded is bounded_too


def test_a_long_text_is_cut_and_kept() -> None:
    store = MemoryBlobStore()
    text = "".join(f"line {number}\n" for number in range(1000))
    payload = result(bounded(success(text), policy=POLICY, store=store))
    handle = store.put(text.encode(), media_type="text/plain").id
    assert payload == (
        text[:60]
        + f"\n[… 8,790 of 8,890 characters are left out here. The whole is kept: read_output({handle!r}) gives it.]\n"
        + text[-40:]
    )
    assert len(store) == 1


def test_long_json_is_cut_as_text() -> None:
    store = MemoryBlobStore()
    payload = result(bounded(success([1, 2] * 500), policy=POLICY, store=store))
    assert payload.startswith("[1,2,1,2,")
    assert payload.endswith(",1,2]")
    whole = store.get(AttachmentRef(id=payload.partition("'")[2].partition("'")[0], media_type="", byte_len=0))
    assert whole == b"[" + b",".join([b"1,2"] * 500) + b"]"


def test_attachments_are_kept_beside_what_is_cut() -> None:
    output = bounded(success({"a": TAGGED, "b": "x " * 200, "c": TAGGED_INLINE}), policy=POLICY, store=None)
    payload = result(output)
    assert payload["attachments"] == [TAGGED, TAGGED_INLINE]
    assert payload["value"].startswith('{"a":"[attachment 1]","b":"x x')
    assert payload["value"].endswith('"c":"[attachment 2]"}')
    assert "The rest is lost: nothing is kept here." in payload["value"]
    parts = shown(output)
    assert parts[0] == '{"attachments":['
    assert parts[1::2] == [STORED, INLINE]


def test_base64_is_never_cut() -> None:
    encoded = base64.b64encode(bytes(range(256)) * 4).decode()
    assert len(encoded) == 1368
    text = f"before, before, before: {encoded} after, after"
    payload = result(bounded(success(text), policy=POLICY, store=None))
    assert payload == (
        "before, before, before: \n[… 1,368 of 1,405 characters are left out here. The rest is lost: nothing is kept "
        "here.]\n after, after"
    )


class FullStore(MemoryBlobStore):
    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        raise BlobError("the disk is full")


def test_a_store_that_is_full_costs_the_rest_and_not_the_call() -> None:
    payload = result(bounded(success("x " * 200), policy=POLICY, store=FullStore()))
    assert "The rest is lost: it could not be kept (the disk is full)." in payload


def test_half_a_surrogate_pair_can_be_kept() -> None:
    store = MemoryBlobStore()
    bounded(success("\ud800 " * 200), policy=POLICY, store=store)
    assert len(store) == 1


def test_a_long_message_is_cut() -> None:
    cut = failed(bounded(failure(RetrySafe(), message="x " * 200), policy=POLICY, store=None))
    assert len(cut.message) < 200
    assert (cut.code, cut.retry) == ("E7", RetrySafe())


def test_beyond_all_bounds_it_is_a_failure() -> None:
    output = bounded(success("x" * (64 * 1024 * 1024 + 1)), policy=POLICY, store=None)
    assert (failed(output).class_, failed(output).code) == (ToolFailureClass.RESOURCE_LIMIT, "value_too_long")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=30), st.just(TAGGED)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


@given(JSON)
def test_of_every_value_the_attachments_stay_and_the_text_is_bounded(payload: Any) -> None:
    whole = shown(success(payload))
    parts = shown(bounded(success(payload), policy=POLICY, store=MemoryBlobStore()))
    assert [one for one in parts if not isinstance(one, str)] == [one for one in whole if not isinstance(one, str)]
    texts = sum(len(one) for one in parts if isinstance(one, str))
    assert texts <= 500
    assert all(
        isinstance(part, AttachmentReturn | TextReturn)
        for part in model_return(pending("it", {}), success(payload)).parts
    )
