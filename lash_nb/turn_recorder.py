"""How one turn is written down: what goes into its records, and which of them have to be on the disk before it goes on.

An answer that can be had again (the kernel's variables, a pause in which nothing was delivered) is written without
waiting for the disk; everything else is waited for. The order of the records is that of the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .asked import Asked
from .errors import JournalError
from .kernels import Kernel
from .kernels.rundir import own
from .machine.activities import Told
from .machine.approvals import APPROVAL, DECISION, Approval, Decision
from .machine.effects import (
    RESPONSE,
    CheckpointResponse,
    EffectId,
    ExecutionEnvironmentSynced,
    LlmComplete,
    Response,
    WaitingEffect,
)
from .machine.events import TurnActivity
from .machine.execution import NAMESPACE, NamespaceSummary
from .machine.state import TurnCheckpoint
from .machine.tool_calls import TOOL_CALL_OUTPUT, PendingToolCall, ToolCallOutput
from .machine.wire import Json
from .recorded import protocol_of
from .recording import SessionRecorder, now_text

__all__ = ["TurnRecorder"]


class TurnRecorder:
    """Records one turn (`ports.TurnLog`).

    `steps` and `said` count the answers of its model and the texts of its user that earlier processes recorded.
    """

    def __init__(self, session: SessionRecorder, number: int, asked: Asked, *, steps: int = 0, said: int = 0) -> None:
        self._session = session
        self._number = number
        self._asked = asked
        self._protocol = protocol_of(asked.protocol)
        self._steps, self._said = steps, said
        self._names: list[Json] = []
        self._told = Told()
        self._known: NamespaceSummary | None = None
        self._delivers: tuple[int, ...] = ()
        self._asking: Approval | None = None

    def told(self, activity: TurnActivity) -> None:
        """Something that is shown; it is written with the next record."""
        self._told.add(activity)

    def goes_on_with(self, model: str) -> None:
        """Another model answers from now on."""
        self._asked = replace(self._asked, model=f"{self._asked.model}, then {model}")

    async def asked(self, effect: WaitingEffect, checkpoint: TurnCheckpoint) -> None:
        record = self._record("effect", id=effect.id, kind=type(effect).__name__)
        record["delta"] = self._session.delta(checkpoint, self._protocol)
        delivers = self._taken()
        if delivers:
            record["delivered"] = list(delivers)
        await self._session.write(record, keep=True)

    async def answered(self, response: Response) -> None:
        values: dict[str, Json] = {"id": response.id, "response": RESPONSE.encode(response)}
        if self._known is not None:
            values["known"] = NAMESPACE.encode(self._known)
        if self._delivers:
            values["said"] = list(self._delivers)
        record = self._record("answer", **values)
        try:
            self._session.write_soon(record)
        except JournalError:
            self._told.give_back()  # it was shown: the turn's end says so
            raise
        self._known = None
        self._steps += isinstance(response, LlmComplete)
        self._taken()
        if not _can_be_had_again(response):
            await self._session.synced()

    def _taken(self) -> tuple[int, ...]:
        """What the record at hand delivers; from now on it waits no more."""
        taken, self._delivers = self._delivers, ()
        self._said += len(taken)
        self._session.delivered(taken)
        return taken

    def looked(self, known: NamespaceSummary) -> None:
        self._known = known
        self._names = [variable.name for variable in known.variables]

    def delivers(self, numbers: Iterable[int]) -> None:
        self._delivers = tuple(numbers)

    async def uses(self, kernel: Kernel) -> None:
        await self._session.uses(kernel)

    async def calling(self, effect_id: EffectId, call: PendingToolCall) -> None:
        record: dict[str, Json] = {"effect": effect_id, "call": call.call_id, "name": call.tool_name, "args": call.args}
        await self._session.write({"k": "call", "turn": self._number, "at": now_text(), **record})

    async def called(self, effect_id: EffectId, call_id: str, output: ToolCallOutput) -> None:
        record: dict[str, Json] = {"effect": effect_id, "call": call_id, "output": TOOL_CALL_OUTPUT.encode(output)}
        await self._session.write({"k": "called", "turn": self._number, "at": now_text(), **record})

    async def asking(self, approval: Approval) -> None:
        self._asking = approval
        about: dict[str, Json] = {"effect": approval.effect_id, "approval": APPROVAL.encode(approval)}
        await self._session.write(self._record("ask", **about))

    async def decided(self, approval: Approval, decision: Decision, *, left: bool = False) -> None:
        """`left`: nobody runs the turn, so that nothing has begun by this."""
        self._asking = None
        about: dict[str, Json] = {"effect": approval.effect_id, "id": approval.id}
        more: dict[str, Json] = {"left": True} if left else {}
        await self._session.write(self._record("decided", **about, decision=DECISION.encode(decision), **more))

    def resume_facts(self, kernel: Kernel) -> dict[str, Json]:
        """What a copy of this turn needs beside its checkpoint to be gone on with where there is no journal.

        `kernel` is the main one: a copy is made before a cell's, and may be all that tells of it afterwards. So it is
        marked as this session's from then on, or whoever reads the copy would not find it.
        """
        main: dict[str, Json] = {kernel.language: kernel.epoch} if kernel.epoch else {}
        if main and kernel.epoch not in self._session.kernels.values():
            own(getattr(kernel, "connection_file", None), self._session.session)
        return {
            "asked": self._asked.to_json(),
            "label": self._session.label,
            "kernels": {**self._session.kernels, **main},
            "known": self._names,
            "steps": self._steps,
            "said": self._said,
            "waiting": self._session.waiting,
            **({"asking": APPROVAL.encode(self._asking)} if self._asking is not None else {}),
        }

    def ended(self, checkpoint: TurnCheckpoint, *, envelope: Mapping[str, Any] | None, dollars: float | None) -> None:
        """The last record of the turn, on the disk when this returns. Raises JournalError."""
        chain = None if envelope is None else {name: envelope[name] for name in _CHAIN}
        record = self._record("end", chain=chain, dollars=dollars)
        record["delta"] = self._session.delta(checkpoint, self._protocol)
        self._session.end(record)

    def _record(self, k: str, **values: Json) -> dict[str, Json]:
        told: list[Json] = self._session.redactor.value(self._told.take())
        return {"k": k, "turn": self._number, "at": now_text(), **values, "told": told}


_CHAIN = ("seq", "parent", "sha256", "engine", "saved_at")


def _can_be_had_again(response: Response) -> bool:
    """Whether nothing is lost when the power fails before this answer is on the disk."""
    if isinstance(response, CheckpointResponse):
        return not response.delivery
    return isinstance(response, ExecutionEnvironmentSynced)
