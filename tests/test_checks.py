"""Checks: what may be one, how it is looked at in a real kernel, and what comes of one that does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ManagedKernel, ScriptedKernel, ScriptedModel, Session
from lash_nb.bridge import shared_loop
from lash_nb.checks import Failure, check_cell, check_failure, checked_expressions, failures_told, held_text
from lash_nb.errors import InputError, TurnFailed
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import CellOutcome, CellResult, FinishValue
from lash_nb.machine.picture import Note
from lash_nb.session import Limits

from .conversations import cell, history, last_message

NOT_YET = "The turn cannot end yet"


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    yield kernel
    shared_loop().run(kernel.shutdown())


# -- expressions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "x = 1",
        "x :=1",
        "if x: y",
        "x >",
        "(x",
        "True)) or (1",
        "x\ny",
        "x; y",
        "!ls",
        "%time x",
        "x?",
        "assert x",
        "\0",
        "(" * 500,
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(InputError, match="is no Python expression"):
        checked_expressions(expression)


@pytest.mark.parametrize("expression", ["x > 0, y > 0", "()", "(x, y)"])
def test_a_tuple_is_refused(expression: str) -> None:
    """It would always hold, as in `assert (x, y)`, or never."""
    with pytest.raises(InputError, match="tuple"):
        checked_expressions(expression)


@pytest.mark.parametrize("value", [[5], [None], ["x", b"y"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="in a text"):
        checked_expressions(value)


def test_each_is_taken_once_in_order() -> None:
    assert checked_expressions(None) == ()
    assert checked_expressions(()) == ()
    assert checked_expressions(" x > 0 ") == ("x > 0",)
    assert checked_expressions(["b", "a", "b "]) == ("b", "a")


SETUP = """\
import numpy as np, pandas as pd
x, name, empty = 3, 'a"b', []
ones, mixed = np.ones((2, 2)), np.array([1, 0])
series, table = pd.Series([1.0, 2.0]), pd.DataFrame({"a": [1, 2], "b": [3, 0]})
async def truth(): return True
def fails(): raise ValueError("no\\x1b[31m luck")
"""

HELD = [
    "x",
    "x == 3",
    "x == 3  # a remark",
    "(x\n == 3)",
    "x in {1: 2, 3: 4}",
    "name == 'a\"b'",
    "f'{x}{{}}' == '3{}'",
    "'''a\n  b''' == 'a\\n  b'",
    "(y := x) == 3",
    "[y for y in [1, 2]]",
    "ones",
    "ones > 0",
    "series > 0",
    "series.notna()",
    "table['a'] > 0",
    "table[['a']] > 0",
    "np.float64(1)",
    "np.array(True)",
    "pd.Series(dtype=bool)",
    "print('seen') is None",
    "await truth()",
    "not empty",
    "lambda: 0",
    "x\n",
]
FAILS = [
    ("x == 4", ""),
    ("empty", ""),
    ("None", ""),
    ("mixed", ""),
    ("table", ""),
    ("table > 0", ""),
    ("series > 1", ""),
    ("pd.Series([1.0, np.nan]) > 0", ""),
    ("float('nan') > 0", ""),
    ("absent", "it raised NameError: name 'absent' is not defined"),
    ("fails()", "it raised ValueError: no luck"),
    ("pd.NA", "it raised TypeError: boolean value of NA is ambiguous"),
    ("1 / 0", "it raised ZeroDivisionError: division by zero"),
    ("(yield 1)", "SyntaxError"),
]


_keys = count()


def ran(kernel: ManagedKernel, code: str) -> CellResult:
    """A cell, on the loop on which sessions have their kernels."""
    if not kernel.alive:
        shared_loop().run(kernel.start())
    return shared_loop().run(kernel.run(f"cell {next(_keys)}", code))


def look(kernel: ManagedKernel, expression: str) -> Failure | None:
    (expression,) = checked_expressions(expression)
    return check_failure(expression, ran(kernel, check_cell(expression)))


@pytest.mark.parametrize("expression", HELD)
def test_what_holds(expression: str, kernel: ManagedKernel) -> None:
    assert ran(kernel, SETUP).outcome is CellOutcome.OK
    assert look(kernel, expression) is None


@pytest.mark.parametrize(("expression", "why"), FAILS)
def test_what_does_not_hold(expression: str, why: str, kernel: ManagedKernel) -> None:
    assert ran(kernel, SETUP).outcome is CellOutcome.OK
    failure = look(kernel, expression)
    assert failure is not None
    assert failure.expression == expression
    assert why in failure.why
    assert bool(why) == bool(failure.why)
    assert "\x1b" not in str(failure)


def test_nothing_is_left_behind(kernel: ManagedKernel) -> None:
    """No name, nothing in `_` or `Out`, and `finish` may be anything."""
    ran(kernel, "41 + 1")
    ran(kernel, "finish = 'mine'; held = 5; before = set(globals()) | {'before'}")
    for expression in ("held == 5", "held == 6", "absent", "exit()", "[n for n in range(3)]"):
        look(kernel, expression)
    code = "print(sorted(n for n in set(globals()) - before if not n.startswith('_i')), _, finish, held)"
    result = ran(kernel, code)
    assert [getattr(output, "head", output) for output in result.outputs] == ["[] 42 mine 5\n"]
    ran(kernel, "del finish")


def test_an_exit_is_no_way_out(kernel: ManagedKernel) -> None:
    epoch = kernel.epoch
    for expression in ("exit()", "__import__('sys').exit(0)"):
        assert look(kernel, expression) is not None, expression
    assert kernel.epoch == epoch


def test_a_value_that_is_not_true_itself_does_not_hold() -> None:
    """A kernel that nobody trusts says what it likes."""
    for value in (1, "True", [True], None):
        result = CellResult(outcome=CellOutcome.OK, finish=FinishValue(value=value))
        assert check_failure("x", result) is not None
    assert check_failure("x", CellResult(outcome=CellOutcome.OK)) is not None
    for outcome in set(CellOutcome) - {CellOutcome.OK}:
        failure = check_failure("x", CellResult(outcome=outcome, finish=FinishValue(value=True), detail="gone"))
        assert failure is not None
        assert "gone" in failure.why


def test_words() -> None:
    assert held_text(["a"]) == "check held: a"
    assert held_text(["a", "b"]) == "checks held: a; b"
    failure = check_failure("a", CellResult(outcome=CellOutcome.OK, finish=FinishValue(value=False)))
    assert failure is not None
    assert failures_told([failure]).splitlines()[1] == "- `a`"


# -- turns -------------------------------------------------------------------------------------------------------------


def notes(turn: Any) -> list[str]:
    return [note.text for note in turn.picture.notes if isinstance(note, Note) and "check" in note.text]


async def test_what_does_not_hold_is_fed_back_and_put_right(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("total = -1"), "It is -1.", cell("total = 1"), "It is 1."])
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Sum?", check=["total > 0", "total < 9"])
    assert turn.text == "It is 1."
    told = history(model, 2)[-1] + last_message(model, 2)
    assert NOT_YET in told
    assert "- `total > 0`" in told
    assert "total < 9" not in told.partition(NOT_YET)[2].partition("Put right")[0]
    # It is told what must hold with the first request, too, and the system prompt is as ever.
    assert "- total > 0\n- total < 9" in last_message(model, 0)
    assert notes(turn) == ["check does not hold: `total > 0`", "checks held: total > 0; total < 9"]


async def test_without_checks_the_system_prompt_is_the_same(kernel: ManagedKernel) -> None:
    prompts = []
    for check in ((), ("True",)):
        model = ScriptedModel(["Well."])
        async with Session(model, kernel=kernel) as session:
            await session.run("Sum?", check=check)
        prompts.append(model.requests[0].messages[0])
    assert prompts[0] == prompts[1]


async def test_it_is_told_a_bounded_number_of_times(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("total = -1"), *["It is -1."] * 9])
    async with Session(model, kernel=kernel) as session:
        with pytest.raises(TurnFailed, match=r"`total > 0`.*3 times") as caught:
            await session.run("Sum?", check="total > 0")
        assert len(model.requests) == 5  # the cell, and four times the end
        assert "It is -1." not in str(caught.value)
        turn = await session.run("Again?", check=())
        assert turn.ok


async def test_an_end_with_a_value_is_looked_at_too(kernel: ManagedKernel) -> None:
    """The type first: nothing is checked for a value that is none."""
    replies = [cell("total = -1\nfinish('x')"), cell("finish(total)"), cell("total = 2\nfinish(total)")]
    model = ScriptedModel(replies)
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Sum?", output_type=int, check="total > 0")
    assert turn.value == 2
    assert notes(turn) == ["check does not hold: `total > 0`", "check held: total > 0"]
    assert NOT_YET not in last_message(model, 1) + history(model, 1)[-1]
    assert NOT_YET in last_message(model, 2) + history(model, 2)[-1]


async def test_what_the_user_says_goes_first(kernel: ManagedKernel) -> None:
    """Nothing is looked at while the turn goes on anyway."""

    def says(request: Any) -> str:
        session.say("Make it 7.")
        return "It is -1."

    model = ScriptedModel([cell("total = -1"), says, cell("total = 7"), "It is 7."])
    session = Session(model, kernel=kernel)
    async with session:
        turn = await session.run("Sum?", check="total > 0")
    assert turn.text == "It is 7."
    assert notes(turn) == ["check held: total > 0"]


async def test_a_check_that_loops_is_bounded_by_the_limit_of_cells(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("slow = True"), "Done.", cell("slow = False"), "Done now."])
    check = "not slow or __import__('time').sleep(60)"
    async with Session(model, kernel=kernel, limits=Limits(cell_seconds=0.5)) as session:
        turn = await session.run("Go.", check=check)
    assert turn.text == "Done now."
    assert "timeout" in notes(turn)[0]


async def test_a_check_does_nothing_outside(kernel: ManagedKernel, tmp_path: Path) -> None:
    path = tmp_path / "made"
    model = ScriptedModel([cell("1"), *["Done."] * 9])
    async with Session(model, kernel=kernel, approve="effects") as session:
        with pytest.raises(TurnFailed, match="a check computes, and does nothing else"):
            await session.run("Go.", check=f"__import__('subprocess').run(['touch', {str(path)!r}])")
    assert not path.exists()


async def test_a_check_that_ends_the_kernel_does_not_hold(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("total = 1"), "Done.", cell("calm = True"), "Done now."])
    check = "'calm' in globals() or __import__('os').kill(__import__('os').getpid(), 9)"
    async with Session(model, kernel=kernel, approve="all") as session:
        turn = await session.run("Go.", check=check)
    assert turn.text == "Done now."
    assert "could not be evaluated" in notes(turn)[0]
    assert "total" in "\n".join([*history(model, 2), last_message(model, 2)])  # what was lost is told


async def test_a_secret_in_what_a_check_raises_is_taken_out(
    kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "sk-abcdefghijklmnop")
    model = ScriptedModel([cell("key = 'sk-abcd' + 'efghijklmnop'"), *["Done."] * 9])
    async with Session(model, kernel=kernel) as session:
        with pytest.raises(TurnFailed) as caught:
            await session.run("Go.", check="{}[key]")
    told = "\n".join(text for at in range(len(model.requests)) for text in [*history(model, at)[1:]])
    assert "it raised KeyError" in told
    assert "abcdefghijklmnop" not in told
    assert not any("abcdefghijklmnop" in text for text in notes(caught.value.turn))
    assert "abcdefghijklmnop" not in str(caught.value)


async def test_at_the_limit_of_steps_a_check_still_counts(kernel: ManagedKernel) -> None:
    """The turn ends by the limit, and not as if all were well."""
    model = ScriptedModel([cell("total = -1"), *["It is -1."] * 9])
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Sum?", check="total > 0", max_steps=2, raise_on_failure=False)
    assert not turn.ok
    assert len(model.requests) <= 4


async def test_verify_and_conclude(kernel: ManagedKernel) -> None:
    """`verify` is asked once the checks hold, `conclude` once nothing is wrong any more."""
    seen: list[str] = []

    async def verify(picture: Any) -> str | None:
        seen.append("verify")
        return "Once more, please." if seen.count("verify") == 1 else None

    async def conclude(picture: Any) -> tuple[()]:
        seen.append(f"conclude {len(picture.steps)}")
        return ()

    model = ScriptedModel([cell("total = -1"), "A.", cell("total = 1"), "B.", "C."])
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Sum?", check="total > 0", verify=verify, conclude=conclude)
    assert turn.text == "C."
    assert seen == ["verify", "verify", "conclude 5"]
    assert "Once more, please." in last_message(model, 4) + history(model, 4)[-1]


async def test_what_a_failed_turn_would_keep_is_not_concluded(kernel: ManagedKernel) -> None:
    async def conclude(picture: Any) -> tuple[()]:
        raise AssertionError("it must not be concluded")

    model = ScriptedModel([cell("total = -1"), *["It is -1."] * 9])
    async with Session(model, kernel=kernel) as session:
        with pytest.raises(TurnFailed):
            await session.run("Sum?", check="total > 0", conclude=conclude)


async def test_a_kernel_of_another_language_says_so() -> None:
    """A check is Python: where the main kernel is not, it is refused before anything happens."""
    kernel = ScriptedKernel([ScriptedCell()] * 20, language="bash")
    model = ScriptedModel(["Done."] * 9)
    async with Session(model, kernel=kernel) as session:
        with pytest.raises(InputError, match="runs bash"):
            await session.run("Go.", check="True")
        assert session.turns == []
    assert kernel.ran == []


@pytest.mark.parametrize("check", ["x >", 5])
async def test_what_cannot_be_checked_is_refused_before_anything_happens(check: Any, kernel: ManagedKernel) -> None:
    model = ScriptedModel(["Done."])
    async with Session(model, kernel=kernel) as session:
        with pytest.raises(InputError):
            await session.run("Go.", check=check)
        assert session.turns == []
    assert model.requests == []
