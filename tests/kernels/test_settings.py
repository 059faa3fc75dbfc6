"""How a session makes its kernels: as arguments, as JSON, over others, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.errors import InputError
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.settings import KernelSettings, as_ordered, checked_settings

FULL = KernelSettings(
    python="python3.12",
    sandbox=True,
    sandbox_read=("/usr",),
    pass_env=("A_TOKEN", "B_KEY"),
    resources=ResourceLimits(memory_bytes=1 << 30, cpus=1.5, open_files=100, processes=64),
    spare=True,
)
AS_JSON = {
    "memory_bytes": 1 << 30,
    "cpus": 1.5,
    "open_files": 100,
    "processes": 64,
    "python": "python3.12",
    "sandbox": True,
    "spare": True,
    "pass_env": ["A_TOKEN", "B_KEY"],
    "sandbox_read": ["/usr"],
}


def test_nothing_said_is_nothing_written() -> None:
    assert KernelSettings().to_json() == {}
    assert KernelSettings.from_json({}) == KernelSettings() == KernelSettings.of({})
    assert KernelSettings().told() == ""


def test_all_of_it_as_json_and_back() -> None:
    assert FULL.to_json() == AS_JSON
    assert KernelSettings.from_json(json.loads(json.dumps(AS_JSON))) == FULL
    assert KernelSettings.of(FULL.as_arguments()) == FULL


@pytest.mark.parametrize("told", [None, "sandbox", 1, ["sandbox"]])
def test_what_is_no_object_is_refused(told: object) -> None:
    with pytest.raises(InputError, match="not a JSON object"):
        KernelSettings.from_json(told)


@pytest.mark.parametrize("word", [1, "no", "", None, [], {"x": 1}])
def test_a_sandbox_that_is_said_oddly_counts(word: object) -> None:
    """What reads a record must not be less strict than whoever wrote it may have meant."""
    assert KernelSettings.from_json({"sandbox": word}).sandbox
    assert not KernelSettings.from_json({"sandbox": False}).sandbox


def test_odd_values_count_as_not_said() -> None:
    odd = {"python": 3, "pass_env": "NAME", "spare": "yes", "memory_bytes": "4G"}
    assert KernelSettings.from_json(odd) == KernelSettings()


def test_bounds_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="too few for a kernel"):
        KernelSettings.from_json({"memory_bytes": 5})


def test_one_text_is_no_list_of_names() -> None:
    with pytest.raises(InputError, match=r"pass_env=\['NAME'\]"):
        KernelSettings.of({"pass_env": "NAME"})
    with pytest.raises(InputError, match="sandbox_read is a list"):
        KernelSettings.of({"sandbox_read": "/usr"})
    with pytest.raises(InputError, match="there is no such file or directory"):
        KernelSettings.of({"sandbox_read": ["/nowhere/at/all"]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pass_env": None}, "pass_env is a list of texts"),
        ({"pass_env": ["A=B"]}, "names of variables, and 'A=B' is none"),
        ({"pass_env": [""]}, "names of variables"),
        ({"resources": {"memory_bytes": 1 << 30}}, "resources is a ResourceLimits, not dict"),
        ({"python": "/nowhere/python"}, "there is no Python /nowhere/python"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        KernelSettings.of(given)


@pytest.mark.parametrize("name", ["sandboxed", "memory", "cell_seconds"])
def test_an_argument_that_there_is_not_is_no_silence(name: str) -> None:
    given: Any = {name: True}
    with pytest.raises(TypeError, match=f"there is no argument '{name}'"):
        KernelSettings.of(given)
    with pytest.raises(TypeError):
        Session(ScriptedModel([]), **given)


def test_over_others() -> None:
    others = KernelSettings(
        python="python3.11", pass_env=("A_TOKEN", "C"), resources=ResourceLimits(processes=99, memory_bytes=2 << 30)
    )
    mine = KernelSettings(sandbox=True, pass_env=("B",), resources=ResourceLimits(memory_bytes=1 << 30))
    assert mine.over(others) == KernelSettings(
        python="python3.11",
        sandbox=True,
        pass_env=("A_TOKEN", "C", "B"),
        resources=ResourceLimits(memory_bytes=1 << 30, processes=99),
    )


@pytest.mark.parametrize(
    ("value", "ordered"), [("1", True), ("yes", True), ("", False), ("0", False), ("False", False)]
)
def test_the_environment_orders_the_sandbox(value: str, ordered: bool) -> None:
    assert as_ordered(KernelSettings(), {"LASH_NB_SANDBOX": value}).sandbox is ordered
    assert as_ordered(KernelSettings(sandbox=True), {"LASH_NB_SANDBOX": value}).sandbox


def test_what_the_model_is_told() -> None:
    told = FULL.told()
    assert told.startswith("Your kernel runs in a sandbox: there is no network")
    bounds = "1 GB of memory, 1.5 processors, 100 open files in each process, 64 processes and threads"
    more = "code that wants more gets an error, or the kernel is ended with its variables."
    assert told.endswith(f"Your kernel may use {bounds} at most: {more}")


def test_where_there_is_no_bubblewrap_the_sandbox_is_refused_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs bubblewrap, and there is no bwrap on the PATH: install it"):
        checked_settings({"sandbox": True}, tmp_path)
    assert checked_settings({"pass_env": ["NAME"]}, tmp_path) == {"pass_env": ["NAME"]}
