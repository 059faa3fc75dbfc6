"""How a kernel of another interpreter differs from the notebook's process, before it bites.

Decided here: which differences are said: those that keep values from going over. Python itself, as whose byte code
functions are sent; and packages whose objects are commonly sent, where the versions are so far apart that a pickle of
the one may not load in the other. And how it is found out that an interpreter cannot be a kernel at all.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import NamedTuple

from .life import Life

__all__ = ["differences", "imported_packages", "why_no_kernel"]

_WITHIN_S = 5.0
_PROBE_S = 20.0
_OLDEST_IPYKERNEL = (7, 4)
_MOST = 30


class _Package(NamedTuple):
    distribution: str
    objects: str
    """What it makes, as it is said of it."""
    parts: int
    """How many numbers of the version must be the same."""


_PACKAGES: Mapping[str, _Package] = {
    "numpy": _Package("numpy", "arrays", 1),
    "pandas": _Package("pandas", "frames", 1),
    "polars": _Package("polars", "frames", 1),
    "pyarrow": _Package("pyarrow", "tables", 1),
    "scipy": _Package("scipy", "its objects", 1),
    "sklearn": _Package("scikit-learn", "models", 2),
    "torch": _Package("torch", "tensors and models", 1),
    "xarray": _Package("xarray", "datasets", 1),
    "geopandas": _Package("geopandas", "frames", 1),
    "shapely": _Package("shapely", "geometries", 1),
    "statsmodels": _Package("statsmodels", "models", 2),
    "lightgbm": _Package("lightgbm", "models", 1),
    "xgboost": _Package("xgboost", "models", 1),
    "catboost": _Package("catboost", "models", 1),
    "tensorflow": _Package("tensorflow", "tensors and models", 2),
    "keras": _Package("keras", "models", 1),
    "jax": _Package("jax", "arrays", 2),
    "transformers": _Package("transformers", "models", 2),
    "datasets": _Package("datasets", "datasets", 1),
    "matplotlib": _Package("matplotlib", "figures", 2),
    "plotly": _Package("plotly", "figures", 1),
    "altair": _Package("altair", "charts", 1),
    "networkx": _Package("networkx", "graphs", 1),
    "sympy": _Package("sympy", "expressions", 2),
    "dask": _Package("dask", "collections", 1),
    "PIL": _Package("pillow", "images", 1),
    "duckdb": _Package("duckdb", "relations", 1),
    "modin": _Package("modin", "frames", 1),
    "astropy": _Package("astropy", "tables", 1),
    "spacy": _Package("spacy", "documents", 2),
}
"""By the name that is imported; some thirty, so that asking is cheap."""


def imported_packages(modules: Mapping[str, ModuleType] = sys.modules) -> dict[str, str]:
    """The versions of what this process has imported and values are commonly made of, by the name that is imported."""
    found: dict[str, str] = {}
    for name, package in _PACKAGES.items():
        if name in modules:
            told = getattr(modules[name], "__version__", None)
            try:
                found[name] = told if isinstance(told, str) else version(package.distribution)
            except PackageNotFoundError:  # not one that can be compared
                continue
    return found


async def differences(life: Life, packages: Mapping[str, str], *, within_s: float = _WITHIN_S) -> tuple[str, ...]:
    """Sentences on what keeps values from going over into a kernel; none where nothing does, or it does not answer.

    `packages` are the notebook's, by the name that is imported (`imported_packages`).
    """
    if not life.process.has_inside:
        return ()
    wanted = dict(list(packages.items())[:_MOST])
    names = {name: _PACKAGES[name].distribution if name in _PACKAGES else name for name in wanted}
    asked = {"names": {**names, "cloudpickle": "cloudpickle"}}
    request = life.wire.request("control", "lash_packages_request", asked)
    if not await request.done.wait(within_s) or request.reply is None or request.reply.get("status") != "ok":
        return ()
    python, versions = request.reply.get("python"), request.reply.get("versions")
    if not (isinstance(python, str) and isinstance(versions, Mapping)):
        return ()
    here = ".".join(map(str, sys.version_info[:3]))
    return _sentences(here, wanted, python, versions)


def _sentences(
    here: str, packages: Mapping[str, str], there: str, versions: Mapping[str, str | None]
) -> tuple[str, ...]:
    """`here` and `there` are versions of Python; None of a package: it is not installed, "": nobody knows."""
    said: list[str] = []
    if _numbers(here, 2) != _numbers(there, 2):
        said.append(
            f"the agent's kernel runs Python {there}, this notebook {here}: functions and classes defined in the "
            "notebook cannot go over"
        )
    elif versions.get("cloudpickle", "") is None:
        said.append(
            "cloudpickle is not installed in the agent's kernel: functions and classes defined in the notebook cannot "
            "go over"
        )
    for name, mine in packages.items():
        package = _PACKAGES.get(name, _Package(name, "its objects", 1))
        theirs = versions.get(name, "")
        if theirs is None:
            said.append(f"{package.distribution} is not installed in the agent's kernel")
        elif theirs and _numbers(mine, package.parts) != _numbers(theirs, package.parts):
            said.append(
                f"{package.distribution} is {theirs} in the agent's kernel, {mine} here: {package.objects} may not "
                "go over"
            )
    return tuple(said)


def _numbers(text: str, count: int) -> tuple[int, ...]:
    """The first numbers of a version; before 1.0 the second counts as the first would."""
    found = [int(number) for number in re.findall(r"\d+", text)]
    return tuple(found[: count + 1 if found[:1] == [0] else count])


# -- another interpreter -----------------------------------------------------------------------------------------------

_PROBE = """
from importlib import metadata, util
print("ipykernel", metadata.version("ipykernel") if util.find_spec("ipykernel") else "none")
"""


def why_no_kernel(python: str, env: Mapping[str, str] | None) -> str:
    """Why an interpreter that did not come up as a kernel cannot be one, and what to do; "" where that is not why.

    Runs it, for some seconds at most; `env` is its environment, None this process's.
    """
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    install = f"{shlex.quote(python)} -m pip install 'ipykernel>={_OLDEST_IPYKERNEL[0]}.{_OLDEST_IPYKERNEL[1]}'"
    match done.stdout.split():
        case ["ipykernel", "none"]:
            return f"ipykernel is not installed for {python}: run {install}"
        case ["ipykernel", found] if _numbers(found, 2) < _OLDEST_IPYKERNEL:
            return f"{python} has ipykernel {found}, which is too old: run {install}"
        case _:  # also what is no Python at all
            return ""
