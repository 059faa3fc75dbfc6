"""One server and one browser a frontend, for all tests; notebook and model provider are each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .frontend import Frontend
from .provider import Provider


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session", params=["lab", "notebook"])
def frontend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontend]:
    with Frontend(tmp_path_factory.mktemp(request.param), request.param) as found:
        yield found


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found
