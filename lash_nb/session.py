"""A conversation: many turns over one managed kernel, and the one bridge from synchronous code.

A Session owns its kernel, its history and its chain of envelopes. Everything it does runs on the process's one event
loop (`bridge.py`); `await session.run(...)` hops there from any loop, `session.run_sync(...)` from plain code. Turns
run one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from . import __version__
from .bridge import LoopThread, shared_loop
from .errors import InputError, LashError, SessionClosedError, TurnFailed
from .host import Inbox, TurnHost, TurnPorts, TurnResult
from .kernels import Kernel
from .machine.config import TurnMachineConfig
from .machine.driver import CheckedDriver
from .machine.effects import Done, LogEvent
from .machine.events import SessionEventRecord, TurnActivity, TurnStarted
from .machine.execution import NamespaceSummary
from .machine.llm import LlmUsage
from .machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from .machine.outcomes import FinalValue, Finished
from .machine.picture import TurnPicture
from .machine.state import TurnCheckpoint
from .machine.turn import TurnMachine
from .models import CallContext, Model
from .models.choice import ModelChoice, choose_model, open_model
from .protocols import PROTOCOLS, ModelProtocol
from .protocols.termination import CodeTermination, FinishRequired, Natural
from .stores.blobs import BlobStore
from .stores.notebook import make_block, make_envelope
from .toolkits import ToolFunction
from .trust import Redactor
from .turns import Turn
from .typed import OutputType, schema_validator

__all__ = ["Limits", "Session", "default_state_dir"]

ENGINE = f"lash_nb {__version__}"


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
        protocol: how the model conducts a turn; a name of the registry.
        tools: functions by name, for protocols that call tools.
        limits: bounds of a turn.
        instructions: added to the system prompt; the same for all turns.
        label: which session of a notebook this is ("1", "2", …); part of what a cassette is matched by.
        base_dir: what relative paths in model names are relative to, and the kernel's working directory.
        state_dir: where blobs are kept; None means `LASH_NB_STATE_DIR`, else the user's state directory.
        on_block: told `metadata.lash_nb` whenever it changes (on the session's loop).

    Raises:
        InputError: the model's name cannot be opened (from the first `run`).
    """

    def __init__(
        self,
        model: Model | str | None = None,
        *,
        kernel: Kernel | None = None,
        protocol: str = "code",
        tools: Mapping[str, ToolFunction] | None = None,
        limits: Limits | None = None,
        instructions: str = "",
        label: str = "1",
        session_id: str | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        on_block: Callable[[dict[str, Any], bool], None] | None = None,
        on_log: Callable[[LogEvent], None] | None = None,
    ) -> None:
        self.id = session_id or uuid.uuid4().hex
        self.label = label
        self.base_dir = Path(base_dir) if base_dir is not None else Path.cwd()
        self.limits = limits or Limits()
        self.turns: list[Turn] = []
        self.choice: ModelChoice | None = None
        self.state_dir = Path(state_dir) if state_dir is not None else default_state_dir()
        self.store = BlobStore(self.state_dir / "blobs")
        self._given_model = model
        self._model: Model | None = None
        self._kernel = kernel
        self._owns_kernel = kernel is None
        self._protocol = protocol
        self._tools = dict(tools or {})
        self._instructions = instructions
        self._on_block = on_block or (lambda block, final: None)
        self._on_log = on_log or (lambda event: None)
        self._messages: AppendOnly[Message] = AppendOnly()
        self._events: AppendOnly[SessionEventRecord] = AppendOnly()
        self._run_offset = 0
        self._known = NamespaceSummary()
        self._redactor = Redactor(os.environ)
        self._seq = 0
        self._envelopes: list[dict[str, Any]] = []
        self._inbox = Inbox()
        self._running: asyncio.Task[Turn] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False
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
        kernel = self._the_kernel()
        if not kernel.epoch:
            self._starting = asyncio.ensure_future(kernel.start())
            # Whoever needs the kernel awaits it and gets the error; nobody may ever need it.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def aclose(self) -> None:
        """Stop a running turn, end the kernel if it is the session's own, let go of the model; idempotent."""
        await self._loop.wait(self._close())

    def close(self) -> None:
        """`aclose` from synchronous code."""
        self._loop.run(self._close())

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._stop()
        if self._starting is not None:
            with contextlib.suppress(LashError):
                await self._starting
        if self._kernel is not None and self._owns_kernel:
            await self._kernel.shutdown()
        if self._model is not None:
            await self._model.aclose()

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        text: str,
        *,
        output_type: Any = None,
        schema: Any = None,
        max_steps: int | None = None,
        on_activity: Callable[[TurnActivity], None] | None = None,
        raise_on_failure: bool = True,
    ) -> Turn:
        """One turn: from a request to its outcome.

        Args:
            output_type: a Python type that the turn must give as its value (`turn.value` is of it).
            schema: a JSON Schema instead of a type.
            max_steps: another bound than the session's for this turn.
            on_activity: told everything that happens, in order, on the session's loop; must not block.
            raise_on_failure: False returns a failed turn instead of raising.

        Raises:
            TurnFailed: the turn ended without an answer; `.turn` holds it, the session can go on.
            InputError: something that only the user can put right; the turn is recorded as failed.
            SessionClosedError: the session was closed.
            CancelledError: the turn was stopped; it is the last of `turns`, marked as stopped.
        """
        work = self._run(text, output_type, schema, max_steps, on_activity, raise_on_failure)
        return await self._loop.wait(work)

    def run_sync(self, text: str, **options: Any) -> Turn:
        """`run` from synchronous code; KeyboardInterrupt stops the turn and goes on when it has ended."""
        on_activity = options.pop("on_activity", None)
        work = self._run(
            text,
            options.pop("output_type", None),
            options.pop("schema", None),
            options.pop("max_steps", None),
            on_activity,
            options.pop("raise_on_failure", True),
        )
        if options:
            work.close()
            raise TypeError(f"unknown options: {', '.join(options)}")
        return self._loop.run(work)

    def say(self, text: str) -> None:
        """Say something to the running turn; delivered at its next pause, or to the next turn."""
        self._loop.loop.call_soon_threadsafe(self._inbox.say, text)

    def request_stop(self) -> None:
        """Stop the running turn, from any thread, without waiting; nothing happens when none runs."""
        self._loop.loop.call_soon_threadsafe(lambda: self._running and self._running.cancel())

    @property
    def usage(self) -> LlmUsage:
        """Tokens of all turns."""
        return sum((turn.usage for turn in self.turns), LlmUsage())

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
        on_activity: Callable[[TurnActivity], None] | None,
        raise_on_failure: bool,
    ) -> Turn:
        if self._closed:
            raise SessionClosedError("this session is closed; make a new one (`%lash new`)")
        if self.running:
            raise LashError("a turn is running in this session: wait for it, stop it, or `say` something to it")
        if not text.strip():
            raise InputError("the request is empty: write what you want under `%%lash`, or after `%lash ask`")
        wanted = OutputType(output_type) if output_type is not None else None
        turn = _TurnRun(self, text, wanted, schema, max_steps, on_activity)
        self._running = asyncio.ensure_future(turn.run())
        try:
            finished = await self._running
        except asyncio.CancelledError:
            if not self._running.done():  # our own caller was cancelled: the turn is stopped and waited for
                await self._stop()
            raise
        if raise_on_failure and not finished.ok:
            raise TurnFailed(finished.text, turn=finished)
        return finished

    # -- what a turn uses ----------------------------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        """The name of the model that answers, once it is known."""
        if self._model is not None:
            return self._model.name
        given = self._given_model
        return given if isinstance(given, str) else "" if given is None else given.name

    async def set_model(self, model: Model | str) -> None:
        """Another model from the next turn on. Raises InputError when the name cannot be opened; nothing changes."""
        opened = open_model(model, base_dir=self.base_dir) if isinstance(model, str) else model
        await self._loop.wait(self._replace_model(opened))

    async def _replace_model(self, model: Model) -> None:
        before, self._model, self._given_model = self._model, model, model
        if before is not None and before is not model:
            await before.aclose()

    def _the_model(self) -> Model:
        if self._model is None:
            given = self._given_model
            if given is None:
                self.choice = choose_model()
                given = self.choice.name
            self._model = open_model(given, base_dir=self.base_dir) if isinstance(given, str) else given
        return self._model

    def _the_kernel(self) -> Kernel:
        if self._kernel is None:
            managed = import_module("lash_nb.kernels.managed")
            self._kernel = managed.ManagedKernel(cwd=self.base_dir, store=self.store)
        return self._kernel

    async def _ready_kernel(self) -> Kernel:
        if self._starting is not None:
            await asyncio.wait({self._starting})
        return self._the_kernel()

    # -- records -------------------------------------------------------------------------------------------------------

    def _envelope(self, number: int, checkpoint: TurnCheckpoint, protocol: ModelProtocol) -> dict[str, Any]:
        self._seq += 1
        return make_envelope(
            checkpoint.to_text(protocol.turn_protocol),
            session=self.id,
            turn=number,
            seq=self._seq,
            parent=self._envelopes[-1]["sha256"] if self._envelopes else None,
            saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
            engine=ENGINE,
        )

    def _publish(self, head: dict[str, Any] | None) -> None:
        self._on_block(make_block(session=self.id, head=head, turns=self._envelopes), head is None)


class _TurnRun:
    """One turn of a session, from request to Turn."""

    def __init__(
        self,
        session: Session,
        text: str,
        wanted: OutputType | None,
        schema: Any,
        max_steps: int | None,
        on_activity: Callable[[TurnActivity], None] | None,
    ) -> None:
        self.session = session
        self.text = text
        self.number = len(session.turns) + 1
        self.wanted = wanted
        self.schema = wanted.schema if wanted is not None else schema
        self.max_steps = max_steps if max_steps is not None else session.limits.max_steps
        self.watcher = on_activity
        self.picture = TurnPicture()
        self.envelope: dict[str, Any] | None = None

    async def run(self) -> Turn:
        session = self.session
        model = session._the_model()
        protocol = self._protocol()
        kernel = await session._ready_kernel()
        machine = self._machine(model, protocol)
        self._saw(TurnStarted(turn=self.number, request=self.text, model=model.name))
        host = TurnHost(machine, self._ports(model, protocol, kernel))
        try:
            result = await host.run()
        except BaseException:
            self._finished(host.result())
            raise
        return self._finished(result)

    def _protocol(self) -> ModelProtocol:
        session = self.session
        module, _, attribute = PROTOCOLS[session._protocol].partition(":")
        validate = None
        termination: CodeTermination = Natural()
        if self.schema is not None:
            validate = self.wanted.problem if self.wanted is not None else schema_validator(self.schema)
            termination = FinishRequired(schema=self.schema)
        protocol: ModelProtocol = getattr(import_module(module), attribute)(
            turn_id=f"t{self.number}",
            run_offset=session._run_offset,
            termination=termination,
            validate=validate,
            instructions=session._instructions,
        )
        return protocol

    def _machine(self, model: Model, protocol: ModelProtocol) -> TurnMachine:
        session = self.session
        config = TurnMachineConfig(
            driver=CheckedDriver(protocol.driver),
            projector=protocol.projector,
            protocol=protocol.turn_protocol,
            model=model.name,
            sync_execution_environment=True,
            max_turns=self.max_steps,
            system_prompt=protocol.system_prompt,
            session_id=session.id,
            emit_llm_trace=True,
            termination=protocol.termination,
            turn_limit_final_message=protocol.turn_limit_message,
        )
        message_id = f"m_user_{self.number}"
        part = Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=self.text)
        asked = Message(id=message_id, role=MessageRole.USER, parts=(part,))
        return TurnMachine(
            config,
            session._messages.appended((asked,)),
            session._events,
            protocol_run_offset=session._run_offset,
        )

    def _ports(self, model: Model, protocol: ModelProtocol, kernel: Kernel) -> TurnPorts:
        session = self.session
        minutes = session.limits.max_minutes
        return TurnPorts(
            protocol=protocol,
            model=model,
            kernel=kernel,
            context=CallContext(session=session.label, turn=self.number, step=0, user_text=self.text),
            session_id=session.id,
            store=session.store,
            tools=session._tools,
            inbox=session._inbox,
            redactor=session._redactor,
            known_variables=session._known,
            on_activity=self._saw,
            on_record=lambda checkpoint, final: self._recorded(checkpoint, protocol, final),
            on_log=session._on_log,
            time_limit_s=None if minutes is None else minutes * 60,
            cell_limit_s=session.limits.cell_seconds,
        )

    def _saw(self, activity: TurnActivity) -> None:
        self.picture = self.picture.apply(activity)
        if self.watcher is not None:
            self.watcher(activity)

    def _recorded(self, checkpoint: TurnCheckpoint, protocol: ModelProtocol, final: bool) -> None:
        self.envelope = self.session._envelope(self.number, checkpoint, protocol)
        if not final:
            self.session._publish(self.envelope)

    def _finished(self, result: TurnResult) -> Turn:
        """Take the turn into the session: history, chain, list."""
        session = self.session
        _adopt(session, result.done, result.checkpoint)
        session._known = result.known_variables
        turn = Turn(
            session=session.id,
            number=self.number,
            picture=self.picture,
            outcome=result.outcome,
            usage=result.checkpoint.cumulative_usage,
            value=self._value(result),
            envelope=self.envelope,
            store=session.store,
        )
        assert self.envelope is not None
        session._envelopes.append(self.envelope)
        session.turns.append(turn)
        session._publish(None)
        return turn

    def _value(self, result: TurnResult) -> Any:
        if not isinstance(result.outcome, Finished) or not isinstance(result.outcome.finish, FinalValue):
            return None
        value = result.outcome.finish.value
        return self.wanted.read(value) if self.wanted is not None else value


def _adopt(session: Session, done: Done, checkpoint: TurnCheckpoint) -> None:
    session._messages = done.messages
    session._events = checkpoint.events
    session._run_offset = done.protocol_iteration + 1
