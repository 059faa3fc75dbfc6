"""Cells that did not end well, as the model is told: whose move it is, and the evidence cut down to what helps."""

from __future__ import annotations

import pytest

from lash_nb.machine.execution import CellOutcome, CellResult, ErrorOutput, FinishValue
from lash_nb.machine.tool_calls import (
    RetryNever,
    ToolCallOutput,
    ToolCallRecord,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.machine.tracebacks import traceback_text
from lash_nb.protocols.failures import failure_text, policy_text

# As IPython 9 writes it for a KeyError inside pandas, without colours.
PANDAS = (
    "-" * 75,
    "KeyError                                  Traceback (most recent call last)",
    "File /v/lib/python3.11/site-packages/pandas/core/indexes/base.py:3816, in Index.get_loc(self)\n   3815 try:\n",
    "File pandas/_libs/index.pyx:172, in pandas._libs.index.IndexEngine.get_loc()\n--> 172 'Could not get source'",
    "KeyError: 'zz'",
    "\nThe above exception was the direct cause of the following exception:\n",
    "KeyError                                  Traceback (most recent call last)",
    "Cell In[1], line 4\n      2 def f(d):\n----> 4 f(d)\n",
    "Cell In[1], line 3, in f(d)\n----> 3     return d['zz']\n",
    "File ~/project/helpers.py:3, in g(d)\n----> 3 d['zz']\n",
    "File ~/p/lib/python3.11/site-packages/pandas/core/frame.py:4330, in DataFrame.__getitem__(self, key)\n   4326\n",
    "File /v/lib/python3.11/site-packages/pandas/core/indexes/base.py:3823, in Index.get_loc(self, key)\n   3818\n",
    "KeyError: 'zz'",
)


def test_of_a_traceback_the_user_s_frames_stay() -> None:
    assert traceback_text(ErrorOutput(ename="KeyError", evalue="'zz'", traceback=PANDAS)).split("\n") == [
        "KeyError                                  Traceback (most recent call last)",
        "[… 1 frames of libraries]",
        "File pandas/_libs/index.pyx:172, in pandas._libs.index.IndexEngine.get_loc()",
        "KeyError: 'zz'",
        "The above exception was the direct cause of the following exception:",
        "KeyError                                  Traceback (most recent call last)",
        "Cell In[1], line 4",
        "      2 def f(d):",
        "----> 4 f(d)",
        "Cell In[1], line 3, in f(d)",
        "----> 3     return d['zz']",
        "File ~/project/helpers.py:3, in g(d)",
        "----> 3 d['zz']",
        "[… 1 frames of libraries]",
        "File pandas/core/indexes/base.py:3823, in Index.get_loc(self, key)",
        "KeyError: 'zz'",
    ]


def test_it_does_not_matter_where_a_traceback_was_divided() -> None:
    by_frames = traceback_text(ErrorOutput(ename="KeyError", evalue="'zz'", traceback=PANDAS))
    lines = tuple("\n".join(PANDAS).split("\n"))
    assert traceback_text(ErrorOutput(ename="KeyError", evalue="'zz'", traceback=lines)) == by_frames
    message = ("ValueError: several", "", "lines  ", "  of it")
    error = ErrorOutput(ename="ValueError", evalue="", traceback=("Cell In[1], line 1", "----> 1 f()", "", *message))
    assert traceback_text(error) == "\n".join(["Cell In[1], line 1", "----> 1 f()", *message])


def test_a_syntax_error_and_a_bare_exception() -> None:
    entry = "  Cell In[1], line 1\n    x=(\n       ^\nSyntaxError: incomplete input\n"
    error = ErrorOutput(ename="SyntaxError", evalue="incomplete input", traceback=(entry,))
    assert traceback_text(error) == entry.strip("\n")
    assert traceback_text(ErrorOutput(ename="KeyError", evalue="'x'")) == "KeyError: 'x'"
    assert traceback_text(ErrorOutput(ename="SystemExit", evalue="")) == "SystemExit"


def test_a_long_traceback_keeps_its_tail_and_a_long_message_its_ends() -> None:
    frames = tuple(f"Cell In[{number}], line 1\n----> 1 f()" for number in range(1_000))
    text = traceback_text(
        ErrorOutput(ename="RecursionError", evalue="deep", traceback=(*frames, "RecursionError: deep"))
    )
    assert len(text) < 8_200
    assert text.startswith("[… ")
    assert text.endswith("Cell In[999], line 1\n----> 1 f()\nRecursionError: deep")
    message = "ValueError: first " + "x" * 10_000 + " last"
    text = traceback_text(ErrorOutput(ename="ValueError", evalue="", traceback=("Cell In[1], line 1", message)))
    assert text.startswith("Cell In[1], line 1\nValueError: first x")
    assert "[… 6,023 characters of the message cut here]" in text
    assert text.endswith("x last")


def test_an_error_is_the_program_s_to_fix() -> None:
    result = CellResult(outcome=CellOutcome.ERROR, error=ErrorOutput(ename="KeyError", evalue="'x'"))
    assert failure_text(result) == (
        "error: your program raised KeyError. Fix the cause; what ran before the failing line stands.\nKeyError: 'x'"
    )
    # The error may be among the outputs only.
    only = CellResult(outcome=CellOutcome.ERROR, outputs=(ErrorOutput(ename="KeyError", evalue="'x'"),))
    assert failure_text(only) == failure_text(result)


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (CellOutcome.INTERRUPTED, "interrupted"),
        (CellOutcome.TIMEOUT, "timeout"),
        (CellOutcome.DEAD, "kernel"),
        (CellOutcome.ABORTED, "aborted"),
        (CellOutcome.LOST, "lost"),
    ],
)
def test_every_other_end_has_its_label_and_its_detail(outcome: CellOutcome, label: str) -> None:
    text = failure_text(CellResult(outcome=outcome, detail="Killed by signal 9."))
    assert text is not None
    first, last = text.split("\n")
    assert first.startswith(f"{label}: ")
    assert last == "Killed by signal 9."


def test_what_ended_well_has_no_failure() -> None:
    assert failure_text(CellResult(outcome=CellOutcome.OK)) is None
    assert failure_text(CellResult(outcome=CellOutcome.ERROR, finish=FinishValue(value=1))) is None


def test_a_refusal_is_not_to_be_sent_again() -> None:
    text = policy_text("Writing outside the working directory is not allowed.")
    assert text.startswith("policy: the runtime refused this. Writing outside")
    assert "do not send it again" in text


def test_calls_that_did_run_are_listed_when_the_cell_fails() -> None:
    def call(tool: str, output: ToolCallOutput, **args: str) -> ToolCallRecord:
        return ToolCallRecord(tool=tool, args=dict(args), output=output, duration_ms=1)

    failure = ToolFailure(
        class_=ToolFailureClass.EXECUTION,
        code="no_such_mailbox",
        message="m",
        source=ToolFailureSource.TOOL,
        retry=RetryNever(),
    )
    calls = [
        call("send_mail", ToolCallOutput(outcome=ToolSucceeded(payload=None)), to="a"),
        call("send_mail", ToolCallOutput(outcome=ToolFailed(payload=failure)), to="b" * 300),
    ]
    result = CellResult(outcome=CellOutcome.ERROR, error=ErrorOutput(ename="E", evalue=""))
    text = failure_text(result, tool_calls=calls)
    assert text is not None
    assert text.split("\n")[2:] == [
        "These calls of the cell did run, and their effects stand; do not repeat them:",
        '- send_mail {"to":"a"}: ok',
        '- send_mail {"to":"' + "b" * 193 + "…: failed (no_such_mailbox)",
    ]
