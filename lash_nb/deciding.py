"""Where the decisions of a session come from: one approval at a time waits here for whoever decides first.

Decided here: who may be asked (`OnApproval`, or whoever calls `decide`: a button, a word of `%lash`), and what a
session remembers of what was allowed: hosts, for as long as it lasts. No mode and no memory of it is ever written down.
Everything but `decide` is called on the session's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from .errors import InputError
from .machine.approvals import Approval, ApprovalMode, Decision, Verdict
from .trust import Redactor, whole_text

__all__ = [
    "APPROVE_VARIABLE",
    "Decisions",
    "OnApproval",
    "allowed_mode",
    "check",
    "check_recordable",
    "known_mode",
    "stricter",
    "tightened",
]

OnApproval = Callable[[Approval], Awaitable[Decision | None]]
"""Asks a person; None: nobody is there. It is cancelled when somebody has decided otherwise meanwhile."""

APPROVE_VARIABLE = "LASH_NB_APPROVE"
"""The loosest mode that the environment allows, for those who look after other people's kernels."""


def known_mode(name: str) -> ApprovalMode:
    """The mode of that name. Raises InputError."""
    try:
        return ApprovalMode(name)
    except ValueError:
        known = ", ".join(mode.value for mode in ApprovalMode)
        raise InputError(f"there is no way to approve called {name!r}; there are: {known}") from None


def allowed_mode(wanted: ApprovalMode, *, env: Mapping[str, str]) -> ApprovalMode:
    """The mode itself, or the one that the environment prescribes where that is stricter. Raises InputError."""
    pinned = env.get(APPROVE_VARIABLE)
    return stricter(wanted, known_mode(pinned)) if pinned else wanted


def tightened(wanted: ApprovalMode | None, *, env: Mapping[str, str]) -> str:
    """Where the environment prescribes a stricter mode than `wanted`: which, and why; else empty. Raises InputError.

    None: nothing was said, so that the notebook decides; then only what is stricter than the default is told.
    """
    taken = allowed_mode(wanted or ApprovalMode.EFFECTS, env=env)
    if taken is (wanted or ApprovalMode.EFFECTS):
        return ""
    instead = f", not {wanted}" if wanted is not None else " at least"
    return f"approve {taken}{instead}: {APPROVE_VARIABLE}={taken} in the environment allows nothing looser"


def stricter(one: ApprovalMode, other: ApprovalMode) -> ApprovalMode:
    """Of two modes the one that holds back more."""
    return max(one, other, key=lambda mode: mode.strictness)


class Decisions:
    """What a session's turns ask, and what was decided."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        """Those that code may connect to."""
        self._guard = threading.Lock()
        self._waiting: tuple[Approval, asyncio.Future[Decision]] | None = None

    @property
    def pending(self) -> Approval | None:
        """What waits now; from any thread."""
        waiting = self._waiting
        return waiting[0] if waiting is not None else None

    def decide(self, decision: Decision, *, approval_id: str | None = None) -> bool:
        """Decide what waits (that of an id, or whatever it is), from any thread; False: nothing of it waits any more.

        Raises InputError: that does not answer what waits.
        """
        with self._guard:
            if self._waiting is None or approval_id not in (None, self._waiting[0].id):
                return False
            approval, future = self._waiting
            check(approval, decision)
            self._waiting = None
        future.get_loop().call_soon_threadsafe(_settle, future, decision)
        return True

    @contextmanager
    def waiting(self, approval: Approval) -> Iterator[asyncio.Future[Decision]]:
        """An approval can be decided from now on; what it waits for."""
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        with self._guard:
            self._waiting = approval, future
        try:
            yield future
        finally:
            with self._guard:
                self._waiting = None

    async def ask(
        self, approval: Approval, future: asyncio.Future[Decision], on_approval: OnApproval
    ) -> Decision | None:
        """The decision of whoever decides first on what is `waiting`; None: nobody is there."""
        if future.done():
            return future.result()
        asked: object = on_approval(approval)
        if not inspect.isawaitable(asked):
            raise InputError("on_approval has to be a coroutine function: it is awaited, and gives a Decision or None")
        asking: asyncio.Future[object] = asyncio.ensure_future(asked)
        both: set[asyncio.Future[Any]] = {future, asking}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            decision = asking.result()
            if decision is None:
                return None
            if not isinstance(decision, Decision):
                raise InputError(f"on_approval gave {decision!r:.100}: it has to give a Decision, or None")
            check(approval, decision)
            return decision
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)


def check(approval: Approval, decision: Decision) -> None:
    """Whether a decision answers an approval. Raises InputError."""
    if decision.verdict is Verdict.EDITED:
        if approval.wish is not None:
            raise InputError("only a cell that waits can be edited: approve or reject what is asked")
        if not (decision.code or "").strip():
            raise InputError("the edited cell is empty: reject it instead, with a reason")


def check_recordable(decision: Decision, *, redactor: Redactor) -> Decision:
    """The decision as it may be recorded.

    Raises InputError: its code holds a secret: what runs has to be what is recorded, and secrets are not.
    """
    if decision.code is not None and redactor.text(decision.code) != whole_text(decision.code):
        raise InputError(
            "the edited cell holds a secret, which is not recorded, so it could not run as it stands: let the code "
            "read it from a file or a variable of the environment"
        )
    return replace(decision, why=redactor.text(decision.why))


def _settle(future: asyncio.Future[Decision], decision: Decision) -> None:
    if not future.done():
        future.set_result(decision)
