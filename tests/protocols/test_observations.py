"""Outputs of a cell as the model is shown them: budgets with exact counts, rich outputs, images."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import BlobError, LashError
from lash_nb.machine.attachments import AttachmentRef, AttachmentWriter
from lash_nb.machine.execution import (
    CellOutcome,
    CellOutput,
    CellResult,
    DisplayOutput,
    ErrorOutput,
    FinishValue,
    ResultOutput,
    StreamOutput,
)
from lash_nb.machine.wire import Json
from lash_nb.protocols.observations import ObservationBudget, cut_text, exec_response, observe

SMALL = ObservationBudget(
    max_chars=100, max_lines=10, max_total_chars=1_000, max_outputs=4, max_images=1, max_image_bytes=50
)


class Shelf:
    """An attachment store in memory."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        name = f"a{len(self.data)}"
        self.data[name] = data
        return AttachmentRef(id=name, media_type=media_type, byte_len=len(data), label=label)

    def get(self, ref: AttachmentRef) -> bytes:
        return self.data[ref.id]

    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter:
        raise LashError("not in this test")


def printed(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def display(data: Mapping[str, Json]) -> DisplayOutput:
    return DisplayOutput(data=data, metadata={})


def image(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (printed("hi\nthere\n"), "hi\nthere"),
        (StreamOutput(name="stderr", head="careful\n"), "[stderr]\ncareful"),
        (printed("\x1b[31mred\x1b[0m"), "red"),
        (printed(" 10%\r 50%\r100%\ndone\r\n"), "100%\ndone"),
        (ResultOutput(data={"text/plain": "   a\n0  1", "text/html": "<table>"}, metadata={}), "   a\n0  1"),
        (display({"text/html": "<b>x</b>"}), "<b>x</b>"),
        (display({"text/markdown": ["# a\n", "b"], "text/html": "<h1>"}), "# a\nb"),
        (display({"application/json": {"a": [1]}}), '{"a":[1]}'),
        (
            display({"application/vnd.plotly.v1+json": {"data": []}}),
            "[application/vnd.plotly.v1+json, 11 bytes: not shown]",
        ),
        (display({"image/svg+xml": "<svg/>"}), "[image/svg+xml, 6 bytes: not shown]"),
    ],
)
def test_one_output_is_one_text(output: CellOutput, text: str) -> None:
    assert observe([output]).texts == (text,)


@pytest.mark.parametrize(
    "output",
    [printed("\n \n"), display({}), display({"text/plain": ""}), ErrorOutput(ename="E", evalue="v")],
)
def test_what_shows_nothing_is_left_out(output: CellOutput) -> None:
    assert observe([output]).texts == ()


def test_images_are_stored_and_named() -> None:
    shelf = Shelf()
    figure = display({"image/png": image(48), "text/plain": "<Figure size 640x480 with 1 Axes>"})
    seen = observe([figure, printed("x")], attachments=shelf)
    assert seen.texts == ("[image/png, 48 bytes, attached: <Figure size 640x480 with 1 Axes>]", "x")
    assert [(ref.id, ref.media_type, ref.byte_len) for ref in seen.images] == [("a0", "image/png", 48)]
    assert shelf.data == {"a0": b"x" * 48}


def test_images_that_cannot_go_say_why() -> None:
    shelf = Shelf()
    outputs = [display({"image/png": image(51)}), *[display({"image/jpeg": image(2048 // 64)})] * 2]
    assert observe(outputs, attachments=shelf, budget=SMALL).texts == (
        "[image/png, 51 bytes, not attached (larger than 50 bytes)]",
        "[image/jpeg, 32 bytes, attached]",
        "[image/jpeg, 32 bytes, not attached (only the first 1 images of a cell are)]",
    )
    blind = observe([display({"image/png": image(2048)})], attachments=shelf, vision=False)
    assert blind.texts == ("[image/png, 2 KB, not attached (this model cannot see images)]",)
    assert blind.images == ()
    assert observe([display({"image/png": image(3)})]).texts == ("[image/png, 3 bytes, not attached]",)
    broken = observe([display({"image/png": "abc"})], attachments=shelf)
    assert broken.texts == ("[image/png, not attached (its data cannot be read)]",)


def test_a_text_within_the_budget_is_whole() -> None:
    text, metadata = cut_text("a" * 100, budget=SMALL)
    assert text == "a" * 100
    assert (metadata.truncated, metadata.original_chars, metadata.projected_chars) == (False, 100, 100)
    assert (metadata.original_lines, metadata.projected_lines) == (1, 1)
    assert (metadata.limit, metadata.limit_mode, metadata.max_lines) == (100, "chars", 10)


def test_a_long_text_keeps_head_and_tail_with_exact_counts() -> None:
    text, metadata = cut_text("a" * 500 + "b" * 500, budget=SMALL)
    head, mark, tail = text.split("\n")
    assert (head, tail) == ("a" * 60, "b" * 40)
    assert mark.startswith(
        "[… 900 of 1,000 characters (0 of 1 lines) cut here. Nothing is lost: every variable is still live"
    )
    assert (metadata.truncated, metadata.original_chars, metadata.projected_chars) == (True, 1000, 100)


def test_many_lines_keep_the_first_and_the_last() -> None:
    text, metadata = cut_text("\n".join(str(number) for number in range(40)), budget=SMALL)
    lines = text.split("\n")
    assert lines[:6] == ["0", "1", "2", "3", "4", "5"]
    assert lines[6].startswith("[… ")
    assert "(30 of 40 lines)" in lines[6]
    assert lines[7:] == ["36", "37", "38", "39"]
    assert (metadata.original_lines, metadata.projected_lines) == (40, 10)


def test_output_that_the_kernel_cut_already_keeps_its_counts() -> None:
    stream = StreamOutput(
        name="stdout", head="head\n" * 3, tail="tail\n" * 3, omitted_chars=1_000_000, omitted_lines=20_000
    )
    seen = observe([stream], budget=SMALL)
    assert seen.texts[0].split("\n")[:3] == ["head"] * 3
    assert seen.texts[0].split("\n")[-3:] == ["tail"] * 3
    [metadata] = seen.truncation
    assert metadata.truncated
    assert metadata.original_chars == 15 + 1_000_000 + 14
    assert metadata.original_lines == 20_006


@given(st.text(alphabet="ab\n", max_size=400), st.integers(1, 120), st.integers(2, 12))
def test_cutting_counts_exactly_and_keeps_to_the_budget(text: str, max_chars: int, max_lines: int) -> None:
    budget = ObservationBudget(max_chars=max_chars, max_lines=max_lines)
    shown, metadata = cut_text(text, budget=budget)
    if not metadata.truncated:
        assert shown == text
        return
    assert metadata.original_chars == len(text)
    assert metadata.projected_chars <= max_chars
    assert metadata.projected_lines <= max_lines
    front, _, rest = shown.partition("[… ")
    back = rest.partition("]\n")[2]
    assert text.startswith(front.rstrip("\n"))
    assert text.endswith(back)


def test_a_cell_s_outputs_share_one_budget_and_short_ones_stay_whole() -> None:
    budget = ObservationBudget(max_chars=1_000, max_total_chars=1_000)
    seen = observe([printed("a" * 5_000), printed("short"), printed("b" * 5_000)], budget=budget)
    kept = [metadata.projected_chars for metadata in seen.truncation]
    assert kept == [497, 5, 497]
    assert seen.texts[1] == "short"


def test_of_very_many_outputs_the_middle_is_left_out() -> None:
    seen = observe([printed(str(number)) for number in range(10)], budget=SMALL)
    assert (*seen.texts[:2], *seen.texts[3:]) == ("0", "1", "8", "9")
    assert seen.texts[2].startswith("[… 6 outputs (6 characters) left out here.")
    assert len(seen.truncation) == len(seen.texts)


def test_the_record_of_a_cell() -> None:
    result = CellResult(
        outcome=CellOutcome.OK,
        outputs=(printed("hi"),),
        finish=FinishValue(value=None),
        duration_s=1.2345,
    )
    response = exec_response(result)
    assert response.observations == ("hi",)
    assert response.error is None
    assert response.duration_ms == 1234
    assert response.terminal_finish == {"value": None}
    assert exec_response(CellResult(outcome=CellOutcome.OK)).terminal_finish is None


class Full(Shelf):
    """A store on a full disk."""

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        raise BlobError("no space left")


def test_a_store_that_fails_costs_the_picture_alone() -> None:
    seen = observe([display({"image/png": image(2048)}), printed("x")], attachments=Full())
    assert seen.texts == ("[image/png, 2 KB, not attached (no space left)]", "x")
    assert seen.images == ()
