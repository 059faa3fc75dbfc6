"""What of the values in the agent's kernel goes to a model, a journal and a notebook: as much as was said, no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.errors import InputError
from lash_nb.models.choice import choose_model, suggestion
from lash_nb.previews import Previews, allowed_previews
from lash_nb.runner import run_notebook
from lash_nb.stores.envelopes import checkpoint_text
from lash_nb.stores.journal import read_records, session_directory
from tests.conversations import Blocks, cell, last_message
from tests.line_notebooks import read, write
from tests.notebook_shell import Notebook, notebook_shell

TEXT, NUMBER = "PATIENT-7Q41Z", 7318052964
"""The values that must be nowhere. No code holds them: it puts them together."""
MAKE = """
import dataclasses
import numpy as np
import pandas as pd
text = "".join(("PATI", "ENT-7", "Q41Z"))
number = 7318052 * 1000 + 964
class Leaky:
    def __repr__(self): return "Leaky of " + text
@dataclasses.dataclass
class Case:
    who: str
def reader(key=text): ...
frame = pd.DataFrame({"who": [text], "age": [number], "dtype": [text]}).astype({"who": object, "dtype": object})
row = pd.DataFrame({"a": [1]}, index=[text]).loc[text]
labelled = pd.Series({"columns": text, "schema": text})
categories = pd.Series([text], dtype=pd.CategoricalDtype([text]))
array, scalar = np.array([number]), np.int64(number)
items, table, pair, some = [text], {text: number}, (text, number), {text}
data, leaky, case, when = text.encode(), Leaky(), Case(text), pd.Timestamp(number)
nested = [{"deep": [text]}]
"""


def holds_values(text: str) -> bool:
    return TEXT in text or str(NUMBER) in text


# ------------------------------------------------------------------------------------------------- what was said counts


@pytest.mark.parametrize(
    ("wanted", "most", "allowed"),
    [
        (None, None, "sample"),
        ("schema", None, "schema"),
        ("full", None, "full"),
        (None, "schema", "schema"),
        ("full", "schema", "schema"),
        ("full", "sample", "sample"),
        ("schema", "full", "schema"),
        (None, "full", "sample"),
        ("full", " ", "full"),
    ],
)
def test_the_environment_says_how_much_at_most(wanted: Previews | None, most: str | None, allowed: str) -> None:
    env = {} if most is None else {"LASH_NB_PREVIEWS": most}
    assert allowed_previews(wanted, env=env) == allowed


def test_a_word_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it stands for less than is sent, nobody must believe it."""
    monkeypatch.setenv("LASH_NB_PREVIEWS", "none")
    said = "LASH_NB_PREVIEWS is 'none'; it is one of: schema, sample, full"
    with pytest.raises(InputError, match=said):
        Session(ScriptedModel([]))
    with pytest.raises(InputError, match=said):
        choose_model("openai:x", env={"LASH_NB_PREVIEWS": "none"})
    monkeypatch.delenv("LASH_NB_PREVIEWS")
    unknown: Any = "nothing"
    with pytest.raises(InputError, match="previews is 'nothing'; it is one of: schema, sample, full"):
        Session(ScriptedModel([]), previews=unknown)


SENT = {
    previews: (
        f"your requests and cells, the agent's code, its outputs and {what} of your and its variables "
        "are sent to OpenAI"
    )
    for previews, what in (("schema", "names and types"), ("sample", "short values"), ("full", "long values"))
}


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as shell:
        yield shell


@pytest.mark.parametrize("previews", ["schema", "sample", "full"])
def test_the_announcement_says_what_is_sent(notebook: Notebook, previews: str) -> None:
    notebook.load()
    notebook.run(f"%config Lash.previews = {previews!r}")
    assert notebook.magics.sessions.choose("openai:x").announcement == f"openai:x, chosen by -m; {SENT[previews]}"
    assert notebook.magics.sessions.choose("local").announcement.endswith("; nothing leaves this machine")


def test_the_setting_holds_from_the_next_turn_on_and_is_announced(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("One.", "Two.", "Three.")
    notebook.run("%lash ask 1")
    assert notebook.magics.sessions.session().previews == "sample"
    notebook.run("%config Lash.previews = 'schema'")
    said = notebook.run("%lash ask 2").stdout
    assert said.startswith("scripted:s.json, chosen by %lash model; nothing leaves this machine")
    assert notebook.magics.sessions.session().previews == "schema"


def test_no_more_than_the_environment_allows(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_PREVIEWS", "schema")
    notebook.load()
    assert notebook.magics.previews == "schema"
    said = notebook.run("%config Lash.previews = 'full'").stdout
    assert said == "note: previews stay 'schema': LASH_NB_PREVIEWS allows no more\n"
    assert notebook.magics.previews == "schema"
    notebook.magics.previews = "sample"
    assert notebook.magics.sessions.session().previews == "schema"
    assert notebook.magics.sessions.choose("openai:x").sends == SENT["schema"]
    assert "names and types of your and its variables to OpenAI" in suggestion(
        "openai:x", {"LASH_NB_PREVIEWS": "schema"}
    )
    assert Session(ScriptedModel([]), previews="full").previews == "schema"


# ---------------------------------------------------------------------------------------------------- what leaves


async def everything(previews: Previews, place: Path, **options: Any) -> tuple[ScriptedModel, list[str]]:
    """All that a session sent, recorded and published of those variables."""
    model, blocks = ScriptedModel([cell(MAKE), cell("len(items)"), "Done."]), Blocks()
    async with Session(model, state_dir=place, previews=previews, on_block=blocks, **options) as session:
        turn = await session.run("Make them.")
        assert turn.ok, turn.picture
        assert turn.envelope is not None
        journal = list(read_records(session_directory(place, session.id), everything=True))
    published = [checkpoint_text(one) for b in blocks.blocks for one in [*b["turns"], b["head"]] if one is not None]
    texts = [repr(request) for request in model.requests]
    return model, [*texts, json.dumps(journal), checkpoint_text(turn.envelope), *published, *kept_in(place)]


def kept_in(place: Path) -> list[str]:
    return [file.read_bytes().decode("utf-8", "replace") for file in place.rglob("*") if file.is_file()]


async def test_no_value_leaves_where_only_the_schema_may(tmp_path: Path) -> None:
    model, texts = await everything("schema", tmp_path)
    assert [text for text in texts if holds_values(text)] == []
    told = last_message(model, 1)
    for line in (
        "* frame: DataFrame shape (1, 3); columns who object, age int64, dtype object",
        "* text: str length 13",
        "* number: int",
        "* items: list of 1 str",
        "* table: dict of 1 str to int",
        "* leaky: Leaky",
        "* reader: function (key)",
        "* row: Series shape (1,); dtype int64",
        "* array: ndarray shape (1,); dtype int64",
    ):
        assert f"\n{line}\n" in f"{told}\n", told


async def test_values_leave_where_a_sample_may(tmp_path: Path) -> None:
    """So that the test above could fail; what was sent is in the journal, and in no copy."""
    model, texts = await everything("sample", tmp_path)
    told = last_message(model, 1)
    for line in (
        f"* text: str length 13 = '{TEXT}'",
        f"* number: int = {NUMBER}",
        f"* leaky: Leaky = Leaky of {TEXT}",
        f"* reader: function (key='{TEXT}')",
        f"* case: Case fields who str = Case(who='{TEXT}')",
    ):
        assert f"\n{line}\n" in f"{told}\n", told
    assert holds_values(texts[3])  # the journal


async def test_long_values_leave_where_all_may(tmp_path: Path) -> None:
    fill = "rows = [f'row {n}' for n in range(500)]\ntext = 'z' * 5000\nmany = {f'k{n}': 'v' * 1990 for n in range(30)}"
    globals_ = "\nglobals().update({f'big{n}': 'y' * 1900 for n in range(40)})"
    model = ScriptedModel([cell(fill + globals_), "Done."])
    async with Session(model, state_dir=tmp_path, previews="full") as session:
        assert (await session.run("Make them.")).ok
    lines = {line[2:].partition(":")[0]: line for line in last_message(model, 1).split("\n")}
    assert "'row 40'" in lines["rows"]
    assert len(lines["rows"]) < 600
    assert 1500 < len(lines["text"]) < 1600
    assert len(lines["many"]) < 2100
    assert len(lines) >= 43
    assert sum(map(len, lines.values())) < 24_000 + 43 * 200 + 5000


async def test_the_snippet_protocol_does_without_values(tmp_path: Path) -> None:
    """It says of what kind an item is only where it may look at one."""
    for previews, kind in (("schema", "items: list;"), ("sample", "items: list of str;")):
        model = ScriptedModel(["```python\nitems = ['a']\nlen(items)\n```", "```python\nitems[0]\n```"])
        wanted: Any = previews
        async with Session(model, state_dir=tmp_path / previews, protocol="snippet", previews=wanted) as session:
            await session.run("How many items are in ['a']?")
            await session.run("The first of items?")
        assert kind in repr(model.requests[1])


@pytest.mark.parametrize(("most", "leaves"), [("schema", False), ("sample", True)])
def test_an_executed_notebook_and_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, leaves: bool
) -> None:
    """As the environment says, whatever the notebook wants."""
    monkeypatch.setenv("LASH_NB_PREVIEWS", most)
    monkeypatch.delenv("LASH_NB_STATE_DIR")
    (tmp_path / "script.json").write_text(json.dumps([cell(MAKE), cell("len(items)"), "Done."]))
    setting = "%config Lash.previews = 'full'"
    ask = "%%lash\nMake them."
    path = write(tmp_path, "%load_ext lash_nb", setting, "%lash model scripted:script.json", ask)
    result = run_notebook(path)
    assert result.error == ""
    notebook = read(result.out)
    assert notebook.cells[1].outputs[0].text == f"note: previews stay {most!r}: LASH_NB_PREVIEWS allows no more\n"
    block = notebook.metadata.lash_nb
    assert not holds_values(result.out.read_text())
    assert not holds_values("".join(checkpoint_text(turn) for turn in block["turns"]))
    state = result.out.with_suffix(".lash")
    journal = list(read_records(session_directory(state, block["session"]), everything=True))
    assert holds_values(json.dumps(journal)) is leaves
