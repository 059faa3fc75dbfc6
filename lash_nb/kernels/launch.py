"""What is launched: this interpreter's own ipykernel, or the kernel of an installed kernelspec."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .environment import kernel_environment
from .process import KernelProcess
from .resources import NO_LIMITS, ResourceLimits
from .sandbox import Confinement, Sandbox
from .specs import FoundSpec

__all__ = ["Launch", "kernel_process"]

_START = """
import gc, sys
gc.disable()
if sys.path[:1] == ['']:
    del sys.path[0]
from ipykernel import kernelapp
sys.argv[0] = kernelapp.__file__
app = kernelapp.IPKernelApp.instance()
app.initialize()
gc.enable()
app.start()
"""
"""`python -m ipykernel_launcher` in one process with nothing collected before there is garbage."""
_WITHOUT_DEBUGGER = f"""
import sys
sys.modules['debugpy'] = None
{_START.strip().replace("gc.enable()", "gc.enable(); del sys.modules['debugpy']")}
"""
"""What the debugger loads is a third of a kernel's start."""
_PYTHON_FLAGS = (
    "--HistoryManager.enabled=False",  # no file of the user's, and 2 ms a cell less
    "--IPythonKernel._execute_sleep=0",
)


_SANDBOXED_PROCESSES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a kernel is launched."""

    spec: FoundSpec | None
    """None: `python -m ipykernel_launcher`, or nearly so."""
    python: str
    cwd: str | None
    env: Mapping[str, str] | None
    """None: the host's, without secrets."""
    pass_env: tuple[str, ...] = ()
    debugger: bool = False
    limits: ResourceLimits = NO_LIMITS
    sandbox: Sandbox | None = None
    staging: str | None = None
    orphan_ttl_s: float = 1800.0

    def bounded(self) -> Launch:
        """With a bound of processes in a sandbox: nothing else keeps them from filling the machine."""
        if self.sandbox is None or self.limits.processes is not None:
            return self
        return replace(self, limits=replace(self.limits, processes=_SANDBOXED_PROCESSES))

    def variables(self) -> dict[str, str]:
        """The environment, as it is now."""
        given, scrub = (os.environ, True) if self.env is None else (self.env, False)
        variables = kernel_environment(given, pass_env=self.pass_env, parent_pid=os.getpid(), scrub=scrub)
        return variables if self.spec is None else self.spec.environment(variables)


def kernel_process(launch: Launch, *, variables: Mapping[str, str], recorded: bool = True) -> KernelProcess:
    """The process, launched with that environment; one that is not `recorded` is not taken over by another host.

    Raises:
        KernelStartError: it could not be launched; nothing is left. InputError: not in this directory.
    """
    spec = launch.spec
    start = _START if launch.debugger else _WITHOUT_DEBUGGER
    argv = (launch.python, "-c", start, "-f", "{connection_file}", *_PYTHON_FLAGS) if spec is None else spec.argv
    speaks_python = spec is None or spec.language == "python"
    return KernelProcess(
        argv=argv,
        cwd=launch.cwd,
        env=variables,
        language=spec.language if spec is not None else "python",
        display_name=spec.name if spec is not None else "",
        has_inside=speaks_python,
        orphan_ttl_s=launch.orphan_ttl_s,
        limits=launch.limits,
        confinement=_confinement(launch, argv[0], speaks_python=speaks_python),
        recorded=recorded,
    )


def _confinement(launch: Launch, program: str, *, speaks_python: bool) -> Confinement | None:
    """With what the program needs to see, wherever it is installed; kernels of other languages may be Python, too."""
    if launch.sandbox is None:
        return None
    python = program if speaks_python or os.path.basename(program).startswith("python") else None
    sandbox = launch.sandbox
    place = os.path.dirname(os.path.realpath(shutil.which(program) or program))
    if python is None and os.path.basename(place) == "bin":
        sandbox = replace(sandbox, read=(*sandbox.read, os.path.dirname(place)))
    return Confinement(sandbox=sandbox, python=python, staging=launch.staging)
