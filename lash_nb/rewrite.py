"""A `%%lash` cell as a top-level `await`: the input transformer, and when it may do that.

Decided here: only the cell that is the whole request of an ipykernel is rewritten, because only there IPython awaits
and clicks arrive meanwhile. What is nested (under `%%time`, `%%capture`, `run_cell`) and what is not ipykernel is left
to the plain magic. Comments may stand before `%%lash`. So it is with lines that run a turn (`%lash ask`, `answer`,
`fix`, `resume`). `%lash ask …?` is taken out of the way of IPython's own `…?`, which would show help instead.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["AWAITED", "Rewriter"]

AWAITED = "get_ipython().magics_manager.registry['Lash']"
"""What finds the magics from a cell without a name of ours in it."""

_COMMENT = re.compile(r"(#.*)?")
_CELL = re.compile(r"%%lash(?:[ \t]+(?P<line>.*))?")
_WORD = re.compile(r"(?P<target>[^\W\d]\w*[ \t]*=[ \t]*)?%lash[ \t]+(?P<word>ask|answer|fix|resume)\b(?P<text>.*)")
_OURS = re.compile(r"([^\W\d]\w*[ \t]*=[ \t]*)?%lash\b|#|$")


class Rewriter:
    """For `shell.input_transformers_cleanup`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines of a cell, after IPython has taken away leading blank lines, indentation and prompts."""
        first = next((i for i, line in enumerate(lines) if not _COMMENT.fullmatch(line.strip())), 0)
        cell = _CELL.fullmatch(lines[first].rstrip()) if lines else None
        if cell is not None:
            if not self._awaits(lines):
                return lines[first:]
            return [f"await {AWAITED}.await_cell({cell['line'] or ''!r}, {''.join(lines[first + 1 :])!r})\n"]
        if all(_OURS.match(line.strip()) for line in lines):
            # Nothing but our own line magics: no string and no bracket can be open.
            return [self._line(line, lines) for line in lines]
        return lines

    def _line(self, line: str, lines: list[str]) -> str:
        said = _WORD.fullmatch(line.strip())
        if said is None or (said["word"] == "ask" and not said["text"].strip()):
            return line
        target, word, text = said["target"] or "", said["word"], said["text"].strip()
        if not self._awaits(lines):
            return f"{target}get_ipython().run_line_magic('lash', {word + ' ' + text!r})\n"
        if word == "ask":
            return f"{target}await {AWAITED}.await_cell('', {text!r})\n"
        return f"{target}await {AWAITED}.await_word({word + ' ' + text!r})\n"

    def _awaits(self, lines: list[str]) -> bool:
        """Whether these lines are the whole of what the frontend asked to run, and IPython will await in it."""
        kernel = getattr(self._shell, "kernel", None)
        module = sys.modules.get("ipykernel.ipkernel")
        if kernel is None or module is None or not self._shell.autoawait:
            return False
        if self._shell.loop_runner is not getattr(module, "_asyncio_runner", None):
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        request = kernel.get_parent("shell")
        if not isinstance(request, Mapping) or request.get("header", {}).get("msg_type") != "execute_request":
            return False
        return _words(request["content"].get("code", "")) == _words("".join(lines))


def _words(code: str) -> list[str]:
    """A cell as IPython's own clean-up leaves it and as it was sent are the same here."""
    return [line.strip() for line in code.splitlines() if line.strip()]
