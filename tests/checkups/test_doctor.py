"""`lash-nb doctor` and `lash-nb model list`: what is found here, and what to do about the rest."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from lash_nb.checkups import Finding, State
from lash_nb.checkups.candidates import candidates
from lash_nb.checkups.doctor import check_everything
from lash_nb.checkups.guard import found_by
from lash_nb.cli import main

ROOT = Path(__file__).resolve().parents[2]


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, no local model, a state directory of its own."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("LASH_NB_MODEL", "LASH_NB_GGUF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LASH_NB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_all_is_looked_at_and_told_as_it_comes(tmp_path: Path) -> None:
    told: list[Finding] = []
    found = check_everything({"OPENAI_API_KEY": "k"}, home=tmp_path, on_finding=told.append)
    assert list(found) == told
    rows = by_name(found)
    good = ("python", "platform", "lash_nb", "ipykernel", "jupyter-client", "ipywidgets", "managed kernel", "model")
    assert {name: rows[name].state.value for name in good} == dict.fromkeys(good, "✓")
    assert rows["model"].said.startswith("openai:")
    assert rows["state directory"].said == str(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "file" / "state"))
    row = by_name(check_everything({}, home=tmp_path))["state directory"]
    assert row.state is State.BAD
    assert row.said.endswith("set LASH_NB_STATE_DIR")


def test_the_command_fails_when_something_has_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("\nAll is well.\n")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "file" / "state"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("\n1 thing has to be done.\n")


def test_what_could_answer_from_here(tmp_path: Path) -> None:
    (tmp_path / "talk.cassette.jsonl").write_text("")
    env = {"ANTHROPIC_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    rows = by_name(candidates(env, home=tmp_path))
    openai, anthropic, google = (
        next(name for name in rows if name.startswith(kind) and "MODEL" not in name)
        for kind in ("openai:", "anthropic:", "google:")
    )
    assert [rows[name].state.value for name in (openai, anthropic, google)] == ["–", "✓", "–"]
    assert rows[openai].said == "set OPENAI_API_KEY"
    assert rows["openai:MODEL@http://HOST:PORT/v1"].said == "OPENAI_BASE_URL says http://127.0.0.1:1/v1"
    assert rows["replay:talk"].state is State.GOOD


def test_a_file_of_the_users_own_is_the_local_model(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    row = by_name(candidates({"LASH_NB_GGUF": str(tmp_path / "own.gguf")}, home=tmp_path))["local"]
    if find_spec("xllamacpp") is None:
        assert (row.state, row.said) == (State.BAD, "pip install 'lash-nb[local]', then lash-nb model pull")
    else:
        assert (row.state, row.said) == (State.GOOD, f"own.gguf: {tmp_path / 'own.gguf'}")


@pytest.mark.parametrize("content", [None, b"text", b"GGUF\x03"], ids=["absent", "text", "cut off"])
def test_a_file_that_was_named_and_does_not_work_has_to_be_seen_to(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "own.gguf").write_bytes(content)
    env = {"LASH_NB_GGUF": f" {tmp_path / 'own.gguf'}"}
    assert by_name(candidates(env, home=tmp_path))["local"].state is State.BAD
    assert by_name(check_everything(env, home=tmp_path))["local"].state is State.BAD
    assert by_name(candidates({"LASH_NB_GGUF": "  "}, home=tmp_path))["local"].state is State.ABSENT


@pytest.mark.parametrize(
    "address",
    [
        "https://somebody:secret@example.org/v1",
        "https://somebody:sec/ret@example.org/v1?x=secret#secret",
        "somebody:secret@example.org/v1",
    ],
)
def test_no_password_is_printed(tmp_path: Path, address: str) -> None:
    row = by_name(candidates({"OPENAI_BASE_URL": address}, home=tmp_path))["openai:MODEL@http://HOST:PORT/v1"]
    assert row.state is State.BAD
    scheme = "https://" if address.startswith("https") else ""
    assert row.said == (
        f"OPENAI_BASE_URL ({scheme}example.org/v1) holds a user name or password: take it out, use OPENAI_API_KEY"
    )


def test_no_name_of_a_cassette_draws_over_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2K\r\nb.cassette.jsonl").write_text("")
    names = [row.what for row in candidates({}, home=tmp_path) if row.what.startswith("replay:")]
    assert names == ["replay:a[2K b"]


# -- broken installations ----------------------------------------------------------------------------------------------


def test_no_part_that_fails_hides_another() -> None:
    def breaks() -> list[Finding]:
        raise ModuleNotFoundError("No module\nnamed 'x\x1b[2K'")

    def half() -> Iterator[Finding]:
        yield Finding(state=State.GOOD, what="b", said="well")
        raise ValueError("x.__spec__ is not set")

    well = Finding(state=State.GOOD, what="c", said="well")
    assert list(found_by([("a", breaks), ("b", half), ("c", lambda: [well])])) == [
        Finding(
            state=State.BAD,
            what="a",
            said="this could not be looked into (ModuleNotFoundError: No module named 'x[2K')",
        ),
        Finding(state=State.BAD, what="b", said="this could not be looked into (ValueError: x.__spec__ is not set)"),
        well,
    ]


# An installation in which one package is broken: whoever looks for it gets an exception.
_BROKEN = """
import os, sys
from pathlib import Path

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Broken())
from lash_nb.checkups.doctor import check_everything
for finding in check_everything(os.environ, home=Path.cwd()):
    print(finding.state, finding.what, "|", finding.said)
"""


@pytest.mark.parametrize(
    ("package", "broken"),
    [
        ("xllamacpp", {"local", "local weights"}),
        ("jupyter_client", {"managed kernel"}),
        ("platformdirs", {"managed kernel", "local", "local weights", "state directory"}),
    ],
)
def test_a_broken_package_is_found(tmp_path: Path, package: str, broken: set[str]) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("LASH_NB_CACHE_DIR", "LASH_NB_STATE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", _BROKEN, package],
        env=env | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.partition(" | ") for line in done.stdout.splitlines()]
    bad = {what.removeprefix("✗ "): said for what, _, said in rows if what.startswith("✗ ")}
    if package != "xllamacpp" and find_spec("xllamacpp") is None:
        broken -= {"local", "local weights"}
    assert set(bad) == broken
    assert all(f"No module named '{package}" in said for said in bad.values())
    assert rows[0][0] == "✓ python"
    assert rows[-1][0].endswith(" state directory")


def test_a_damaged_local_model_is_found(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "models" / "1d9614638d18024d.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF and then something else")
    row = by_name(check_everything({"LASH_NB_CACHE_DIR": str(tmp_path / "cache")}, home=tmp_path))["local weights"]
    assert row.state is State.BAD
    assert "has 28 bytes instead of 491,400,064" in row.said


def test_the_list_says_which_would_be_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("no model is chosen")
    assert "\n– local" in printed


def test_a_trial_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script.json").write_text('["one two three four five"]')
    assert main(["model", "test", "scripted:script.json"]) == 0
    printed, told = capsys.readouterr()
    assert printed.startswith("✓ answer")
    assert "nothing leaves this machine" in told
    (tmp_path / "empty.json").write_text("[]")
    assert main(["model", "test", "scripted:empty.json"]) == 1
    assert capsys.readouterr().out.startswith("✗ answer")
