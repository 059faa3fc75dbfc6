"""What holds for every test: no network but loopback, a clean environment, settled hypothesis runs.

The environment is cleaned when this file is imported, that is before anything of the package is, so that the
processes which tests start inherit the clean one.
"""

from __future__ import annotations

import atexit
import ipaddress
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# -------------------------------------------------------------------------------------------- the environment

_UNWANTED = re.compile(r"LASH_NB_.*|JUPYTER_.*|.*_API_KEY|.*_TOKEN|.*_BASE_URL|.*_PROXY", re.IGNORECASE)


def _clean_environment() -> None:
    for name in list(os.environ):
        if _UNWANTED.fullmatch(name):
            del os.environ[name]
    # Short: the path of a Unix socket has 107 characters at most.
    home = Path(tempfile.mkdtemp(prefix="lash-nb-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "IPYTHONDIR"):
        os.environ[name] = str(home / name.lower())
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[name] = str(home / name.lower())
    os.environ["LASH_NB_STATE_DIR"] = str(home / "state")
    os.environ["MPLBACKEND"] = "agg"
    # Processes started by a test, wherever they run, import this checkout.
    os.environ["PYTHONPATH"] = str(ROOT)


_clean_environment()

# ------------------------------------------------------------------------------------------------ the network


class NetworkForbidden(RuntimeError):
    """A test wanted to reach something outside this machine."""


_attempts: list[str] = []


def _is_local(host: object) -> bool:
    if host is None or host in ("", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guard(event: str, args: tuple[object, ...]) -> None:
    """An audit hook: sees what every library does with sockets, also one that was imported earlier."""
    match event, args:
        case ("socket.connect" | "socket.sendto", (_, (host, _, *_))):
            wanted = host
        case ("socket.getaddrinfo" | "socket.gethostbyname", (host, *_)):
            wanted = host
        case _:  # also AF_UNIX, whose address is a path
            return
    if not _is_local(wanted):
        _attempts.append(f"{event} {wanted!r}")
        raise NetworkForbidden(f"{event} {wanted!r}: tests reach nothing but loopback")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    """Fails a test whose attempt to reach the network was swallowed by the code under test."""
    _attempts.clear()
    yield
    assert not _attempts, f"tests reach nothing but loopback: {_attempts}"


# ------------------------------------------------------------------------------------------------- collection


_ONLY_WHEN_NAMED = (ROOT / "tests" / "browser", ROOT / "tests" / "local", ROOT / "tests" / "sandbox")
"""They need what pip alone does not install: Chromium, the local model's file, bubblewrap."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the directories that are collected only when they are named."""
    if collection_path not in _ONLY_WHEN_NAMED:
        return None
    named = (Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args)
    return None if any(path.resolve().is_relative_to(collection_path) for path in named) else True


# No test asserts a time, so no example has a deadline; in CI the examples are the same in every run.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")
