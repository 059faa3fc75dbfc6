"""Installed kernelspecs: which kernel runs a language, and how it is started.

Decided here: how one is chosen by name or by language, and what of Jupyter's rules for its argv and its environment is
applied (the interpreter's own name, `{prefix}`, `{resource_dir}`; `{connection_file}` is left for the launch).
"""

from __future__ import annotations

import difflib
import re
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import UnknownNameError

__all__ = ["FoundSpec", "find_spec"]

_OUR_PYTHON = frozenset({"python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2])})
_PLACE = re.compile(r"\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSpec:
    """An installed kernel."""

    name: str
    display_name: str
    language: str
    argv: tuple[str, ...]
    """What to run, with `{connection_file}` where its path goes."""
    env: Mapping[str, str]
    """Variables that it wants, as they are written: see `environment`."""
    interrupt_mode: Literal["signal", "message"]
    """`message`: it wants an `interrupt_request` on its control channel, not SIGINT."""

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """`given` with the kernel's own variables, in which `${NAME}` stands for a given one."""
        return {**given, **{name: string.Template(value).safe_substitute(given) for name, value in self.env.items()}}


def find_spec(wanted: str) -> FoundSpec:
    """The installed kernel of that name, else the one of that language; case does not count.

    Of several for a language, the one named like it is taken, else the first by name.

    Raises:
        UnknownNameError: there is none; the message lists what is installed, and says how to install one.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    installed = manager.get_all_specs()
    folded = wanted.casefold()
    languages = {name: str(entry["spec"]["language"]) for name, entry in installed.items()}
    named = [name for name in installed if name.casefold() == folded]
    speaking = sorted(name for name, language in languages.items() if language.casefold() == folded)
    found = (named or speaking) if wanted else []
    if found:
        return _found(found[0], installed[found[0]]["spec"], str(installed[found[0]]["resource_dir"]))
    damaged = manager.find_kernel_specs().get(wanted.lower())
    if damaged is not None:
        raise UnknownNameError(f"the kernel {wanted!r} cannot be used: {damaged}/kernel.json is damaged; reinstall it")
    raise UnknownNameError(_unknown(wanted, languages))


def _found(name: str, spec: Mapping[str, object], resource_dir: str) -> FoundSpec:
    argv, env, language = spec["argv"], spec["env"], str(spec["language"])
    if not (isinstance(argv, list) and argv and isinstance(env, Mapping)):
        raise UnknownNameError(f"the kernel {name!r} cannot be used: {resource_dir}/kernel.json has no argv")
    places = {"prefix": sys.prefix, "resource_dir": resource_dir}
    command = [_PLACE.sub(lambda place: places.get(place[1], place[0]), str(part)) for part in argv]
    if argv[0] in _OUR_PYTHON:  # the one on the PATH may be another
        command[0] = sys.executable
    return FoundSpec(
        name=name,
        display_name=str(spec["display_name"]) or name,
        language=language,
        argv=tuple(command),
        env={str(key): str(value) for key, value in env.items()},
        interrupt_mode="message" if spec["interrupt_mode"] == "message" else "signal",
    )


def _unknown(wanted: str, languages: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(wanted.casefold(), sorted({*languages, *languages.values()}), n=1)
    listed = ", ".join(f"{name} ({language})" for name, language in sorted(languages.items())) or "none"
    return (
        f"no installed Jupyter kernel is called {wanted!r} or runs that language"
        f"{f'; did you mean {near[0]!r}?' if near else ''}; installed: {listed}. Install one as its project says, "
        "for bash: pip install bash_kernel && python -m bash_kernel.install --sys-prefix"
    )
