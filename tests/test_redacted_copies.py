"""Secrets that a turn meets everywhere are in no copy of it: not in the notebook, nor in its journal, nor in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient

from lash_nb import ScriptedModel, Session
from lash_nb.runner import run_notebook
from lash_nb.stores.envelopes import checkpoint_text
from lash_nb.stores.journal import read_records, session_directory
from lash_nb.stores.notebook import read_block
from tests.conversations import Blocks, cell
from tests.line_notebooks import read, write

VALUE = "correct-horse-battery-staple-0123456789"
TOKEN = "ghp_" + "a1B2" * 10
LINES = ("MIIEvQIBADANBgkqhkiG9w0B", "AQEFAASCBKcwggSjAgEAAoIB")
ENV = {"WAREHOUSE_PASSWORD": VALUE, "SIGNING_KEY": "\n".join(("-----BEGIN-----", *LINES, "-----END-----"))}
PIECE = 10
"""Of so many characters at a secret's beginning, middle or end nothing may be left."""

# The agent's code has them backwards: what stands in a model's answer is taken out before it is run.
MAKE = f"""
value, token = {VALUE[::-1]!r}[::-1], "gh" + "p_" + "a1B2" * 10
lines = [line[::-1] for line in {tuple(line[::-1] for line in LINES)!r}]
"""
SHOW = """
import sys, time
from IPython.display import HTML, display
print(value, token, *lines)
for piece in (value[:7], value[7:20], value[20:], "\\n", token[:3], token[3:], "\\n"):
    print(piece, end="", flush=True)
    time.sleep(0.25)  # what is there so far is shown
for stream in (sys.stderr, sys.stdout):
    print("\\n".join(lines), repr("\\n".join(lines)), file=stream, flush=True)
display(HTML(f"<b>{value}</b>{token}"))
display({"application/json": {token: [value]}, "text/plain": lines[0]}, raw=True, metadata={"note": value})
{value: token}
"""
FRAME = """
import pandas as pd
frame = pd.DataFrame({value: [token], lines[0]: [value]})
frame
"""
FAIL = "raise ValueError(f'{value} {token}') from KeyError(lines[1])"
FLOOD = """
for number in range(4000):
    print(number, "#" * (number % 37), value, token, lines[number % 2])
"""
SCRIPT = {
    "turns": {
        "1": [
            *(cell(MAKE, f"I use {VALUE} and {TOKEN}."), cell(SHOW), cell(FRAME), cell(FAIL)),
            f"It was {VALUE}, not {TOKEN}, and {LINES[0]}.",
        ],
        "2": [cell(FLOOD), f"Many times {VALUE}."],
    }
}


def pieces() -> Iterator[str]:
    for secret in (VALUE, TOKEN, *LINES):
        for start in (0, (len(secret) - PIECE) // 2, len(secret) - PIECE):
            yield secret[start : start + PIECE]


def left_of_secrets(text: str) -> list[str]:
    """The pieces of secrets that are in it."""
    return [piece for piece in pieces() if piece in text]


def opened(value: Any) -> Iterator[str]:
    """All text in what a notebook carries: also that of envelopes that are packed."""
    yield json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and "checkpoint" in value:
        yield checkpoint_text(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict | list):
            yield from opened(item)


def in_files(place: Path) -> Iterator[str]:
    for file in place.rglob("*"):
        if file.is_file():
            yield file.read_bytes().decode("utf-8", "replace")


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    """A notebook whose requests hold secrets, too."""
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    first = f"%%lash\nTry {VALUE}, or {TOKEN}:\n{LINES[0]}\n{LINES[1]}"
    cells = ("%load_ext lash_nb", "%lash model scripted:script.json", first, "%%lash\nOften.")
    return write(tmp_path, *cells, kernelspec={"name": "python3", "display_name": "Python 3"})


def test_the_pieces_are_those_of_secrets() -> None:
    """So that the tests below could find them."""
    assert left_of_secrets(f"a {VALUE[:PIECE]} b") == ["correct-ho"]
    assert (
        left_of_secrets(f"a {TOKEN}") == ["ghp_a1B2a1", "a1B2a1B2a1", "B2a1B2a1B2"] or len(left_of_secrets(TOKEN)) == 3
    )


def test_an_executed_notebook_and_its_journal(asking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LASH_NB_STATE_DIR")
    result = run_notebook(asking)
    assert result.error == ""
    notebook = read(result.out)
    block = read_block(notebook.metadata)
    assert block is not None
    assert ["encoding" in turn for turn in block.turns] == [False, True]
    carried = [*opened(json.loads(json.dumps(notebook.metadata)))]
    for executed in notebook.cells:
        for output in executed.outputs:
            carried += opened(json.loads(json.dumps(output)))
    assert [left_of_secrets(text) for text in carried if left_of_secrets(text)] == []
    assert all("[redacted]" in checkpoint_text(turn) for turn in block.turns)
    assert checkpoint_text(block.turns[1]).count("[redacted]") > 1000
    state = result.out.with_suffix(".lash")
    journal = [json.dumps(record) for record in read_records(session_directory(state, block.session), everything=True)]
    kept = [*journal, *in_files(state)]
    assert [left_of_secrets(text) for text in kept if left_of_secrets(text)] == []
    assert sum("[redacted]" in text for text in journal) > 8


def test_a_notebook_whose_outputs_hold_whole_envelopes(asking: Path) -> None:
    """nbclient, and everything built on it."""
    notebook = read(asking)
    NotebookClient(notebook, resources={"metadata": {"path": str(asking.parent)}}).execute()
    outputs = [json.loads(json.dumps(output)) for executed in notebook.cells for output in executed.outputs]
    envelopes = [output["metadata"]["lash_nb"] for output in outputs if "lash_nb" in output.get("metadata", {})]
    assert ["encoding" in envelope for envelope in envelopes] == [False, True]
    assert [text for output in outputs for text in opened(output) if left_of_secrets(text)] == []
    assert all("[redacted]" in checkpoint_text(envelope) for envelope in envelopes)


async def test_tool_calls(tmp_path: Path) -> None:
    """What they are given, what they give, and how they fail."""
    asked: list[str] = []

    def look(key: str) -> dict[str, Any]:
        asked.append(key)
        return {key: [TOKEN, *LINES], "text": "x" * 200 + VALUE}

    def fail(key: str) -> None:
        raise ValueError(f"not {key}, {VALUE}")

    call = "found = await tools.look(key=value)\nfound"
    failing = "try:\n    await tools.fail(key=token)\nexcept Exception as error:\n    print(error)"
    model, blocks = ScriptedModel([cell(MAKE), cell(call), cell(failing), "Done."]), Blocks()
    tools = {"look": look, "fail": fail}
    async with Session(model, state_dir=tmp_path, tools=tools, on_block=blocks) as session:
        turn = await session.run("Look.")
        assert turn.ok
        journal = json.dumps([*read_records(session_directory(tmp_path, session.id), everything=True)])
    assert asked == [VALUE]  # it is given what the code has
    texts = [journal, *in_files(tmp_path), *map(repr, model.requests), *opened(blocks.blocks), *opened(turn.envelope)]
    assert [left_of_secrets(text) for text in texts if left_of_secrets(text)] == []
    assert "[redacted]" in journal
    assert "[redacted]" in checkpoint_text(turn.envelope or {})
