"""A conversation: many turns over one managed kernel, and the one bridge from synchronous code.

A Session owns its kernel, its history, its journal and its chain of envelopes. Everything it does runs on the process's
one event loop (`bridge.py`); `await session.run(...)` hops there from any loop, `session.run_sync(...)` from plain
code. Turns run one at a time. What an earlier process left is gone on with by `Session.resume`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from .asked import Asked
from .bridge import OnTick, undisturbed
from .deciding import OnApproval, allowed_mode, check, check_recordable, known_mode, stricter
from .errors import ApprovalNeeded, InputError, LashError, SessionClosedError
from .finding import Found, find_session
from .following import read_session
from .machine.approvals import Approval, ApprovalMode, Decision
from .machine.events import TurnActivity
from .models import Model
from .previews import allowed_previews
from .recorded import RecordedTurn
from .request import RequestRun
from .requested import Interrupted, Limits, Request, Surroundings, TurnOptions
from .resuming import Outstanding
from .session_parts import SessionParts
from .turns import Turn
from .typed import OutputType

__all__ = ["Limits", "Session"]


class Session(SessionParts):
    """A conversation with an agent that runs code.

    Args:
        model: a Model, or a name (`openai:…`, `replay:…`, `scripted:…`); None chooses one as `%lash` does.
        kernel: where cells run; None makes a `ManagedKernel` of this interpreter, which the session ends.
        kernels: by language, where cells in other languages run; for one that is not among them the session starts a
            kernel when a cell needs it, and ends it. Those that are given stay the caller's.
        python: which Python that is, if another one: an interpreter's path, or the name of an installed kernel.
        sandbox: True runs the session's own kernels without network, with the files read-only but for `base_dir`
            (Linux, needs bubblewrap); a session that goes on stays in it.
        sandbox_read: directories that the sandbox shows, read-only, though they lie in a home, in `/mnt` or the like.
        pass_env: names of variables that those kernels get though they look like secrets.
        resources: what they may use of the machine (`ResourceLimits(memory_bytes=2 << 30)`), each for itself.
        spare: True keeps another kernel ready in this process, for the next start or restart (some 60 MB).
        protocol: how the model conducts a turn: "code" (prose and cells until it answers), "tools" (native tool calls,
            `run_code` among them), "snippet" (one cell, for small models); None takes what suits the model.
        grammar: how the model marks a cell: "tags", or "fence" for models that insist on Markdown fences.
        tools: functions by name (or `Tool` records), or a `ToolCatalogue`, which stays the caller's. The code of a cell
            calls them as `tools.NAME(...)`; with the protocol "tools" the model calls them itself. More of them at any
            time: `add_tool`, `tools.add_source`.
        limits: bounds of a turn.
        retries: how often and after how long a model call is made again that failed for a passing reason.
        instructions: added to the system prompt; the same for all turns.
        label: which session of a notebook this is ("1", "2", …); part of what a cassette is matched by.
        base_dir: what relative paths in model names are relative to, and the kernel's working directory.
        notebook: the notebook that this session belongs to, for those who look for it later; never read or written.
        state_dir: where journal and blobs are kept; None means `LASH_NB_STATE_DIR`, else the user's state directory.
        previews: how much of the values in the kernel is told to the model: "schema" (names, types, shapes, columns),
            "sample" (the default: some dozen characters of each) or "full" (up to 2,000), as far as
            `LASH_NB_PREVIEWS` allows.
        approve: what of the agent's code is asked about first: "effects" (the default: what it does beyond computing,
            by a courtesy of the kernel that is no sandbox), "every" (each cell), "all" (nothing is), "plan" (no code
            runs); as far as `LASH_NB_APPROVE` allows.
        on_approval: asks a person (a coroutine on the session's loop, given the Approval, returns a Decision, or None
            when nobody is there); without it effects are refused, and a cell that needs approval leaves its turn
            waiting (`ApprovalNeeded`).
        sharing: whose variables the model sees described and its code gets copies of (`Sharing(globals())`); None:
            nobody's.
        on_block: told `metadata.lash_nb` whenever it changes (on the session's loop).
        on_head: given, at each effect of a turn, what has `on_block` told of it: to call now, later, or never; None
            calls it at once.
        on_input: answers `input()` of code in kernels that the session makes (on a thread of its own, may block;
            EOFError is passed on to the code); None refuses it.

    Raises:
        UnknownNameError: no such protocol or grammar.
        InputError: no such previews; `tools` cannot be called by name; there can be no sandbox here; the model's name
            cannot be opened (from the first `run`).
    """

    @classmethod
    def resume(
        cls,
        which: str | os.PathLike[str] | Found,
        *,
        model: Model | str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Session:
        """Go on with a session that an earlier process began; `options` are the constructor's.

        Nothing is run by this: `outstanding` says what a turn that was interrupted does next, `resume_turn` goes on
        with it. A managed kernel that still lives is taken over; of one that is gone, model and user are told what it
        held. When this session is closed and the turn is still interrupted, that kernel is left as it was found.

        Args:
            which: its id (or how that begins), the directory that holds it, or a notebook file that carries it; or
                what `find_session` found for one of these.
            model: None means the one of its last turn, unless only a notebook or a copied journal says so.
            state_dir: where it is looked for; of a notebook, `FILE.lash` beside it is tried first.

        Raises:
            UnknownNameError: there is no such session. NotebookError: the notebook carries none that can be read.
            JournalInUseError: another process goes on with it. JournalError: its journal cannot be read.
        """
        if not isinstance(which, Found):
            which = find_session(os.fspath(which), state_dir=Path(state_dir) if state_dir is not None else None)
        found = which
        session = cls(model, session_id=found.session, state_dir=found.state_dir, **options)
        session.notebook = session.notebook or found.notebook
        try:
            last = session._past.take_up(found, session._recorder, store=session.store, limits=session.limits)
        except BaseException:
            session._recorder.close()
            raise
        if last is not None:
            # What was mailed, notebook or journal, must not choose who is asked.
            trusted = found.has_journal and found.carried is None and not session._past.copied
            if trusted:
                session._instructions = session._instructions or last.asked.instructions
            session._model.fall_back_on(last.asked.model, trusted=trusted)
        return session

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        text: str,
        *,
        model: Model | str | None = None,
        on_tick: OnTick | None = None,
        raise_on_failure: bool = True,
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """One turn: from a request to its outcome.

        Args:
            model: another model than the session's for this turn; one that is given as an object stays the caller's.
            on_tick: called by the waiting caller, about ten times a second: to draw, to look at a flag.
            raise_on_failure: False returns a failed turn instead of raising.
            options: `TurnOptions`: `output_type`, `check`, `inputs`, …

        Raises:
            TurnFailed: the turn ended without an answer; `.turn` holds it, the session can go on.
            InputError: something that only the user can put right; the turn is recorded as failed.
            ApprovalNeeded: a cell waits for a decision that nobody is there to make; the turn has not ended. `decide`
                answers, `resume_turn` goes on.
            JournalError: the turn cannot be recorded (any more), so nothing more of it was begun.
            SessionClosedError: the session was closed.
            CancelledError: the caller was cancelled; the turn was stopped, and is the last of `turns`.
        """
        work = self._asked(text, model=model, raise_on_failure=raise_on_failure, **options)
        return await self._loop.wait(work, on_tick=on_tick)

    def run_sync(self, text: str, *, on_tick: OnTick | None = None, **options: Any) -> Turn:
        """`run` from synchronous code; KeyboardInterrupt stops the turn and goes on when it has ended."""
        return self._loop.run(self._asked(text, **options), on_tick=on_tick)

    @property
    def interrupted(self) -> bool:
        """Whether a turn of an earlier process has not ended: `resume_turn` goes on with it, `run` leaves it."""
        return self._past.interrupted is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be told of a session that was resumed: what was repaired in its journal."""
        return self._past.notes

    async def outstanding(self) -> Outstanding | None:
        """What the interrupted turn does next, once living kernels are taken over; None: no turn was interrupted."""
        return await self._loop.wait(self._past.outstanding(model=self.model_name))

    def outstanding_sync(self) -> Outstanding | None:
        """`outstanding` from synchronous code."""
        return self._loop.run(self._past.outstanding(model=self.model_name))

    async def resume_turn(self, *, on_tick: OnTick | None = None, **options: Any) -> Turn:
        """Go on with the interrupted turn to its outcome; whoever calls this has agreed to what is outstanding.

        But what is `pending` has to be decided: else it is asked about again, as the turn's mode has it.

        `options` are `output_type`, `model`, `approve`, `on_activity`, `on_approval` and `raise_on_failure`, as for
        `run`. What was to be seen of the turn so far is told again first. Code is approved as strictly as before, or as
        the session has it if that is stricter, unless `approve` says otherwise.

        Raises:
            LashError: no turn was interrupted, or another runs. Else as `run` does.
        """
        return await self._loop.wait(self._gone_on(**options), on_tick=on_tick)

    def resume_turn_sync(self, *, on_tick: OnTick | None = None, **options: Any) -> Turn:
        """`resume_turn` from synchronous code."""
        return self._loop.run(self._gone_on(**options), on_tick=on_tick)

    @property
    def pending(self) -> Approval | None:
        """What waits for a decision, in the turn that runs or in the one that was left waiting; from any thread."""
        left = self._past.interrupted
        return self._decisions.pending or (left.asking if left is not None and not self.running else None)

    def decide(self, decision: Decision, *, approval_id: str | None = None) -> bool:
        """Decide what is `pending` (or what has that id), from any thread; False: nothing waits for it any more.

        A turn that runs goes on with it. Of one that was left waiting it is recorded; `resume_turn` goes on with that.

        Raises:
            InputError: it does not answer what waits, or holds a secret. JournalError: it cannot be recorded. Nothing
                is decided then.
        """
        decision = check_recordable(decision, redactor=self._redactor)
        if self._decisions.decide(decision, approval_id=approval_id):
            return True
        approval = self.pending
        if self.running or approval is None or approval_id not in (None, approval.id):
            return False
        check(approval, decision)
        self._loop.run(self._past.decided(approval, decision, self._recorder))
        return True

    def say(self, text: str) -> None:
        """Say something to the running turn; delivered at its next pause, or to the next turn.

        It is recorded when this returns, and outlives a crash.

        Raises:
            JournalError: it cannot be recorded, and was not said.
        """
        if text.strip():
            text = self._redactor.text(text)
            self._past.record()
            number = self._recorder.said(text)
            self._loop.loop.call_soon_threadsafe(partial(self._inbox.say, text, number=number))

    def request_stop(self) -> None:
        """Stop the running turn, from any thread, without waiting; nothing happens when none runs."""
        self._slot.request_stop()

    async def _asked(
        self, text: str, *, model: Model | str | None = None, raise_on_failure: bool = True, **options: Any
    ) -> Turn:
        self._check_free()
        request = self._requested(text, **options)
        language = self._kernels.the_main().language
        if request.checks and not language.casefold().startswith("python"):
            raise InputError(f"a check is a Python expression, and this session's kernel runs {language}")
        work = self._turn(request, model, resumed=False)
        return await self._slot.run(work, turns=self.turns, raise_on_failure=raise_on_failure)

    async def _gone_on(
        self,
        *,
        output_type: Any = None,
        model: Model | str | None = None,
        approve: ApprovalMode | str | None = None,
        on_activity: Callable[[TurnActivity], None] | None = None,
        on_approval: OnApproval | None = None,
        raise_on_failure: bool = True,
    ) -> Turn:
        self._check_free()
        if self._past.interrupted is None:
            raise LashError("no turn of this session was interrupted: `run` asks for the next one")
        asked = self._past.interrupted.asked
        request = Request(
            text=asked.text,
            wanted=OutputType(output_type) if output_type is not None else None,
            schema=asked.schema if asked.typed else None,
            results=tuple(asked.results),
            maybe=tuple(asked.maybe),
            checks=tuple(asked.checks),
            afresh=asked.afresh,
            share=asked.share,
            max_steps=asked.max_steps,
            time_limit_s=asked.time_limit_s,
            cell_limit_s=asked.cell_limit_s,
            approve=self._approve_again(asked, approve),
            on_activity=on_activity,
            on_approval=on_approval or self._on_approval,
        )
        work = self._turn(request, model, resumed=True)
        return await self._slot.run(work, turns=self.turns, raise_on_failure=raise_on_failure)

    def _approve_again(self, asked: Asked, approve: ApprovalMode | str | None) -> ApprovalMode:
        """How a turn is gone on with: what let everything pass before does not any more, unless that is said anew."""
        if approve is not None:
            return allowed_mode(known_mode(approve), env=os.environ)
        before = known_mode(asked.approve)
        return self.approve if before is ApprovalMode.ALL else stricter(before, self.approve)

    def _check_free(self) -> None:
        if self._closed:
            raise SessionClosedError("this session is closed; make a new one (`%lash new`)")
        self._check_order()
        if self.running:
            raise LashError("a turn is running in this session: wait for it, stop it, or `say` something to it")

    async def _turn(self, request: Request, named: Model | str | None, *, resumed: bool) -> Turn:
        model = self._model.open(named) if isinstance(named, str) else named or self._model.the()
        try:
            # A turn that is stopped while its journal is opened is kept, too.
            await undisturbed(asyncio.to_thread(self._open_record))
            await self._past.recover()
            before = self._past.left()
            if before is not None and not resumed:
                left = replace(request, text=before.turn.asked.text, on_activity=None)
                await self._conducted(RequestRun(left, self._conversation, before=before), model, before, leave=True)
                before = None
            return await self._conducted(RequestRun(request, self._conversation, before=before), model, before)
        finally:
            if isinstance(named, str):
                await model.aclose()
            await self._model.close_retired()
            await self._recorder.settle()

    def _open_record(self) -> None:
        self._past.record()
        self._recorder.open()

    async def _conducted(
        self, run: RequestRun, model: Model, before: Interrupted | None, *, leave: bool = False
    ) -> Turn:
        """A turn to its end. The interrupted one is that until it has ended: what fails before can be put right."""
        around = self._surroundings(model, before.turn if before is not None else None)
        try:
            return await (run.leave(around) if leave else run.run(around))
        except ApprovalNeeded:
            self._past.park(read_session(self.state_dir, self.id))
            raise
        finally:
            if before is not None and run.turn is not None:
                self._past.interrupted = None

    def _surroundings(self, model: Model, before: RecordedTurn | None) -> Surroundings:
        """What a turn has around it; one that was begun before is conducted as it was."""
        return Surroundings(
            label=self.label,
            model=model,
            kernel=self._kernels.the_main(),
            kernels=self._kernels.of,
            store=self.store,
            inbox=self._inbox,
            redactor=self._redactor,
            recorder=self._recorder,
            protocol=self.protocol if before is None else before.asked.protocol,
            grammar=self.grammar if before is None else before.asked.grammar,
            instructions=self._instructions,
            about_kernel="" if self._given else self.kernel_settings.told(),
            tools=self.tools,
            shipped_tools=self._shipped_tools,
            on_log=self._on_log,
            retries=self.retries,
            previews=allowed_previews(self.previews, env=os.environ),
            sharing=self.sharing,
            decisions=self._decisions,
        )
