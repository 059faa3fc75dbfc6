"""All variables in one summary: what changed, what is left out, what is not described again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lash_nb.kernels.inside import describer as describer_module
from lash_nb.kernels.inside import describing
from lash_nb.kernels.inside.describer import BUDGET_S, MOST_WALKED, Describer
from lash_nb.kernels.summaries import Summaries, namespace_summary
from lash_nb.machine.execution import NAMESPACE, NamespaceSummary, VariableSummary

SLACK_S = 0.4


def summary(describer: Describer, names: dict[str, Any], *, limit: int = 200, previews: str = "sample") -> Any:
    return describer.summary(names, {}, limit, previews)


def changes(found: Any) -> dict[str, bool]:
    return {name: changed for name, _, _, _, changed, _ in found["variables"]}


# ---------------------------------------------------------------------------------------------------- a walk's bounds


def test_a_million_variables_cost_no_more_than_the_newest_of_them() -> None:
    describer = Describer()
    names: dict[str, Any] = {f"v{number}": number for number in range(1_000_000)}
    names["newest"] = "here"
    begun = time.monotonic()
    found = summary(describer, names)
    assert time.monotonic() - begun < BUDGET_S + SLACK_S
    assert (found["omitted"] + len(changes(found)), found["about"]) == (1_000_001, True)
    assert "newest" in changes(found)
    names["v0"], names["newer still"] = "rebound, and too far back to be seen", 1
    del names["v999999"]
    found = summary(describer, names)
    assert found["removed"] == ["v999999"]
    assert changes(found)["newer still"]
    assert len(changes(found)) >= 10


def test_a_name_that_was_told_stays_in_view() -> None:
    describer = Describer()
    names: dict[str, Any] = {"old": [1]}
    summary(describer, names)
    names.update({f"v{number}": number for number in range(MOST_WALKED)})
    found = summary(describer, names)
    assert found["removed"] == []
    names["old"] = [1, 2]
    assert changes(summary(describer, names))["old"]


def test_those_that_were_bound_lately_come_first() -> None:
    describer = Describer()
    names: dict[str, Any] = {f"v{number}": number for number in range(10)}
    assert list(changes(summary(describer, names, limit=3))) == ["v7", "v8", "v9"]
    assert changes(summary(describer, names, limit=3)) == {"v7": False, "v8": False, "v9": False}
    names["v0"] = "rebound"
    assert changes(summary(describer, names, limit=2)) == {"v0": True, "v9": False}
    found = summary(describer, names)
    assert (found["omitted"], found["about"]) == (0, False)
    assert not any(changes(found).values()), "what a cap left out is not new"


def test_names_that_are_no_plain_text_are_left_out() -> None:
    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

    names: dict[Any, Any] = {Name("x"): 1, 3: 2, "_hidden": 3, "y": 4}
    assert list(changes(Describer().summary(names, {}, 10))) == ["y"]


def test_what_cannot_be_encoded_is_told_all_the_same() -> None:
    found = summary(Describer(), {"x": "\ud800", "y": {"\udcff": 1}})
    assert [preview for _, _, _, preview, _, _ in found["variables"]] == ["'\\ud800'", "{'\\udcff': 1}"]


# ------------------------------------------------------------------------------------------ changes, and what is kept


def test_changes_in_a_frame_are_seen_and_nothing_else_is() -> None:
    describer = Describer()
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [1.0, 2.0, 3.0]})
    names = {"frame": frame, "column": pd.Series([1, 2]), "table": pd.DataFrame({"s": ["x"]})}
    assert all(changes(summary(describer, names)).values())
    assert not any(changes(summary(describer, names)).values())
    frame.to_numpy()
    frame.sum()
    assert not any(changes(summary(describer, names)).values())
    frame.iloc[0, 0] = 7
    assert changes(summary(describer, names)) == {"frame": True, "column": False, "table": False}
    frame["c"] = 1
    names["table"].iloc[0, 0] = "y"
    assert changes(summary(describer, names)) == {"frame": True, "column": False, "table": True}
    frame.columns = pd.Index(["x", "y", "z"])
    assert changes(summary(describer, names)) == {"frame": True, "column": False, "table": False}
    assert summary(describer, names)["variables"][1][5] == [["x", "int64"], ["y", "float64"], ["z", "int64"]]


def test_what_has_not_changed_is_not_described_again(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[Any] = []
    original = describing.describe

    def describe(value: Any, *args: Any, **kwargs: Any) -> Any:
        described.append(value)
        return original(value, *args, **kwargs)

    monkeypatch.setattr(describer_module, "describe", describe)
    array, frame, describer = np.zeros(10), pd.DataFrame({"a": [1]}), Describer()

    def function(a: int) -> None: ...

    names = {"array": array, "frame": frame, "function": function}
    first = summary(describer, names)
    assert len(described) == 3
    second = summary(describer, names)
    assert len(described) == 3
    assert [variable[:4] for variable in second["variables"]] == [variable[:4] for variable in first["variables"]]
    array[3] = 1
    assert changes(summary(describer, names)) == {"array": True, "frame": False, "function": False}
    assert len(described) == 4
    function.__defaults__ = (3,)
    assert summary(describer, names)["variables"][2][2] == "(a: int = 3) -> None"
    before = len(described)
    summary(describer, names, previews="schema")
    assert len(described) > before, "other previews are not what was told"


def test_other_previews_are_no_changes() -> None:
    class Own:
        def __repr__(self) -> str:
            return "Own()"

    describer = Describer()
    names = {"own": Own(), "items": [Own()], "text": "t"}
    assert all(changes(summary(describer, names)).values())
    for previews in ("schema", "sample", "full", "schema", "full", "sample"):
        assert not any(changes(summary(describer, names, previews=previews)).values()), previews


def test_a_repr_that_says_something_else_is_a_change() -> None:
    class Own:
        said = "one"

        def __repr__(self) -> str:
            return self.said

    describer, own = Describer(), Own()
    summary(describer, {"own": own})
    assert changes(summary(describer, {"own": own})) == {"own": False}
    own.said = "two"
    assert changes(summary(describer, {"own": own})) == {"own": True}


# ------------------------------------------------------------------------------------------------ what packages bring


class Gadget:
    def __repr__(self) -> str:
        return "Gadget()"


class Derived(Gadget):
    pass


class Broken:
    pass


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that describes classes of this file."""
    code = "def describe(value):\n    return 'gadget as a model needs it'\ndef fail(value):\n    raise ValueError\n"
    (tmp_path / "gadget_describers.py").write_text(code)
    info = tmp_path / "gadget_describers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gadget-describers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[lash_nb.describers]\n{__name__}:Gadget = gadget_describers:describe\n{__name__}:Broken = nowhere_at_all:it\n"
        f"{__name__}:Plain = gadget_describers:fail\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


class Plain:
    pass


def eventually(describer: Describer, value: Any, told: tuple[str, str]) -> None:
    """They are loaded on a thread of their own."""
    deadline = time.monotonic() + 10
    while describer.describe(value)[1:] != told:
        assert time.monotonic() < deadline, describer.describe(value)
        time.sleep(0.02)


@pytest.mark.usefixtures("package")
def test_packages_describe_classes_of_others() -> None:
    describer = Describer()
    eventually(describer, Gadget(), ("", "gadget as a model needs it"))
    eventually(describer, Derived(), ("", "gadget as a model needs it"))
    assert summary(describer, {"x": Gadget()}, previews="schema")["variables"][0][1:4] == ["Gadget", "", ""]
    said = f"the describer {__name__}:Broken cannot be loaded (ModuleNotFoundError)"
    eventually(describer, Broken(), (said, "<Broken>"))
    failed = "its describer raises ValueError"
    eventually(describer, Plain(), (failed, f"<Plain: {failed}>"))


# ------------------------------------------------------------------------------------------ what the host still holds

TOLD = [["x", "int", "", "1", True, []]]


def test_same_stands_for_what_was_told_last_without_its_marks() -> None:
    summaries = Summaries()
    first = summaries.ask(limit=5, previews="sample")
    assert first.content == {"limit": 5, "previews": "sample"}
    reply = {"variables": TOLD, "omitted": 2, "about": True, "removed": ["gone"], "token": "t1"}
    told = summaries.take(first, reply)
    x = VariableSummary(name="x", type="int", preview="1", changed=True)
    assert told == NamespaceSummary(variables=(x,), omitted=2, about=True, removed=("gone",))
    second = summaries.ask(limit=5, previews="sample")
    assert second.content == {"limit": 5, "previews": "sample", "token": "t1"}
    settled = VariableSummary(name="x", type="int", preview="1")
    assert summaries.take(second, {"same": "t1"}) == NamespaceSummary(variables=(settled,), omitted=2, about=True)
    assert "token" not in summaries.ask(limit=5, previews="full").content
    assert "token" not in summaries.ask(limit=6, previews="sample").content


def test_a_summary_of_many_is_kept_as_it_is_and_old_ones_are_read() -> None:
    reply = {"variables": TOLD, "omitted": 10**6, "about": True, "removed": []}
    told = namespace_summary(reply, previews="sample")
    assert NAMESPACE.decode(NAMESPACE.encode(told)) == told
    old = {"variables": [{"name": "x", "type": "int"}], "omitted": 3}
    assert NAMESPACE.decode(old) == NamespaceSummary(variables=(VariableSummary(name="x", type="int"),), omitted=3)
