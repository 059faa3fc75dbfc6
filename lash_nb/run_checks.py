"""What is looked at before a notebook is run: options that do not go together, and what an earlier run left in it."""

from __future__ import annotations

import math
from pathlib import Path

from nbformat import NotebookNode

from .errors import InputError
from .models import OFFLINE
from .models.choice import choose_model, open_model
from .stores.notebook import METADATA_KEY, lasting

__all__ = ["check_directory", "check_model", "check_options", "forget_the_last_run"]


def check_model(model: str, home: Path, replay: str | None) -> None:
    """The cheap checks: keys and packages are checked in the kernel, which imports the provider's library anyway."""
    name = choose_model(model).name
    kind = name.partition(":")[0]
    if replay and kind != "replay":
        raise InputError(f"the model {model} and a replay: a run is asked for one of them")
    if kind in OFFLINE:
        open_model(name, base_dir=home, strict=replay == "strict")


def check_directory(path: str | Path) -> Path:
    """The directory. Raises InputError: there is none."""
    if not Path(path).is_dir():
        raise InputError(f"there is no directory {path}")
    return Path(path)


def check_options(record: object, replay: object, cell_seconds: float | None, kept: str | None) -> None:
    """Raise InputError: two of them do not go together, or one is none."""
    if record and replay:
        raise InputError("record and replay: a run does one of them")
    if kept not in (None, "refresh", "frozen"):
        raise InputError(f"kept {kept!r}: give refresh, frozen, or nothing")
    if kept == "frozen" and record:
        raise InputError("record and frozen: where no model may be asked there is nothing to record")
    if cell_seconds is not None and not 0 < cell_seconds < math.inf:
        raise InputError(f"cell_seconds {cell_seconds:g}: give a number over 0, or none")


def forget_the_last_run(notebook: NotebookNode) -> None:
    """What earlier runs left would be taken for this one's; but code that is kept is, and what an author suggests."""
    if rest := lasting(notebook.metadata.pop(METADATA_KEY, None)):
        notebook.metadata[METADATA_KEY] = rest
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None
