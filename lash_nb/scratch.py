"""A kernel to try code out in: like a session's own, with copies of the notebook's variables, and gone afterwards.

Decided here: it is never the session's: nothing is recorded of it, and what it did with its copies goes with it. What
the session's code has to ask for is refused here, for nobody is asked. Runs on the session's loop.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .bridge import undisturbed
from .kernels import CellGuard, Kernel
from .languages import is_sandboxed
from .machine.activity import VariablesShared
from .machine.approvals import ApprovalMode, Decision, Wish
from .machine.execution import CellResult
from .sharing import Sharing, TakesValues

if TYPE_CHECKING:
    from .session_parts import SessionParts

__all__ = ["Scratch"]

_REFUSED = "code that is only tried out has no such effects, unless `%lash approve all` is said before"


class Scratch:
    """Starts when it is entered, and ends when it is left, also by a cancellation.

    Raises when it is entered: KernelStartError, UnknownNameError. Nothing of it is left then.
    """

    def __init__(self, session: SessionParts) -> None:
        self._session = session
        self._mode, self._sharing = session.approve, session.sharing
        self._around: Sharing | None = None
        """That which sets its surroundings, once a life."""
        self._kernel: Kernel | None = None

    @property
    def kernel(self) -> Kernel:
        """It, while it is there."""
        if self._kernel is None:
            raise RuntimeError("a Scratch is there within its `async with` only")
        return self._kernel

    async def __aenter__(self) -> Self:
        kernel = self._session.scratch_kernel()
        try:
            await kernel.start()
        except BaseException:
            await undisturbed(kernel.shutdown())
            raise
        self._kernel = kernel
        self._around = self._sharing.sibling() if self._sharing is not None else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        kernel, self._kernel = self.kernel, None
        await undisturbed(kernel.shutdown())

    async def renew(self) -> None:
        """An empty kernel in its place. Raises KernelStartError."""
        await self.kernel.restart()

    async def prepare(self) -> tuple[str, ...]:
        """Set what the notebook's process has set (paths, options of libraries), as far as it can.

        What it says keeps values from going over, in sentences.
        """
        return await self._around.prepare(self.kernel) if self._around is not None else ()

    async def share(self, code: str) -> VariablesShared | None:
        """Give it copies of the notebook's variables that the code uses, as they are now; None: it uses none.

        What stands under the notebook's names is dropped first. Raises KernelError.
        """
        kernel, sharing = self.kernel, self._sharing.sibling() if self._sharing is not None else None
        if sharing is None or not isinstance(kernel, TakesValues):
            return None
        mine = sorted(name for name in sharing.names() if sharing.is_ours(name))
        held = await kernel.held(mine, look=False)
        if held:
            await kernel.run("", f"del {', '.join(sorted(held))}")
        return await sharing.for_cell(code, kernel)

    async def run(self, code: str, *, timeout_s: float | None = None) -> CellResult:
        """Run a cell; secrets are taken out of its outputs. Raises KernelError: it was not run."""
        kernel = self.kernel
        guarded = self._mode is not ApprovalMode.ALL and not is_sandboxed(kernel)
        guard = CellGuard(on_effect=_refuse) if guarded else None
        result = await kernel.run(f"scratch:{uuid.uuid4().hex}", code, guard=guard, timeout_s=timeout_s)
        return self._session._redactor.result(result)


async def _refuse(wish: Wish) -> Decision:
    return Decision(verdict=Decision.reject().verdict, why=_REFUSED, by_policy=True)
