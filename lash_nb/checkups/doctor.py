"""`lash-nb doctor`: whether lash_nb can work here, each part with ✓ or what to do.

Decided here: a part is tried where that is cheap (a managed kernel is started, the state directory is written to, the
local model's file is hashed), never over the network. What lash_nb can do without is not called broken.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError, LashError
from ..kernels import Kernel
from ..machine.execution import CellOutcome
from ..models.choice import choose_model
from ..models.weights import find_weights, verify
from ..session import default_state_dir
from ..version import __version__
from . import Finding, State
from .candidates import candidates

__all__ = ["check_everything"]

_KERNEL_WAIT_S = 60.0
_LEAST_FREE = 200_000_000
_FRONTENDS = ("jupyterlab", "notebook")


def check_everything(
    env: Mapping[str, str], *, home: Path, on_finding: Callable[[Finding], None] = lambda finding: None
) -> tuple[Finding, ...]:
    """All findings, in order; `on_finding` is told each as soon as it is known. No part that fails hides another."""
    found: list[Finding] = []

    def add(*findings: Finding) -> None:
        for finding in findings:
            found.append(finding)
            on_finding(finding)

    add(_python(), _platform(), *_packages())
    add(_kernel(home))
    add(_chosen(env))
    add(*candidates(env, home=home))
    if _has("xllamacpp"):
        add(*_weights(env))
    add(_widgets(), _copies())
    add(*_state(env))
    return tuple(found)


def _good(what: str, said: str) -> Finding:
    return Finding(state=State.GOOD, what=what, said=said)


def _bad(what: str, said: str) -> Finding:
    return Finding(state=State.BAD, what=what, said=said)


def _absent(what: str, said: str) -> Finding:
    return Finding(state=State.ABSENT, what=what, said=said)


def _has(package: str) -> bool:
    return find_spec(package) is not None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# -- the environment ---------------------------------------------------------------------------------------------------


def _python() -> Finding:
    said = f"Python {platform.python_version()} at {sys.executable}"
    if _numbers(platform.python_version()) < (3, 11):
        return _bad("python", f"{said}: lash_nb needs 3.11 or later")
    return _good("python", said)


def _platform() -> Finding:
    said = f"{platform.system()} {platform.machine()}"
    system = platform.system()
    if system == "Linux":
        return _good("platform", said)
    if system == "Windows":
        return _bad("platform", f"{said}: not supported; use Linux, or WSL")
    return _absent("platform", f"{said}: not tested; Linux is supported in full")


def _packages() -> list[Finding]:
    rows = [_good("lash_nb", __version__)]
    for name, least in (("ipykernel", (7, 4)), ("jupyter-client", (8, 8)), ("ipywidgets", (8, 1))):
        there = _version(name)
        wanted = ".".join(map(str, least))
        if there is None:
            rows.append(_bad(name, f"not installed: pip install '{name}>={wanted}'"))
        elif _numbers(there) < least:
            rows.append(_bad(name, f"{there} is too old: pip install '{name}>={wanted}'"))
        else:
            rows.append(_good(name, there))
    return rows


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(piece) for piece in text.split(".")[:2] if piece.isdigit())


# -- the managed kernel ------------------------------------------------------------------------------------------------


def _kernel(home: Path) -> Finding:
    began = time.monotonic()
    try:
        problem = asyncio.run(asyncio.wait_for(_kernel_problem(home), _KERNEL_WAIT_S))
    except (LashError, OSError, TimeoutError) as error:
        why = str(error) or f"no answer in {_KERNEL_WAIT_S:g} s"
        return _bad("managed kernel", f"{why}; try `{sys.executable} -m pip install --upgrade ipykernel`")
    if problem:
        return _bad("managed kernel", problem)
    return _good("managed kernel", f"started, ran a cell and ended in {time.monotonic() - began:.1f} s")


async def _kernel_problem(home: Path) -> str:
    kernel: Kernel = import_module("lash_nb.kernels.managed").ManagedKernel(cwd=home)
    try:
        await kernel.start()
        result = await kernel.run("doctor", "print(6 * 7)")
        return "" if result.outcome is CellOutcome.OK else f"a cell ended with {result.outcome}: {result.detail}"
    finally:
        await kernel.shutdown()


# -- models ------------------------------------------------------------------------------------------------------------


def _chosen(env: Mapping[str, str]) -> Finding:
    try:
        choice = choose_model(env=env)
    except InputError as error:
        return _absent("model", str(error))
    return _good("model", choice.announcement)


def _weights(env: Mapping[str, str]) -> list[Finding]:
    try:
        found = find_weights(env)
    except InputError:
        return []  # the candidates say so
    if not found.pinned:
        return [_absent("local weights", f"{found.path} is your own file; it is not checked")]
    try:
        verify(found.path)
    except InputError as error:
        return [_bad("local weights", str(error))]
    return [_good("local weights", "every byte is the pinned one (SHA-256)")]


# -- frontends and directories -----------------------------------------------------------------------------------------


def _widgets() -> Finding:
    frontends = [f"{name} {_version(name)}" for name in _FRONTENDS if _version(name)]
    if not frontends:
        said = "no JupyterLab or Notebook in this environment; turns are plain outputs in the frontend that you use"
        return _absent("live turns", said)
    if _version("jupyterlab-widgets") is None:
        return _bad("live turns", f"{', '.join(frontends)} without jupyterlab-widgets: pip install jupyterlab-widgets")
    return _good("live turns", f"{', '.join(frontends)}, widgets {_version('jupyterlab-widgets')}")


def _copies() -> Finding:
    return _absent("notebook metadata", "written by `lash-nb run`; a frontend has no extension for it yet")


def _state(env: Mapping[str, str]) -> list[Finding]:
    directory = default_state_dir()
    what = "state directory"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"lash_nb")
        mode = stat.S_IMODE(directory.stat().st_mode)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return [_bad(what, f"{directory} cannot be written ({error.strerror}): set LASH_NB_STATE_DIR")]
    rows = []
    if mode & 0o077 and not env.get("LASH_NB_STATE_DIR"):
        rows.append(_bad(what, f"{directory} can be read by others ({mode:o}): chmod 700 {directory}"))
    else:
        rows.append(_good(what, str(directory)))
    if free < _LEAST_FREE:
        rows.append(_bad("disk", f"{free // 1_000_000:,} MB free where turns are kept: make room"))
    if not os.access(tempfile.gettempdir(), os.W_OK):
        rows.append(_bad("temporary files", f"{tempfile.gettempdir()} cannot be written: set TMPDIR"))
    return rows
