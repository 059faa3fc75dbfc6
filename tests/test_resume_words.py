"""`lash-nb resume`: what is shown and asked, what is run, and with which code it ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.cli import main
from lash_nb.errors import UnknownNameError
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.specs import FoundSpec
from lash_nb.recorded import RecordedKernel
from lash_nb.resuming import lost_kernels
from lash_nb.session import Limits
from lash_nb.stores.notebook import read_block, verify_chain

from .conversations import Blocks, cell
from .kernels.hosts import wait_for
from .left_sessions import TURN, Left, nth

v4: Any = nbformat.v4
read: Any = nbformat.read


def script(place: Path, *replies: str, name: str = "script.json") -> str:
    """The name of a model that gives these replies in the first turn."""
    path = place / name
    path.write_text(json.dumps({"turns": {"1": list(replies)}}))
    return f"scripted:{path}"


class Resume:
    """`lash-nb resume` of one state directory."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self.state_dir = place / "state"
        self.model = script(place, *TURN)
        self._capsys = capsys

    def __call__(self, which: str, *more: str, code: int) -> tuple[str, str]:
        assert main(["resume", which, "-m", self.model, "--state-dir", str(self.state_dir), *more]) == code
        printed, told = self._capsys.readouterr()
        return printed, told

    def json(self, which: str, *more: str, code: int) -> Any:
        printed, _ = self(which, "--json", *more, code=code)
        assert printed.count("\n") == 1
        return json.loads(printed)

    def states(self) -> dict[str, str]:
        self._capsys.readouterr()
        assert main(["sessions", "list", "--json", "--state-dir", str(self.state_dir)]) == 0
        return {known["session"]: known["state"] for known in json.loads(self._capsys.readouterr().out)["sessions"]}


@pytest.fixture
def resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Resume:
    return Resume(tmp_path, capsys)


class Terminal:
    """Somebody at a terminal who types these lines, the last one again and again."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]}\n"


# ------------------------------------------------------------------------------------------------------------ consent


async def test_it_shows_what_is_outstanding_and_goes_on(resume: Resume) -> None:
    await Left(resume.state_dir).after(nth("effect ExecCode", 2))
    printed, told = await asyncio.to_thread(resume, "one", "--yes", code=0)
    assert printed == "It is 42.\n"
    assert told.startswith("Turn 1 was interrupted. It was asked:\n\n    Six times seven?\n\n")
    assert "This cell was outstanding, and its kernel is gone." in told
    assert "    x + 1\n" in told
    lines = told.splitlines()
    assert not [line for line in lines if line.startswith("[step 1]")], "what was shown before is not shown again"
    assert [line for line in lines if line.startswith("[step 2]")] == [
        next(line for line in lines if "[step 2] cell: lost" in line)
    ]
    assert [line for line in lines if line.startswith("[step 3] scripted:") and line.endswith(".json is asked")]
    assert lines[-1] == "lash-nb: turn 1 done"
    assert resume.states() == {"one": ""}


async def test_nothing_runs_without_a_yes(resume: Resume, monkeypatch: pytest.MonkeyPatch) -> None:
    await Left(resume.state_dir).after(nth("effect LlmCall", 2))
    printed, told = await asyncio.to_thread(resume, "one", code=5)
    assert printed == ""
    assert "nothing was run, and the turn can still be gone on with" in told
    assert "`lash-nb resume one --yes` agrees" in told
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    assert await asyncio.to_thread(resume.json, "one", code=5) == {"session": "one", "id": None, "state": "resumable"}
    assert resume.states() == {"one": "turn 1 interrupted"}
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    printed, told = await asyncio.to_thread(resume, "one", code=0)
    assert "Go on? [y/N] " in told
    assert printed == "It is 42.\n"


@pytest.mark.parametrize("living", [True, False])
def test_what_is_lost_goes_by_the_kernel_of_that_language(living: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lash_nb.orphans.kernel_lives", lambda kernel, owner, sandboxed: living)
    monkeypatch.setattr("lash_nb.kernels.specs.find_spec", found_spec)
    kernels = {name: RecordedKernel(language=name, epoch="0123456789abcdef") for name in ("python", "R")}
    lost = lost_kernels(kernels, owner="one", copied=False)
    told = {language: lost(language) for language in ("Python", "r", "bash", "cobol")}
    assert told == {"Python": not living, "r": not living, "bash": False, "cobol": False}
    assert lost("ir"), "a cell that names a kernelspec gets a kernel of its own"
    assert lost_kernels(kernels, owner="one", copied=True)("python"), "the kernels of a copy are the original's"
    assert not lost_kernels({}, owner="one", copied=True)("python")


def found_spec(wanted: str) -> FoundSpec:
    language = {"ir": "R", "bash": "bash"}.get(wanted)
    if language is None:
        raise UnknownNameError(wanted)
    return FoundSpec(name=wanted, display_name="", language=language, argv=(), env={}, interrupt_mode="signal")


async def test_nothing_was_interrupted(resume: Resume) -> None:
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=resume.state_dir, session_id="one"
    ) as session:
        await session.run("First?")
    printed, told = await asyncio.to_thread(resume, "one", code=0)
    assert (printed, told) == ("", "lash-nb: no turn of session one was interrupted; there is nothing to do\n")
    assert (await asyncio.to_thread(resume.json, "one", code=0))["state"] == "nothing to do"


async def test_as_json(resume: Resume) -> None:
    await Left(resume.state_dir).after(nth("effect LlmCall", 2))
    told = await asyncio.to_thread(resume.json, "one", "--yes", code=0)
    assert (told["id"], told["session"], told["status"], told["state"]) == ("one.1", "one", "done", "ended")
    assert (told["text"], told["value"], told["code"]) == ("It is 42.", None, ["x = 41", "x + 1"])
    assert told["usage"]["input_tokens"] == 0


async def test_a_turn_that_fails(resume: Resume) -> None:
    await Left(resume.state_dir).after(nth("effect LlmCall", 2))
    resume.model = script(resume.place, "only one reply")
    printed, told = await asyncio.to_thread(resume, "one", "--yes", code=1)
    assert printed == ""
    assert "lash-nb: turn 1 failed: " in told


async def test_a_bound_that_is_hit(resume: Resume) -> None:
    await Left(resume.state_dir).after(nth("effect LlmCall", 2), limits=Limits(max_steps=2))
    resume.model = script(resume.place, *[cell(f"{number}") for number in range(5)])
    _, told = await asyncio.to_thread(resume, "one", "--yes", code=3)
    assert "lash-nb: turn 1 stopped: the limit of steps was reached" in told


BAD: list[tuple[list[str], str]] = [
    (["resume"], "required"),
    (["resume", "nobody"], "there is no session 'nobody'"),
    (["resume", "none.ipynb"], "there is no notebook none.ipynb"),
    (["resume", "plain.ipynb"], "plain.ipynb carries no session"),
    (["resume", "nobody", "-m", "opnai:gpt-5"], "there is no model 'opnai:gpt-5'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.ipynb").write_text(v4.writes(v4.new_notebook()))
    assert main(arguments) == 2
    printed, told = capsys.readouterr()
    assert (printed, told.count("\n")) == ("", 1)
    assert sentence in told


# --------------------------------------------------------------------------------------------------------- in use


async def test_in_use_by_another_process(resume: Resume) -> None:
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=resume.state_dir, session_id="one"
    ) as session:
        await session.run("First?")
        _, told = await asyncio.to_thread(resume, "one", "--yes", code=2)
        assert f"in use by process {os.getpid()}" in told
        assert "`lash-nb resume one --follow` watches its turn" in told
        _, told = await asyncio.to_thread(resume, "one", "--follow", code=0)
        assert told == "lash-nb: no turn runs in session one\n"


async def test_following_the_turn_of_another(resume: Resume) -> None:
    model = ScriptedModel([cell("x = 41", "First."), cell("x + 1"), "It is 42."], delay_s=0.05, chunk_size=8)
    async with Session(model, kernel=ScriptedKernel(), state_dir=resume.state_dir, session_id="one") as session:
        turn = asyncio.ensure_future(session.run("Six times seven?"))
        await asyncio.to_thread(wait_for, lambda: model.requests)
        printed, told = await asyncio.to_thread(resume, "one", "--follow", code=0)
        assert (await turn).text == "It is 42."
    assert printed == "It is 42.\n"
    assert told.splitlines() == [
        "lash-nb: following turn 1: Six times seven?",
        "[step 1] First. · cell: x = 41 → ok",
        "[step 2]  · cell: x + 1 → ok",
        "lash-nb: turn 1 done",
    ]


# ------------------------------------------------------------------------------------------------------- notebooks


async def interrupted_notebook(resume: Resume, *, journal: bool) -> Path:
    """A closed notebook that carries a turn which ended before its second cell was run."""
    blocks = Blocks()
    await Left(resume.state_dir).after(nth("effect ExecCode", 2), on_block=blocks)
    block = next(block for block in reversed(blocks.blocks) if block["head"] is not None)
    if not journal:
        shutil.rmtree(resume.state_dir)
    path = resume.place / "n.ipynb"
    cells = [v4.new_code_cell("%%lash\nSix times seven?"), v4.new_markdown_cell("Untouched.")]
    notebook = v4.new_notebook(cells=cells, metadata={"lash_nb": {**block, "model": "openai:gpt-5"}, "mine": [1]})
    path.write_text(v4.writes(notebook))
    return path


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "notebook alone"])
async def test_the_notebook_gets_the_finished_turn(resume: Resume, journal: bool) -> None:
    path = await interrupted_notebook(resume, journal=journal)
    before = read(path, as_version=4)
    printed, told = await asyncio.to_thread(resume, str(path), "--yes", code=0)
    assert printed == "It is 42.\n"
    assert "the turn is shown in cell 1 of" in told
    after = read(path, as_version=4)
    (shown,) = after.cells[0].outputs
    assert "It is 42." in shown.data["text/plain"]
    assert set(shown.metadata["lash_nb"]) == {"session", "turn", "sha256"}
    after.cells[0].outputs = []
    block = read_block(after.metadata)
    assert block is not None
    verify_chain(block)
    assert block.head is None
    assert [envelope["turn"] for envelope in block.turns] == [1]
    assert after.metadata["lash_nb"]["model"] == "openai:gpt-5"
    before.metadata.pop("lash_nb")
    after.metadata.pop("lash_nb")
    assert after == before
    assert sorted(child.name for child in resume.place.iterdir()) == ["n.ipynb", "script.json", "state"]
    _, told = await asyncio.to_thread(resume, str(path), code=0)
    assert "there is nothing to do" in told


async def test_where_two_cells_ask_the_same_the_metadata_alone_has_the_turn(resume: Resume) -> None:
    path = await interrupted_notebook(resume, journal=True)
    twice = read(path, as_version=4)
    twice.cells.append(v4.new_code_cell("%%lash\nSix times seven?"))
    path.write_text(v4.writes(twice))
    _, told = await asyncio.to_thread(resume, str(path), "--yes", code=0)
    assert "shown in cell" not in told
    after = read(path, as_version=4)
    assert [cell.get("outputs", []) for cell in after.cells] == [[], [], []]
    block = read_block(after.metadata)
    assert block is not None
    assert block.head is None


async def test_a_model_that_cannot_answer_is_found_before_anybody_is_asked(resume: Resume) -> None:
    path = await interrupted_notebook(resume, journal=True)
    before = path.read_bytes()
    _, told = await asyncio.to_thread(resume, str(path), "--yes", "-m", "scripted:none.json", code=2)
    assert "was interrupted" in told, "to look needs no model"
    assert "Go on?" not in told
    assert path.read_bytes() == before
    assert (await asyncio.to_thread(resume, str(path), "--yes", code=0))[0] == "It is 42.\n"


async def test_without_a_yes_the_notebook_is_as_it_was(resume: Resume) -> None:
    path = await interrupted_notebook(resume, journal=False)
    before = path.read_bytes()
    await asyncio.to_thread(resume, str(path), code=5)
    assert path.read_bytes() == before
    assert (await asyncio.to_thread(resume, str(path), "--yes", code=0))[0] == "It is 42.\n"


async def test_a_notebook_that_was_changed_meanwhile_is_left_alone(
    resume: Resume, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await interrupted_notebook(resume, journal=True)
    changed = path.read_bytes().replace(b"Untouched.", b"Touched.")
    loop = cell(f"open({str(path)!r}, 'wb').write({changed!r})")
    resume.model = script(resume.place, "", "", loop, "Done.")
    printed, told = await asyncio.to_thread(resume, str(path), "--yes", code=2)
    assert printed == "Done.\n"
    assert "was changed meanwhile (is it open somewhere?), and is left as it is" in told
    assert path.read_bytes() == changed
    assert resume.states() == {"one": ""}


# ------------------------------------------------------------------------------------------------------- processes

HOST = """
import sys
from lash_nb import Session
place = sys.argv[1]
session = Session("scripted:script.json", state_dir=place + "/state", session_id="one", base_dir=place)
session.run_sync("Count.")
"""


class Host:
    """A process whose turn runs a cell that counts its runs, says so in a file, and goes on until it is let."""

    CELL = (
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nopen('runs', 'a').write('x')\n"
        "while not os.path.exists('go'): time.sleep(0.01)\nprint('counted')"
    )

    def __init__(self, place: Path) -> None:
        self.place = place
        script(place, cell(self.CELL), "It was counted.")
        self.process = subprocess.Popen([sys.executable, "-c", HOST, str(place)], cwd="/")
        wait_for((place / "runs").exists)
        self.kernel = int((place / "pid").read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def command(place: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "lash_nb.cli", *arguments, "--state-dir", str(place / "state")]


def test_after_the_host_was_killed_the_cell_is_not_run_twice(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.kill()
    asked = subprocess.run(
        command(tmp_path, "resume", "one"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (asked.returncode, asked.stdout) == (5, "")
    assert "This cell runs next, unless its kernel says that it has run:" in asked.stderr
    assert lives(host.kernel, None), "whoever says no leaves the kernel as it was"
    (tmp_path / "go").touch()
    done = subprocess.run(
        command(tmp_path, "resume", "one", "--yes"), capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout) == (0, "It was counted.\n"), done.stderr
    assert (tmp_path / "runs").read_text() == "x"
    assert "[step 1] cell: ok" in done.stderr
    wait_for(lambda: not lives(host.kernel, None))
    traced = subprocess.run(command(tmp_path, "trace", "one", "--json"), capture_output=True, text=True, check=True)
    (turn,) = json.loads(traced.stdout)["turns"]
    assert [effect["redelivered"] for effect in turn["effects"] if effect["kind"] == "ExecCode"] == [False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(tmp_path: Path, number: signal.Signals) -> None:
    host = Host(tmp_path)
    host.kill()
    resumed = subprocess.Popen(
        command(tmp_path, "resume", "one", "--yes", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert resumed.stderr is not None
    assert any("Count." in line for line in resumed.stderr)
    wait_for(lambda: asked_again(tmp_path))
    resumed.send_signal(number)
    printed, told = resumed.communicate()
    assert resumed.returncode == 5, told
    turn = json.loads(printed)
    assert (turn["status"], turn["state"]) == ("stopped", "ended")
    wait_for(lambda: not lives(host.kernel, None))
    assert (tmp_path / "runs").read_text() == "x"


def asked_again(place: Path) -> bool:
    """Whether the turn has been gone on with."""
    told = subprocess.run(command(place, "trace", "one", "--json"), capture_output=True, text=True, check=True)
    return any(effect["redelivered"] for effect in json.loads(told.stdout)["turns"][0]["effects"])
