"""Says at once where there is no sandbox, instead of failing test by test."""

from __future__ import annotations

import pytest

from lash_nb.kernels.sandbox import sandbox_problem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if "tests/sandbox" in item.path.as_posix()]
    for item in mine:
        item.add_marker(pytest.mark.sandbox)
    if mine and (problem := sandbox_problem()):
        pytest.exit(f"tests/sandbox: {problem}", returncode=1)
