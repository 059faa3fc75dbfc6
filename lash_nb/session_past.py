"""What an earlier process left of a session: its record, its living kernels, the turn that it did not finish.

Decided here: the record is taken in at once, kernels are taken over when the first one is needed; nothing is run by
either. A notebook's own word counts where there is no journal, for what `resuming.py` lets pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from .compacting import beyond
from .conversation import Conversation
from .errors import JournalError
from .finding import Found
from .following import read_session
from .from_notebook import Bounds, session_of
from .kernels import Kernel
from .languages import SessionKernels
from .machine.activities import TURN_ACTIVITY
from .machine.activity import ApprovalDecided
from .machine.approvals import Approval, Decision
from .machine.attachments import AttachmentStore
from .machine.execution import NamespaceSummary
from .ports import Inbox
from .recorded import RecordedKernel, RecordedSession, RecordedTurn
from .recording import SessionRecorder
from .requested import Interrupted, Limits
from .resuming import Outstanding, lost_kernels, outstanding
from .turn_recorder import TurnRecorder

__all__ = ["SessionPast"]


class SessionPast:
    """Nothing, for a new session."""

    def __init__(
        self,
        conversation: Conversation,
        inbox: Inbox,
        kernels: SessionKernels,
        attach: Callable[[RecordedKernel], Awaitable[Kernel]],
    ) -> None:
        self.interrupted: RecordedTurn | None = None
        """The turn that did not end."""
        self.notes: tuple[str, ...] = ()
        """What has to be told of the record: what was repaired in it."""
        self._conversation = conversation
        self._inbox = inbox
        self._kernels = kernels
        # Whoever only looks, could not go on, or leaves a turn waiting, must not cost it its kernel.
        kernels.leaving = lambda: self.interrupted is not None
        self._attach = attach
        self.kernels: dict[str, RecordedKernel] = {}
        """Those that earlier processes gave cells to, by language."""
        self.known = NamespaceSummary()
        """The main one's variables as last seen."""
        self._unrecorded: Callable[[], None] | None = None
        """Writes down what is only in the notebook."""
        self._recovered = True
        self.sandboxed: Callable[[], bool] = lambda: False
        """Whether the session's kernels are in a sandbox."""
        self.copied = False
        """Whether the journal was copied here from somewhere else: then it is believed no more than a notebook."""
        self._recovering = asyncio.Lock()

    def take_up(
        self, found: Found, recorder: SessionRecorder, *, store: AttachmentStore, limits: Limits
    ) -> RecordedTurn | None:
        """Take in what is recorded; the last turn, whether it has ended or not. Raises as `Session.resume` does."""
        session = self._read(found, recorder, limits)
        had = found.carried.turns if found.carried is not None else ()
        self._conversation.restore(session, store=store, carried=[turn.envelope for turn in had])
        for number, text in session.said.items():
            self._inbox.say(text, number=number)
        self.interrupted = session.running
        self.kernels, self.known, self._recovered = session.kernels, session.known, False
        self.copied = session.copied is not None
        return session.running or (session.turns[-1] if session.turns else None)

    def _read(self, found: Found, recorder: SessionRecorder, limits: Limits) -> RecordedSession:
        self.notes = found.notes
        journal = None
        if found.has_journal:
            journal, notes = recorder.take_up()
            self.notes = (*notes, *found.notes)
            if found.carried is None:
                return journal
        assert found.carried is not None
        seconds = None if limits.max_minutes is None else limits.max_minutes * 60
        bounds = Bounds(steps=limits.max_steps, seconds=seconds, cell_seconds=limits.cell_seconds)
        told = session_of(found.carried, bounds=bounds)
        recorder.on_taken(told)
        if journal is not None and journal.turns:
            self._unrecorded = partial(recorder.extend, told)
            new = beyond(journal, told)
            return replace(new, facts=journal.facts, turns=[*journal.turns, *new.turns], copied=journal.copied)
        if found.forked_from is not None:
            _branch(told, found)
        recorder.label = told.label
        self._unrecorded = partial(recorder.bring_in, told)
        return told

    def park(self, told: RecordedSession) -> None:
        """A turn of this process was left waiting for a decision: from now on it is one that was interrupted."""
        self.interrupted, self.kernels, self.known = told.running, told.kernels, told.known
        self._kernels.leave_what_was_made()

    async def decided(self, approval: Approval, decision: Decision, recorder: SessionRecorder) -> None:
        """Record what somebody decided on the turn that waits. Raises JournalError: it is not decided."""
        assert self.interrupted is not None
        turn = self.interrupted
        await asyncio.to_thread(self._open, recorder)
        log = TurnRecorder(recorder, turn.number, turn.asked, steps=turn.steps, said=turn.said)
        activity = ApprovalDecided(approval=approval, decision=decision)
        log.told(activity)
        await log.decided(approval, decision, left=True)
        turn.told.append(TURN_ACTIVITY.encode(activity))
        turn.decisions[approval.id], turn.asking, turn.begun = decision, None, False

    def _open(self, recorder: SessionRecorder) -> None:
        self.record()
        recorder.open()

    def record(self) -> None:
        """Write down what came from a notebook, before anything follows from it: to look at it leaves no trace.

        Raises JournalError, InputError: as `SessionRecorder.bring_in` and `extend` do.
        """
        if self._unrecorded is not None:
            self._unrecorded()
            self._unrecorded = None

    def foreseen(self, *, model: str) -> Outstanding | None:
        """`outstanding`, as far as it can be told without taking a kernel over: to let go of one is to end it."""
        if self.interrupted is None:
            return None
        mine = self._conversation.session_id
        lost = lost_kernels(self.kernels, owner=mine, copied=self.copied, sandboxed=self.sandboxed())
        return outstanding(self.interrupted, lost=lost, said=self._inbox.waiting.values(), model=model)

    @property
    def to_recover(self) -> bool:
        """Whether kernels may be there to be taken over."""
        return not self._recovered

    async def recover(self) -> None:
        """Take over what still lives of the kernels; once."""
        async with self._recovering:
            if not self._recovered:
                ours = [kernel for kernel in self.kernels.values() if not kernel.copied]
                await self._kernels.recover(ours, self._attach)
                before = self.kernels.get(self._kernels.the_main().language)
                self._conversation.known_epoch = before.epoch if before is not None else ""
                self._recovered = True

    def _lost(self, language: str) -> bool:
        """Whether the kernel that had cells of a language is known to be another life than the one that runs them now.

        As `cell_runs` sees it: what this says of a cell is what becomes of it.
        """
        kernel = self._kernels.living(language)
        folded = (kernel.language if kernel is not None else language).casefold()
        before = next((kernel for name, kernel in self.kernels.items() if name.casefold() == folded), None)
        return before is not None and (kernel is None or before.epoch != kernel.epoch or not kernel.alive)

    def left(self) -> Interrupted | None:
        """The interrupted turn with what it needs to go on; after `recover`."""
        if self.interrupted is None:
            return None
        return Interrupted(
            turn=self.interrupted, kernels=self.kernels, kernel_lost=self._lost(self._kernels.the_main().language)
        )

    async def outstanding(self, *, model: str) -> Outstanding | None:
        """What the interrupted turn does next; `model` is the one that is asked from now on."""
        await self.recover()
        if self.interrupted is None:
            return None
        said = self._inbox.waiting.values()
        return outstanding(self.interrupted, lost=self._lost, said=said, model=model)


def _branch(told: RecordedSession, found: Found) -> None:
    """Make it a session of its own; of what both have, the journal knows more than a notebook carries."""
    try:
        journal = read_session(found.state_dir, found.original)
    except JournalError:
        journal = RecordedSession(id=found.original)
    known = {turn.chain["sha256"]: turn for turn in journal.turns if turn.chain is not None}
    told.id, told.forked_from = found.session, found.forked_from
    for index, turn in enumerate(told.turns):
        recorded = known.get(turn.chain["sha256"]) if turn.chain is not None else None
        if recorded is not None:
            told.turns[index] = replace(recorded, chain=turn.chain)
    if found.foreign_kernel:
        kernels = {**journal.kernels, **told.kernels}
        told.kernels = {name: replace(kernel, file=None, copied=True) for name, kernel in kernels.items()}
