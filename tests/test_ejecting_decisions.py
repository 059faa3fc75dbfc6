"""`lash-nb eject` of cells that a person decided on: what ran is made plain, and nothing that did not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.ejecting import ejected
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.approvals import Decision
from lash_nb.stores.closed import ClosedNotebook

from .approvers import Person
from .conversations import cell, stdout
from .plain_notebooks import answered, asked, sources, write

formats: Any = nbformat


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


async def test_what_a_person_decided_is_what_is_run(tmp_path: Path) -> None:
    person = Person(Decision.edit("print('safe')"), Decision.reject("no"))
    script = {"print('safe')": ScriptedCell(outputs=(stdout("safe\n"),))}
    replies = {1: [cell("everything()", "First."), cell("more()"), "Done."], 2: ["Two."]}
    block = await answered(
        tmp_path / "state",
        replies,
        requests=["go"],
        kernel=ScriptedKernel(script),
        approve="every",
        on_approval=person,
    )
    path = write(tmp_path / "n.ipynb", asked("go", *block["turns"]), metadata={"lash_nb": block})
    # Once more from a journal that was made from the notebook alone.
    options: dict[str, Any] = {"model": ScriptedModel(replies), "kernel": ScriptedKernel(script)}
    async with Session.resume(path, state_dir=tmp_path / "anew", **options) as later:
        await later.run("two")
    for state_dir in (tmp_path / "state", tmp_path / "none", tmp_path / "anew"):
        made = ejected(ClosedNotebook(path), state_dir=state_dir)
        notebook: Any = formats.reads(made.text, as_version=4)
        code = [one for one in notebook.cells if one.cell_type == "code"]
        assert [(one.source, [output.text for output in one.outputs]) for one in code] == [
            ("print('safe')", ["safe\n"])
        ]
        assert any("```python\nmore()\n```\n\n*This cell was not run." in source for source in sources(notebook))
        assert "everything" not in made.text
        assert any(note.startswith("step 2 of turn 1 was not run") for note in made.notes)
