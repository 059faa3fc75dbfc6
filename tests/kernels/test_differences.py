"""A kernel of another interpreter: how it differs from this process, and one that cannot be a kernel at all."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lash_nb.errors import KernelStartError
from lash_nb.kernels.differences import _sentences, imported_packages
from lash_nb.kernels.managed import ManagedKernel

from .environments import Environment
from .suite import fresh, texts


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


async def test_an_interpreter_without_ipykernel_is_told_with_the_command(environment: Environment) -> None:
    with pytest.raises(KernelStartError) as raised:
        await ManagedKernel(python=environment.python).start()
    command = f"{shlex.quote(environment.python)} -m pip install 'ipykernel>=7.4'"
    assert str(raised.value) == f"ipykernel is not installed for {environment.python}: run {command}"


async def test_an_interpreter_with_an_old_ipykernel_is_told_with_the_command(environment: Environment) -> None:
    environment.see_ours()
    environment.pretend("ipykernel", "6.29.5")
    with pytest.raises(KernelStartError) as raised:
        await ManagedKernel(python=environment.python).start()
    command = f"{shlex.quote(environment.python)} -m pip install 'ipykernel>=7.4'"
    assert str(raised.value) == f"{environment.python} has ipykernel 6.29.5, which is too old: run {command}"


async def test_another_interpreter_says_how_it_differs(environment: Environment) -> None:
    environment.see_ours()
    environment.pretend("numpy", "1.26.4")
    async with ManagedKernel(python=environment.python) as kernel:
        told = await kernel.differences({"numpy": "2.4.6", "pandas": pd.__version__, "catboost": "1.9.0"})
        result = await kernel.run(fresh(), "import sys; print(sys.prefix)")
    assert texts(result) == [f"{Path(environment.python).parents[1]}\n"]
    assert told == (
        "numpy is 1.26.4 in the agent's kernel, 2.4.6 here: arrays may not go over",
        "catboost is not installed in the agent's kernel",
    )


async def test_the_same_interpreter_is_not_asked() -> None:
    async with ManagedKernel() as kernel:
        assert await kernel.differences({"catboost": "1.9.0"}) == ()


def test_the_packages_of_this_process() -> None:
    found = imported_packages()
    assert found["pandas"] == pd.__version__
    assert found["numpy"] == np.__version__
    assert not {"pytest", "asyncio", "pydantic"} & set(found)
    assert imported_packages({"os": os}) == {}


@pytest.mark.parametrize(
    ("there", "versions", "expected"),
    [
        ("3.11.2", {"pandas": "3.0.1", "cloudpickle": "3.1"}, ()),
        ("3.11.2", {"pandas": "3.9", "cloudpickle": "2.0"}, ()),
        ("3.11.7", {"pandas": "", "cloudpickle": ""}, ()),
        (
            "3.12.3",
            {"pandas": "2.2.3", "cloudpickle": None},
            (
                "the agent's kernel runs Python 3.12.3, this notebook 3.11.7: functions and classes defined in the "
                "notebook cannot go over",
                "pandas is 2.2.3 in the agent's kernel, 3.0.1 here: frames may not go over",
            ),
        ),
        (
            "3.11.7",
            {"pandas": None, "cloudpickle": None},
            (
                "cloudpickle is not installed in the agent's kernel: functions and classes defined in the notebook "
                "cannot go over",
                "pandas is not installed in the agent's kernel",
            ),
        ),
    ],
)
def test_which_differences_are_said(there: str, versions: dict[str, str | None], expected: tuple[str, ...]) -> None:
    assert _sentences("3.11.7", {"pandas": "3.0.1"}, there, versions) == expected


def test_before_one_point_nought_the_second_number_counts() -> None:
    said = _sentences("3.11.7", {"jax": "0.4.1"}, "3.11.7", {"jax": "0.5.1", "cloudpickle": "3"})
    assert said == ("jax is 0.5.1 in the agent's kernel, 0.4.1 here: arrays may not go over",)
