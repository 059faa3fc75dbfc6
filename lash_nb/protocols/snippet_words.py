"""What the snippet protocol says to people: the answer when a cell ran, and what it was not able to do. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from ..machine.execution import NamespaceSummary
from .prompt import invalid_value_error
from .records import CodeDriverState
from .snippet_cells import copied_from

__all__ = ["answer_text", "error_line", "failed_label", "not_managed", "request_too_long"]

_MAX_VALUE_CHARS = 200
_MAX_REQUEST_CHARS = 120
_MAX_PROBLEM_CHARS = 300
_MAX_NAMES = 8
_MAX_NAME_CHARS = 40
_MARKUP = re.compile(r"[*_`<>\[\]#|\\~&$]")
_CHANGE = frozenset(
    (
        *("add", "append", "assign", "cap", "change", "clean", "clip", "convert", "delete", "drop", "fill", "impute"),
        *("insert", "lowercase", "make", "multiply", "order", "put", "remove", "rename", "reorder", "replace", "reset"),
        *("round", "scale", "set", "sort", "strip", "subtract", "swap", "trim", "turn", "update", "uppercase"),
    )
)
"""Verbs that ask for a change: who asks so may take a changed copy for the change."""
_A_SIMPLE_STEP = "Ask for one simple step that names the variable and the column, or take a bigger model"
_BIGGER = "(%lash model NAME)"


def answer_text(step: CodeDriverState, *, request: str = "", namespace: NamespaceSummary | None = None) -> str:
    """The value, when it is one short line; else a sentence that points to it, wherever a view draws it."""
    shown = [text.strip("\n") for text in step.output]
    if len(shown) == 1 and not step.images and "\n" not in shown[0] and len(shown[0]) <= _MAX_VALUE_CHARS:
        text = shown[0].strip()
        if not text.startswith(("[image/", "[stderr]")):
            return _plain(text)
    if step.images or any(text.startswith("[image/") for text in shown):
        return "See the figure."
    if not shown:
        return "Done; the code showed nothing."
    asked_to_change = not _CHANGE.isdisjoint(re.findall(r"\w+", request.lower()))
    name = copied_from(step.executed_code or "", namespace) if asked_to_change else None
    return "See the output." if name is None else f"See the output; {_plain(name)} itself is unchanged."


def _plain(text: str) -> str:
    """The text, so that Markdown shows it as it is."""
    if not _MARKUP.search(text):
        return text
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def error_line(error: str) -> str:
    """The line of an error text that names what went wrong: the exception, or the label where there is none."""
    label, _, evidence = error.partition("\n")
    lines = [
        line.strip() for line in evidence.split("\n") if re.match(r"[\w.]+(?:Error|Exception|Warning|Exit)\b", line)
    ]
    return lines[-1] if lines else label.strip()


def failed_label(step: CodeDriverState, problem: str) -> CodeDriverState:
    """The step as one that failed: its value was refused, or there was none."""
    return replace(step, finish=None, exec_error=f"{invalid_value_error()}\n{problem.strip()}")


def request_too_long(size: int, limit: int, *, unit: str) -> str:
    """Why a request is not given to the model at all."""
    return (
        f"The request is {size:,} {unit} long; a small model can be given {limit:,} at most, so it was not asked. "
        f"Ask for one simple step, or take a bigger model {_BIGGER}; if this is one, have it led as one: "
        '%config Lash.protocol = "code".'
    )


def not_managed(request: str, attempts: int, problem: str, *, namespace: NamespaceSummary | None = None) -> str:
    """Why a turn ends without an answer, and what can be done; `attempts` is 0 when the model was not at fault."""
    asked = " ".join(request.split())
    asked = asked if len(asked) <= _MAX_REQUEST_CHARS else asked[: _MAX_REQUEST_CHARS - 1] + "…"
    problem = problem.split("\n", 1)[0].strip().rstrip(".")
    problem = problem if len(problem) <= _MAX_PROBLEM_CHARS else problem[: _MAX_PROBLEM_CHARS - 1] + "…"
    if not attempts:
        return f"“{asked}” was not done: {problem}."
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    advice = _advice(problem, namespace)
    return f"The small model did not manage “{asked}” in {tries}; the last problem: {problem}. {advice}"


def _advice(problem: str, namespace: NamespaceSummary | None) -> str:
    """What may help; judged by the type of the exception, which a problem begins with when there was one."""
    match problem.partition(":")[0].rpartition(".")[2]:
        case "FileNotFoundError" | "NotADirectoryError" | "IsADirectoryError":
            return "Check the path of the file, or write it in full in the request."
        case "ModuleNotFoundError":
            return "Install that package for the agent's kernel, or ask for a way without it."
        case "NameError" if namespace is not None:
            names = [one.name for one in namespace.variables if one.type not in ("module", "class", "function")]
            if not names:
                return "The agent's kernel holds no data yet: load the data with a request first."
            return f"{_variables(names)} Name one of them in the request, or load the data with a request first."
    return f"{_A_SIMPLE_STEP} {_BIGGER}."


def _variables(names: list[str]) -> str:
    told = [name for name in names if name.isidentifier() and name.isprintable() and len(name) <= _MAX_NAME_CHARS]
    listed = told[:_MAX_NAMES]
    more = len(names) - len(listed)
    return f"The agent's kernel has {', '.join([*listed, *([f'{more} more'] if more else [])])}."
