"""Which environment variables a managed kernel gets; pure.

Decided here: what is passed on, taken out and set (design promise 11). What looks like a secret is `trust`'s to say;
`pass_env` lets a named one through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..trust import looks_secret

__all__ = ["kernel_environment"]

# Ours to set, or about the notebook's own kernel rather than this one.
_NOT_OURS = ("JPY_", "PYDEVD_")
_NOT_OURS_NAMES = frozenset({"MPLBACKEND", "PYTEST_CURRENT_TEST"})


def kernel_environment(
    host: Mapping[str, str], *, pass_env: Iterable[str] = (), parent_pid: int, scrub: bool = True
) -> dict[str, str]:
    """The kernel's environment out of the host's; with `scrub=False` it is taken as it is, and only completed."""
    passed = set(pass_env)
    env = {
        name: value
        for name, value in host.items()
        if not name.startswith(_NOT_OURS)
        and name not in _NOT_OURS_NAMES
        and (not scrub or name in passed or not looks_secret(name, value))
    }
    env["JPY_PARENT_PID"] = str(parent_pid)  # ipykernel ends itself with it, until our watchdog takes over
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    env["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    return env
