"""Why a value could not go over, in words; pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from .inside.pickling import StoppedError
from .inside.unpickling import problem_of, version_of

__all__ = ["why_not_here", "why_not_pickled", "why_not_there"]

_HERE = sys.version.split()[0]


def why_not_pickled(error: BaseException) -> str:
    """Why a value of this process could not be pickled."""
    problem = problem_of(error)
    return (
        str(error)
        if isinstance(error, StoppedError)
        else str(problem.get("message") or _why(problem, "here", "here", ""))
    )


def why_not_there(problem: Mapping[str, object], python: object) -> str:
    """Why a kernel, with that version of Python, could not load a value."""
    return _why(problem, f"in the agent's kernel (Python {python})", "there", _HERE)


def why_not_here(name: str, problem: Mapping[str, object]) -> str:
    """Why a variable of the kernel's could not come."""
    if problem["kind"] == "name":
        return f"the agent's kernel has no variable {name!r}"
    return _why(problem, f"here (Python {_HERE})", "here", str(problem.get("python")))


def _why(problem: Mapping[str, object], where: str, place: str, sender: str) -> str:
    module, message = str(problem.get("module", "")), str(problem.get("message", ""))
    match problem["kind"]:
        case "package":
            return f"{module} is not installed {where}"
        case "version":
            root = module.partition(".")[0]
            versions = f"{root} is {problem.get('version') or 'another'} {place}"
            mine = version_of(module)
            if place == "there" and mine:
                versions += f", {mine} here"
            return f"{module} has no {problem.get('name')} {where}: {versions}"
        case "code":
            return f"it is, or holds, code of Python {sender}, which cannot run {where}"
        case "full":
            return f"there is no room to send it: {message}"
        case "error" if place == "there":
            return f"it cannot be loaded {where}: {message}"
    return message
