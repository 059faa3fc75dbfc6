"""The `lash-nb` command: what it prints where, and with which code it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

import lash_nb
from lash_nb.cli import main
from lash_nb.machine.effects import Emit
from lash_nb.machine.events import TurnOutcomeEvent
from lash_nb.machine.llm import LlmUsage
from lash_nb.machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from lash_nb.machine.outcomes import FinalValue, Finished
from lash_nb.machine.state import Finished as FinishedState
from lash_nb.machine.state import TurnCheckpoint

ROOT = Path(__file__).resolve().parent.parent
v4: Any = nbformat.v4


def write(place: Path, *sources: str, name: str = "in.ipynb") -> Path:
    path = place / name
    path.write_text(v4.writes(v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])))
    return path


def message(id: str, role: MessageRole, *parts: tuple[PartKind, str]) -> Message:
    made = [Part(id=f"{id}.p{i}", kind=kind, content=text) for i, (kind, text) in enumerate(parts)]
    return Message(id=id, role=role, parts=tuple(made))


def stored_turn() -> str:
    """A turn that asked, ran a cell and finished with a value."""
    line = (ROOT / "tests/conformance/raw_checkpoints.jsonl").read_text(encoding="utf-8").splitlines()[0]
    messages = [
        message("m1", MessageRole.USER, (PartKind.TEXT, "Which?")),
        message("m2", MessageRole.ASSISTANT, (PartKind.PROSE, "I look."), (PartKind.CODE, "finish([1, 'ä'])\n")),
    ]
    outcome = Finished(finish=FinalValue(value=[1, "ä"]))
    return replace(
        TurnCheckpoint.from_text(line),
        state=FinishedState(),
        messages=AppendOnly(messages),
        pending_effects=(Emit(event=TurnOutcomeEvent(outcome=outcome)),),
        cumulative_usage=LlmUsage(input_tokens=7, output_tokens=3),
    ).to_text()


def asking() -> str:
    """A cell in which a turn is had."""
    return f"""# lash
from lash_nb.stores.copies import NotebookLine
from lash_nb.stores.envelopes import make_envelope
from lash_nb.stores.notebook import make_block
copies = NotebookLine(on_here=lambda holder: None, expected=True)
copies.open()
copies.begin()
place = dict(session="s", turn=1, seq=1, parent=None, saved_at="", engine="")
copies.set(make_block(session="s", head=None, turns=[make_envelope({stored_turn()!r}, **place)]))
"""


# ----------------------------------------------------------------------------------------------------------- run


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "x = 1", asking(), "print(x, y)")
    out, results = tmp_path / "out.ipynb", tmp_path / "results.json"
    arguments = ["run", str(path), str(out), "-p", "y", "-5", "--results", str(results), "--json"]
    assert main(arguments) == 0
    printed, told = capsys.readouterr()
    assert told.splitlines() == [
        "[1/4] # Parameters: done",
        "[2/4] x = 1: done",
        "[3/4] # lash: done, 1 step",
        "[4/4] print(x, y): done",
        f"lash-nb: done; {out}",
    ]
    assert json.loads(results.read_text(encoding="utf-8")) == [
        {"id": "s.1", "text": "[1, 'ä']", "code": ["finish([1, 'ä'])\n"], "value": [1, "ä"]}
    ]
    summary = json.loads(printed)
    assert {key: summary[key] for key in ("status", "exit_code", "error", "out")} == {
        "status": "done",
        "exit_code": 0,
        "error": None,
        "out": str(out),
    }
    assert [(turn["request"], turn["value"]) for turn in summary["turns"]] == [("Which?", [1, "ä"])]
    assert (summary["usage"]["input_tokens"], summary["usage"]["output_tokens"]) == (7, 3)
    assert [cell["state"] for cell in summary["cells"]] == ["done"] * 4


def test_a_run_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "%%time\n\n" + "z" * 100 + " = 1\n1/0")
    assert main(["run", str(path)]) == 1
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.splitlines() == [
        f"[1/1] %%time {'z' * 52}…: failed",
        "lash-nb: cell 1 of 1: ZeroDivisionError: division by zero",
        f"lash-nb: failed; {tmp_path / 'in.out.ipynb'}",
    ]


def test_parameters_from_a_file_and_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "assert (a, b) == ('x', [2])")
    (tmp_path / "p.json").write_text('{"a": 1, "b": [2]}')
    assert main(["run", str(path), "-f", str(tmp_path / "p.json"), "-p", "a", "x"]) == 0


@pytest.mark.parametrize(
    ("arguments", "record", "replay"),
    [
        (["--record"], "in.cassette.jsonl", None),
        (["--record", "x.jsonl"], "x.jsonl", None),
        (["--record=x.jsonl"], "x.jsonl", None),
        (["--replay"], None, "loose"),
        (["--replay=strict"], None, "strict"),
        (["--replay", "strict"], None, "strict"),
    ],
)
def test_options_that_may_stand_alone_do_not_take_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], record: str | None, replay: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "import os; open('options', 'w').write(os.environ['LASH_NB_RUN_OPTIONS'])")
    assert main(["run", *arguments, "in.ipynb"]) == 0
    options = json.loads((tmp_path / "options").read_text())
    assert (options["record"], options["replay"]) == (record and str(tmp_path / record), replay)


def test_out_may_stand_behind_options(tmp_path: Path) -> None:
    path, out = write(tmp_path, "1"), tmp_path / "other.ipynb"
    assert main(["run", str(path), "--results", str(tmp_path / "r.json"), str(out)]) == 0
    assert out.exists()


# ----------------------------------------------------------------------------------------------------- bad input

BAD: list[tuple[list[str], str]] = [
    (["run"], "IN"),
    (["run", "in.ipynb", "--colour"], "`lash-nb run` has no use for --colour"),
    (["run", "in.ipynb", "out.ipynb", "more.ipynb"], "no use for more.ipynb"),
    (["run", "in.ipynb", "--replay=wild"], "'wild'"),
    (["run", "in.ipynb", "-p", "x"], "-p"),
    (["run", "in.ipynb", "-p", "not a name", "1"], "'not a name' cannot be a parameter"),
    (["run", "in.ipynb", "-f", "none.json"], "there is no parameter file none.json"),
    (["run", "none.ipynb"], "there is no notebook none.ipynb"),
    (["run", "broken.ipynb"], "broken.ipynb is not a notebook"),
    (["run", "in.ipynb", "in.ipynb"], "never overwrites its input"),
    (["run", "in.ipynb", "none/out.ipynb"], "cannot be written: there is no directory"),
    (["run", "in.ipynb", "/proc/out.ipynb"], "cannot be written"),
    (["run", "in.ipynb", "-m", "opnai:gpt-5"], "there is no model 'opnai:gpt-5'; did you mean 'openai:gpt-5'?"),
    (["run", "in.ipynb", "-m", "replay:none.cassette.jsonl"], "there is no cassette none.cassette.jsonl"),
    (["run", "in.ipynb", "-m", "replay:broken.ipynb"], "broken.ipynb"),
    (["run", "in.ipynb", "--results", "none/results.json"], "none/results.json cannot be written"),
    (["run", "in.ipynb", "--results", "in.ipynb"], "would overwrite the notebook"),
    (["rnu", "in.ipynb"], "did you mean `lash-nb run`?"),
    (["frobnicate"], "commands: demo, doctor, eject, embed, model, resume, run, sessions, show, strip, trace"),
    (["model", "test", "nothing:x"], "there is no model 'nothing:x'"),
    (["model", "pull", "--source", "moon"], "invalid choice: 'moon'"),
    (["model"], "required"),
    (["verify", "none.ipynb"], "there is no notebook none.ipynb"),
    ([], "required"),
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
    write(tmp_path, "1")
    (tmp_path / "broken.ipynb").write_text("{")
    assert main(arguments) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.count("\n") == 1
    assert sentence in told
    assert sorted(os.listdir(tmp_path)) == ["broken.ipynb", "in.ipynb"]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lash-nb {lash_nb.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lash_nb.cli import main; main(['run', '--help'])\n"
        "heavy = ['nbclient', 'nbformat', 'jupyter_client', 'pydantic']\n"
        "print(*[name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"


# ----------------------------------------------------------------------------------------------------------- demo


def install(place: Path, *, layout: str) -> None:
    """A copy of the package whose quickstart is a small notebook: as a wheel has it, or a checkout."""
    shutil.copytree(ROOT / "lash_nb", place / "lash_nb", ignore=shutil.ignore_patterns("__pycache__", "notebooks"))
    notebooks = place / "lash_nb" / "notebooks" if layout == "wheel" else place / "notebooks"
    (notebooks / "data").mkdir(parents=True)
    (notebooks / "data" / "numbers.txt").write_text("42")
    (notebooks / "01_quickstart.cassette.jsonl").write_text("")
    write(notebooks, "print(open('data/numbers.txt').read())", asking(), name="01_quickstart.ipynb")
    write(notebooks, "print('live')", name="02_local_model.ipynb")


def demo(place: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A machine without the local model, unless `env` says where it is."""
    return subprocess.run(
        [sys.executable, "-m", "lash_nb.cli", "demo"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(place), "LASH_NB_CACHE_DIR": str(cwd / "cache"), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("layout", ["wheel", "checkout"])
def test_the_demo(tmp_path: Path, layout: str) -> None:
    place, cwd = tmp_path / "installed", tmp_path / "cwd"
    cwd.mkdir()
    install(place, layout=layout)
    done = demo(place, cwd)
    out = cwd / "lash-nb-demo" / "01_quickstart.out.ipynb"
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"\n> Which?\n\n[1, 'ä']\n\nThe executed notebook: {out}\n"
    assert json.loads(out.read_text())["cells"][0]["outputs"][0]["text"] == ["42\n"]
    assert "`lash-nb demo --yes` fetches it" in done.stderr, "nothing is fetched unasked"
    assert not (cwd / "cache").exists()
    assert demo(place, cwd).returncode == 0
    mine = cwd / "lash-nb-demo" / "data" / "numbers.txt"
    mine.write_text("43")
    again = demo(place, cwd)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"{mine} is not the one that comes with lash_nb" in again.stderr
    assert mine.read_text() == "43"


def test_the_demo_runs_the_second_notebook_where_the_local_model_is(tmp_path: Path) -> None:
    place, cwd = tmp_path / "installed", tmp_path / "cwd"
    cwd.mkdir()
    install(place, layout="wheel")
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    done = demo(place, cwd, LASH_NB_GGUF=str(tmp_path / "own.gguf"))
    assert done.returncode == 0, done.stderr
    outs = [cwd / "lash-nb-demo" / f"{name}.out.ipynb" for name in ("01_quickstart", "02_local_model")]
    assert done.stdout.endswith("".join(f"\nThe executed notebook: {out}\n" for out in outs))
    assert json.loads(outs[1].read_text())["cells"][0]["outputs"][0]["text"] == ["live\n"]


def test_the_demo_says_what_it_lacks() -> None:
    """In a Python without site-packages there are neither pandas nor matplotlib."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lash_nb.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "lash-nb: the notebooks need pandas and matplotlib: pip install 'lash-nb[demo]'\n"
