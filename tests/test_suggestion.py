"""A notebook that names a model: it is shown, and not used unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lash_nb.sessions import NotebookSessions
from lash_nb.suggestion import suggested_model


def notebook(path: Path, metadata: Any) -> Path:
    path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_the_name_in_the_metadata(tmp_path: Path) -> None:
    assert suggested_model(notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": " openai:x "}})) == "openai:x"


@pytest.mark.parametrize(
    "metadata",
    [{}, None, [], {"lash_nb": None}, {"lash_nb": []}, {"lash_nb": {}}, {"lash_nb": {"model": 3}},
     {"lash_nb": {"model": "  "}}, {"lash_nb": {"model": "x" * 301}}, {"lash_nb": {"model": ["openai:x"]}}],
)  # fmt: skip
def test_what_is_no_name_suggests_nothing(tmp_path: Path, metadata: Any) -> None:
    assert suggested_model(notebook(tmp_path / "a.ipynb", metadata)) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"text"', b"3"])
def test_what_is_no_notebook_suggests_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    assert suggested_model(tmp_path / "a.ipynb") is None
    assert suggested_model(tmp_path / "missing.ipynb") is None
    assert suggested_model(tmp_path) is None


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "endless.ipynb").symlink_to("/dev/zero")
    assert suggested_model(tmp_path / "pipe.ipynb") is None
    assert suggested_model(tmp_path / "endless.ipynb") is None
    notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": "local"}})
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "a.ipynb")
    assert suggested_model(tmp_path / "link.ipynb") == "local"


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": "local"}})
    path.write_bytes(path.read_bytes().ljust(20_000_000))
    assert suggested_model(path) == "local"
    path.write_bytes(path.read_bytes() + b" ")
    assert suggested_model(path) is None


def test_it_cannot_draw_over_the_terminal(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": "openai:x\x1b[2K\r\n\u202e@http://evil/v1"}})
    assert suggested_model(path) == "openai:x[2K@http://evil/v1"


@pytest.mark.parametrize("name", ["openai:gpt-6@http://example.org/v1", "anthropic:claude", "local", "scripted:x.json"])
def test_a_suggestion_is_asked_about_and_never_followed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LASH_NB_MODEL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    sessions = NotebookSessions(file=notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": name}}))
    choice = sessions.choose()
    assert choice.name != name
    assert choice.why == "OPENAI_API_KEY in the environment"
    assert f"`%lash model {name}`" in choice.note
    assert sessions.suggestion == choice.note


def test_a_cassette_may_be_pinned(tmp_path: Path) -> None:
    sessions = NotebookSessions(file=notebook(tmp_path / "a.ipynb", {"lash_nb": {"model": "replay:talk"}}))
    assert sessions.choose().name == "replay:talk"
