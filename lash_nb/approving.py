"""What of a turn's code is asked about, and what comes of it: before a cell runs, and before it has an effect.

Decided here: what each mode asks (`machine.approvals`), what a decision covers (a host for the session; a path, with
all below it where it is deleted, a command or a tool for the turn), and that nothing waits where nobody is: an effect
is refused then, a cell or a call of the model's own leaves its turn waiting (`ApprovalNeeded`). What is asked and what
a person decided is recorded before anything follows from it, so that it is asked once. The turn's time does not run on
meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from .deciding import check_recordable
from .errors import ApprovalNeeded
from .machine.activity import ApprovalAsked, ApprovalDecided
from .machine.approvals import Approval, ApprovalMode, Decision, EffectKind, Verdict, Wish
from .machine.effects import ExecCode, ToolCalls
from .machine.tool_calls import PendingToolCall
from .machine.wire import dumps
from .ports import TurnPorts
from .toolkits import ToolPolicy

__all__ = [
    "Approvals",
    "CalledCell",
    "call_approval_id",
    "called_by",
    "edited_text",
    "mode_text",
    "rejected_call_text",
    "rejected_text",
    "wish_of",
]

_APPROVED = Decision(verdict=Verdict.APPROVED, by_policy=True)
_NOBODY = "nobody is here to decide on it (`--approve all` allows everything)"
_PLANNING = "this turn plans only, and runs no code"
_PLANS_CALLS = "this turn plans only, and makes no calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledCell(ExecCode):
    """A cell that the model runs by a tool call; its effect may have several."""

    call_id: str


def called_by(effect: ExecCode) -> str:
    """The id of the tool call by which the model runs a cell; empty: it is an effect of its own."""
    return effect.call_id if isinstance(effect, CalledCell) else ""


class Approvals:
    """Decides for one turn."""

    def __init__(self, ports: TurnPorts) -> None:
        self.paused: Callable[[], AbstractContextManager[None]] = nullcontext
        """Holds the turn's clock while somebody thinks; the host sets it."""
        self.waits: Callable[[], None] = lambda: None
        """Something waits, or does no more, and that is recorded: copies are brought up to date; the host sets it."""
        self._ports = ports
        self._asking = asyncio.Lock()
        self._allowed: list[tuple[Wish, bool]] = []

    async def cell(self, effect: ExecCode, *, guarded: bool) -> Decision:
        """Whether a cell may run; `guarded`: its kernel asks by itself before it does more than compute.

        Raises:
            ApprovalNeeded: nobody is there to decide; the turn waits.
            JournalError: it could not be recorded.
        """
        ports, call_id = self._ports, called_by(effect)
        approval = Approval(
            id=f"cell-{effect.id}-{call_id}" if call_id else f"cell-{effect.id}",
            effect_id=effect.id,
            code=ports.redactor.text(effect.code),
            language=effect.language,
            call_id=call_id,
        )
        resumed = ports.resumed
        same = resumed is not None and resumed.effect_id == effect.id
        begun = resumed is not None and (resumed.may_have_begun(effect.id, call_id) if call_id else resumed.begun)
        if resumed is not None and same and (approval.id in resumed.decisions or begun):
            # One that may have begun was agreed to by whoever resumed the turn; else it waits still.
            decision = resumed.decisions.get(approval.id, _APPROVED)
            if not begun:
                await ports.log.decided(approval, decision)  # from now on it may have begun
                self.waits()
            return decision
        if ports.approve is ApprovalMode.PLAN:
            return self._told(approval, Decision(verdict=Verdict.REJECTED, why=_PLANNING, by_policy=True))
        return await self._asked(approval) if self.asks_cells(guarded=guarded) else _APPROVED

    def asks_cells(self, *, guarded: bool) -> bool:
        """Whether cells are asked before they run."""
        approve = self._ports.approve
        return approve is ApprovalMode.EVERY or (approve is ApprovalMode.EFFECTS and not guarded)

    async def effect(self, effect: ExecCode, wish: Wish) -> Decision:
        """Whether a running cell may have an effect. Raises JournalError: it could not be recorded."""
        if self._ports.approve is not ApprovalMode.EFFECTS:
            return _APPROVED  # a cell that an earlier host ran, and that is not asked about any more
        return await self._wished(effect, wish)

    async def inner_call(
        self, effect: ExecCode, call: PendingToolCall, policy: ToolPolicy, *, source: str = ""
    ) -> Decision:
        """Whether a running cell may make a call; its id is one of the cell's. Raises JournalError."""
        mode = self._ports.approve
        if policy.refuses(mode):
            return Decision(verdict=Verdict.REJECTED, why=_PLANS_CALLS, by_policy=True)
        # A cell that was looked at before it ran has shown its calls.
        if not policy.asks(mode) or (policy.approve == "every" and self.asks_cells(guarded=True)):
            return _APPROVED
        return await self._wished(effect, wish_of(call, source), call_id=call.call_id)

    def decided_on_call(self, effect: ToolCalls, call: PendingToolCall) -> Decision | None:
        """What was decided on a call of the model's own before its turn was resumed."""
        resumed = self._ports.resumed
        same = resumed is not None and resumed.effect_id == effect.id
        return resumed.decisions.get(call_approval_id(effect, call)) if resumed is not None and same else None

    async def call(self, effect: ToolCalls, call: PendingToolCall, policy: ToolPolicy, *, source: str = "") -> Decision:
        """Whether the model may make a call of its own, before anything of its batch begins.

        Raises:
            ApprovalNeeded: nobody is there to decide; the turn waits.
            JournalError: it could not be recorded.
        """
        ports, wish = self._ports, wish_of(call, source)
        wish = replace(wish, target=ports.redactor.text(wish.target))
        approval = Approval(
            id=call_approval_id(effect, call),
            effect_id=effect.id,
            code=wish.target,
            wish=wish,
            call_id=call.call_id,
        )
        if policy.refuses(ports.approve):
            return self._told(approval, Decision(verdict=Verdict.REJECTED, why=_PLANS_CALLS, by_policy=True))
        if not policy.asks(ports.approve) or self._covered(wish):
            return _APPROVED
        decision = self._decided_before(approval) or await self._asked(approval)
        if decision.allows:
            self._remember(wish, alike=decision.alike)
        return decision

    async def _wished(self, effect: ExecCode, wish: Wish, *, call_id: str = "") -> Decision:
        ports = self._ports
        wish = replace(wish, target=ports.redactor.text(wish.target))
        async with self._asking:  # one question at a time; what it covers is not asked again
            if self._covered(wish):
                return _APPROVED
            approval = Approval(
                id=f"effect-{effect.id}-{_digest(wish, called_by(effect), call_id)}",
                effect_id=effect.id,
                code=ports.redactor.text(effect.code),
                language=effect.language,
                wish=wish,
            )
            try:
                decision = self._decided_before(approval) or await self._asked(approval)
            except ApprovalNeeded:
                decision = self._told(approval, Decision(verdict=Verdict.REJECTED, why=_NOBODY, by_policy=True))
            if decision.allows:
                self._remember(wish, alike=decision.alike)
            return decision

    def _decided_before(self, approval: Approval) -> Decision | None:
        """What was decided on it while an earlier host had the cell, or after that."""
        resumed = self._ports.resumed
        same = resumed is not None and resumed.effect_id == approval.effect_id
        return resumed.decisions.get(approval.id) if resumed is not None and same else None

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _asked(self, approval: Approval) -> Decision:
        ports = self._ports
        if ports.on_approval is None:
            if approval.held:
                ports.on_activity(ApprovalAsked(approval=approval))
                await ports.log.asking(approval)
                self.waits()
            raise ApprovalNeeded(approval)
        with ports.decisions.waiting(approval) as answered:  # before it is shown: an answer may come at once
            ports.on_activity(ApprovalAsked(approval=approval))
            await ports.log.asking(approval)
            self.waits()
            with self.paused():
                decision = await ports.decisions.ask(approval, answered, ports.on_approval)
        if decision is None:
            raise ApprovalNeeded(approval)
        decision = check_recordable(decision, redactor=ports.redactor)
        self._told(approval, decision)
        await ports.log.decided(approval, decision)
        self.waits()  # no more
        return decision

    def _told(self, approval: Approval, decision: Decision) -> Decision:
        self._ports.on_activity(ApprovalDecided(approval=approval, decision=decision))
        return decision

    # -- what was allowed ----------------------------------------------------------------------------------------------

    def _remember(self, wish: Wish, *, alike: bool) -> None:
        if wish.kind is EffectKind.CONNECT:
            self._ports.decisions.hosts.add(wish.host)
        else:
            self._allowed.append((wish, alike))

    def _covered(self, wish: Wish) -> bool:
        if wish.kind is EffectKind.CONNECT:
            return wish.host in self._ports.decisions.hosts
        return any(_covers(allowed, wish, alike=alike) for allowed, alike in self._allowed)


def _covers(allowed: Wish, wish: Wish, *, alike: bool) -> bool:
    if allowed.kind is not wish.kind:
        return False
    if wish.kind is EffectKind.CALL:  # each call is one of its own, also with the same arguments
        return alike and (allowed.tool, allowed.whose) == (wish.tool, wish.whose)
    if allowed.target == wish.target:
        return True
    if wish.kind is EffectKind.PROCESS:
        program = allowed.program
        return alike and program is not None and program == wish.program
    if wish.kind is EffectKind.DELETE and wish.target.startswith(allowed.target.rstrip("/") + "/"):
        return True  # a tree, file by file
    return alike and posixpath.dirname(allowed.target) == posixpath.dirname(wish.target)


def call_approval_id(effect: ToolCalls, call: PendingToolCall) -> str:
    """Of the approval of a call that the model makes itself."""
    return f"call-{effect.id}-{call.call_id}"


def wish_of(call: PendingToolCall, source: str = "") -> Wish:
    """What a person is asked about a call of a tool from that source."""
    whose = source.removeprefix("mcp:") if source.startswith("mcp:") else ""
    return Wish(kind=EffectKind.CALL, target=f"{call.tool_name}({dumps(call.args)})", whose=whose)


def _digest(wish: Wish, *within: str) -> str:
    """Of an effect the same for the same; of a call another for each."""
    named = " ".join([str(wish.kind), wish.target, *filter(None, within if wish.kind is EffectKind.CALL else ())])
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def rejected_text(decision: Decision) -> str:
    """What the model is told of a cell that may not run."""
    if decision.by_policy:
        return (
            "This turn plans only: no code is run. Say in prose what you would do, step by step, with the code in "
            "Markdown blocks, and finish with that."
        )
    why = f" They said: {_ended(decision.why)}" if decision.why.strip() else ""
    return f"The user rejected this cell, so it was not run.{why} Do not send it again: do as they wish, or ask them."


def rejected_call_text(decision: Decision) -> str:
    """What the model is told of a call that may not be made."""
    if decision.by_policy:
        return f"Not made: {decision.why or _NOBODY}."
    why = f" They said: {_ended(decision.why)}" if decision.why.strip() else ""
    return f"The user rejected this call, so it was not made.{why} Do not make it again: do as they wish, or ask them."


def _ended(sentence: str) -> str:
    return sentence if sentence.rstrip().endswith((".", "!", "?")) else f"{sentence.rstrip()}."


def edited_text(code: str) -> str:
    """What the model is told of a cell that ran with other code."""
    return f"The user changed this cell before it ran. What ran instead:\n{code}\n(end of the cell; its outputs follow)"


def mode_text(mode: ApprovalMode) -> str:
    """What the model is told at each step; empty where nothing need be known ahead."""
    if mode is ApprovalMode.PLAN:
        return rejected_text(Decision(verdict=Verdict.REJECTED, by_policy=True))
    if mode is ApprovalMode.EVERY:
        return "The user sees each cell before it runs, and may change or reject it."
    return ""
