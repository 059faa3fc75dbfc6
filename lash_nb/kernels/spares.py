"""One kernel that waits, ready, for whoever starts the next one of its kind in this process.

Decided here: there is one at most, of the kind that was asked for last; it is taken by whoever wants exactly that kind
(interpreter, directory, environment, limits) and is then replaced. It ends with this process, also when that crashes:
it is not recorded before it is taken, so nobody takes it over. It is made on a thread with an event loop of its own,
and so outlives the loop that it was asked for on.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from dataclasses import dataclass

from ..errors import LashError
from ..machine.attachments import AdoptingStore
from .flags import Flag
from .guardian import lives
from .life import Life
from .starting import Start, started

__all__ = ["drop_spare", "prepare_spare", "spare_ready", "take_spare"]

_log = logging.getLogger(__name__)
_guard = threading.Lock()


@dataclass(slots=True, kw_only=True)
class _Spare:
    start: Start
    pid: int
    ready: Flag
    opened: Life | None = None
    """Whose process there is, from the beginning."""
    life: Life | None = None
    """That, once it is ready."""
    unwanted: bool = False


_spare: _Spare | None = None


def prepare_spare(start: Start, *, store: AdoptingStore | None) -> None:
    """Have one of that kind ready, soon; nothing happens when there is one, or one is being made."""
    global _spare
    with _guard:
        known = _spare
        if known is not None and known.pid == os.getpid():
            usable = not known.ready.is_set() or (known.life is not None and known.life.alive)
            if known.start == start and usable:
                return
        _spare = spare = _Spare(start=start, pid=os.getpid(), ready=Flag())
    _discard(known)
    threading.Thread(target=_make, args=(spare, store), name="lash_nb spare kernel", daemon=True).start()


def take_spare(start: Start) -> Life | None:
    """The one of that kind, if it is ready; it is the caller's from now on."""
    global _spare
    with _guard:
        spare = _spare
        if spare is None or spare.pid != os.getpid() or spare.start != start or spare.life is None:
            return None
        _spare = None
    # One that was killed is a zombie first, and can be waited for only when its last thread has gone.
    if spare.life.alive and lives(spare.life.process.pid, None):
        spare.life.process.record()
        return spare.life
    _discard(spare)
    return None


async def spare_ready(timeout_s: float) -> bool:
    """Wait until the one that is being made is ready; whether there is one then."""
    spare = _spare
    if spare is None or not await spare.ready.wait(timeout_s):
        return False
    return spare.life is not None and spare.life.alive


def drop_spare() -> None:
    """End it, if there is one."""
    global _spare
    with _guard:
        spare, _spare = _spare, None
    _discard(spare)


def _make(spare: _Spare, store: AdoptingStore | None) -> None:
    def opened(life: Life) -> None:
        spare.opened = life

    life: Life | None = None
    try:
        life = asyncio.run(started(spare.start, store=store, recorded=False, opened=opened))
    except (LashError, OSError) as error:
        _log.info("no spare kernel: %s", error)
    finally:
        with _guard:
            spare.life = None if spare.unwanted else life
        if spare.unwanted and life is not None:
            Life.reap(life)
        spare.ready.set()


def _discard(spare: _Spare | None) -> None:
    if spare is None or spare.pid != os.getpid():
        return
    with _guard:
        spare.unwanted, spare.life = True, None
    if spare.opened is not None:
        Life.reap(spare.opened)


atexit.register(drop_spare)
