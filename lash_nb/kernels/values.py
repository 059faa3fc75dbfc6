"""A copy of a kernel's variable in this process: the kernel pickles it into a private file; it is loaded from there.

Decided here: what goes wrong on either side is said; the file never stays, also when nobody waits for it any more.
Loading a pickle runs what it says: a kernel's value is to be asked for by whoever trusts the code that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import KernelBusyError, KernelDiedError, ValueNotSentError
from .life import Life

__all__ = ["fetch_value"]


async def fetch_value(life: Life, name: str, *, within_s: float) -> Any:
    """A copy of the variable `name`; a cell may run meanwhile.

    Raises:
        ValueNotSentError: there is none, it cannot be pickled or loaded, or there is no room for it.
        KernelBusyError: the kernel did not send it within `within_s` seconds.
        KernelDiedError: the kernel ended.
    """
    file = life.process.directory / f"value-{uuid.uuid4().hex}"
    over = False

    def replied(reply: Mapping[str, object]) -> None:
        if over:
            _remove(file)

    request = life.wire.request("control", "lash_value_request", {"name": name, "file": file.name}, then=replied)
    try:
        if not await request.done.wait(within_s):
            raise KernelBusyError(
                f"the kernel did not send {name} within {within_s:g} s; it may be too big, or code that holds the "
                "interpreter is running: have it written to a file instead"
            )
        if request.reply is None:
            raise KernelDiedError(f"the kernel's process {life.wire.ending}; its variables are gone")
        _check(name, request.reply)
        return await asyncio.to_thread(_load, name, file)
    finally:
        over = True
        _remove(file)


def _check(name: str, reply: Mapping[str, object]) -> None:
    message = reply.get("message") or reply.get("evalue") or "no reason was given"
    match reply.get("status"), reply.get("problem"):
        case "ok", _:
            return
        case _, "name":
            raise ValueNotSentError(f"the kernel has no variable {name!r}")
        case _, "full":
            raise ValueNotSentError(f"there is no room on the disk to send {name}: {message}; free some, or send less")
        case _:
            raise ValueNotSentError(f"{name} cannot be sent: {message}; have it made into data, or written to a file")


def _load(name: str, path: Path) -> Any:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return pickle.load(file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, which would end the event loop: it is the value's own
        raise ValueNotSentError(
            f"{name} came, but cannot be loaded here ({type(error).__name__}: {error}): this process may lack what it "
            "is made with"
        ) from error


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
