"""How a session makes its kernels: which Python, in a sandbox or not, with which bounds; what the model is told of it.

Decided here: their JSON form (in a session's record, and for the kernel of a notebook that is run), and that
`LASH_NB_SANDBOX` in the environment asks for the sandbox whatever else is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypedDict

from ..errors import InputError
from ..machine.wire import Json
from .resources import NO_LIMITS, ResourceLimits
from .sandbox import check_sandbox

__all__ = ["SANDBOX_VARIABLE", "KernelSettings", "Managed", "as_ordered", "checked_settings"]

SANDBOX_VARIABLE = "LASH_NB_SANDBOX"
_LISTS = ("pass_env", "sandbox_read")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOUNDS = tuple(field.name for field in fields(ResourceLimits))
_SANDBOX = (
    "Your kernel runs in a sandbox: there is no network, and nothing can be installed. What you write in the working "
    "directory stays; /tmp and the home directory are empty ones of its own that go with the kernel; all other files "
    "are read-only or hidden. What the user is to get back in variables must be plain data: Python's own types, numpy "
    "arrays, pandas tables."
)
_BOUNDED = (
    "Your kernel may use {} at most: code that wants more gets an error, or the kernel is ended with its variables."
)


class Managed(TypedDict, total=False):
    """The same as keyword arguments; see `KernelSettings`."""

    python: str
    sandbox: bool
    sandbox_read: Collection[str]
    pass_env: Collection[str]
    resources: ResourceLimits | None
    spare: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """What a session's own kernels have in common."""

    python: str = ""
    """An interpreter's path, or the name of an installed kernel; empty: this interpreter."""
    sandbox: bool = False
    """Without network, with the files read-only but for the working directory."""
    sandbox_read: tuple[str, ...] = ()
    """Directories that it shows though they lie in hidden places (homes, `/mnt`, …)."""
    pass_env: tuple[str, ...] = ()
    """Variables of the environment that are passed on though they look like secrets."""
    resources: ResourceLimits = NO_LIMITS
    spare: bool = False
    """Whether this process keeps another kernel ready."""

    @classmethod
    def of(cls, given: Managed) -> KernelSettings:
        """Raises InputError: what is given is not of its kind, or not there. TypeError: there is no such argument."""
        unknown = given.keys() - Managed.__annotations__.keys()
        if unknown:
            raise TypeError(f"there is no argument {min(unknown)!r}")
        pass_env, sandbox_read = given.get("pass_env", ()), given.get("sandbox_read", ())
        lists: dict[str, object] = {"pass_env": pass_env, "sandbox_read": sandbox_read}
        for name, value in lists.items():
            if not isinstance(value, Collection) or isinstance(value, str):
                raise InputError(f"{name} is a list of texts: {name}=[{value!r}]")
        for name in pass_env:
            if not _NAME.fullmatch(name):
                raise InputError(
                    f"pass_env takes the names of variables, and {name!r} is none; values stay where they are"
                )
        resources = given.get("resources") or NO_LIMITS
        if not isinstance(resources, ResourceLimits):
            raise InputError(f"resources is a ResourceLimits, not {type(resources).__name__}")
        python = given.get("python", "")
        if os.path.basename(python) != python and not os.access(os.path.expanduser(python), os.X_OK):
            raise InputError(f"there is no Python {python} that can be run")
        read = tuple(os.path.abspath(os.path.expanduser(path)) for path in sandbox_read)
        for path in read:
            if not os.path.exists(path):
                raise InputError(f"the sandbox cannot show {path}: there is no such file or directory")
        return cls(
            python=python,
            sandbox=given.get("sandbox", False) is not False,
            sandbox_read=read,
            pass_env=tuple(pass_env),
            resources=resources,
            spare=given.get("spare", False),
        )

    def as_arguments(self) -> Managed:
        """For `of`."""
        return Managed(
            python=self.python,
            sandbox=self.sandbox,
            sandbox_read=self.sandbox_read,
            pass_env=self.pass_env,
            resources=self.resources,
            spare=self.spare,
        )

    def over(self, others: KernelSettings) -> KernelSettings:
        """What is said here, and what `others` say where nothing is; the sandbox if either has it."""
        bounds = {
            name: mine if (mine := getattr(self.resources, name)) is not None else getattr(others.resources, name)
            for name in _BOUNDS
        }
        return KernelSettings(
            python=self.python or others.python,
            sandbox=self.sandbox or others.sandbox,
            sandbox_read=tuple(dict.fromkeys((*others.sandbox_read, *self.sandbox_read))),
            pass_env=tuple(dict.fromkeys((*others.pass_env, *self.pass_env))),
            resources=ResourceLimits(**bounds),
            spare=self.spare or others.spare,
        )

    @classmethod
    def from_json(cls, told: object) -> KernelSettings:
        """Read `to_json`'s; what is of another form counts as not said, but for what would be less strict.

        Raises:
            InputError: it is no object, or holds bounds that no kernel could live with.
        """
        if not isinstance(told, Mapping):
            raise InputError("the settings of the kernel are not a JSON object")
        bounds = {name: told[name] for name in _BOUNDS if isinstance(told.get(name), int | float)}
        lists = {name: told[name] for name in _LISTS if isinstance(told.get(name), list)}
        return cls(
            python=told["python"] if isinstance(told.get("python"), str) else "",
            sandbox=told.get("sandbox", False) is not False,
            resources=ResourceLimits(**bounds),
            spare=told.get("spare") is True,
            **{name: tuple(map(str, values)) for name, values in lists.items()},
        )

    def to_json(self) -> dict[str, Json]:
        """Only what is not as it is by default."""
        bounds = {name: getattr(self.resources, name) for name in _BOUNDS}
        told: dict[str, Json] = {name: value for name, value in bounds.items() if value is not None}
        told |= {name: getattr(self, name) for name in ("python", "sandbox", "spare") if getattr(self, name)}
        return told | {name: list(getattr(self, name)) for name in _LISTS if getattr(self, name)}

    def told(self) -> str:
        """What the model has to know of its kernel; "" where that is nothing."""
        said = [_SANDBOX] if self.sandbox else []
        if self.resources:
            said.append(_BOUNDED.format(", ".join(self.resources.told())))
        return " ".join(said)

    def announced(self) -> str:
        """The same for a person, in a few words; "" where that is nothing."""
        said = ["in a sandbox"] if self.sandbox else []
        bounds = self.resources.told()
        return ", ".join([*said, *([f"with {', '.join(bounds)} at most"] if bounds else [])])


def as_ordered(settings: KernelSettings, env: Mapping[str, str]) -> KernelSettings:
    """With the sandbox, where the environment orders it."""
    ordered = env.get(SANDBOX_VARIABLE, "").strip().casefold() not in ("", "0", "false", "no", "off")
    return replace(settings, sandbox=True) if ordered else settings


def checked_settings(given: Managed, directory: Path) -> dict[str, Json]:
    """What is given, as JSON, and with what the environment orders; for kernels that work in `directory`.

    Raises:
        InputError: a bound is none, or there can be no sandbox here.
    """
    settings = KernelSettings.of(given)
    if as_ordered(settings, os.environ).sandbox:
        check_sandbox(directory)
    return settings.to_json()
