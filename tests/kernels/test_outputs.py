"""The fold of outputs, against results written by hand."""

from __future__ import annotations

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.kernels.bundles import BundleLimits
from lash_nb.kernels.inside.text import HeadTail, strip_ansi
from lash_nb.kernels.outputs import NOTE_KEY, OutputFold, OutputLimits, fold, to_nbformat
from lash_nb.machine.execution import CellOutput, DisplayOutput, ErrorOutput, ResultOutput, StreamOutput
from lash_nb.stores.blobs import MemoryBlobStore

Message = tuple[str, dict[str, object]]
SMALL = OutputLimits(stream_head_chars=4, stream_tail_chars=4)
PNG = "iVBORw0KGgo="


def out(text: str, name: str = "stdout") -> Message:
    return "stream", {"name": name, "text": text}


def display(text: str, display_id: str | None = None) -> Message:
    transient = {"display_id": display_id} if display_id else {}
    return "display_data", {"data": {"text/plain": text}, "metadata": {}, "transient": transient}


def update(text: str, display_id: str) -> Message:
    return "update_display_data", {**display(text, display_id)[1]}


def plain(outputs: tuple[CellOutput, ...]) -> list[str]:
    return [str(o.data["text/plain"]) if isinstance(o, DisplayOutput | ResultOutput) else text(o) for o in outputs]


def text(output: CellOutput) -> str:
    assert isinstance(output, StreamOutput)
    return output.head


def test_adjacent_chunks_of_one_stream_are_joined_with_nothing_between() -> None:
    outputs = fold([out("a\nb"), out("c\n"), out("E", "stderr"), out("d")])
    assert outputs == (
        StreamOutput(name="stdout", head="a\nbc\n"),
        StreamOutput(name="stderr", head="E"),
        StreamOutput(name="stdout", head="d"),
    )


def test_a_display_between_two_chunks_keeps_them_apart() -> None:
    assert plain(fold([out("a"), display("'d'"), out("b")])) == ["a", "'d'", "b"]


@pytest.mark.parametrize(
    ("written", "head", "tail", "chars", "lines"),
    [
        ("12345678", "12345678", "", 0, 0),
        ("123456789", "1234", "6789", 1, 0),
        ("1234\n6789", "1234", "6789", 1, 1),
        ("abcd\nef\ngh\nijkl", "abcd", "ijkl", 7, 3),
    ],
)
def test_the_caps_are_exact(written: str, head: str, tail: str, chars: int, lines: int) -> None:
    expected = StreamOutput(name="stdout", head=head, tail=tail, omitted_chars=chars, omitted_lines=lines)
    assert fold([out(written)], limits=SMALL) == (expected,)
    assert fold([out(c) for c in written], limits=SMALL) == (expected,)


@given(st.lists(st.text(alphabet="ab\n", max_size=30), max_size=20), st.integers(0, 9), st.integers(0, 9))
def test_head_tail_and_what_was_left_out_are_the_whole(chunks: list[str], head_cap: int, tail_cap: int) -> None:
    whole = "".join(chunks)
    overflow: list[str] = []
    kept = HeadTail(head_cap, tail_cap, on_overflow=overflow.append)
    for chunk in chunks:
        kept.write(chunk)
        kept.view()
    open_view = kept.view()
    kept.close()
    assert kept.view() == open_view
    if len(whole) <= head_cap + tail_cap:
        assert open_view == (whole, "", 0, 0)
        assert not overflow
    else:
        cut = whole[head_cap : len(whole) - tail_cap]
        assert open_view == (whole[:head_cap], whole[len(whole) - tail_cap :], len(cut), cut.count("\n"))
        assert "".join(overflow) == whole


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (["10%\r20%\r100%\n"], "100%\n"),
        (["10%", "\r20%", "\r"], "20%"),
        (["long line\rshort"], "shortline"),
        (["dos\r\n"], "dos\n"),
        (["abc\b\bX"], "aX"),
        (["\b\bx\n\by"], "x\ny"),
        (["kept\n1\r", "2"], "kept\n2"),
    ],
)
def test_carriage_returns_and_backspaces_act_on_the_open_line(chunks: list[str], expected: str) -> None:
    assert plain(fold([out(chunk) for chunk in chunks])) == [expected]


def test_what_is_cut_is_kept_whole_in_the_store() -> None:
    store = MemoryBlobStore()
    (stream,) = fold([out("0123456789"), out("abc")], limits=SMALL, store=store)
    assert isinstance(stream, StreamOutput)
    assert stream.spilled is not None
    assert store.get(stream.spilled) == b"0123456789abc"
    assert (stream.head, stream.tail, stream.omitted_chars) == ("0123", "9abc", 5)
    (uncut,) = fold([out("01")], limits=SMALL, store=store)
    assert isinstance(uncut, StreamOutput)
    assert uncut.spilled is None
    assert len(store) == 1


def test_updates_change_every_display_of_that_id_in_its_place() -> None:
    messages = [display("1", "a"), out("x"), display("2", "b"), display("3", "a"), update("9", "a")]
    assert plain(fold(messages)) == ["9", "x", "2", "9"]


def test_an_update_of_an_earlier_cells_display_is_shown() -> None:
    assert plain(fold([update("1", "old"), update("2", "old")])) == ["2"]


def test_clear_output() -> None:
    assert plain(fold([out("a"), ("clear_output", {"wait": False}), out("b")])) == ["b"]
    assert plain(fold([out("a"), ("clear_output", {"wait": True})])) == ["a"]
    assert plain(fold([out("a"), ("clear_output", {"wait": True}), display("b")])) == ["b"]


def test_results_and_errors() -> None:
    traceback = ["\x1b[0;31mValueError\x1b[0m: no", "\x1b]8;;http://x\x07link"]
    outputs = fold(
        [
            ("execute_result", {"data": {"text/plain": "2"}, "metadata": {}, "execution_count": 7}),
            ("error", {"ename": "ValueError", "evalue": "no", "traceback": traceback}),
        ]
    )
    assert outputs == (
        ResultOutput(data={"text/plain": "2"}, metadata={}, execution_count=7),
        ErrorOutput(ename="ValueError", evalue="no", traceback=("ValueError: no", "link")),
    )


def test_big_representations_are_moved_out_whole_and_said() -> None:
    limits = OutputLimits(bundles=BundleLimits(text_head_chars=3, text_tail_chars=3, value_bytes=10))
    message = ("display_data", {"data": {"text/plain": "0123456789", "image/png": PNG, "text/html": "<b>"}})
    store = MemoryBlobStore()
    (kept,) = fold([message], limits=limits, store=store)
    assert isinstance(kept, DisplayOutput)
    assert kept.data["text/html"] == "<b>"
    assert "image/png" not in kept.data
    note = kept.metadata[NOTE_KEY]
    assert isinstance(note, dict)
    assert set(note["spilled"]) == {"image/png", "text/plain"}
    assert note["spilled"]["image/png"]["byte_len"] == 8
    assert str(kept.data["text/plain"]).startswith("012\n[… 4 characters (0 lines) left out …]\n789\n")
    (omitted,) = fold([message], limits=limits)
    assert isinstance(omitted, DisplayOutput)
    assert "[image/png, 12 bytes: left out, over the limit]" in str(omitted.data["text/plain"])


def test_the_bundles_of_one_cell_have_a_limit_together() -> None:
    limits = OutputLimits(bundles=BundleLimits(cell_bytes=10))
    message = ("display_data", {"data": {"text/html": "<b>12</b>"}})
    first, second = fold([message, message], limits=limits)
    assert isinstance(first, DisplayOutput)
    assert isinstance(second, DisplayOutput)
    assert "text/html" in first.data
    assert "text/html" not in second.data


def test_of_many_outputs_the_first_and_the_last_are_kept() -> None:
    limits = OutputLimits(head_outputs=2, tail_outputs=2)
    store = MemoryBlobStore()
    outputs = fold([display(str(n)) for n in range(10)], limits=limits, store=store)
    assert len(outputs) == 5
    first = plain(outputs)
    assert [*first[:2], *first[3:]] == ["0", "1", "8", "9"]
    assert first[2].startswith("[6 outputs left out here; they are kept in sha256:")


def test_the_outputs_so_far_can_be_seen_at_any_time() -> None:
    state = OutputFold(limits=SMALL)
    assert state.outputs() == ()
    assert state.apply(*out("12"))
    assert not state.apply("status", {"execution_state": "busy"})
    assert plain(state.outputs()) == ["12"]
    assert state.apply(*out("3456789"))
    assert state.outputs() == (StreamOutput(name="stdout", head="1234", tail="6789", omitted_chars=1),)


def test_to_nbformat_is_valid() -> None:
    outputs = fold(
        [
            out("123456789"),
            display("x", "id"),
            ("execute_result", {"data": {"image/png": PNG, "application/json": {"a": 1}}, "execution_count": 1}),
            ("error", {"ename": "E", "evalue": "v", "traceback": ["t"]}),
        ],
        limits=SMALL,
    )
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.from_dict(o) for o in to_nbformat(outputs)])  # type: ignore[no-untyped-call]
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))  # type: ignore[no-untyped-call]
    assert to_nbformat(outputs)[0]["text"] == "1234\n[… 1 characters (0 lines) left out …]\n6789"


@given(st.lists(st.tuples(st.sampled_from(["stream", "display_data", "error", "clear_output"]), st.just({}))))
def test_messages_without_their_fields_break_nothing(messages: list[Message]) -> None:
    fold(messages)


def test_ansi_codes_are_removed() -> None:
    assert strip_ansi("\x1b[1;31mred\x1b[0m \x1b[2Kplain") == "red plain"
