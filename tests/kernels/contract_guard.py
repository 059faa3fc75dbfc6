"""The contract's guard: a cell asks before it has an effect, and its host decides."""

from __future__ import annotations

import asyncio

from lash_nb.kernels import CellGuard, Kernel
from lash_nb.machine.approvals import Decision, EffectKind, Verdict, Wish
from lash_nb.machine.execution import CellOutcome

from .suite import KernelSuite, fresh, texts

START = "import subprocess; subprocess.run(['true']); print('started')"
START_TWICE = "for _ in range(2): subprocess.run(['true'])\nprint('twice')"
START_TWO = "subprocess.run(['true']); subprocess.run(['false']); print('both')"
TRUE = Wish(kind=EffectKind.PROCESS, target="true")
FALSE = Wish(kind=EffectKind.PROCESS, target="false")
APPROVED = Decision(verdict=Verdict.APPROVED)


def rejected(why: str = "", *, by_policy: bool = False) -> Decision:
    return Decision(verdict=Verdict.REJECTED, why=why, by_policy=by_policy)


class Deciding:
    """The host's side: decides as told, at once or never."""

    def __init__(self, *decisions: Decision, default: Decision = APPROVED, waits_s: float = 0.0) -> None:
        self.wishes: list[Wish] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.waits_s = waits_s
        self.default = default
        self._decisions = list(decisions)

    def guard(self, *free: str) -> CellGuard:
        return CellGuard(on_effect=self.decide, free=free)

    async def decide(self, wish: Wish) -> Decision:
        self.wishes.append(wish)
        self.asked.set()
        try:
            await asyncio.sleep(self.waits_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._decisions.pop(0) if self._decisions else self.default


class GuardContract(KernelSuite):
    async def test_what_is_allowed_happens(self, live: Kernel) -> None:
        host = Deciding()
        result = await live.run(fresh(), START, guard=host.guard())
        assert (result.outcome, texts(result), host.wishes) == (CellOutcome.OK, ["started\n"], [TRUE])

    async def test_without_a_guard_nothing_is_asked(self, live: Kernel) -> None:
        host = Deciding()
        await live.run(fresh(), START, guard=host.guard())
        result = await live.run(fresh(), START)
        assert (result.outcome, texts(result), len(host.wishes)) == (CellOutcome.OK, ["started\n"], 1)

    async def test_what_is_refused_is_an_error_that_says_why(self, live: Kernel) -> None:
        host = Deciding(rejected("not on this machine"))
        result = await live.run(fresh(), START, guard=host.guard())
        assert result.outcome is CellOutcome.ERROR
        assert result.error is not None
        assert result.error.ename == "PermissionError"
        assert result.error.evalue == "the user did not allow this code to start true: not on this machine"
        assert texts(result) == []
        assert result.tool_calls == ()
        await self.check_usable(live)

    async def test_what_the_mode_refuses_names_no_user(self, live: Kernel) -> None:
        host = Deciding(rejected("nobody is there to be asked", by_policy=True))
        result = await live.run(fresh(), START, guard=host.guard())
        assert result.error is not None
        assert result.error.evalue == "this code may not start true: nobody is there to be asked"

    async def test_a_decision_holds_for_the_rest_of_the_cell(self, live: Kernel) -> None:
        host = Deciding()
        await live.run(fresh(), START, guard=host.guard())
        assert texts(await live.run(fresh(), START_TWICE, guard=host.guard())) == ["twice\n"]
        assert host.wishes == [TRUE, TRUE]

    async def test_each_effect_is_asked_about(self, live: Kernel) -> None:
        host = Deciding(APPROVED, APPROVED, rejected())
        await live.run(fresh(), START, guard=host.guard())
        result = await live.run(fresh(), START_TWO, guard=host.guard())
        assert result.error is not None
        assert result.error.evalue == "the user did not allow this code to start false"
        assert host.wishes == [TRUE, TRUE, FALSE]

    async def test_a_host_that_fails_to_decide_has_refused(self, live: Kernel) -> None:
        async def fails(wish: Wish) -> Decision:
            raise ValueError("no screen")

        result = await live.run(fresh(), START, guard=CellGuard(on_effect=fails))
        assert result.error is not None
        assert result.error.evalue == "this code may not start true: ValueError: no screen"
        await self.check_usable(live)

    async def test_an_interrupt_ends_the_waiting(self, live: Kernel) -> None:
        host = Deciding(waits_s=60)
        task = asyncio.ensure_future(live.run(fresh(), START, guard=host.guard()))
        await asyncio.wait_for(host.asked.wait(), 20)
        assert await live.interrupt()
        result = await task
        assert (result.outcome, texts(result)) == (CellOutcome.INTERRUPTED, [])
        await asyncio.wait_for(host.cancelled.wait(), 20)
        await self.check_usable(live)

    async def test_time_does_not_run_on_while_a_question_waits(self, live: Kernel) -> None:
        host = Deciding(waits_s=0.7)
        result = await live.run(fresh(), START, guard=host.guard(), timeout_s=0.5)
        assert (result.outcome, texts(result)) == (CellOutcome.OK, ["started\n"])
