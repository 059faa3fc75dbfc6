"""Requests about values, to a kernel and to a thread of this process.

Decided here: nobody waits for what does not end. Who stops waiting says so: the kernel, or the thread, gives up then as
soon as it can; a thread that runs code of a value's class which does not end is left behind.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import KernelBusyError, KernelDiedError, KernelError
from .flags import Flag
from .life import Life

__all__ = ["FullError", "GoneError", "apart", "asked"]

Content = dict[str, Any]
T = TypeVar("T")


class GoneError(KernelError):
    """The kernel could not open the file."""


class FullError(KernelError):
    """The kernel had no room to write."""


async def asked(life: Life, kind: str, content: Content, within_s: float) -> Content:
    """The reply to a request; who stops waiting for it tells the kernel so.

    Raises:
        GoneError: the kernel cannot open the file. FullError: it has no room. KernelError: it cannot do it.
        KernelBusyError: it was not done within `within_s` seconds. KernelDiedError: it ended.
    """
    content = {**content, "id": uuid.uuid4().hex}
    request = life.wire.request("control", kind, content)
    try:
        done = await request.done.wait(within_s)
    except BaseException:
        life.wire.tell("lash_values_forget", {"id": content["id"]})
        raise
    if not done:
        life.wire.tell("lash_values_forget", {"id": content["id"]})
        raise KernelBusyError(
            f"the kernel was not done with the values within {within_s:g} s; they may be too big, or code that holds "
            "the interpreter is running: have them written to a file instead"
        )
    if request.reply is None:
        raise KernelDiedError(f"the kernel's process {life.wire.ending}; its variables are gone")
    reply = dict(request.reply)
    if reply.get("status") != "ok":
        problem: Any = reply.get("problem") or {"kind": "error", "message": reply.get("evalue", "no reason was given")}
        message = str(problem.get("message", problem))
        match problem["kind"]:
            case "gone":
                raise GoneError(f"the kernel cannot open the file of the values: {message}")
            case "full":
                raise FullError(message)
        raise KernelError(f"the kernel could not deal with the values: {message}")
    return reply


async def apart(work: Callable[[Callable[[], bool]], T], within_s: float) -> T:
    """Have it done on a thread that nothing waits for when it does not end; `work` is told when it is to stop.

    Raises:
        KernelBusyError: it was not done within `within_s` seconds. And whatever `work` raises.
    """
    done, stop = Flag(), threading.Event()
    found: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work(stop.is_set))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="lash_nb values", daemon=True).start()
    try:
        in_time = await done.wait(within_s)
    except BaseException:
        stop.set()
        raise
    if not in_time:
        stop.set()
        raise KernelBusyError(f"the values were not pickled or loaded here within {within_s:g} s; send less at once")
    if errors:
        raise errors[0]
    return found[0]
