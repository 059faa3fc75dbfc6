"""Whole turns of the snippet protocol: one cell and its value, three more samples, and what is said after those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lash_nb.machine.checkpoints import CheckpointKind
from lash_nb.machine.events import ErrorEvent, MessageEvent, PluginEvent, ProtocolRecord, StatusRuntimeEvent
from lash_nb.machine.execution import ExecResponse, NamespaceSummary, VariableSummary
from lash_nb.machine.llm import LlmRequest, LlmRole
from lash_nb.machine.messages import PartKind
from lash_nb.machine.outcomes import FinalValue, Finished, TurnStopReason
from lash_nb.machine.wire import Json
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.records import CodeTrajectoryEntry
from lash_nb.protocols.snippet import ATTEMPTS, SnippetProtocol
from lash_nb.protocols.termination import FinishRequired

from .canned import answered, decisions, errors, failed, finished, shown, stopped
from .loop import Played, delivery, play, text_of, user_message

NAMESPACE = NamespaceSummary(
    variables=(
        VariableSummary(name="df", type="DataFrame", columns=(("price", "float64"), ("city", "object"))),
        VariableSummary(name="pd", type="module", detail="pandas"),
        VariableSummary(name="xs", type="list", detail="length 2", preview="[1, 2]"),
    )
)
NAME_ERROR = ExecResponse(
    error="error: your program raised NameError. Fix the cause; what ran before the failing line stands.\n"
    "Cell In[1], line 1\n----> 1 prices\nNameError: name 'prices' is not defined"
)


def turn(
    replies: Sequence[str],
    results: Sequence[ExecResponse | str] = (),
    *,
    protocol: Callable[[], SnippetProtocol] = lambda: SnippetProtocol(turn_id="t1"),
    **options: Any,
) -> Played:
    asked = options.pop("messages", (user_message("u0", "mean price in df"),))
    return play(replies, results, protocol=protocol, messages=asked, namespace=NAMESPACE, **options)


def required(validate: Callable[[Json], str | None] | None = None, kind: str = "number") -> SnippetProtocol:
    return SnippetProtocol(turn_id="t1", termination=FinishRequired(schema={"type": kind}), validate=validate)


def said(played: Played) -> str:
    [message] = [event.message for event in played.emitted if isinstance(event, ErrorEvent)]
    return message


def not_run(played: Played) -> list[str]:
    """The notes that a view shows behind attempts."""
    statuses = [event.event for event in played.emitted if isinstance(event, PluginEvent)]
    return [f"{status.label}: {status.detail}" for status in statuses if isinstance(status, StatusRuntimeEvent)]


def prompt(request: LlmRequest) -> list[tuple[LlmRole, str]]:
    return [(message.role, text_of(request, index)) for index, message in enumerate(request.messages)]


# -- it works ----------------------------------------------------------------------------------------------------------


def test_one_request_one_cell_its_value_done() -> None:
    played = turn(['df["price"].mean()\n'], [shown("3.5")])
    assert played.outcome == answered("3.5")
    assert played.executed == ['df["price"].mean()']
    assert played.checkpoints == [CheckpointKind.BEFORE_COMPLETION]
    assert [event for event in played.emitted if isinstance(event, MessageEvent)] == [
        MessageEvent(text='df["price"].mean()', kind="python_code")
    ]
    assert decisions(played) == ["execute"]
    assert [(message.id, [part.kind for part in message.parts]) for message in played.messages] == [
        ("u0", [PartKind.TEXT]),
        ("m_code_t1_0_reply", [PartKind.CODE]),
        ("m_code_t1_0_observation", [PartKind.OUTPUT]),
        ("m_code_t1_0_answer", [PartKind.PROSE]),
    ]


def test_the_model_is_shown_variables_examples_and_the_request() -> None:
    [request] = turn(["len(df)"], [shown("2")]).requests
    system, *examples, last = prompt(request)
    assert system == (
        LlmRole.SYSTEM,
        "You write Python for a Jupyter notebook. Reply with exactly one line of Python code, no explanation.\n"
        "Variables: df: DataFrame[price float, city str]; xs: list of int; pd, np, plt are imported",
    )
    assert last == (LlmRole.USER, "mean price in df")
    assert [role for role, _ in examples] == [LlmRole.USER, LlmRole.ASSISTANT] * (len(examples) // 2)
    assert examples[:2] == [
        (LlmRole.USER, "standard deviation of column price in df"),
        (LlmRole.ASSISTANT, 'df["price"].std()'),
    ]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("top = df.head()", "top = df.head()\ntop"),
        ('df["half"] = df["price"] / 2', 'df["half"] = df["price"] / 2\ndf.head()'),
        ("xs.sort()", "xs.sort()\nxs"),
        ("plt.plot(xs)", "import matplotlib.pyplot as plt\nplt.plot(xs);"),
        ("price.max()", 'df["price"].max()'),
        ("```python\nlen(df)\n```\nThat is it.", "len(df)"),
    ],
)
def test_what_is_run_shows_its_value_and_finds_its_names(reply: str, code: str) -> None:
    assert turn([reply], [shown("x")]).executed == [code]


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (shown("['a', 'b']"), "`['a', 'b']`"),
        (shown("a `b` c"), "``a `b` c``"),
        (shown("    price\n0  3.5"), "See the output."),
        (shown("x" * 201), "See the output."),
        (shown("1", "2"), "See the output."),
        (shown("[image/png, 12 KB, not attached]"), "See the figure."),
        (shown(), "Done; the code showed nothing."),
    ],
)
def test_the_answer_is_the_value_or_points_to_it(result: ExecResponse, answer: str) -> None:
    assert turn(["df"], [result]).outcome == answered(answer)


@pytest.mark.parametrize(
    ("request_", "code", "answer"),
    [
        (
            "rename price to cost in df",
            'df.rename(columns={"price": "cost"})',
            "See the output; df itself is unchanged.",
        ),
        ("Please drop city from df", 'df.drop(columns=["city"])', "See the output; df itself is unchanged."),
        ("fill price with 0", 'df["price"].fillna(0)', "See the output; df itself is unchanged."),
        ("df without city", 'df.drop(columns=["city"])', "See the output."),
        ("drop city from df", 'df = df.drop(columns=["city"])', "See the output."),
        ("drop city from df", 'df.drop(columns=["city"], inplace=True)', "See the output."),
        ("add a column n to df", 'df["n"] = 1', "See the output."),
        ("remove city from df", 'df.pop("city")', "See the output."),
        ("add xs to itself", "xs.copy()", "See the output."),
    ],
)
def test_a_changed_copy_is_not_taken_for_a_change(request_: str, code: str, answer: str) -> None:
    played = turn([code], [shown("   cost\n0  3.5")], messages=(user_message("u0", request_),))
    assert played.outcome == answered(answer)


# -- samples -----------------------------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_sampled_again_with_the_same_prompt() -> None:
    played = turn(["prices.mean()", 'df["price"].mean()'], [NAME_ERROR, shown("3.5")])
    assert played.outcome == answered("3.5")
    assert played.executed == ["prices.mean()", 'df["price"].mean()']
    assert prompt(played.requests[0]) == prompt(played.requests[1])
    assert played.checkpoints == [CheckpointKind.AFTER_WORK, CheckpointKind.BEFORE_COMPLETION]
    steps = [
        record.event
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeTrajectoryEntry)
    ]
    assert [step.error is None for step in steps] == [False, True]


def test_what_is_no_python_is_not_run_and_counts() -> None:
    played = turn(["I would use the mean.", "", "len(df)"], [shown("2")])
    assert played.outcome == answered("2")
    assert decisions(played) == ["no_code", "no_code", "execute"]
    assert played.executed == ["len(df)"]
    assert not_run(played) == ["not run: no Python", "not run: the reply was empty"]


def test_the_same_code_is_not_run_twice() -> None:
    played = turn(["prices", "prices\n", "len(df)"], [NAME_ERROR, shown("2")])
    assert played.executed == ["prices", "len(df)"]
    assert decisions(played) == ["execute", "repeated", "execute"]
    assert not_run(played) == ["not run: the same code as before"]


def test_samples_are_drawn_after_the_likeliest_reply() -> None:
    protocol = SnippetProtocol(turn_id="t1", run_offset=7)
    first = protocol.sampling(protocol_iteration=7)
    later = [protocol.sampling(protocol_iteration=7 + tried) for tried in (1, 2, 3)]
    assert first.temperature == 0.0
    assert {hint.temperature for hint in later} == {0.8}
    assert [hint.seed for hint in (first, *later)] == [0, 1, 2, 3]
    assert protocol.sampling(protocol_iteration=8) == later[0]


# -- ends --------------------------------------------------------------------------------------------------------------


def test_after_four_attempts_it_says_what_it_was_not_able_to_do() -> None:
    played = turn(["prices", "x +", "prices", "price_list"], [NAME_ERROR, NAME_ERROR])
    assert ATTEMPTS == 4
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert errors(played) == ["not_managed"]
    assert said(played) == (
        "The small model did not manage “mean price in df” in 4 attempts; the last problem: NameError: name 'prices' "
        "is not defined. The agent's kernel has df, xs. Name one of them in the request, or load the data with a "
        "request first."
    )
    assert len(played.requests) == 4
    assert played.replies_left == 0


def raised(line: str) -> ExecResponse:
    kind = line.partition(":")[0]
    return ExecResponse(error=f"error: your program raised {kind}. Fix the cause.\n----> 1 x\n{line}")


ONE_STEP = "Ask for one simple step that names the variable and the column, or take a bigger model (%lash model NAME)."
ONLY_MODULES = NamespaceSummary(variables=(VariableSummary(name="pd", type="module"),))
MANY = NamespaceSummary(variables=tuple(VariableSummary(name=f"v{number}", type="int") for number in range(10)))


@pytest.mark.parametrize(
    ("line", "namespace", "advice"),
    [
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'a.csv'",
            NAMESPACE,
            "Check the path of the file, or write it in full in the request.",
        ),
        (
            "ModuleNotFoundError: No module named 'polars'",
            NAMESPACE,
            "Install that package for the agent's kernel, or ask for a way without it.",
        ),
        (
            "NameError: name 'df' is not defined",
            ONLY_MODULES,
            "The agent's kernel holds no data yet: load the data with a request first.",
        ),
        (
            "NameError: name 'df' is not defined",
            MANY,
            "The agent's kernel has v0, v1, v2, v3, v4, v5, v6, v7, 2 more. Name one of them in the request, or load "
            "the data with a request first.",
        ),
        ("NameError: name 'df' is not defined", None, ONE_STEP),
        ("KeyError: 'prices'", NAMESPACE, ONE_STEP),
        ("pandas.errors.ParserError: bad line", NAMESPACE, ONE_STEP),
    ],
)
def test_the_advice_fits_the_problem(line: str, namespace: NamespaceSummary | None, advice: str) -> None:
    played = play(
        ["prices"] * 4,
        [raised(line)],
        protocol=lambda: SnippetProtocol(turn_id="t1"),
        messages=(user_message("u0", "mean"),),
        namespace=namespace,
    )
    assert said(played) == (f"The small model did not manage “mean” in 4 attempts; the last problem: {line}. {advice}")


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ("a" * 1_001, "The request is 1,001 characters long; a small model can be given 1,000 at most, "),
        ("ü" * 501, "The request is 1,002 bytes long; a small model can be given 1,000 at most, "),
    ],
)
def test_a_request_that_does_not_fit_is_refused_before_any_call(request_: str, told: str) -> None:
    played = turn([], messages=(user_message("u0", request_),))
    assert played.requests == []
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert errors(played) == ["request_too_long"]
    assert said(played).startswith(told)
    assert '%config Lash.protocol = "code"' in said(played)


def test_a_request_that_just_fits_is_told_whole() -> None:
    asked = "word " * 200 + "\n"
    played = turn(["len(df)"], [shown("2")], messages=(user_message("u0", asked),))
    assert prompt(played.requests[0])[-1] == (LlmRole.USER, asked.strip())


def test_fewer_steps_than_attempts_are_respected() -> None:
    played = turn(["prices", "prices_", "len(df)"], [NAME_ERROR, NAME_ERROR], max_turns=2)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert "in 2 attempts" in said(played)
    assert played.replies_left == 1


@pytest.mark.parametrize(
    "result",
    [
        ExecResponse(error="interrupted: the cell was stopped before it ended. What ran before that stands."),
        ExecResponse(error="kernel: the kernel's process ended while this cell ran."),
        "the blob store is full",
    ],
)
def test_what_the_model_is_not_to_blame_for_is_not_tried_again(result: ExecResponse | str) -> None:
    played = turn(["len(df)", "never"], [result])
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert errors(played) == ["cell_not_completed"]
    assert said(played).startswith("“mean price in df” was not done: ")
    assert played.replies_left == 1


def test_what_the_user_says_meanwhile_is_a_request_of_its_own() -> None:
    later = delivery(user_message("u1", "and the largest of xs"))
    played = turn(
        ["bad +", "bad +", "bad +", "len(df)", "bad -", "bad -", "bad -", "max(xs)"],
        [shown("2"), shown("9")],
        deliveries=[delivery(), delivery(), delivery(), later],
    )
    assert played.outcome == answered("9")
    assert prompt(played.requests[-1])[-1] == (LlmRole.USER, "and the largest of xs")
    assert len(played.requests) == 8


def test_attempts_of_an_earlier_turn_do_not_count() -> None:
    first = turn(["bad +"] * 4)
    played = turn(
        ["bad +"] * 3 + ["len(df)"],
        [shown("2")],
        protocol=lambda: SnippetProtocol(turn_id="t2", run_offset=4),
        messages=(*first.messages, user_message("u1", "rows of df")),
        events=first.events,
        run_offset=4,
    )
    assert played.outcome == answered("2")


@pytest.mark.parametrize("through_json", [False, True])
def test_a_turn_survives_being_restored_at_every_step(through_json: bool) -> None:
    played = turn(
        ["prices", "x +", "prices", "len(df)"], [NAME_ERROR, shown("2")], through_json=through_json, streamed=True
    )
    assert played.outcome == answered("2")
    assert decisions(played) == ["execute", "no_code", "repeated", "execute"]


def test_a_session_may_go_on_with_the_code_protocol() -> None:
    first = turn(["len(df)"], [shown("2")])
    played = play(
        ["It is 2."],
        protocol=lambda: CodeProtocol(turn_id="t2", run_offset=1),
        messages=(*first.messages, user_message("u1", "so?")),
        events=first.events,
        run_offset=1,
    )
    assert played.outcome == answered("It is 2.")
    assert text_of(played.requests[0], 2) == "<lash-cell>\nlen(df)\n</lash-cell>"


def test_a_config_that_cannot_work_ends_the_turn_before_any_call() -> None:
    played = turn([], run_offset=3)
    assert played.outcome == stopped(TurnStopReason.RUNTIME_ERROR)
    assert errors(played) == ["bad_protocol_options"]


# -- a value that is required ------------------------------------------------------------------------------------------


def test_the_value_of_the_cell_ends_the_turn() -> None:
    played = turn(["mean = sum(xs) / 2\nmean"], [finished(1.5)], protocol=required)
    assert played.outcome == Finished(finish=FinalValue(value=1.5))
    assert played.executed == ["mean = sum(xs) / 2\nfinish(mean)"]


def test_a_value_that_does_not_fit_is_a_failed_attempt() -> None:
    def validate(value: Json) -> str | None:
        return None if isinstance(value, int) else f"{value!r} is not of type 'integer'"

    played = turn(["xs[0]", "len(xs)"], [finished("a"), finished(2)], protocol=lambda: required(validate))
    assert played.outcome == Finished(finish=FinalValue(value=2))


def test_a_cell_without_a_value_is_not_run() -> None:
    played = turn(["for x in xs:\n    print(x)", "xs[0]"], [finished(1)], protocol=required)
    assert played.executed == ["finish(xs[0])"]
    assert decisions(played) == ["no_value", "execute"]
    assert not_run(played) == ["not run: no value to end with"]


def test_a_cell_that_ends_without_its_value_is_a_failed_attempt() -> None:
    played = turn(["xs[0]"] * 4, [shown()], protocol=required)
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert played.executed == ["finish(xs[0])"]


@pytest.mark.parametrize("last", ["1 / 0", "I am not able to.", ""])
def test_the_exception_is_named_also_when_the_last_reply_was_not_run(last: str) -> None:
    problem = failed("error: your program raised ZeroDivisionError.\nZeroDivisionError: by zero")
    played = turn(["1 / 0", "1 / 0", "1 / 0", last], [problem])
    assert "ZeroDivisionError: by zero" in said(played)
