"""How a person is asked before something is done that cannot be taken back: y or N, at a terminal, on stderr."""

from __future__ import annotations

import sys

__all__ = ["ask"]


def ask(question: str) -> bool | None:
    """Whether the person at the terminal agrees; None: there is no terminal to ask at."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # end of input: the cursor is still behind the question
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")
