"""Where memory is bounded, a part of it is the kernel's own: cells get their MemoryError before it. Runs in the kernel.

The host bounds what this process may allocate, softly and, a good deal higher, for good. The soft bound holds while a
statement of a cell runs: else a list that has filled the memory to its last byte would leave none to tell of it.
"""

from __future__ import annotations

import functools
from typing import Any


def install(shell: Any, inside: Any) -> None:
    """Wrap what runs statements, and what tells of their errors. Where nothing is bounded there is nothing to do."""
    import resource

    number, setrlimit = resource.RLIMIT_DATA, resource.setrlimit
    soft, hard = resource.getrlimit(number)
    if soft == hard:
        return
    narrow, wide = (soft, hard), (hard, hard)

    def bound(to: tuple[int, int]) -> None:
        try:
            setrlimit(number, to)
        except (OSError, ValueError):  # code has bounded itself more closely
            pass

    original_run, original_show = shell.run_code, shell.showtraceback

    @functools.wraps(original_run)
    async def run_code(*args: Any, **kwargs: Any) -> Any:
        bound(narrow)
        try:
            return await original_run(*args, **kwargs)
        finally:
            bound(wide)

    @functools.wraps(original_show)
    def showtraceback(*args: Any, **kwargs: Any) -> Any:
        bound(wide)
        return original_show(*args, **kwargs)

    bound(wide)
    ours: Any = run_code
    if inside.watch is not None:
        inside.watch.passed_through.append(ours.__code__)
    shell.run_code, shell.showtraceback = run_code, showtraceback
