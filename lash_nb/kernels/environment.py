"""Which environment variables a managed kernel gets; pure.

Decided here: what looks like a secret (design promise 11). By name: provider keys, tokens, passwords; by value:
a URL with a password in it. Rather one too many than one too few: `pass_env` lets a named one through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["kernel_environment", "looks_secret"]

_SECRET_WORD = re.compile(
    r"(?:^|_)(?:[A-Z]*KEYS?|[A-Z]*TOKENS?|[A-Z]*SECRETS?|[A-Z]*PASSWORDS?|PASSWD|PASS|PWD|PASSPHRASE|"
    r"CREDENTIALS?|CREDS|AUTH|BEARER|PAT|DSN|COOKIE|JWT|[A-Z]*APIKEY)(?:_|$|\d)",
)
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][\w+.-]*://[^/\s:@]*:[^/\s@]+@")
_HARMLESS = frozenset({"PWD", "OLDPWD"})
# Ours to set, or about the notebook's own kernel rather than this one.
_NOT_OURS = ("JPY_", "PYDEVD_")
_NOT_OURS_NAMES = frozenset({"MPLBACKEND", "PYTEST_CURRENT_TEST"})


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable is kept from the kernel."""
    if name in _HARMLESS:
        return False
    return _SECRET_WORD.search(name.upper()) is not None or _PASSWORD_IN_URL.search(value) is not None


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
    env["JPY_PARENT_PID"] = str(parent_pid)  # ipykernel ends itself when this process is gone
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    env["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    return env
