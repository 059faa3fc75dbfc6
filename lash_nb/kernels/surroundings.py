"""What the agent's kernel takes over from the notebook's process: `sys.path`, directory, options of libraries.

Decided here: what of a process is taken over. That is what makes the agent's code find the user's modules and files,
and makes its tables and plots look like the user's: entries that the notebook added to `sys.path`, its directory, and
the options of matplotlib, its inline backend, pandas and numpy that are not the libraries' own. Only plain values go:
what is code stays, but for the `format` of a string, which `float_format` often is. Backends stay: the kernel has its
own. Reading imports nothing and changes nothing. How it is taken over is decided in `inside/surroundings.py`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import numbers
import os
import site
import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..machine.wire import Json
from .inside.surroundings import FORMAT, INLINE, INLINE_BACKEND
from .life import Life

__all__ = ["Surroundings", "surroundings_of", "take_over"]

_MOST_ENTRIES = 50
_MOST_ITEMS = 1_000
_WITHIN_S = 2.0
_NOT_OPTIONS = ("backend", "interactive", "savefig.directory", "webagg.")
"""Settings of matplotlib that belong to the process and its backend: names, or how they begin."""
_NUMPY_DEFAULTS: Mapping[str, Json] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a process has set that another one can take over."""

    front: tuple[str, ...] = ()
    """Entries that were added to `sys.path` before the installed packages; absolute."""
    back: tuple[str, ...] = ()
    """And after them."""
    cwd: str = ""
    """Its directory; empty when that is gone."""
    options: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """By library (`matplotlib`, `matplotlib_inline`, `numpy`, `pandas`) and name: those that are not its defaults."""


def surroundings_of(modules: Mapping[str, ModuleType] = sys.modules) -> Surroundings:
    """Those of this process; to be called where cells run, because numpy's options are of a thread or context."""
    front, back = _added(sys.path)
    options: dict[str, Mapping[str, Json]] = {}
    for library, (module, read) in _READERS.items():
        if module in modules:
            with contextlib.suppress(Exception):  # it is half imported, or of a version that keeps them otherwise
                if found := read(modules[module]):
                    options[library] = found
    cwd = ""
    with contextlib.suppress(OSError):
        cwd = os.getcwd()
    return Surroundings(front=front, back=back, cwd=cwd, options=options)


_taken_over: weakref.WeakKeyDictionary[Life, Surroundings] = weakref.WeakKeyDictionary()


async def take_over(life: Life, surroundings: Surroundings, *, within_s: float = _WITHIN_S) -> None:
    """Have a kernel take them over, if it has not; never fails: what cannot be taken over is left out.

    What could not be done now, because a cell runs or the kernel did not answer within `within_s` seconds, is done by
    the next call.
    """
    if not life.process.has_inside or _taken_over.get(life) == surroundings:
        return
    sent = {
        "front": surroundings.front,
        "back": surroundings.back,
        "cwd": surroundings.cwd,
        "options": surroundings.options,
    }
    content = {"surroundings": json.dumps(sent)}  # in a string, so that no packer changes it
    request = life.wire.request("control", "lash_surroundings_request", content)
    if await request.done.wait(within_s) and request.reply is not None and request.reply.get("whole") is True:
        _taken_over[life] = surroundings


# -- sys.path ----------------------------------------------------------------------------------------------------------


def _added(path: Sequence[object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entries that a fresh interpreter would not have: those before its packages, and those after."""
    packages, fresh = _package_directories(), _fresh_entries(os.environ.get("PYTHONPATH", ""))
    paths = sysconfig.get_paths()
    standard = tuple(os.path.join(os.path.abspath(paths[name]), "") for name in ("stdlib", "platstdlib"))
    front: list[str] = []
    back: list[str] = []
    place = front
    for entry in path:
        if not isinstance(entry, str) or entry == "" or entry.endswith(".__path_hook__"):
            continue
        absolute = os.path.abspath(entry)
        if absolute in packages:
            place = back
        elif not absolute.startswith(standard) and absolute not in {*fresh, *front, *back}:
            place.append(absolute)
    return tuple(front[:_MOST_ENTRIES]), tuple(back[:_MOST_ENTRIES])


def _package_directories() -> frozenset[str]:
    paths = sysconfig.get_paths()
    own = [*site.getsitepackages(), site.USER_SITE or "", paths["purelib"], paths["platlib"]]
    return frozenset(os.path.abspath(entry) for entry in own if entry)


@functools.cache
def _fresh_entries(python_path: str) -> frozenset[str]:
    """Those of the standard library, of `.pth` files, of PYTHONPATH (the kernel inherits it) and IPython's own."""
    paths = sysconfig.get_paths()
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    found = [paths["stdlib"], paths["platstdlib"]]
    found += [os.path.join(prefix, "lib", f"python{version}.zip") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    found += [entry for entry in python_path.split(os.pathsep) if entry]
    for directory in _package_directories():
        found += _named_in(Path(directory))
        found.append(os.path.join(directory, "IPython", "extensions"))
    return frozenset(os.path.abspath(entry) for entry in found)


def _named_in(directory: Path) -> Iterator[str]:
    """The entries that the `.pth` files of a directory add."""
    for file in sorted(directory.glob("*.pth")):
        with contextlib.suppress(OSError, UnicodeError):
            for line in file.read_text("utf-8").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    yield os.path.join(directory, line.strip())


# -- options -----------------------------------------------------------------------------------------------------------


class _NotPlainError(Exception):
    """A value that cannot go."""


def _plain(value: Any, levels: int = 3) -> Json:
    """The value as JSON has it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if levels > 0 and isinstance(value, (list, tuple, set, frozenset)) and len(value) <= _MOST_ITEMS:
        items = [_plain(item, levels - 1) for item in value]
        return items if isinstance(value, (list, tuple)) else sorted(items, key=repr)
    if levels > 0 and isinstance(value, dict) and len(value) <= _MOST_ITEMS and all(type(key) is str for key in value):
        return {key: _plain(item, levels - 1) for key, item in value.items()}
    raise _NotPlainError


def _plain_ones(values: Mapping[str, Any], known: Mapping[str, Any], plain: Callable[[Any], Json]) -> dict[str, Json]:
    """The values that are not those known, as far as they are plain."""
    found: dict[str, Json] = {}
    for name, value in values.items():
        if name in known:
            with contextlib.suppress(_NotPlainError):
                if value != known[name]:
                    found[name] = plain(value)
    return found


def _plain_setting(value: Any) -> Json:
    """Of matplotlib's: a cycle is told as the text that its files have for it."""
    if type(value).__name__ == "Cycler" and type(value).__module__.partition(".")[0] == "cycler":
        _plain(value.by_key())
        return repr(value)
    return _plain(value)


def _plain_option(value: Any) -> Json:
    """Of pandas': a number's format may be the method of a string."""
    text = getattr(value, "__self__", None)
    if type(value) is _BOUND and value.__name__ == "format" and type(text) is str:
        return {FORMAT: text}
    return _plain(value)


_BOUND = type("".format)


def _matplotlib(module: Any) -> dict[str, Json]:
    # `dict`: what the mapping itself gives may load a backend
    values = {name: value for name, value in dict.items(module.rcParams) if not name.startswith(_NOT_OPTIONS)}
    return _plain_ones(values, dict(dict.items(module.rcParamsDefault)), _plain_setting)


def _inline(module: Any) -> dict[str, Json]:
    kind = module.InlineBackend
    if not kind.initialized():
        return {}
    instance = kind.instance()
    return _plain_ones({name: getattr(instance, name) for name in INLINE}, INLINE, _plain)


def _numpy(module: Any) -> dict[str, Json]:
    return _plain_ones(module.get_printoptions(), _NUMPY_DEFAULTS, _plain)


def _pandas(module: Any) -> dict[str, Json]:
    defaults = {name: option.defval for name, option in module._registered_options.items()}

    def leaves(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in config.items():
            if isinstance(value, dict) and prefix + name not in defaults:
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return _plain_ones(dict(leaves(module._global_config, "")), defaults, _plain_option)


_READERS: Mapping[str, tuple[str, Callable[[Any], dict[str, Json]]]] = {
    "matplotlib": ("matplotlib", _matplotlib),
    INLINE_BACKEND: ("matplotlib_inline.config", _inline),
    "numpy": ("numpy", _numpy),
    "pandas": ("pandas._config.config", _pandas),
}
