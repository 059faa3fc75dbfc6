"""What the snippet protocol says to people: the answer when a cell ran, and what it was not able to do. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from .prompt import invalid_value_error
from .records import CodeDriverState

__all__ = ["answer_text", "error_line", "failed_label", "not_managed"]

_MAX_VALUE_CHARS = 200
_MAX_REQUEST_CHARS = 120
_MAX_PROBLEM_CHARS = 300
_MARKUP = re.compile(r"[*_`<>\[\]#|\\~&$]")


def answer_text(step: CodeDriverState) -> str:
    """The value, when it is one short line; else a sentence that points to it."""
    shown = [text.strip("\n") for text in step.output]
    if len(shown) == 1 and not step.images and "\n" not in shown[0] and len(shown[0]) <= _MAX_VALUE_CHARS:
        text = shown[0].strip()
        if not text.startswith(("[image/", "[stderr]")):
            return _plain(text)
    if step.images or any(text.startswith("[image/") for text in shown):
        return "The figure is above."
    return "The output is above." if shown else "Done; the code showed nothing."


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


def not_managed(request: str, attempts: int, problem: str) -> str:
    """Why a turn ends without an answer, and what can be done; `attempts` is 0 when the model was not at fault."""
    asked = " ".join(request.split())
    asked = asked if len(asked) <= _MAX_REQUEST_CHARS else asked[: _MAX_REQUEST_CHARS - 1] + "…"
    problem = problem.split("\n", 1)[0].strip().rstrip(".")
    problem = problem if len(problem) <= _MAX_PROBLEM_CHARS else problem[: _MAX_PROBLEM_CHARS - 1] + "…"
    if not attempts:
        return f"“{asked}” was not done: {problem}."
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return (
        f"The small model did not manage “{asked}” in {tries}; the last problem: {problem}. Ask for one simple step "
        "that names the variable and the column, or take a bigger model (%lash model NAME)."
    )
