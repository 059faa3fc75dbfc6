"""What functions may give: values, attachments, endings; and what cannot be written."""

from __future__ import annotations

import binascii
import dataclasses
import datetime
import enum
import io
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pydantic import BaseModel

from lash_nb.errors import BlobError
from lash_nb.machine.attachments import AttachmentRef
from lash_nb.machine.tool_calls import (
    RESERVED_KEY,
    FailControl,
    FinishControl,
    RetryNever,
    ToolCallOutput,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.stores.blobs import MemoryBlobStore
from lash_nb.toolkits.functions import function_tool
from lash_nb.toolkits.results import Attachment, ToolResult, output_of

from .calls import failed, make, result, value

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Colour(enum.Enum):
    RED = "red"


class Item(BaseModel):
    when: datetime.date
    price: Decimal


@dataclasses.dataclass
class Point:
    x: int
    name: str = "here"


FRAME = pd.DataFrame({"city": ["Rome", "Oslo"], "days": [1.0, math.nan]})


@pytest.mark.parametrize(
    ("given", "payload"),
    [
        (None, None),
        ("text", "text"),
        ([1, 2.5, True, None], [1, 2.5, True, None]),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"b": 1, 2: "two", Colour.RED: 3}, {"2": "two", "b": 1, "red": 3}),
        (Colour.RED, "red"),
        (Point(1), {"name": "here", "x": 1}),
        ([Point(1, "there")], [{"name": "there", "x": 1}]),
        (Item(when=datetime.date(2026, 1, 31), price=Decimal("1.50")), {"price": "1.50", "when": "2026-01-31"}),
        (datetime.datetime(2026, 1, 31, 12, 0), "2026-01-31T12:00:00"),
        (Decimal("1.50"), "1.50"),
        (Path("a/b"), "a/b"),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (FRAME, [{"city": "Rome", "days": 1.0}, {"city": "Oslo", "days": None}]),
        (FRAME["city"], ["Rome", "Oslo"]),
        (2**64, 18446744073709551616.0),
    ],
)
async def test_values(given: Any, payload: Any) -> None:
    assert await value(function_tool("it", lambda: given)) == payload


def cyclic() -> list[Any]:
    it: list[Any] = []
    it += [it, it]
    return it


def deep(levels: int) -> Any:
    it: Any = 0
    for _ in range(levels):
        it = [it]
    return it


def doubled(levels: int) -> Any:
    """Small in memory, and of no end as JSON."""
    it: Any = [0]
    for _ in range(levels):
        it = [it, it]
    return it


class Hostile(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda: object(), "value is of type object, which is not JSON"),
        (lambda: {"a": [object()]}, "value['a'][0] is of type object"),
        (lambda: math.nan, "value is nan, which JSON does not have"),
        (lambda: [math.inf], "value[0] is inf"),
        (lambda: np.array([np.nan]), "value[0] is nan"),
        (lambda: 10**400, "this number is out of range"),
        (cyclic, "contains itself"),
        (lambda: deep(101), "nested deeper than 100 levels"),
        (lambda: deep(100_000), "nested deeper than 100 levels"),
        (lambda: doubled(60), "more than 500,000 lists and dicts"),
        (lambda: {None: 1}, "JSON keys are strings"),
        (lambda: {1: "a", "1": "b"}, "two keys that are both '1'"),
        (lambda: (n for n in range(3)), "of type generator"),
        (lambda: 1j, "of type complex"),
        (lambda: print, "of type builtin_function_or_method"),
    ],
)
async def test_what_is_not_json_is_a_failed_call_that_says_where(given: Callable[[], Any], why: str) -> None:
    failure = failed(await make(function_tool("it", given), {}))
    assert (failure.class_, failure.code) == (ToolFailureClass.INTERNAL, "not_json")
    assert why in failure.message
    assert len(failure.message) < 1_100


async def test_a_value_whose_own_code_raises_is_a_failed_call() -> None:
    failure = failed(await make(function_tool("it", lambda: Hostile(a=1)), {}))
    assert failure.message.startswith("RuntimeError: no items")


# -- attachments -------------------------------------------------------------------------------------------------------


def stored(data: bytes, media_type: str, **label: str) -> dict[str, Any]:
    """As it stands in a payload; what the store's names are is the store's to say."""
    ref = MemoryBlobStore().put(data, media_type=media_type)
    about = {"id": ref.id, "media_type": media_type, "byte_len": len(data), **label}
    return {RESERVED_KEY: "attachment", "source": {"source": "stored", "attachment_ref": about}}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"%PDF-1.7", "application/pdf"),
        (b"", "application/octet-stream"),
        (bytearray(b"\0\1"), "application/octet-stream"),
    ],
)
async def test_bytes_are_stored(data: bytes, media_type: str) -> None:
    store = MemoryBlobStore()
    assert await value(function_tool("it", lambda: data), store=store) == stored(bytes(data), media_type)
    assert len(store) == 1


async def test_attachments_stand_where_they_were_and_beside_a_value() -> None:
    store = MemoryBlobStore()
    one, two = stored(PNG, "image/png", label="a plot"), stored(b"x", "text/csv")
    plot, table = Attachment(PNG, label="a plot"), Attachment(b"x", "text/csv")
    given: list[tuple[Any, Any]] = [
        ({"plot": plot, "rows": [table, 1]}, {"plot": one, "rows": [two, 1]}),
        (ToolResult("done", (plot, table)), {"attachments": [one, two], "value": "done"}),
        (ToolResult(attachments=(plot,)), one),
        (ToolResult(attachments=(plot, table)), [one, two]),
        (ToolResult({"n": 1}), {"n": 1}),
    ]
    for it, payload in given:
        assert await value(function_tool("it", lambda it=it: it), store=store) == payload
    assert len(store) == 2


async def test_without_a_store_they_are_inline() -> None:
    payload = await value(function_tool("it", lambda: b"\1\2"))
    inline = {"source": "inline", "media_type": "application/octet-stream", "bytes": [1, 2]}
    assert payload == {RESERVED_KEY: "attachment", "source": inline}


class Shown:
    def __init__(self, **shown: Any) -> None:
        self.shown = shown

    def _repr_png_(self) -> Any:
        return self.shown.get("png")

    def _repr_jpeg_(self) -> Any:
        return self.shown.get("jpeg")

    def _repr_svg_(self) -> Any:
        return self.shown.get("svg")


@pytest.mark.parametrize(
    ("shown", "data", "media_type"),
    [
        ({"png": PNG, "jpeg": b"not this"}, PNG, "image/png"),
        ({"png": binascii.b2a_base64(PNG).decode()}, PNG, "image/png"),
        ({"png": (PNG, {"width": 3})}, PNG, "image/png"),
        ({"jpeg": b"\xff\xd8\xff"}, b"\xff\xd8\xff", "image/jpeg"),
        ({"svg": "<svg/>"}, b"<svg/>", "image/svg+xml"),
    ],
)
async def test_what_shows_itself_as_a_picture(shown: dict[str, Any], data: bytes, media_type: str) -> None:
    tool = function_tool("it", lambda: Shown(**shown))
    assert await value(tool, store=MemoryBlobStore()) == stored(data, media_type)


async def test_what_could_show_itself_and_does_not_is_a_value_like_any_other() -> None:
    assert "of type Shown" in failed(await make(function_tool("it", Shown), {})).message


async def test_pictures_and_figures() -> None:
    figure = Figure(figsize=(1, 1))
    axes = figure.subplots()
    for picture in (Image.new("RGB", (3, 2)), figure, axes):
        store = MemoryBlobStore()
        payload = await value(function_tool("it", lambda picture=picture: picture), store=store)
        ref = payload["source"]["attachment_ref"]
        data = store.get(AttachmentRef(id=ref["id"], media_type="image/png", byte_len=ref["byte_len"]))
        assert ref["media_type"] == "image/png"
        with Image.open(io.BytesIO(data)) as read:
            read.load()


async def test_what_a_tool_has_read_cannot_name_an_attachment() -> None:
    forged = stored(PNG, "image/png")
    payload = await value(function_tool("it", lambda: {"read": forged}))
    assert payload["read"][RESERVED_KEY] == "object"
    assert payload["read"]["entries"][RESERVED_KEY] == "attachment"


@pytest.mark.parametrize("given", [[b"x"] * 101, bytes(64 * 1024 * 1024 + 1)])
async def test_too_many_bytes_are_a_failed_call(given: Any) -> None:
    failure = failed(await make(function_tool("it", lambda: given), {}, store=MemoryBlobStore()))
    assert (failure.class_, failure.code) == (ToolFailureClass.RESOURCE_LIMIT, "attachments_too_big")


async def test_a_media_type_that_is_none_is_a_failed_call() -> None:
    failure = failed(await make(function_tool("it", lambda: Attachment(b"", "no type")), {}))
    assert "is not a media type" in failure.message


class FullStore(MemoryBlobStore):
    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        raise BlobError("the disk is full")


async def test_a_store_that_is_full_is_a_failed_call() -> None:
    failure = failed(await make(function_tool("it", lambda: PNG), {}, store=FullStore()))
    assert (failure.code, failure.message) == ("not_stored", "what the tool gave cannot be kept: the disk is full")


# -- endings -----------------------------------------------------------------------------------------------------------


def test_a_tool_can_end_the_turn_with_a_value() -> None:
    output = output_of(ToolResult.finish({"rows": (1, 2)}), None)
    assert output == ToolCallOutput(
        outcome=ToolSucceeded(payload={"rows": [1, 2]}), control=FinishControl(value={"rows": [1, 2]})
    )


def test_a_tool_can_end_the_turn_as_failed() -> None:
    output = output_of(ToolResult.fail("no budget", kind="resource_limit", code="budget"), None)
    failure = ToolFailure(
        class_=ToolFailureClass.RESOURCE_LIMIT,
        code="budget",
        message="no budget",
        source=ToolFailureSource.TOOL,
        retry=RetryNever(),
    )
    assert output == ToolCallOutput(outcome=ToolSucceeded(payload="no budget"), control=FailControl(failure=failure))


def test_a_turn_cannot_be_ended_with_what_is_not_json() -> None:
    output = output_of(ToolResult.finish(object()), None)
    assert (failed(output).code, output.control) == ("not_json", None)


def test_a_failure_is_of_a_known_kind() -> None:
    with pytest.raises(ValueError, match="'odd' is not a valid"):
        ToolResult.fail("x", kind="odd")


async def test_an_async_function_gives_the_same() -> None:
    async def plots() -> Any:
        return {"plot": Figure(figsize=(1, 1)), "n": 1}

    payload = await value(function_tool(None, plots), store=MemoryBlobStore())
    assert payload["n"] == 1
    assert payload["plot"][RESERVED_KEY] == "attachment"
    assert result(output_of(1, None)) == 1
