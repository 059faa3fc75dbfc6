"""What the surroundings of a notebook's kernel say: the settings of an unattended run, and which file the notebook is.

Decided here: `LASH_NB_RUN_OPTIONS` is what a runner writes, or an error; a path that a frontend tells is a hint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .kernels.settings import KernelSettings

__all__ = ["RUN_OPTIONS", "RunSettings", "notebook_file"]

RUN_OPTIONS = "LASH_NB_RUN_OPTIONS"

_KINDS: Mapping[str, tuple[Any, str]] = {
    "kernel": (dict, "an object"),
    "cell_seconds": (int | float, "a number"),
    "trust_kept": (bool, "true or false"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What `lash-nb run` tells the kernel of its notebook."""

    model: str | None = None
    record: str | None = None
    replay: str | None = None
    notebook: str | None = None
    state_dir: str | None = None
    approve: str | None = None
    kernel: Mapping[str, Any] | None = None
    """As `KernelSettings.to_json` gives it."""
    cell_seconds: float | None = None
    kept: str | None = None
    """`refresh`: models are asked anew for what is kept; `frozen`: none is asked at all. None: kept code is used."""
    trust_kept: bool | None = None
    """Whether kept code runs that the notebook brings along."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RunSettings | None:
        """None when this is no such run.

        Raises:
            InputError: the variable is not what a runner writes.
        """
        text = env.get(RUN_OPTIONS)
        if text is None:
            return None
        try:
            told = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{RUN_OPTIONS} is not JSON: {error.msg}") from error
        if not isinstance(told, dict):
            raise InputError(f"{RUN_OPTIONS} is not a JSON object")
        values = {name: told.get(name) for name in cls.__slots__}
        for name, value in values.items():
            kind, what = _KINDS.get(name, (str, "a text"))
            if value is not None and not isinstance(value, kind):
                raise InputError(f"{RUN_OPTIONS}.{name} is not {what}")
        return cls(**values)

    def kernel_over(self, others: KernelSettings) -> KernelSettings:
        """How kernels are made: as the run has it, else as `others` say. Raises InputError: a bound is none."""
        return others if self.kernel is None else KernelSettings.from_json(self.kernel).over(others)


def notebook_file(user_ns: Mapping[str, Any], env: Mapping[str, str]) -> Path | None:
    """The notebook's file, where the frontend tells it; a hint, it does not follow renames."""
    hints = (user_ns.get("__vsc_ipynb_file__"), env.get("JPY_SESSION_NAME"), user_ns.get("__session__"))
    for hint in hints:
        if isinstance(hint, str) and hint.endswith(".ipynb"):
            return Path(hint)
    return None
