"""How a person is asked at a terminal, on stderr: y or N before what cannot be taken back, a line for anything else."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

__all__ = ["ask", "ask_line", "ask_or_why", "at_terminal"]


def at_terminal() -> bool:
    """Whether there is one to ask at."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> bool | None:
    """Whether the person at the terminal agrees; None: there is no terminal to ask at."""
    answer = _line(f"{question} [y/N] ") if at_terminal() else None
    return None if answer is None else answer.strip().lower() in ("y", "yes")


def ask_or_why(question: str) -> tuple[bool | None, str]:
    """As `ask`, and what was typed behind `n` or `no`."""
    answer = _line(f"{question} [y/N, or n WHY] ") if at_terminal() else None
    if answer is None:
        return None, ""
    word, _, why = answer.strip().partition(" ")
    said = word.casefold().rstrip(":,")
    return said in ("y", "yes") and not why, why.strip() if said in ("n", "no") else ""


async def ask_line(question: str) -> str | None:
    """What the person at the terminal answers; None: there is no terminal, or its input has ended.

    Cancelled, it goes on at once; the line that was being typed is read by nobody.
    """
    if not at_terminal():
        return None
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[str] = loop.create_future()

    def settle(answer: str) -> None:
        if not answered.done():
            answered.set_result(answer)

    def wait() -> None:
        answer = _line(question)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, answer)

    # A daemon: nobody can be made to press Enter, and the process must be able to end.
    threading.Thread(target=wait, name="lash_nb-question", daemon=True).start()
    return await answered or None


def _line(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # end of input: the cursor is still behind the question
        print(file=sys.stderr)
    return answer
