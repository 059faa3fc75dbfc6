"""Tracebacks without our own frames: what is ours is no more of the reader's business than C code is. In the kernel."""

from __future__ import annotations

import threading
import types
from typing import Any

PREFIX = "<lash_nb "


def without_ours(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback itself when none of it is ours."""
    frames = []
    step = tb
    while step is not None:
        frames.append(step)
        step = step.tb_next
    theirs = [one for one in frames if not one.tb_frame.f_code.co_filename.startswith(PREFIX)]
    if len(theirs) == len(frames):
        return tb
    following: types.TracebackType | None = None
    for one in reversed(theirs):
        line: int | None = one.tb_lineno  # None where an instruction belongs to no line: an interrupt can land there
        following = types.TracebackType(
            following, one.tb_frame, one.tb_lasti, line if line is not None else one.tb_frame.f_code.co_firstlineno
        )
    return following


def clean(error: BaseException | None) -> None:
    """Of an exception and all that it came from."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = without_ours(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += list(one.exceptions)


def install(shell: Any, inside: Any) -> None:
    """Between an exception and those who show it; the feature test is IPython's private method."""
    original = shell._get_exc_info
    original_hook = threading.excepthook

    def get_exc_info(exc_tuple: Any = None) -> Any:
        kind, value, tb = original(exc_tuple)
        clean(value)
        return kind, value, without_ours(tb)

    def excepthook(args: Any) -> None:
        clean(args.exc_value)
        shown = (args.exc_type, args.exc_value, without_ours(args.exc_traceback), args.thread)
        original_hook(threading.ExceptHookArgs(shown))

    shell._get_exc_info = get_exc_info
    threading.excepthook = excepthook
