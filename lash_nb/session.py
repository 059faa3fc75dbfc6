"""A conversation: many turns over one managed kernel, and the one bridge from synchronous code.

A Session owns its kernel, its history and its chain of envelopes. Everything it does runs on the process's one event
loop (`bridge.py`); `await session.run(...)` hops there from any loop, `session.run_sync(...)` from plain code. Turns
run one at a time.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from .bridge import LoopThread, OnTick, shared_loop
from .calls import RetryPolicy
from .conversation import Conversation, OnBlock
from .errors import InputError, LashError, SessionClosedError, TurnFailed, UnknownNameError
from .kernels import InputRequest, Kernel
from .languages import SessionKernels, managed_kernel
from .machine.effects import LogEvent
from .machine.events import TurnActivity
from .machine.llm import LlmUsage
from .models import Model
from .models.choice import ModelChoice
from .ports import Inbox
from .protocols import PROTOCOLS
from .protocols.grammar import Grammar
from .request import Request, RequestRun, Surroundings
from .session_model import SessionModel
from .stores.blobs import BlobStore
from .toolkits import ToolFunction, checked_tools
from .trust import Redactor, whole_text
from .turns import Turn
from .typed import OutputType
from .version import __version__

__all__ = ["Limits", "Session", "default_state_dir"]


def default_state_dir() -> Path:
    """`LASH_NB_STATE_DIR`, else the user's own state directory: nothing is committed or shared by accident."""
    named = os.environ.get("LASH_NB_STATE_DIR")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("lash_nb"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a turn; a bound that is hit is stated as the reason of its end."""

    max_steps: int | None = 30
    """Model calls (the reference's `max_turns`); one more is granted to say what was done."""
    max_minutes: float | None = 30.0
    cell_seconds: float | None = None
    """User code has no time limit of its own."""


class Session:
    """A conversation with an agent that runs code.

    Args:
        model: a Model, or a name (`openai:…`, `replay:…`, `scripted:…`); None chooses one as `%lash` does.
        kernel: where cells run; None makes a `ManagedKernel` of this interpreter, which the session ends.
        kernels: by language, where cells in other languages run; for one that is not among them the session starts a
            kernel when a cell needs it, and ends it. Those that are given stay the caller's.
        protocol: how the model conducts a turn: "code" (prose and cells until it answers), "snippet" (one cell, for
            small models); None takes what suits the model.
        grammar: how the model marks a cell: "tags", or "fence" for models that insist on Markdown fences.
        tools: functions by name; the code of a cell calls them as `tools.NAME(...)`.
        limits: bounds of a turn.
        retries: how often and after how long a model call is made again that failed for a passing reason.
        instructions: added to the system prompt; the same for all turns.
        label: which session of a notebook this is ("1", "2", …); part of what a cassette is matched by.
        base_dir: what relative paths in model names are relative to, and the kernel's working directory.
        state_dir: where blobs are kept; None means `LASH_NB_STATE_DIR`, else the user's state directory.
        on_block: told `metadata.lash_nb` whenever it changes (on the session's loop).
        on_input: answers `input()` of code in kernels that the session makes (on a thread of its own, may block;
            EOFError is passed on to the code); None refuses it.

    Raises:
        UnknownNameError: no such protocol or grammar.
        InputError: `tools` cannot be called by name; the model's name cannot be opened (from the first `run`).
    """

    def __init__(
        self,
        model: Model | str | None = None,
        *,
        kernel: Kernel | None = None,
        kernels: Mapping[str, Kernel] | None = None,
        protocol: str | None = None,
        grammar: Grammar = "tags",
        tools: Mapping[str, ToolFunction] | None = None,
        limits: Limits | None = None,
        retries: RetryPolicy | None = None,
        instructions: str = "",
        label: str = "1",
        session_id: str | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        on_block: OnBlock | None = None,
        on_log: Callable[[LogEvent], None] | None = None,
        on_input: Callable[[InputRequest], str] | None = None,
    ) -> None:
        for kind, name, known in (("protocol", protocol, PROTOCOLS), ("grammar", grammar, get_args(Grammar))):
            if name is not None and name not in known:
                raise UnknownNameError(f"no {kind} is called {name!r}; there are: {', '.join(sorted(known))}")
        self.id = session_id or uuid.uuid4().hex
        self.label = label
        self.base_dir = Path(base_dir) if base_dir is not None else Path.cwd()
        self.limits = limits or Limits()
        self.retries = retries or RetryPolicy()
        self.state_dir = Path(state_dir) if state_dir is not None else default_state_dir()
        self.store = BlobStore(self.state_dir / "blobs")
        self._model = SessionModel(model, base_dir=self.base_dir)
        make = partial(managed_kernel, cwd=self.base_dir, store=self.store, on_input=on_input)
        self._kernels = SessionKernels(kernel, kernels or {}, make=make)
        self.protocol = protocol
        self.grammar: Grammar = grammar
        self._tools = checked_tools(tools)
        self._instructions = instructions
        self._on_log = on_log or (lambda event: None)
        self._conversation = Conversation(self.id, engine=f"lash_nb {__version__}", on_block=on_block)
        self._redactor = Redactor(os.environ)
        self._inbox = Inbox()
        self._running: asyncio.Task[Turn] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = self._shut = False
        self._loop: LoopThread = shared_loop()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Session:
        self.warm_up()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __enter__(self) -> Session:
        self.warm_up()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def warm_up(self) -> None:
        """Start the kernel in the background, so that it is there when the model's first cell comes."""
        self._loop.loop.call_soon_threadsafe(self._warm)

    def _warm(self) -> None:
        if self._closed or (self._starting is not None and not self._starting.done()):
            return
        kernel = self._kernels.the_main()
        if not kernel.epoch:
            self._starting = asyncio.ensure_future(kernel.start())
            # Whoever needs the kernel awaits it and gets the error; nobody may ever need it.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def aclose(self) -> None:
        """Stop a running turn, end the kernel if it is the session's own, let go of the model; idempotent.

        In a forked child nothing happens: all of it is the parent's.
        """
        if self._loop.is_ours:
            await self._loop.wait(self._close())

    def close(self) -> None:
        """`aclose` from synchronous code."""
        if self._loop.is_ours:
            self._loop.run(self._close())

    async def _close(self) -> None:
        if self._shut:
            return
        self._closed = self._shut = True
        await self._stop()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self._kernels.shutdown()
        await self._model.aclose()

    def end_now(self) -> None:
        """Stop a running turn and kill the kernels that are the session's own: at once, from any thread, idempotent.

        For when the process is about to end and nobody can wait for an event loop; the session is closed afterwards.
        """
        if self._loop.is_ours:
            self._closed = True
            self._loop.loop.call_soon_threadsafe(self._abandon)  # first, so that no turn replaces the killed kernel
            self._kernels.end_now()

    def _abandon(self) -> None:
        for task in (self._starting, self._running):
            if task is not None:
                task.cancel()

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        text: str,
        *,
        output_type: Any = None,
        schema: Any = None,
        max_steps: int | None = None,
        model: Model | str | None = None,
        on_activity: Callable[[TurnActivity], None] | None = None,
        on_tick: OnTick | None = None,
        raise_on_failure: bool = True,
    ) -> Turn:
        """One turn: from a request to its outcome.

        Args:
            output_type: a Python type that the turn must give as its value (`turn.value` is of it).
            schema: a JSON Schema instead of a type.
            max_steps: another bound than the session's for this turn.
            model: another model than the session's for this turn; one that is given as an object stays the caller's.
            on_activity: told everything that happens, in order, on the session's loop; must not block.
            on_tick: called by the waiting caller, about ten times a second: to draw, to look at a flag.
            raise_on_failure: False returns a failed turn instead of raising.

        Raises:
            TurnFailed: the turn ended without an answer; `.turn` holds it, the session can go on.
            InputError: something that only the user can put right; the turn is recorded as failed.
            SessionClosedError: the session was closed.
            CancelledError: the caller was cancelled; the turn was stopped, and is the last of `turns`.
        """
        work = self._run(text, output_type, schema, max_steps, model, on_activity, raise_on_failure)
        return await self._loop.wait(work, on_tick=on_tick)

    def run_sync(self, text: str, **options: Any) -> Turn:
        """`run` from synchronous code; KeyboardInterrupt stops the turn and goes on when it has ended."""
        on_tick: OnTick | None = options.pop("on_tick", None)
        work = self._run(
            text,
            options.pop("output_type", None),
            options.pop("schema", None),
            options.pop("max_steps", None),
            options.pop("model", None),
            options.pop("on_activity", None),
            options.pop("raise_on_failure", True),
        )
        if options:
            work.close()
            raise TypeError(f"unknown options: {', '.join(options)}")
        return self._loop.run(work, on_tick=on_tick)

    def say(self, text: str) -> None:
        """Say something to the running turn; delivered at its next pause, or to the next turn."""
        self._loop.loop.call_soon_threadsafe(self._inbox.say, text)

    def request_stop(self) -> None:
        """Stop the running turn, from any thread, without waiting; nothing happens when none runs."""
        if self._loop.is_current:
            self._stop_soon(0)  # asked by who watches the turn: it has begun, and is to go no further
        else:
            self._loop.loop.call_soon_threadsafe(self._stop_soon, 2)

    def _stop_soon(self, rounds: int) -> None:
        """Two rounds of the loop later, so that a turn that was asked for just before has begun and can be kept."""
        if rounds:
            self._loop.loop.call_soon(self._stop_soon, rounds - 1)
        elif self._running is not None:
            self._running.cancel()

    @property
    def kernel(self) -> Kernel | None:
        """The main kernel; None before it was needed."""
        return self._kernels.main

    @property
    def turns(self) -> list[Turn]:
        """The turns so far, oldest first."""
        return self._conversation.turns

    @property
    def usage(self) -> LlmUsage:
        """Tokens of all turns."""
        return sum((turn.usage for turn in self.turns), LlmUsage())

    @property
    def dollars(self) -> float | None:
        """What all turns cost in US dollars; None when that of any is not known."""
        known = [turn.dollars for turn in self.turns if turn.dollars is not None]
        return sum(known) if known and len(known) == sum(bool(turn.usage.total) for turn in self.turns) else None

    @property
    def running(self) -> bool:
        """Whether a turn runs."""
        return self._running is not None and not self._running.done()

    async def _stop(self) -> None:
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run(
        self,
        text: str,
        output_type: Any,
        schema: Any,
        max_steps: int | None,
        model: Model | str | None,
        on_activity: Callable[[TurnActivity], None] | None,
        raise_on_failure: bool,
    ) -> Turn:
        if self._closed:
            raise SessionClosedError("this session is closed; make a new one (`%lash new`)")
        if self.running:
            raise LashError("a turn is running in this session: wait for it, stop it, or `say` something to it")
        if not text.strip():
            raise InputError("the request is empty: write what you want under `%%lash`, or after `%lash ask`")
        minutes = self.limits.max_minutes
        request = Request(
            text=whole_text(text),
            wanted=OutputType(output_type) if output_type is not None else None,
            schema=schema,
            max_steps=max_steps if max_steps is not None else self.limits.max_steps,
            time_limit_s=None if minutes is None else minutes * 60,
            cell_limit_s=self.limits.cell_seconds,
            on_activity=on_activity,
        )
        run = RequestRun(request, self._conversation)
        self._running = asyncio.ensure_future(self._turn(run, model))
        try:
            turn = await self._running
        except asyncio.CancelledError:
            if not self._running.done():  # our own caller was cancelled: the turn is stopped and waited for
                await self._stop()
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            if run.turn is None:
                raise TurnFailed("stopped by you, before the turn began") from None
            turn = run.turn  # stopped by `request_stop`: for the caller a turn without an answer
        if raise_on_failure and not turn.ok:
            raise TurnFailed(turn.text, turn=turn)
        return turn

    async def _turn(self, run: RequestRun, named: Model | str | None) -> Turn:
        model = self._model.open(named) if isinstance(named, str) else named or self._model.the()
        try:
            return await self._turn_with(run, model)
        finally:
            if isinstance(named, str):
                await model.aclose()
            await self._model.close_retired()

    async def _turn_with(self, run: RequestRun, model: Model) -> Turn:
        around = Surroundings(
            label=self.label,
            model=model,
            kernel=self._kernels.the_main(),
            kernels=self._kernels.of,
            store=self.store,
            inbox=self._inbox,
            redactor=self._redactor,
            protocol=self.protocol,
            grammar=self.grammar,
            instructions=self._instructions,
            tools=self._tools,
            on_log=self._on_log,
            retries=self.retries,
        )
        return await run.run(around)

    # -- what a turn uses ----------------------------------------------------------------------------------------------

    @property
    def choice(self) -> ModelChoice | None:
        """Which model was chosen and why, when none was given; None before it was needed."""
        return self._model.choice

    @property
    def model_name(self) -> str:
        """The name of the model that answers, once it is known."""
        return self._model.name

    async def set_model(self, model: Model | str) -> None:
        """Another model from the next turn on. Raises InputError when the name cannot be opened; nothing changes."""
        opened = self._model.open(model) if isinstance(model, str) else model
        await self._loop.wait(self._replace_model(opened))

    async def _replace_model(self, model: Model) -> None:
        self._model.replace(model)
        if not self.running:
            await self._model.close_retired()
