"""Code that is kept: as a notebook carries it, damaged and forged, in the user's own store, and in a block."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import DecodeError, JournalError
from lash_nb.stores import notebook
from lash_nb.stores.kept import KEPT_KEY, KeptCode, KeptStore, carried_kept, merged_kept
from tests.line_notebooks import block

CODE = KeptCode(request="Sum?", cells=("x = 1\nx", "x + 1"), answer="It is 2.", cell="c1", at="2026-01-02T03:04:05")
reads: Any = nbformat.reads
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def code(**fields: Any) -> KeptCode:
    return replace(CODE, **fields)


# -- as JSON -----------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        KeptCode,
        request=TEXTS,
        cells=st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
        answer=st.none() | TEXTS,
        results=TEXTS,
        cell=st.none() | TEXTS.filter(bool),
        at=st.sampled_from(["", "2026-01-02T03:04:05.000006+00:00"]),
        turn=TEXTS,
        parent=TEXTS,
    )
)
def test_what_is_written_is_read(kept: KeptCode) -> None:
    """Also in a notebook's file, with line ends of every kind."""
    written = json.loads(json.dumps(kept.to_json(), ensure_ascii=False))
    assert KeptCode.from_json(written) == kept
    as_read = reads(json.dumps({**NOTEBOOK, "metadata": {"lash_nb": written}}), as_version=4)
    assert KeptCode.from_json(as_read.metadata.lash_nb) == kept


def test_the_address_is_of_what_runs_and_what_is_said() -> None:
    """By hand: the SHA-256 of `[1, "a", ["b"], null, ""]`, which also other versions compute."""
    by_hand = "a69947b0c0810a3b35259021c3c649c2b503784ef67b7367bed432fcadad74f6"
    assert KeptCode(request="a", cells=("b",)).sha256 == by_hand
    same = [code(cell="other"), code(at="2027-01-01"), code(turn="s.2"), code(parent="p")]
    other = [code(request="Sum!"), code(cells=("x = 1\nxx + 1",)), code(answer=None), code(results="r")]
    assert {one.sha256 for one in same} == {CODE.sha256}
    assert len({one.sha256 for one in (CODE, *other)}) == 5
    # Where one cell ends and the next begins is a part of it.
    assert code(cells=("a", "b")).sha256 != code(cells=("a\nb",)).sha256


DAMAGE: list[Any] = [None, 0, 1, False, True, 1.5, "", "x", [], [1], [[1]], [None], {}, {"a": 1}, [[]], "x" * 70]


@pytest.mark.parametrize("name", [*CODE.to_json(), "results", "turn", "parent"])
@pytest.mark.parametrize("value", DAMAGE, ids=lambda value: json.dumps(value)[:12])
def test_damage_is_a_decode_error_and_nothing_else(name: str, value: Any) -> None:
    """Or it is what it was, or another value of its type that the hash is not of."""
    try:
        read = KeptCode.from_json({**CODE.to_json(), name: value})
    except DecodeError:
        return
    assert isinstance(read.answer, str | None)
    assert isinstance(read.cell, str | None)
    assert all(isinstance(text, str) for text in (*read.cells, read.request, read.results, read.at, read.turn))
    assert read.sha256 == CODE.sha256
    assert list(carried_kept({KEPT_KEY: [read.to_json()]})) == [read]
    assert merged_kept([{KEPT_KEY: [{**CODE.to_json(), name: value}]}], [])


@pytest.mark.parametrize("name", ["version", "sha256", "request", "cells", "answer"])
def test_what_is_left_out_is_damage(name: str) -> None:
    written = CODE.to_json()
    del written[name]
    with pytest.raises(DecodeError):
        KeptCode.from_json(written)


@pytest.mark.parametrize("answer", [0, False, [], {}])
def test_an_answer_is_a_text_also_where_the_hash_fits(answer: Any) -> None:
    """Whoever forges it computes the hash, too."""
    forged = KeptCode(request="Sum?", cells=("1",), answer=answer)
    with pytest.raises(DecodeError):
        KeptCode.from_json(forged.to_json())


@pytest.mark.parametrize("value", [None, [], "x", 5, [CODE.to_json()]])
def test_no_object_is_no_kept_code(value: Any) -> None:
    with pytest.raises(DecodeError):
        KeptCode.from_json(value)


def test_bounds() -> None:
    def deep(depth: int) -> Any:
        return [deep(depth - 1)] if depth else []

    for cells in (("1",) * 201, ("x" * 400_001,), ("x" * 200_001, "x" * 200_000)):
        with pytest.raises(DecodeError):
            KeptCode.from_json(code(cells=cells).to_json())
    with pytest.raises(DecodeError):
        KeptCode.from_json({**CODE.to_json(), "more": deep(200)})
    KeptCode.from_json(code(cells=("1",) * 200).to_json())


@pytest.mark.parametrize("at", ["\x1b[31mred", "2026-99-99", "yesterday", "9" * 30])
def test_a_date_is_a_date(at: str) -> None:
    """It is printed before anybody has agreed to anything."""
    with pytest.raises(DecodeError):
        KeptCode.from_json(code(at=at).to_json())


# -- what this user has ------------------------------------------------------------------------------------------------


def files(place: Path) -> list[Path]:
    return sorted((place / "kept").glob("*.json"))


def test_what_is_kept_is_there(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") is None
    assert store.known(CODE) is None
    store.keep(CODE, place="/a.ipynb")
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == CODE
    assert KeptStore(tmp_path).known(CODE) == CODE
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "kept", *files(tmp_path))] == [0o700, 0o600]
    for request, place, cell in (("Sum", "/a.ipynb", "c1"), ("Sum?", "/b.ipynb", None), ("Sum?", "/a.ipynb", "c2")):
        assert store.newest(request, place=place, cell=cell) is None


def test_a_copy_of_a_notebook_has_its_code_under_the_ids_of_its_cells(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    store.keep(CODE, place="/a.ipynb")
    assert store.newest("Sum?", place="/b.ipynb", cell="c1") == CODE
    # What was kept for itself comes first, also when it is older.
    own = code(cells=("2",), at="2025-01-01")
    store.keep(own, place="/b.ipynb")
    assert store.newest("Sum?", place="/b.ipynb", cell="c1") == own
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == CODE


def test_a_cell_that_cannot_be_told_apart_has_what_any_has(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    store.keep(CODE, place="/a.ipynb")
    assert store.newest("Sum?", place="/a.ipynb", cell=None) == CODE
    nobody = code(cells=("2",), cell=None, at="2026-01-03")
    store.keep(nobody, place="/a.ipynb")
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == nobody
    assert store.newest("Sum?", place="/a.ipynb", cell="c2") == nobody


def test_the_newest_counts_also_when_it_is_an_old_one_again(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    later = code(cells=("2",), at="2026-02-01")
    for one in (later, CODE):  # in whatever order they came
        store.keep(one, place="/a.ipynb")
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == later
    again = code(at="2026-03-01", turn="s.9", parent=later.sha256)
    store.keep(again, place="/a.ipynb")
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == again
    assert len(files(tmp_path)) == 2


def test_one_code_in_several_cells_and_notebooks(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    for cell, place in (("c1", "/a.ipynb"), ("c2", "/a.ipynb"), ("c1", "/b.ipynb")):
        store.keep(code(cell=cell), place=place)
    assert len(files(tmp_path)) == 1
    for cell, place in (("c1", "/a.ipynb"), ("c2", "/a.ipynb"), ("c1", "/b.ipynb")):
        assert store.newest("Sum?", place=place, cell=cell) == code(cell=cell)
    assert store.newest("Sum?", place="/b.ipynb", cell="c3") is None


def test_places_are_bounded_and_the_last_ones_stay(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    for number in range(103):
        store.keep(CODE, place=f"/{number}.ipynb")
    known = [store.newest("Sum?", place=f"/{number}.ipynb", cell=None) is not None for number in range(103)]
    assert known == [False] * 3 + [True] * 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"code": 5, "places": 5}',
        '{"places": [{"place": "/b.ipynb", "at": "2027-01-01"}]}',
        "[" * 100_000,
        "\udcff",
    ],
    ids=lambda text: text[:10],
)
def test_a_file_that_cannot_be_read_is_passed_over(text: str, tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    store.keep(CODE, place="/a.ipynb")
    (path,) = files(tmp_path)
    older = code(cells=("2",), at="2025-01-01")
    store.keep(older, place="/a.ipynb")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == older
    assert store.known(CODE) is None
    store.keep(CODE, place="/a.ipynb")  # put right
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") == CODE


@pytest.mark.parametrize(
    "places",
    [
        5,
        [5],
        [{}],
        [{"place": "/a.ipynb"}],
        [{"place": 1, "at": "2027"}],
        [{"place": "/a.ipynb", "at": 3}],
        [{"place": "/b.ipynb", "at": 2027, "cell": "c1"}],
        [{"place": "/a.ipynb", "at": "2027-01-01", "cell": ["c1"]}],
        [{"place": "/a.ipynb", "at": "2027-01-01", "turn": None}],
        [{"place": "/a.ipynb", "at": "2027-01-01", "parent": 5}],
    ],
)
def test_a_place_that_cannot_be_read_is_none(places: Any, tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    store.keep(CODE, place="/a.ipynb")
    (path,) = files(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "places": places}))
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") is None
    assert store.known(CODE) is None


def test_code_that_was_changed_in_the_store_is_not_run(tmp_path: Path) -> None:
    store = KeptStore(tmp_path)
    store.keep(CODE, place="/a.ipynb")
    (path,) = files(tmp_path)
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    assert store.newest("Sum?", place="/a.ipynb", cell="c1") is None


PATH = f"state/kept/b140e18057734d80-{CODE.sha256[:32]}.json"
"""By hand: how the SHA-256 of the request begins, and that of the code."""


@pytest.mark.parametrize("name", ["state", "state/kept", PATH])
def test_what_cannot_be_written_is_said(name: str, tmp_path: Path) -> None:
    """Also to root, whom no mode of a directory stops."""
    state, there = tmp_path / "state", tmp_path / name
    there.parent.mkdir(parents=True, exist_ok=True)
    if name == PATH:
        there.mkdir()
    else:
        there.write_text("")
    with pytest.raises(JournalError, match="cannot be kept"):
        KeptStore(state).keep(CODE, place="/a.ipynb")
    assert KeptStore(state).newest("Sum?", place="/a.ipynb", cell="c1") is None
    assert KeptStore(state).known(CODE) is None
    assert not list(tmp_path.rglob(".*"))


KEEPS = """
import sys
from pathlib import Path
from lash_nb.stores.kept import KeptCode, KeptStore
store = KeptStore(Path(sys.argv[1]))
name = sys.argv[2]
for number in range(40):
    at = f"2026-01-01T00:00:{number:02}"
    store.keep(KeptCode(request="Sum?", cells=(f"{name}{number}",), cell=name, at=at), place="/a.ipynb")
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Different code of each; a reader meanwhile finds whole files."""
    running = [subprocess.Popen([sys.executable, "-c", KEEPS, str(tmp_path), name]) for name in "ab"]
    store = KeptStore(tmp_path)
    while any(one.poll() is None for one in running):
        for path in files(tmp_path):
            KeptCode.from_json(json.loads(path.read_text())["code"])
    assert [one.wait() for one in running] == [0, 0]
    for name in "ab":
        found = store.newest("Sum?", place="/a.ipynb", cell=name)
        assert found is not None
        assert found.cells == (f"{name}39",)
    assert len(list((tmp_path / "kept").iterdir())) == 80


# -- what a notebook carries -------------------------------------------------------------------------------------------


def merged(*blocks: object, ours: tuple[KeptCode, ...] = ()) -> list[KeptCode]:
    return list(carried_kept(merged_kept(blocks, ours)))


def carrying(*codes: KeptCode) -> dict[str, Any]:
    return {KEPT_KEY: [one.to_json() for one in codes]}


def test_the_newest_of_each_cell_is_carried() -> None:
    old, new = code(at="2026-01-01"), code(at="2026-01-02", cells=("2",))
    other_cell, other_request = code(cell="c2", at="2025-01-01"), code(request="Mean?", at="2024-01-01")
    assert merged(carrying(new, other_request), ours=(old, other_cell)) == [other_request, other_cell, new]
    assert merged(carrying(old), carrying(new)) == [new]
    assert merged(carrying(new), carrying(old)) == [new]
    assert merged_kept([{}, None, {KEPT_KEY: 5}, {KEPT_KEY: [5, {}]}], []) == {}


def test_of_two_of_the_same_moment_ours_is_carried() -> None:
    theirs, ours = code(cells=("1",)), code(cells=("2",))
    assert merged(carrying(theirs), ours=(ours,)) == [ours]


def test_what_is_carried_is_bounded_and_the_newest_stay() -> None:
    many = tuple(code(cell=f"c{n:03}", at=f"2026-01-01T00:00:{n:02}", cells=("x" * 5_000,)) for n in range(40))
    found = merged(ours=many)
    assert found == list(many[-len(found) :])
    assert 10 < len(found) < 20
    assert len(json.dumps(merged_kept([], many))) <= 110_000


def test_one_that_is_too_long_leaves_room_for_others() -> None:
    """A notebook in which one cell's code is huge still carries that of the others."""
    huge = code(cell="huge", at="2026-06-01", cells=("x" * 150_000,))
    assert merged(ours=(CODE, huge)) == [CODE]


# -- in a block --------------------------------------------------------------------------------------------------------


def test_a_block_with_kept_code_is_of_the_format() -> None:
    whole = block(1) | merged_kept([], [CODE, code(request="Mean?", cell=None, answer=None)])
    jsonschema.Draft202012Validator(notebook.schema()).validate(whole)
    read = notebook.read_block({"lash_nb": whole})
    assert read is not None
    assert notebook.lasting(whole) == {KEPT_KEY: whole[KEPT_KEY]}


def test_kept_code_alone_is_no_session() -> None:
    alone = merged_kept([], [CODE])
    jsonschema.Draft202012Validator(notebook.schema()).validate(alone)
    assert notebook.is_lasting_alone(alone)
    assert notebook.read_block({"lash_nb": alone}) is None


def test_a_block_that_comes_after_has_what_the_one_before_carried() -> None:
    alone, whole = carrying(CODE), block(1)
    assert notebook.following(alone, whole) == {**alone, **whole}
    assert notebook.following({**whole, **alone}, block(2))[KEPT_KEY] == alone[KEPT_KEY]
    newer = carrying(code(at="2027-01-01"))
    assert notebook.following({**whole, **alone}, {**block(2), **newer})[KEPT_KEY] == newer[KEPT_KEY]


def test_folding_leaves_it_as_it_is() -> None:
    whole = {**block(1), **carrying(CODE)}
    value, size = notebook.fitted(whole, most_bytes=10)
    assert value[KEPT_KEY] == whole[KEPT_KEY]
    assert size == len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("value", [5, "x", {}, [5], [{"cells": []}]])
def test_kept_code_that_is_damaged_does_not_cost_the_turns(value: Any) -> None:
    read = notebook.read_block({"lash_nb": {**block(1), KEPT_KEY: value}})
    assert read is not None
    assert len(read.turns) == 1
    assert list(carried_kept({**block(1), KEPT_KEY: value})) == []
