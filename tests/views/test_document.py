"""What the live view is told to draw, and that differences lead from one document to the next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lash_nb.machine.activity import ApprovalAsked, ApprovalDecided, VariableSeen, VariablesSeen
from lash_nb.machine.approvals import Approval, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.events import (
    CellOutputs,
    CodeBlockCompleted,
    CodeBlockStarted,
    CodeDelta,
    MessageEvent,
    ReasoningDelta,
    RetryStatus,
    TextDelta,
    TurnActivity,
)
from lash_nb.machine.execution import CellOutcome, CellOutput, DisplayOutput, StreamOutput
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.picture import TurnPicture
from lash_nb.views.document import Document, Facts, Memo, document, visible
from lash_nb.views.patches import difference

from .replay import Replay
from .turns import PNG, answered, asked, ended, picture, stdout, step, whole_turn

CELL = Approval(id="a1", effect_id=1, code="open('x', 'w')")
WRITE = Approval(
    id="a2", effect_id=1, code="open('x', 'w')", wish=Wish(kind=EffectKind.WRITE, target="/data/\u202etxt.exe")
)


def drawn(*activity: Any, **facts: Any) -> Document:
    return document(picture(*activity), Facts(**facts))


def shape(made: Document) -> list[tuple[str, Any]]:
    return [(key, fields["kind"]) for key, fields in made.items()]


def shown(output: CellOutput) -> dict[str, Any]:
    return drawn(step(1, code="1", outputs=(output,)))["s1.o0"]


# -- the document ------------------------------------------------------------------------------------------------------


def test_a_turn_in_order() -> None:
    made = document(whole_turn())
    assert shape(made) == [
        ("head", "head"),
        ("s1", "step"),
        ("s1.p", "prose"),
        ("s1.c", "code"),
        ("s1.o", "output"),
        ("s1.o0", "text"),
        ("s2", "step"),
        ("s2.p", "prose"),
        ("s2.c", "code"),
        ("s2.o", "output"),
        ("s2.o0", "text"),
        ("answer", "answer"),
    ]
    assert made["head"] == {
        "kind": "head",
        "in": "",
        "sentence": "done",
        "usage": "2 cells · scripted",
        "running": False,
        "stopping": False,
        "say": False,
    }
    assert made["s1.p"] == {"kind": "prose", "in": "s1", "html": "<p>I look at it.</p>"}
    assert made["s1.o"]["summary"] == "Output: an error"
    assert (made["s1.o"]["open"], made["s2.o"]["open"]) == (False, True)
    assert made["s2.c"]["head"] == "len(df)"
    assert made["s2.c"]["open"] is False
    assert "<strong>3</strong>" in str(made["answer"]["html"])


def test_words_are_text_until_they_are_complete() -> None:
    saying = [asked(), TextDelta(content="Let **me** <b>")]
    assert drawn(*saying)["s1.p"] == {"kind": "prose", "in": "s1", "head": "Let **me** <b>", "gap": "", "tail": ""}
    html = "<p>Let <strong>me</strong> &lt;b&gt;</p>"
    made = drawn(*saying, CodeDelta(content="1 + 1\n"))
    assert made["s1.p"] == {"kind": "prose", "in": "s1", "html": html}
    assert (made["s1.c"]["head"], made["s1.c"]["open"]) == ("1 + 1", True)


def test_what_is_thought_is_text_until_something_is_said() -> None:
    thinking = [asked(), ReasoningDelta(content="Hm *so*")]
    assert drawn(*thinking)["s1.t"]["head"] == "Hm *so*"
    assert drawn(*thinking, TextDelta(content="So."))["s1.t"]["html"] == "<p>Hm <em>so</em></p>"


def test_long_texts_are_cut() -> None:
    made = drawn(asked(), TextDelta(content="a" * 7_000 + "\n" * 5_000 + "z" * 3_000))["s1.p"]
    assert made["head"] == "a" * 7_000
    assert made["gap"] == "[… 5,000 characters (5,000 lines) left out …]"
    assert made["tail"] == "z" * 3_000


def test_a_stream_that_was_cut_in_the_kernel() -> None:
    made = shown(StreamOutput(name="stdout", head="a\n" * 4_000, tail="z" * 3_500, omitted_chars=10, omitted_lines=2))
    assert made["gap"] == "[… 1,510 characters (502 lines) left out …]"
    assert made["tail"] == "z" * 3_000


def test_notes_stand_between_the_steps() -> None:
    made = drawn(MessageEvent(text="first", kind="notice"), step(1, code="1"), MessageEvent(text="2nd", kind="notice"))
    assert [key for key, fields in made.items() if fields["in"] == ""] == ["head", "n0", "s1", "n1"]
    retry = RetryStatus(wait_seconds=1, attempt=2, max_attempts=3, reason="busy")
    made = drawn(asked(), retry)
    assert "note" not in [kind for _, kind in shape(made)]
    assert made["head"]["sentence"] == "waiting for the model: attempt 2 of 3 in 1 s (busy)"


def test_outputs() -> None:
    assert shown(stdout("<script>")) == {
        "in": "s1.o",
        "kind": "text",
        "name": "stdout",
        "head": "<script>",
        "gap": "",
        "tail": "",
    }
    image = shown(DisplayOutput(data={"image/png": PNG}, metadata={}))
    assert image["src"] == f"data:image/png;base64,{PNG}"
    markup = shown(DisplayOutput(data={"text/html": "<table onclick=x><td>1"}, metadata={}))
    assert markup["html"] == "<table><td>1</td></table>"


def test_html_that_is_not_ours_is_framed() -> None:
    styled = "<p style='color: red'>7</p><a href='https://example.org'>more</a><script>alert(1)</script>"
    made = shown(DisplayOutput(data={"text/html": styled, "text/plain": "7"}, metadata={}))
    assert made["kind"] == "frame"
    head, _, body = str(made["srcdoc"]).partition("<body>")
    assert body == "<p style='color: red'>7</p><a href='https://example.org'>more</a>"
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in head
    assert head.index("Content-Security-Policy") < head.index("<style>")
    assert made["height"] == 108
    nothing = DisplayOutput(data={"text/html": "<script>draw()</script>", "text/plain": "<Figure>"}, metadata={})
    assert shown(nothing)["kind"] == "text"
    long = DisplayOutput(data={"text/html": "<a>x</a>" * 30_000, "text/plain": "long"}, metadata={})
    assert shown(long)["head"] == "long"


def test_a_question_about_a_cell_has_its_code() -> None:
    made = drawn(asked(), TextDelta(content="I write."), ApprovalAsked(approval=CELL))
    assert [key for key, _ in shape(made)] == ["head", "s1", "s1.p", "ask"]
    assert made["ask"] == {
        "kind": "ask",
        "in": "",
        "approval": "a1",
        "question": "The agent wants to run this cell.",
        "target": "",
        "brief": "",
        "of_cell": True,
        "alike": False,
        "covers": "",
        "language": "python",
        "code": "open('x', 'w')",
        "raw": None,
        "here": True,
        "decided": False,
    }
    assert made["head"]["sentence"] == "waiting for you"
    answer = drawn(asked(), ApprovalAsked(approval=CELL), decided="a1")["ask"]
    assert answer["decided"] is True
    decision = Decision(verdict=Verdict.APPROVED)
    assert "ask" not in drawn(asked(), ApprovalAsked(approval=CELL), ApprovalDecided(approval=CELL, decision=decision))


def test_a_question_about_an_effect_stands_behind_the_running_step() -> None:
    started = CodeBlockStarted(effect_id=1, language="python", code=WRITE.code)
    made = drawn(asked(), started, ApprovalAsked(approval=WRITE))
    assert [key for key, _ in shape(made)] == ["head", "s1", "s1.c", "ask"]
    assert made["ask"]["question"] == "The agent's code wants to write /data/\\u202etxt.exe."
    assert (made["ask"]["of_cell"], made["ask"]["code"]) == (False, "")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a = 1\n\tb", "a = 1\n\tb"),
        ("é 字 😀", "é 字 😀"),
        ("a\r\nb\rc", "a\nb\\x0dc"),
        ("\u202e\u200b\ufeff", "\\u202e\\u200b\\ufeff"),
        ("\x1b[8m\x00\x85", "\\x1b[8m\\x00\\x85"),
        ("a\ufe0f\U000e0041\U000e0100", "a\\ufe0f\\U000e0041\\U000e0100"),
        ("\u2028\udcff", "\\u2028\\udcff"),
        # As many marks as a language may put on a letter; more would be painted over what stands around.
        ("e" + "\u0301" * 8 + "f\u0301", "e" + "\u0301" * 8 + "f\u0301"),
        ("e" + "\u0e47" * 8 + "\u20dd\U0001e944", "e" + "\u0e47" * 8 + "\\u20dd\\U0001e944"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen
    code = Approval(id="a1", effect_id=1, code=text)
    made = drawn(asked(), ApprovalAsked(approval=code))["ask"]
    assert made["code"] == seen
    assert (made["raw"] is None) == (text == seen)


def test_variables() -> None:
    seen = VariablesSeen(
        variables=(
            VariableSeen(name="df", type="DataFrame", detail="3 rows"),
            VariableSeen(name="n<b>\u202e", type="int", new=False),
        )
    )
    made = drawn(asked(), seen, can_pull=True, told={"v.df": "pulled"})
    assert [key for key, _ in shape(made)][-3:] == ["vars", "v.df", "v.n<b>\\u202e"]
    assert made["v.df"] == {
        "kind": "var",
        "in": "vars",
        "name": "df",
        "type": "DataFrame",
        "detail": "3 rows",
        "new": True,
        "pull": True,
        "told": "pulled",
    }
    assert made["v.n<b>\\u202e"]["new"] is False
    many = VariablesSeen(variables=tuple(VariableSeen(name=f"v{n:04}", type="int") for n in range(1_000)))
    assert drawn(asked(), many)["vars"]["more"] == 800


def test_what_was_said_waits_at_the_end_while_the_turn_runs() -> None:
    assert drawn(asked(), waiting=("Faster!",))["w0"]["head"] == "Faster!"
    assert "w0" not in drawn(answered("1"), waiting=("Faster!",))


def test_inserting_is_offered_for_code_that_is_whole() -> None:
    writing = [asked(), CodeDelta(content="1")]
    assert drawn(*writing, can_insert=True)["s1.c"]["insert"] is False
    assert drawn(step(1, code="1"), can_insert=True)["s1.c"]["insert"] is True
    assert drawn(step(1, code="1"))["s1.c"]["insert"] is False


def test_a_stopped_turn_says_so() -> None:
    made = drawn(step(1, code="1")[:-1], ended(Stopped(stop=TurnStopReason.CANCELLED)))
    assert made["head"]["sentence"] == "stopped by you: a cell was running"
    assert (made["s1.o"]["summary"], made["s1.o"]["empty"]) == ("Output: not ended", True)


# -- differences -------------------------------------------------------------------------------------------------------


def from_to(before: TurnPicture, after: TurnPicture) -> list[Any]:
    return list(difference(document(before), document(after)))


def test_a_text_that_grows_is_sent_once() -> None:
    first = picture(asked(), TextDelta(content="a 😀"))
    assert from_to(first, first.apply(TextDelta(content="b"))) == [["edit", "s1.p", "head", 4, 4, "b"]]


def test_output_that_slides_along_is_sent_once() -> None:
    def printed(lines: int) -> TurnPicture:
        text = "".join(f"line {number}\n" for number in range(lines))
        cut = StreamOutput(name="stdout", head=text[:7_000], tail=text[-3_000:], omitted_chars=len(text) - 10_000)
        return picture(step(1, code="1")[:-1], CellOutputs(effect_id=1, outputs=(cut,)))

    assert [operation[:-1] for operation in from_to(printed(5_000), printed(5_003))] == [
        ["edit", "s1.o0", "tail", 0, 30],
        ["edit", "s1.o0", "tail", 2_970, 2_970],
        ["set", "s1.o0"],
    ]


def test_a_step_appears_behind_the_one_before_it() -> None:
    first = picture(step(1, code="1"))
    operations = from_to(first, first.apply(asked(2)))
    assert ["add", "s2", "s1", {"kind": "step", "in": "", "number": 2}] in operations


TEXTS = some.sampled_from(["a", "é😀", "\n", "`x` **b**\n", "\x1b[31m", "word " * 40, "x" * 9_000])
OUTPUTS = some.lists(
    some.builds(stdout, TEXTS)
    | some.just(DisplayOutput(data={"image/png": PNG}, metadata={}))
    | some.just(DisplayOutput(data={"text/html": "<a href=x>y</a>", "text/plain": "y"}, metadata={})),
    max_size=3,
).map(tuple)
NUMBERS = some.integers(1, 3)
HAPPENED: some.SearchStrategy[TurnActivity] = some.one_of(
    NUMBERS.map(asked),
    some.builds(TextDelta, content=TEXTS),
    some.builds(ReasoningDelta, content=TEXTS),
    some.builds(CodeDelta, content=TEXTS),
    some.builds(MessageEvent, text=TEXTS, kind=some.sampled_from(["python_code", "notice"])),
    some.builds(CodeBlockStarted, effect_id=NUMBERS, language=some.just("python"), code=TEXTS),
    some.builds(CellOutputs, effect_id=NUMBERS, outputs=OUTPUTS),
    some.builds(
        CodeBlockCompleted,
        effect_id=NUMBERS,
        outcome=some.sampled_from(CellOutcome),
        outputs=OUTPUTS,
        duration_ms=some.just(1),
        detail=TEXTS,
    ),
    some.just(RetryStatus(wait_seconds=1, attempt=2, max_attempts=3, reason="busy")),
    some.sampled_from([ApprovalAsked(approval=CELL), ApprovalAsked(approval=WRITE)]),
    some.just(ApprovalDecided(approval=CELL, decision=Decision(verdict=Verdict.REJECTED, why="no"))),
    some.lists(some.sampled_from("abcd"), unique=True).map(
        lambda names: VariablesSeen(variables=tuple(VariableSeen(name=name, type="int") for name in sorted(names)))
    ),
    some.just(ended(Stopped(stop=TurnStopReason.CANCELLED))),
)
FACTS = some.builds(
    Facts,
    stopping=some.booleans(),
    decided=some.sampled_from(["", "a1"]),
    waiting=some.lists(TEXTS, max_size=2).map(tuple),
    told=some.sampled_from([{}, {"s1.c": "inserted", "v.a": "pulled"}]),
    can_insert=some.just(True),
)


@given(some.lists(some.tuples(some.lists(HAPPENED, max_size=4), FACTS), max_size=12))
def test_differences_lead_to_the_last_document(moments: list[tuple[list[TurnActivity], Facts]]) -> None:
    seen, now, known = TurnPicture(), Replay(), dict[str, Any]()
    memo: Memo = {}
    for happened, facts in moments:
        for activity in happened:
            seen = seen.apply(activity)
        made = document(seen, facts, memo=memo)
        assert made == document(seen, facts)
        for operation in difference(known, made):
            now.apply(operation)
        known = made
        expected = [
            (key, {name: one for name, one in fields.items() if one is not None}) for key, fields in made.items()
        ]
        assert now.flat == expected


DOCUMENTS = some.lists(
    some.tuples(some.sampled_from("abcdef"), some.sampled_from("xy"), some.integers(0, 5)), max_size=8
)


@given(DOCUMENTS, DOCUMENTS)
def test_any_two_documents(before: list[tuple[str, str, int]], after: list[tuple[str, str, int]]) -> None:
    """Blocks that move, change their kind, or go with what holds them."""

    def built(entries: list[tuple[str, str, int]]) -> Document:
        made: Document = {}
        for key, kind, holder in entries:
            keys = ["", *made]
            made.setdefault(key, {"kind": kind, "in": keys[holder % len(keys)]})
        return made

    def in_order(made: Document, holder: str = "") -> list[str]:
        return [
            found for key, fields in made.items() if fields["in"] == holder for found in (key, *in_order(made, key))
        ]

    now = Replay()
    first, last = built(before), built(after)
    for operation in (*difference({}, first), *difference(first, last)):
        now.apply(operation)
    assert now.flat == [(key, last[key]) for key in in_order(last)]
