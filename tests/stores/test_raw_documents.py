"""A notebook's file as it stands: what is none is an error of one sentence, and what its cells hold does not matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import NotebookError
from lash_nb.stores.raw_documents import read_document


def test_cells_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    for document in (
        {"nbformat": 4, "nbformat_minor": 99, "cells": [{"broken": 1}, 3], "metadata": None},
        {"nbformat": 3, "worksheets": []},
    ):
        path.write_text(json.dumps(document))
        assert read_document(path) == document


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is not a notebook: it is not JSON"),
        ("[" * 100_000, "is not a notebook: it is not JSON"),
        ("9" * 5_000, "is not a notebook: it is not JSON"),
        ("[]", "is not a notebook: it is JSON without `nbformat`"),
        ('{"nbformat": "4"}', "is not a notebook: it is JSON without `nbformat`"),
        ('{"nbformat": 5, "cells": []}', "is of nbformat 5; at most 4 can be read"),
        ('{"nbformat": 4, "cells": {}}', "is not a valid notebook: it has no list of cells"),
    ],
)
def test_what_is_none(tmp_path: Path, content: str, why: str) -> None:
    path: Any = tmp_path / "n.ipynb"
    path.write_text(content)
    with pytest.raises(NotebookError) as caught:
        read_document(path)
    assert str(caught.value).startswith(f"{path} {why}")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="there is no notebook"):
        read_document(tmp_path / "none.ipynb")
    with pytest.raises(NotebookError, match="cannot be read: is a directory"):
        read_document(tmp_path)
