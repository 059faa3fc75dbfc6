"""One server and one browser a frontend for all tests; notebook and provider are each test's own, but for `talking`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.line_notebooks import LINE

from .frontend import Frontend, OpenNotebook
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


@pytest.fixture(scope="module")
def talking(frontend: Frontend) -> Iterator[OpenNotebook]:
    """A notebook of three cells whose kernel has its half of the line to who holds it."""
    with frontend.opened(["'first'", "'second'", "'third'"]) as notebook:
        notebook.asked(LINE)
        yield notebook


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found
