"""Notebooks that agents have answered, and their plain forms run where there is no lash_nb."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from lash_nb import ScriptedKernel, ScriptedModel, Session, notebook_words
from lash_nb.errors import InputError, LashError
from lash_nb.runner import run_notebook

from .conversations import Blocks, cell

__all__ = ["answered", "asked", "command", "last_text", "ran", "run_without_us", "sources", "texts", "write"]

v4: Any = nbformat.v4
read: Any = nbformat.read


def write(path: Path, *cells: Any, metadata: dict[str, Any] | None = None) -> Path:
    """A notebook of these cells; a text is a code cell."""
    made = [v4.new_code_cell(one) if isinstance(one, str) else one for one in cells]
    path.write_text(v4.writes(v4.new_notebook(cells=made, metadata=metadata or {})) + "\n", encoding="utf-8")
    return path


ONE = {
    "1": [
        cell("total = sum(range(5))\n1 / 0", "I add them, and go too far."),
        cell("print('still', total)\ntotal", "Once more."),
        "It is **10**.",
    ],
    "2": [cell("%%bash\necho from-bash", "A shell can do that."), "Said."],
    "3": [cell("if total:\n    finish({'twice': total * 2, 3: (1, 2)})\nprint('never')")],
}
TWO = {"1": [cell("total = 7\ntotal"), "Seven."]}


def ran(place: Path) -> Path:
    """A notebook with two sessions, as `lash-nb run` leaves it: a failed step, a shell, `finish`, a turn in a line."""
    for name, replies in (("one", ONE), ("two", TWO)):
        (place / f"{name}.json").write_text(json.dumps({"turns": replies}))
    path = write(
        place / "in.ipynb",
        v4.new_markdown_cell("# Sums"),
        "%load_ext lash_nb\n%lash model scripted:one.json",
        "base = 10",
        "%%lash\nAdd the first numbers.",
        "%%lash --max-steps 5\nSay it from a shell.",
        "%%lash\nTwice of it, please.",
        "value = _.value\nprint(value['twice'], value['3'])",
        "%lash new\n%lash model scripted:two.json",
        "answer = %lash ask Seven?",
        "%lash usage\nprint(answer.text, base)",
    )
    result = run_notebook(path, place / "n.ipynb", approve="all")  # one cell is a shell script
    assert result.exit_code == 0, result.error
    return result.out


def run_without_us(path: Path) -> Any:
    """The notebook, run from top to bottom in a fresh kernel that cannot import lash_nb."""
    stub = path.parent / "nothing" / "lash_nb"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "__init__.py").write_text("raise ImportError('there is no lash_nb here')\n")
    notebook = read(path, as_version=4)
    notebook.cells.append(v4.new_code_cell("import lash_nb", metadata={"tags": ["raises-exception"]}))
    options: dict[str, Any] = {"kernel_name": "python3", "resources": {"metadata": {"path": str(path.parent)}}}
    client = NotebookClient(notebook, timeout=60, **options)
    ours = {"MPLBACKEND"}  # of the process that runs the tests
    env = {name: value for name, value in os.environ.items() if name not in ours}
    client.execute(env={**env, "PYTHONPATH": str(stub.parent)})
    (output,) = notebook.cells.pop().outputs
    assert (output.ename, output.evalue) == ("ImportError", "there is no lash_nb here")
    return notebook


def sources(notebook: Any) -> list[str]:
    return [one.source for one in notebook.cells]


def texts(one: Any) -> list[str]:
    """The outputs of a cell in short."""
    return [
        output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", output.get("ename"))
        for output in one.outputs
    ]


def last_text(notebook: Any, start: str) -> str:
    """The last output of the one code cell that begins so."""
    (found,) = [one for one in notebook.cells if one.cell_type == "code" and one.source.startswith(start)]
    return str(texts(found)[-1])


def command(*arguments: str | Path) -> int:
    """The exit code of a command of `notebook_words`."""
    parser = argparse.ArgumentParser()
    notebook_words.add(parser.add_subparsers())
    options = parser.parse_args(list(map(str, arguments)))
    try:
        return int(options.run(options))
    except LashError as error:
        print(f"lash-nb: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


async def answered(
    state_dir: Path, replies: dict[int, list[Any]], *, requests: list[str], session: str = "one", **options: Any
) -> dict[str, Any]:
    """The block of a session with these turns, whose journal is in `state_dir`."""
    blocks = Blocks()
    kernel = options.pop("kernel", None) or ScriptedKernel()
    async with Session(
        ScriptedModel(replies),
        kernel=kernel,
        state_dir=state_dir,
        session_id=session,
        on_block=blocks,
        **options,
    ) as made:
        for request in requests:
            await made.run(request)
    return blocks.blocks[-1]


def asked(request: str, *envelopes: dict[str, Any]) -> Any:
    """A `%%lash` cell that shows these turns, which are named only."""
    outputs = [
        v4.new_output(
            "display_data",
            data={"text/plain": "the turn"},
            metadata={"lash_nb": {name: envelope[name] for name in ("session", "turn", "sha256")}},
        )
        for envelope in envelopes
    ]
    return v4.new_code_cell(f"%%lash\n{request}", outputs=outputs)
