"""What is launched: this interpreter's own ipykernel, or the kernel of an installed kernelspec."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .environment import kernel_environment
from .process import KernelProcess
from .specs import FoundSpec

__all__ = ["kernel_process"]

_START = """
import gc, sys
gc.disable()
if sys.path[:1] == ['']:
    del sys.path[0]
sys.modules['debugpy'] = None
from ipykernel import kernelapp
sys.argv[0] = kernelapp.__file__
app = kernelapp.IPKernelApp.instance()
app.initialize()
del sys.modules['debugpy']
gc.enable()
app.start()
"""
"""`python -m ipykernel_launcher` without the debugger, which is a third of what it would load; nothing is collected
before there is garbage."""
_PYTHON_FLAGS = (
    "--HistoryManager.enabled=False",  # no file of the user's, and 2 ms a cell less
    "--IPythonKernel._execute_sleep=0",
)


def kernel_process(
    spec: FoundSpec | None,
    *,
    python: str,
    cwd: str | None,
    env: Mapping[str, str] | None,
    pass_env: Iterable[str],
    orphan_ttl_s: float,
) -> KernelProcess:
    """The process of `spec`, or of `python -m ipykernel_launcher`; `env` None is the host's, without secrets.

    Raises:
        KernelStartError: it could not be launched; nothing is left.
    """
    given, scrub = (os.environ, True) if env is None else (env, False)
    variables = kernel_environment(given, pass_env=pass_env, parent_pid=os.getpid(), scrub=scrub)
    if spec is None:
        argv: tuple[str, ...] = (python, "-c", _START, "-f", "{connection_file}", *_PYTHON_FLAGS)
        return KernelProcess(argv=argv, cwd=cwd, env=variables, orphan_ttl_s=orphan_ttl_s)
    return KernelProcess(
        argv=spec.argv,
        cwd=cwd,
        env=spec.environment(variables),
        language=spec.language,
        display_name=spec.name,
        has_inside=spec.language == "python",
        orphan_ttl_s=orphan_ttl_s,
    )
