"""`%lash model`: list, pick, test, pull; and what a notebook's author suggests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import InputError, UnknownModelError

from .notebook_shell import Notebook, notebook_shell


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as made:
        yield made


def test_the_list_of_models_says_which_answers_and_which_could(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    notebook.load()
    assert notebook.run("%lash model").stdout.startswith("no model is chosen")
    notebook.answers("Yes.")
    for line in ("%lash model", "%lash model list"):
        said = notebook.run(line).stdout
        assert said.startswith("scripted:s.json, chosen by %lash model; nothing leaves this machine\n")
        assert "– openai:" in said
        assert "set OPENAI_API_KEY" in said


def test_a_model_is_tried_with_one_request_that_is_no_turn(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("one two three four five six seven", "Yes.")
    said = notebook.run("%lash model test").stdout
    assert said.startswith("one small request to scripted:s.json; nothing leaves this machine")
    assert "\n✓ answer" in said
    assert "\n✓ stream" in said
    assert notebook.run("%lash history").stdout == "no turns yet\n"
    (Path.cwd() / "other.json").write_text('["one"]')
    assert "one small request to scripted:other.json; " in notebook.run("%lash model test scripted:other.json").stdout
    with pytest.raises(UnknownModelError, match="no model 'nothing:x'"):
        notebook.run("%lash model test nothing:x")
    with pytest.raises(UnknownModelError, match="no model 'tset'"):
        notebook.run("%lash model tset")


def test_what_the_author_suggests_is_said_once_on_a_line_of_its_own(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "LASH_NB_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    Path("mine.ipynb").write_text('{"metadata": {"lash_nb": {"model": "openai:x@http://elsewhere.example/v1"}}}')
    monkeypatch.setenv("JPY_SESSION_NAME", str(Path("mine.ipynb").resolve()))
    told = notebook.load().splitlines()
    assert len(told) == 2
    assert "elsewhere" not in told[0]
    assert told[1].startswith(
        "note: this notebook's author suggests openai:x@http://elsewhere.example/v1 (it would send "
    )
    notebook.answers("Yes.")
    assert "elsewhere" not in notebook.run("%lash model").stdout
    with pytest.raises(InputError, match="takes --yes and --source"):
        notebook.run("%lash model pull --now")


def test_pulling_from_a_notebook_asks_first(notebook: Notebook) -> None:
    notebook.load()
    said = notebook.run("%lash model pull --source index").stdout
    assert "491 MB" in said
    assert said.endswith("Nothing was fetched yet. If you agree: `%lash model pull --yes --source index`\n")


def test_a_notebook_can_be_led_by_the_snippet_protocol(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("Yes.", "40 + 1")
    notebook.run("%%lash\nIs it?")
    notebook.run("%config Lash.protocol = 'snippet'")
    notebook.run("%%lash\nsum of 40 and 1")
    session = notebook.magics.sessions.current
    assert session is not None
    assert [turn.code for turn in session.turns] == [(), ("40 + 1",)]
