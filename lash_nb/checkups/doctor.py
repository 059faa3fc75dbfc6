"""`lash-nb doctor`: whether lash_nb can work here, each part with ✓ or what to do.

Decided here: a part is tried where that is cheap (a managed kernel is started, the state directory is written to, the
local model's file is hashed), never over the network. What lash_nb can do without is not called broken. What a part
needs it imports itself, and what it raises is a finding (`guard`): an installation is looked into because it is broken.
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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError, LashError
from ..kernels import Kernel
from ..machine.execution import CellOutcome
from ..models.choice import choose_model
from ..models.weights import find_weights, verify
from ..version import __version__
from . import Finding, State
from .candidates import parts as candidate_parts
from .guard import Part, found_by

__all__ = ["check_everything"]

_KERNEL_WAIT_S = 60.0
_LEAST_FREE = 200_000_000
_FRONTENDS = ("jupyterlab", "notebook")
_PACKAGES = (("ipykernel", (7, 4)), ("jupyter-client", (8, 8)), ("ipywidgets", (8, 1)))


def check_everything(
    env: Mapping[str, str], *, home: Path, on_finding: Callable[[Finding], None] = lambda finding: None
) -> tuple[Finding, ...]:
    """All findings, in order; `on_finding` is told each as soon as it is known. No part that fails hides another."""
    found: list[Finding] = []
    for finding in found_by(_parts(env, home)):
        found.append(finding)
        on_finding(finding)
    return tuple(found)


def _parts(env: Mapping[str, str], home: Path) -> Iterator[Part]:
    yield "python", _python
    yield "platform", _platform
    yield "lash_nb", lambda: [_good("lash_nb", __version__)]
    for name, least in _PACKAGES:
        yield name, partial(_package, name, least)
    yield "managed kernel", partial(_kernel, home)
    yield "sandbox", partial(_sandbox, env)
    yield "limits", _limits
    yield "model", partial(_chosen, env)
    yield from candidate_parts(env, home=home)
    yield "local weights", partial(_weights, env)
    yield "live turns", _widgets
    yield "notebook metadata", _copies
    yield "state directory", partial(_state, env)


def _good(what: str, said: str) -> Finding:
    return Finding(state=State.GOOD, what=what, said=said)


def _bad(what: str, said: str) -> Finding:
    return Finding(state=State.BAD, what=what, said=said)


def _absent(what: str, said: str) -> Finding:
    return Finding(state=State.ABSENT, what=what, said=said)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# -- the environment ---------------------------------------------------------------------------------------------------


def _python() -> list[Finding]:
    said = f"Python {platform.python_version()} at {sys.executable}"
    if _numbers(platform.python_version()) < (3, 11):
        return [_bad("python", f"{said}: lash_nb needs 3.11 or later")]
    return [_good("python", said)]


def _platform() -> list[Finding]:
    said = f"{platform.system()} {platform.machine()}"
    system = platform.system()
    if system == "Linux":
        return [_good("platform", said)]
    if system == "Windows":
        return [_bad("platform", f"{said}: not supported; use Linux, or WSL")]
    return [_absent("platform", f"{said}: not tested; Linux is supported in full")]


def _sandbox(env: Mapping[str, str]) -> list[Finding]:
    from ..kernels.sandbox import sandbox_problem
    from ..kernels.settings import SANDBOX_VARIABLE, KernelSettings, as_ordered

    problem = sandbox_problem()
    if problem and as_ordered(KernelSettings(), env).sandbox:
        return [_bad("sandbox", f"{SANDBOX_VARIABLE} orders it, so nothing can run: {problem}")]
    return [_absent("sandbox", problem) if problem else _good("sandbox", "`--sandbox` works (bubblewrap)")]


def _limits() -> list[Finding]:
    from ..kernels.cgroups import make_group, removed

    groups, missing = make_group(("memory", "pids", "cpu"))
    removed(str(group.path) for group in groups)
    if not missing:
        return [
            _good("limits", "of memory, processes and processors hold for all of a kernel together (control groups)")
        ]
    names = {"memory": "memory", "pids": "processes", "cpu": "processors"}
    lacking = ", ".join(names[name] for name in missing)
    return [_absent("limits", f"no control group can be made here for {lacking}: bounds hold for each process alone")]


def _package(name: str, least: tuple[int, ...]) -> list[Finding]:
    there, wanted = _version(name), ".".join(map(str, least))
    if there is None:
        return [_bad(name, f"not installed: pip install '{name}>={wanted}'")]
    if _numbers(there) < least:
        return [_bad(name, f"{there} is too old: pip install '{name}>={wanted}'")]
    return [_good(name, there)]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(piece) for piece in text.split(".")[:2] if piece.isdigit())


# -- the managed kernel ------------------------------------------------------------------------------------------------


def _kernel(home: Path) -> list[Finding]:
    began = time.monotonic()
    what = "managed kernel"
    try:
        problem = asyncio.run(asyncio.wait_for(_kernel_problem(home), _KERNEL_WAIT_S))
    except (LashError, OSError, ImportError) as error:  # TimeoutError is an OSError
        why = str(error) or f"no answer in {_KERNEL_WAIT_S:g} s"
        return [_bad(what, f"{why}; try `{sys.executable} -m pip install --upgrade ipykernel jupyter-client`")]
    if problem:
        return [_bad(what, problem)]
    return [_good(what, f"started, ran a cell and ended in {time.monotonic() - began:.1f} s")]


async def _kernel_problem(home: Path) -> str:
    kernel: Kernel = import_module("lash_nb.kernels.managed").ManagedKernel(cwd=home)
    try:
        await kernel.start()
        result = await kernel.run("doctor", "print(6 * 7)")
        return "" if result.outcome is CellOutcome.OK else f"a cell ended with {result.outcome}: {result.detail}"
    finally:
        await kernel.shutdown()


# -- models ------------------------------------------------------------------------------------------------------------


def _chosen(env: Mapping[str, str]) -> list[Finding]:
    try:
        choice = choose_model(env=env)
    except InputError as error:
        return [_absent("model", str(error))]
    return [_good("model", choice.announcement)]


def _weights(env: Mapping[str, str]) -> list[Finding]:
    if find_spec("xllamacpp") is None:
        return []
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


def _widgets() -> list[Finding]:
    frontends = [f"{name} {_version(name)}" for name in _FRONTENDS if _version(name)]
    if not frontends:
        said = "no JupyterLab or Notebook in this environment; turns are plain outputs in the frontend that you use"
        return [_absent("live turns", said)]
    if _version("jupyterlab-widgets") is None:
        said = f"{', '.join(frontends)} without jupyterlab-widgets: pip install jupyterlab-widgets"
        return [_bad("live turns", said)]
    return [_good("live turns", f"{', '.join(frontends)}, widgets {_version('jupyterlab-widgets')}")]


def _copies() -> list[Finding]:
    return [_absent("notebook metadata", "written by `lash-nb run`; a frontend has no extension for it yet")]


def _state(env: Mapping[str, str]) -> list[Finding]:
    from ..stores.state_dir import default_state_dir

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
