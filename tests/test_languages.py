"""The kernels of a session: made when they are needed, kept, and ended with it; given ones stay the giver's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ManagedKernel, ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import KernelStartError, SessionClosedError, UnknownNameError
from lash_nb.kernels import InputRequest, Kernel
from lash_nb.languages import SessionKernels, managed_kernel
from lash_nb.machine.driver import StartExec
from lash_nb.stores.blobs import MemoryBlobStore

from .conversations import cell
from .notebook_kernel import wait_until_gone
from .told_turns import Run, Told, finish


class _Ending(ScriptedKernel):
    """A kernel that can be ended at once, and counts how often it was."""

    ended = 0

    def end_now(self) -> None:
        self.ended += 1


def test_a_kernel_is_made_once_for_a_language() -> None:
    made: list[str | None] = []

    def make(language: str | None) -> Kernel:
        made.append(language)
        return ScriptedKernel(language=language or "python")

    kernels = SessionKernels(None, {}, make=make)
    mains = [kernels.main, kernels.the_main(), kernels.main]
    assert mains[0] is None
    assert mains[1] is mains[2] is not None
    assert kernels.of("bash") is kernels.of("Bash")
    assert kernels.of("bash") is not kernels.of("r")
    assert made == [None, "bash", "r"]


async def test_what_was_given_is_not_ended() -> None:
    given, others = [_Ending(), _Ending(language="bash")], [_Ending(language="r")]
    kernels = SessionKernels(given[0], {"bash": given[1]}, make=lambda language: others[0])
    for kernel in (kernels.the_main(), kernels.of("bash"), kernels.of("r")):
        await kernel.start()
    kernels.end_now()
    assert [one.ended for one in (*given, *others)] == [0, 0, 1]
    await kernels.shutdown()
    assert [one.alive for one in (*given, *others)] == [True, True, False]


class _Leaving(_Ending):
    """A kernel that can be left, and notes how it was."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.left: list[str] = []

    async def leave(self) -> None:
        self.left.append("now")

    def leave_at_exit(self) -> None:
        self.left.append("at exit")


async def test_kernels_of_a_turn_that_waits_are_left() -> None:
    made = {"a": _Leaving(), "b": _Ending()}
    kernels = SessionKernels(None, {}, make=lambda language: made[language or "a"])
    for language in made:
        await kernels.of(language).start()
    kernels.leaving = lambda: True
    kernels.leave_what_was_made()
    assert made["a"].left == ["at exit"]  # type: ignore[attr-defined]
    kernels.end_now()
    assert [one.ended for one in made.values()] == [0, 1]
    await kernels.shutdown()
    assert made["a"].left == ["at exit", "now"]  # type: ignore[attr-defined]
    assert [one.alive for one in made.values()] == [True, False]


async def test_one_that_does_not_end_keeps_none_of_the_others() -> None:
    class Stubborn(ScriptedKernel):
        async def shutdown(self) -> None:
            raise KernelStartError("no")

    made = {"a": Stubborn(), "b": ScriptedKernel()}
    kernels = SessionKernels(None, {}, make=lambda language: made[language or "a"])
    await kernels.of("a").start()
    await kernels.of("b").start()
    with pytest.raises(KernelStartError):
        await kernels.shutdown()
    assert not made["b"].alive


@pytest.fixture
def with_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second language is installed; the directory for its cells."""
    place = tmp_path / "jupyter" / "kernels" / "bash"
    place.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Bash", "language": "bash"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return tmp_path


def test_a_language_that_is_not_installed_is_named(with_bash: Path) -> None:
    options: dict[str, Any] = {"cwd": with_bash, "store": MemoryBlobStore(), "on_input": None}
    with pytest.raises(UnknownNameError, match="cobol"):
        managed_kernel("cobol", **options)
    assert managed_kernel("python", **options).language == "python"
    assert managed_kernel("bash", **options).language == "bash"


async def test_cells_in_another_language_run_in_a_real_kernel_of_it(with_bash: Path) -> None:
    kernel = managed_kernel("bash", cwd=with_bash, store=MemoryBlobStore(), on_input=None)
    codes = ("x=41", "echo $((x + 1)); pwd", "exit_code_is_bad() { return 3; }; exit_code_is_bad")
    turn = Told(*(_start(code) for code in codes), finish)
    run = Run(turn, kernels={"bash": kernel}, tools={"unused": len})
    try:
        await run.to_the_end()
    finally:
        await kernel.shutdown()
    assert run.errors == []
    assert turn.results[1].observations == (f"42\n{with_bash}",)
    assert run.kernel.ran == []


def _start(code: str) -> Any:
    return lambda ctx: [StartExec(language="bash", code=code)]


# -- in a session ------------------------------------------------------------------------------------------------------


async def test_tools_and_input_reach_the_code_of_a_real_kernel() -> None:
    asked: list[InputRequest] = []

    def answer(request: InputRequest) -> str:
        asked.append(request)
        return "7"

    def add(a: int, b: int) -> int:
        return a + b

    code = "n = int(input('n? '))\nm = await tools.add.aio(a=n, b=1)\nfinish(tools.add(m, 34))"
    async with Session(ScriptedModel([cell(code)]), tools={"add": add}, on_input=answer) as session:
        turn = await session.run("Add.")
    assert turn.value == 42
    assert asked == [InputRequest(prompt="n? ", password=False)]
    assert [(call.call_id, call.args, call.succeeded) for call in turn.picture.steps[0].tool_calls] == [
        ("c1", {"a": 7, "b": 1}, True),
        ("c2", {"a": 8, "b": 34}, True),
    ]


async def test_kernels_that_were_given_outlive_the_session() -> None:
    main, bash = _Ending(), _Ending(language="bash")
    async with Session(ScriptedModel(["Yes."]), kernel=main, kernels={"bash": bash}) as session:
        await bash.start()
        await session.run("Go.")
        session.end_now()
    assert [one.alive for one in (main, bash)] == [True, True]
    assert [one.ended for one in (main, bash)] == [0, 0]


async def test_a_session_that_is_ended_at_once_leaves_no_kernel() -> None:
    session = Session(ScriptedModel([cell("x = 1"), "One."]))
    await session.run("Go.")
    kernel = session.kernel
    assert isinstance(kernel, ManagedKernel)
    assert kernel.pid is not None
    pid = kernel.pid
    session.end_now()
    session.end_now()
    wait_until_gone(pid)
    with pytest.raises(SessionClosedError):
        await session.run("More.")
    await session.aclose()
