"""The loop of one turn: the machine asks, `fulfil.py` does, the answer goes back; how a turn ends by other ways.

The loop: drain the machine's queue, perform the one effect that carries an id, answer it, again. The rules that keep
the machine's hazards out of reach (`reference/turn-machine.md` 1.14): the queue is drained before an answer is given;
only the outstanding id is answered; once the machine is done no id-bearing effect is performed; a driver that only
emits is polled again a bounded number of times; a delivery is filtered before it is made.

What is recorded, durably: the machine before every id-bearing effect, the answer before the machine gets it, and the
machine once more when the turn is over, before Done is polled. When that is not possible, what would follow does not
happen: the turn fails. A turn that an earlier host began goes on at its outstanding effect, whose recorded answer is
taken where there is one.

When the turn is cancelled (CancelledError, at any await): the model's stream is closed, the kernel's cell is
interrupted and waited for by the kernel itself, the turn ends Stopped(cancelled), is recorded, and the cancellation
goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from .bridge import undisturbed
from .errors import ApprovalNeeded, DriverContractError, InputError, JournalError, KernelStartError, LashError
from .fulfil import Fulfilment
from .machine.effects import (
    CancelLlm,
    Done,
    Effect,
    Emit,
    ExecutionEnvironmentSynced,
    Log,
    Progress,
    Response,
    ToolCalls,
    WaitingEffect,
)
from .machine.events import ErrorEnvelope, ErrorEvent, PluginEvent, StatusRuntimeEvent, TurnOutcomeEvent
from .machine.execution import NamespaceSummary
from .machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from .machine.state import PrepareIteration, PreparingProtocol, TurnCheckpoint, WaitingTools
from .machine.turn import TurnMachine
from .ports import TurnPorts

__all__ = ["TurnHost", "TurnResult"]

_LEFT = "The turn was interrupted when its process ended, and left for another request."
_WAITED = "The turn waited for a decision, and was left for another request."
_MOST_FRUITLESS_POLLS = 8
"""How often in a row a driver is asked again that only emits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What a turn left behind."""

    outcome: TurnOutcome
    done: Done
    checkpoint: TurnCheckpoint
    known_variables: NamespaceSummary
    known_epoch: str


class TurnHost:
    """Runs one machine to its end."""

    def __init__(self, machine: TurnMachine, ports: TurnPorts) -> None:
        self.machine = machine
        self.ports = ports
        self._fulfil = Fulfilment(ports)
        self._outcome: TurnOutcome | None = None
        self._done: Done | None = None
        self._final: TurnCheckpoint | None = None
        self._unrecorded: JournalError | None = None
        self._untouched = ports.resumed is not None
        """Whether nothing has happened yet in a turn that an earlier host began."""

    async def run(self) -> TurnResult:
        """Drive the turn to its outcome.

        Raises:
            InputError: what only the user can put right (a cassette for another question, a missing key). A turn that
                an earlier host began has then not ended, if nothing could be done for it, nor when no kernel starts
                (KernelStartError).
            ApprovalNeeded: nobody is there to decide whether a cell may run; the turn has not ended, either.
            JournalError: the turn could not be recorded any more; nothing that is not recorded was begun.
            CancelledError: the turn was stopped. In all other cases it has ended, and is recorded where possible.
        """
        try:
            async with asyncio.timeout(self.ports.time_limit_s) as limit:
                self._fulfil.approvals.paused = _pauses(limit)
                self._fulfil.approvals.waits = lambda: self.ports.on_record(self.machine.checkpoint(), False)
                await self._drive()
        except TimeoutError as error:
            if not limit.expired():  # somebody else's: a model's or a tool's
                self._fail("host", f"{type(error).__name__}: {error}")
                raise
            self._bound_hit()
        except asyncio.CancelledError:
            self._end(Stopped(stop=TurnStopReason.CANCELLED))
            raise
        except (InputError, KernelStartError) as error:
            if self._untouched:
                raise  # it is as it was, and can be gone on with when that is put right
            self._fail("input" if isinstance(error, InputError) else "host", str(error))
            if isinstance(error, InputError):
                raise
        except ApprovalNeeded:
            raise  # it is as it was recorded, and waits
        except JournalError as error:
            self._fail("journal", str(error))
            raise
        except DriverContractError as error:
            self._fail("driver_contract", str(error))
        except LashError as error:
            self._fail("host", str(error))
        except Exception as error:
            # A bug of ours or of a tool's: the turn is kept and ends in order before the exception goes on.
            self._fail("host", f"{type(error).__name__}: {error}")
            raise
        if self._unrecorded is not None:
            raise self._unrecorded
        return self.result()

    async def leave(self) -> TurnResult:
        """End a turn that an earlier host began as stopped, without beginning anything more of it.

        What was answered is still taken in, and a cell that runs on is interrupted.

        Raises:
            JournalError: it could not be recorded.
            CancelledError: the caller was stopped meanwhile; the turn has ended.
        """
        waited = self.ports.resumed is not None and not self.ports.resumed.begun
        told = StatusRuntimeEvent(key="resume", label=_WAITED if waited else _LEFT)
        self.ports.on_activity(PluginEvent(plugin_id="resume", event=told))
        try:
            effect = self._drain()
            if effect is not None:
                recorded = self._recorded_answer(effect)
                if recorded is not None:
                    self._answer(recorded)
                    self._drain()
                else:
                    await self._fulfil.leave(effect)
        except LashError as error:
            self._fail("host", str(error))
        finally:
            self._end(Stopped(stop=TurnStopReason.CANCELLED))
        if self._unrecorded is not None:
            raise self._unrecorded
        return self.result()

    @property
    def ended(self) -> bool:
        """Whether the turn has ended; one that could not be gone on with has not."""
        return self._done is not None

    def result(self) -> TurnResult:
        """What the turn left behind; only after `run`, also after it raised."""
        assert self._outcome is not None
        assert self._done is not None
        assert self._final is not None
        known, epoch = self._fulfil.told
        return TurnResult(
            outcome=self._outcome,
            done=self._done,
            checkpoint=self._final,
            known_variables=known,
            known_epoch=epoch,
        )

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        if self.ports.resumed is not None:
            await self._fulfil.rehydrate()
        while self._done is None:
            self._take_said()
            effect = self._drain()
            if effect is not None and not self.machine.is_done():
                self._answer(await self._response(effect))
            elif self._done is None:
                raise self._broken("started nothing and left the turn without an end")

    def _take_said(self) -> None:
        """What was said before the first model call is asked for goes with it: a pause comes only behind that."""
        said = self._fulfil.said_ahead() if self._preparing() else ()
        if said:
            checkpoint = self.machine.checkpoint()
            checkpoint = replace(checkpoint, messages=checkpoint.messages.appended(said))
            self.machine = TurnMachine.restore(self.machine.config, checkpoint)

    async def _response(self, effect: WaitingEffect) -> Response:
        """The recorded answer, else one that is recorded now."""
        recorded = self._recorded_answer(effect)
        if recorded is not None:
            return recorded
        checkpoint = self.machine.checkpoint()
        await self.ports.log.asked(effect, checkpoint)
        self._fulfil.settle()
        self.ports.on_record(checkpoint, False)
        response = await self._fulfil.perform(effect, protocol_iteration=self.machine.protocol_iteration)
        # What is recorded as answered has to be known to the machine, also when the turn is stopped at this moment.
        await undisturbed(self.ports.log.answered(response))
        self._fulfil.settle()
        return response

    def _recorded_answer(self, effect: WaitingEffect) -> Response | None:
        recorded = self.ports.resumed.answer if self.ports.resumed is not None else None
        # What a kernel held then says nothing of now: that one is looked at again.
        if recorded is None or recorded.id != effect.id or isinstance(recorded, ExecutionEnvironmentSynced):
            return None
        return recorded

    def _drain(self) -> WaitingEffect | None:
        """Take everything that is queued: told effects are passed on, the one that waits is returned."""
        waiting: WaitingEffect | None = None
        fruitless = 0
        while True:
            if self.machine.is_done() and self._final is None:
                self._record_final()
            asked = not self.machine.queued and self._preparing()
            effect = self.machine.poll_effect()
            if asked and self._preparing():
                fruitless += 1
                if fruitless > _MOST_FRUITLESS_POLLS:
                    raise self._broken(f"emitted {fruitless} times in a row and started nothing")
            if effect is None:
                return waiting
            waiting = self._tell(effect) or waiting

    def _tell(self, effect: Effect) -> WaitingEffect | None:
        """Pass on an effect that is told; the one that is asked comes back."""
        match effect:
            case Emit(event=event) if not self._fulfil.was_told(event):
                if isinstance(event, TurnOutcomeEvent):
                    event = self._as_recorded(event)
                    self._outcome = event.outcome
                self.ports.on_activity(event)
            case Done():
                self._done = effect
            case Log(event=log_event):
                self.ports.on_log(log_event)
            case Progress() | CancelLlm() | Emit():
                pass  # the record is the checkpoint; the machine never emits CancelLlm
            case _:
                return effect
        return None

    def _preparing(self) -> bool:
        return isinstance(self.machine.state, (PreparingProtocol, PrepareIteration))

    def _broken(self, problem: str) -> DriverContractError:
        return DriverContractError(f"the protocol {self.ports.protocol.name!r} {problem}")

    def _answer(self, response: Response) -> None:
        if response.id != self.machine.outstanding_effect_id:
            return  # the turn moved on without it (Q1)
        self._untouched = False
        self.machine.handle_response(response)

    def _record_final(self) -> None:
        self._final = self.machine.checkpoint()
        try:
            self.ports.on_record(self._final, True)
        except JournalError as error:
            self._unrecorded = error

    def _as_recorded(self, event: TurnOutcomeEvent) -> TurnOutcomeEvent:
        """Nothing is shown as done that is not on the disk."""
        if self._unrecorded is None:
            return event
        message = str(self._unrecorded)
        self.ports.on_activity(ErrorEvent(message=message, envelope=_envelope("host", "journal", message)))
        return TurnOutcomeEvent(outcome=Stopped(stop=TurnStopReason.RUNTIME_ERROR))

    # -- the end by other ways -----------------------------------------------------------------------------------------

    def _bound_hit(self) -> None:
        limit = self.ports.time_limit_s or 0.0
        message = f"the turn took longer than its limit of {limit / 60:g} minutes"
        self.ports.on_activity(ErrorEvent(message=message, envelope=_envelope("bound", "time_limit", message)))
        self._end(Stopped(stop=TurnStopReason.INCOMPLETE))

    def _fail(self, kind: str, message: str) -> None:
        if self._done is None:
            self._take_in_calls()
        if self._done is None:
            self._quiet()
            message = self.ports.redactor.text(message)
            self.machine.fail_turn(ErrorEvent(message=message, envelope=_envelope("host", kind, message)))
            self._drain()

    def _end(self, outcome: TurnOutcome) -> None:
        if self._done is None:
            self._take_in_calls()
        if self._done is None:
            self._quiet()
            self.machine.finish_with_outcome(outcome)
            self._drain()

    def _take_in_calls(self) -> None:
        """Of a batch that is stopped, what ended is known to the next turn, too."""
        state = self.machine.state
        if isinstance(state, WaitingTools) and self.ports.protocol.calls_tools:
            self._quiet()
            try:
                self._answer(self._fulfil.so_far(ToolCalls(id=state.effect_id, calls=state.calls)))
            except DriverContractError:
                return  # the turn ends all the same
            if self.machine.is_done():
                self._drain()  # by the protocol itself: at its last step, say

    def _quiet(self) -> None:
        """Pass on what is queued and perform none of it, so that nothing stands behind the end (Q3)."""
        while self.machine.queued and not self.machine.is_done():
            effect = self.machine.poll_effect()
            assert effect is not None
            self._tell(effect)


def _envelope(kind: str, code: str, message: str) -> ErrorEnvelope:
    return ErrorEnvelope(kind=kind, code=code, user_message=message)


def _pauses(limit: asyncio.Timeout) -> Callable[[], AbstractContextManager[None]]:
    """What holds a time limit while a person thinks."""

    @contextmanager
    def paused() -> Iterator[None]:
        clock = asyncio.get_running_loop().time
        began, ends = clock(), limit.when()
        try:
            limit.reschedule(None)
        except RuntimeError:  # it has run out this very moment
            yield
            return
        try:
            yield
        finally:
            limit.reschedule(None if ends is None else ends + clock() - began)

    return paused
