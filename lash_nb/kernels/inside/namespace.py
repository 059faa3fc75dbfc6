"""Describes the user's variables on the control channel, also while a cell runs. Runs on the kernel's control thread.

A host that still holds the last summary names its token: where nothing can have changed since, or nothing has, the
answer is `same`. Nothing can have changed when no cell runs or ran, no thread of the user's lives, the main thread has
not run for a moment (its CPU clock stands still) and every name is bound as it was. Where there is no such clock the
variables are described and compared.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .describer import Describer

OURS = "lash_nb "


class Stillness:
    """What would be another if a variable could have changed."""

    def __init__(self, shell: Any, inside: Any) -> None:
        self.shell, self.inside = shell, inside
        main = threading.main_thread().ident
        self.main = main
        clock = getattr(time, "pthread_getcpuclockid", None)
        self.clock = clock(main) if clock is not None and main is not None else None

    def now(self, describer: Describer) -> Any:
        """None: something may change at any moment, or it cannot be known."""
        ledger = self.inside.ledger
        if self.clock is None or ledger.running is not None or describer.bounds.left or self.others():
            return None
        bound = describer.bindings(self.shell.user_ns)
        return (ledger.idle_since, time.clock_gettime_ns(self.clock), bound)

    def others(self) -> bool:
        """Whether a thread lives that is neither the kernel's nor ours."""
        own = self.inside.watch.own_threads
        unknown = {ident for ident in sys._current_frames() if ident not in own and ident != self.main}
        if not unknown:
            return False
        ours = {thread.ident for thread in threading.enumerate() if thread.name.startswith(OURS)}
        return not unknown <= ours


class Answers:
    """The replies, and the last one."""

    def __init__(self, shell: Any, inside: Any, describer: Describer) -> None:
        self.shell, self.describer = shell, describer
        self.stillness = Stillness(shell, inside)
        self.epoch = f"{inside.pid}-{time.time_ns():x}"
        self.number = 0
        self.asked: tuple[int, str] | None = None
        self.still: Any = None
        self.last: list[list[Any]] = []

    def reply(self, limit: int, previews: str, token: Any) -> dict[str, Any]:
        held = token == f"{self.epoch}-{self.number}" and self.asked == (limit, previews)
        still = self.stillness.now(self.describer)  # before it is described: what happens meanwhile counts
        if held and still is not None and still == self.still:
            return {"same": token}
        found = self.describer.summary(self.shell.user_ns, self.shell.user_ns_hidden, limit, previews)
        variables = found["variables"]
        settled = [[*variable[:4], False, variable[5]] for variable in variables]
        told = [found["omitted"], found["about"], settled]
        unchanged = held and not found["removed"] and told == self.last and variables == settled
        whole = self.describer.whole  # else there is more to tell, though nothing happens
        self.asked, self.still, self.last = (limit, previews), still if whole else None, told
        if unchanged:
            return {"same": token}
        self.number += 1
        return {**found, "token": f"{self.epoch}-{self.number}"}


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_ns_request` on the control channel."""
    own_threads = inside.watch.own_threads

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        ident = threading.get_ident()
        own_threads.add(ident)
        try:
            yield
        finally:
            own_threads.discard(ident)

    answers = Answers(shell, inside, Describer(around))

    def lash_ns_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        limit, previews = int(content.get("limit", 200)), str(content.get("previews", "sample"))
        respond(answers.reply(limit, previews, content.get("token")))

    inside.handlers["lash_ns_request"] = lash_ns_request
