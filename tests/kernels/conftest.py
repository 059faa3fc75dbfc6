"""What the tests of kernels share: a directory in which no guarded cell may write without a question."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.kernels.inside.effects import Places, places_for_all


@pytest.fixture
def outside() -> Iterator[Path]:
    """Beside this file, or in the user's home where the checkout itself is a temporary one; empty, removed later."""
    places = Places(places_for_all(os.environ))
    candidates = (Path(__file__).resolve().parent, Path(pwd.getpwuid(os.getuid()).pw_dir).resolve())
    base = next(path for path in candidates if not places.free(str(path)) and os.access(path, os.W_OK))
    with tempfile.TemporaryDirectory(prefix=".lash-nb-outside-", dir=base) as directory:
        yield Path(directory)
