"""`lash-nb doctor` and `lash-nb model list`: what is found here, and what to do about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from lash_nb.checkups import Finding, State
from lash_nb.checkups.candidates import candidates
from lash_nb.checkups.doctor import check_everything
from lash_nb.cli import main


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
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    row = by_name(candidates({"LASH_NB_GGUF": str(tmp_path / "own.gguf")}, home=tmp_path))["local"]
    assert (row.state, row.said) == (State.GOOD, str(tmp_path / "own.gguf"))


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
