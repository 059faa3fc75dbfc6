"""What a session consists of, and how that begins and ends: kernels, model, journal, blobs, conversation.

What is done with it, turn after turn, is `session.py`'s. Everything here runs on the session's loop, but for what says
otherwise.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, Unpack, get_args

from .bridge import shared_loop, undisturbed
from .calls import RetryPolicy
from .conversation import Conversation, OnBlock, OnHead
from .deciding import Decisions, OnApproval, allowed_mode, known_mode
from .errors import InputError, UnknownNameError
from .kernels import InputRequest, Kernel, OnInput
from .kernels.sandbox import check_sandbox
from .kernels.settings import SANDBOX_VARIABLE, KernelSettings, Managed, as_ordered
from .languages import SessionKernels, attached_kernel, is_sandboxed, managed_kernel
from .machine.approvals import ApprovalMode
from .machine.effects import LogEvent
from .machine.llm import LlmUsage
from .machine.wire import Json
from .models import Model
from .models.choice import ModelChoice
from .ports import Inbox
from .previews import Previews, allowed_previews, known_previews
from .protocols import PROTOCOLS
from .protocols.grammar import Grammar
from .recorded import RecordedKernel, RecordedSession
from .recording import SessionRecorder
from .requested import Limits, Request, requested
from .session_model import SessionModel
from .session_past import SessionPast
from .sharing import Sharing
from .stores.blobs import BlobStore
from .stores.redacting import RedactingStore
from .stores.state_dir import default_state_dir
from .toolkits import Tool
from .toolkits.catalogue import ToolCatalogue, catalogue_of
from .toolkits.functions import ToolFunction, function_tool
from .toolkits.shipped import shipped_tools
from .trust import Redactor
from .turn_slot import TurnSlot
from .turns import Turn, dollars_of
from .version import __version__

__all__ = ["SessionParts"]

_LAST_MOMENT_S = 0.5
"""How long the end of the process is held up, at most, to record how the running turn was stopped."""


def _check_words(protocol: str | None, grammar: Grammar) -> None:
    for kind, name, known in (("protocol", protocol, PROTOCOLS), ("grammar", grammar, get_args(Grammar))):
        if name is not None and name not in known:
            raise UnknownNameError(f"no {kind} is called {name!r}; there are: {', '.join(sorted(known))}")


class SessionParts:
    """A session without its turns; the arguments are those of `Session`."""

    _starting: asyncio.Task[None] | None = None
    _shipped: Mapping[str, Tool] | None = None
    _around: dict[str, Any]
    """What all kernels of its own are made with, beside the settings."""

    def __init__(
        self,
        model: Model | str | None = None,
        *,
        kernel: Kernel | None = None,
        kernels: Mapping[str, Kernel] | None = None,
        protocol: str | None = None,
        grammar: Grammar = "tags",
        tools: ToolCatalogue | Mapping[str, ToolFunction | Tool] | None = None,
        limits: Limits | None = None,
        retries: RetryPolicy | None = None,
        instructions: str = "",
        label: str = "1",
        session_id: str | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        notebook: str | os.PathLike[str] | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        previews: Previews | None = None,
        approve: ApprovalMode | str = ApprovalMode.EFFECTS,
        on_approval: OnApproval | None = None,
        sharing: Sharing | None = None,
        on_block: OnBlock | None = None,
        on_head: OnHead | None = None,
        on_log: Callable[[LogEvent], None] | None = None,
        on_input: Callable[[InputRequest], str] | None = None,
        **managed: Unpack[Managed],
    ) -> None:
        _check_words(protocol, grammar)
        self.id, self.base_dir = session_id or uuid.uuid4().hex, Path(base_dir) if base_dir is not None else Path.cwd()
        self.limits, self.retries = limits or Limits(), retries or RetryPolicy()
        self.state_dir = (Path(state_dir) if state_dir is not None else default_state_dir()).absolute()
        self.store = BlobStore(self.state_dir / "blobs")
        self._model = SessionModel(model, base_dir=self.base_dir)
        self._redactor = redactor = Redactor(os.environ)
        self._arrange_kernels(kernel, kernels or {}, KernelSettings.of(managed), on_input)
        self.protocol, self.grammar, self.sharing = protocol, grammar, sharing
        self.previews: Previews = allowed_previews(previews and known_previews(previews), env=os.environ)
        self.approve = allowed_mode(known_mode(approve), env=os.environ)
        self._on_approval, self._on_log = on_approval, on_log or (lambda event: None)
        self.tools, self._own_tools = catalogue_of(tools, make=function_tool), not isinstance(tools, ToolCatalogue)
        self._instructions = redactor.text(instructions)
        self._conversation = Conversation(self.id, engine=f"lash_nb {__version__}", on_block=on_block, on_head=on_head)
        self._inbox, self._decisions, self._shutting = Inbox(), Decisions(), asyncio.Lock()
        self._recorder = SessionRecorder(self.state_dir, self.id, label=label, facts=self._facts, redactor=redactor)
        self.notebook = Path(notebook).absolute() if notebook is not None else None
        self._recorder.on_taken = self._as_before
        self._past = SessionPast(self._conversation, self._inbox, self._kernels, self._attach_kernel)
        self._past.sandboxed = lambda: self.kernel_settings.sandbox
        self._closed, self._shut, self._loop = False, False, shared_loop()
        self._slot = TurnSlot(self._loop)

    def _facts(self) -> dict[str, Json]:
        notebook = None if self.notebook is None else str(self.notebook)
        kernel = self.kernel_settings.to_json()
        return {
            "notebook": notebook,
            "directory": str(self.base_dir.absolute()),
            **({"kernel": kernel} if kernel else {}),
        }

    def add_tool(self, given: ToolFunction | Tool, *, name: str | None = None) -> Tool:
        """Make a function a tool of this session, or add a tool; from the next step on. Raises InputError."""
        added = given if isinstance(given, Tool) else function_tool(name, given)
        self.tools.add(added)
        return added

    def _shipped_tools(self) -> Mapping[str, Tool]:
        """Made once a turn calls for them."""
        if self._shipped is None:
            shipped = shipped_tools(directory=self.base_dir, store=RedactingStore(self.store, self._redactor))
            self._shipped = {tool.name: tool for tool in shipped}
        return self._shipped

    # -- its kernels ---------------------------------------------------------------------------------------------------

    def _arrange_kernels(
        self, main: Kernel | None, others: Mapping[str, Kernel], settings: KernelSettings, on_input: OnInput | None
    ) -> None:
        store = RedactingStore(self.store, self._redactor)
        self._around = {"cwd": self.base_dir, "store": store, "on_input": on_input, "hide": (self.state_dir,)}
        self._given = [kernel for kernel in (main, *others.values()) if kernel is not None]
        self.kernel_settings = self._checked(settings)
        self._kernels = SessionKernels(main, others, make=self._make_kernel)

    def _checked(self, settings: KernelSettings) -> KernelSettings:
        """With what the environment orders. Raises InputError: there can be no sandbox here."""
        settings = as_ordered(settings, os.environ)
        if settings.sandbox:
            check_sandbox(self.base_dir)
            if not all(map(is_sandboxed, self._given)):
                raise InputError("a kernel that was given to the session is not in the sandbox that it is to be in")
        return settings

    def _check_order(self) -> None:
        """Raise InputError where the environment orders the sandbox since, and the kernels are not in it."""
        if as_ordered(self.kernel_settings, os.environ).sandbox and not self.kernel_settings.sandbox:
            raise InputError(
                f"{SANDBOX_VARIABLE} orders the sandbox, and this session began outside: make a new one (`%lash new`)"
            )

    def _as_before(self, session: RecordedSession) -> None:
        """A session that goes on is in the sandbox in which it was, and within each bound that is not given anew.

        A notebook or a copied journal can make it stricter alone: nothing else is taken from there.
        """
        try:
            before = KernelSettings.from_json(session.facts.get("kernel", {}))
        except InputError:  # damaged: nothing less strict than what it can have been
            before = KernelSettings(sandbox=True)
        last = session.running or (session.turns[-1] if session.turns else None)
        sandbox = before.sandbox or (last is not None and last.asked.sandbox)
        strict = KernelSettings(sandbox=sandbox, resources=before.resources)
        self.kernel_settings = self._checked(self.kernel_settings.over(strict))

    def _make_kernel(self, language: str | None) -> Kernel:
        return managed_kernel(language, settings=self.kernel_settings, **self._around)

    def scratch_kernel(self) -> Kernel:
        """Another kernel like the main one, not started: to try something out in. The caller ends it."""
        return self._make_kernel(None)

    async def _attach_kernel(self, kernel: RecordedKernel) -> Kernel:
        return await attached_kernel(kernel, owner=self.id, settings=self.kernel_settings, **self._around)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.warm_up()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
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
        if self._past.to_recover or not self._kernels.the_main().epoch:
            self._starting = asyncio.ensure_future(self._start())
            # Whoever needs the kernel awaits it and gets the error; nobody may ever need it.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _start(self) -> None:
        await self._past.recover()
        kernel = self._kernels.the_main()
        if not kernel.epoch:
            await kernel.start()

    async def aclose(self) -> None:
        """Stop a running turn, end the kernel if it is the session's own, let go of the model; idempotent.

        It goes on to its end also when the caller is cancelled, and each part is done whatever becomes of the others;
        what one of them raises is raised then. In a forked child nothing happens: all of it is the parent's.
        """
        if self._loop.is_ours:
            await self._loop.wait(self._close())

    def close(self) -> None:
        """`aclose` from synchronous code."""
        if self._loop.is_ours:
            self._loop.run(self._close())

    async def _close(self) -> None:
        self._closed = True
        await undisturbed(self._shut_down())

    async def _shut_down(self) -> None:
        async with self._shutting:
            if self._shut:
                return
            async with AsyncExitStack() as model:
                model.push_async_callback(self._model.aclose)
                async with AsyncExitStack() as parts:  # the last one comes first
                    parts.callback(self._recorder.close)
                    parts.push_async_callback(self._kernels.shutdown)
                    parts.push_async_callback(self._stop_starting)
                    if self._own_tools:
                        parts.push_async_callback(self.tools.aclose)
                    parts.push_async_callback(self._slot.stop)
                self._shut = True  # a model that cannot be let go of is not asked again

    async def _stop_starting(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})

    def end_now(self) -> None:
        """Stop a running turn and kill the kernels that are the session's own: at once, from any thread, idempotent.

        For when the process is about to end and nobody can wait for an event loop; the session is closed afterwards.
        """
        if self._loop.is_ours:
            self._closed = True
            self._loop.loop.call_soon_threadsafe(self._abandon)  # first, so that no turn replaces the killed kernel
            self._kernels.end_now()

    def let_go(self) -> None:
        """After `end_now`: close the journal once the turn has ended, which is waited for a moment; from any thread.

        A turn that takes longer is left in the journal as it stands, as by a crash.
        """
        if self._loop.is_ours and not self._loop.is_current:
            gives_up_at = time.monotonic() + _LAST_MOMENT_S
            while self._slot.taken and time.monotonic() < gives_up_at:
                time.sleep(_LAST_MOMENT_S / 50)
            if not self._slot.taken:
                self._recorder.close()

    def _abandon(self) -> None:
        self._slot.cancel()
        if self._starting is not None:
            self._starting.cancel()

    async def ready_kernel(self) -> Kernel:
        """The main kernel, running: for what is done with it between turns. Raises KernelStartError."""
        await self._past.recover()
        kernel = self._kernels.the_main()
        if not kernel.alive:
            await (kernel.restart() if kernel.epoch else kernel.start())
        return kernel

    # -- what a turn uses ----------------------------------------------------------------------------------------------

    @property
    def choice(self) -> ModelChoice | None:
        """Which model was chosen and why, when none was given; None before it was needed."""
        return self._model.choice

    @property
    def model_name(self) -> str:
        """The name of the model that answers, once it is known."""
        return self._model.name

    def check_model(self) -> str:
        """The name of the model that answers, once it is known that it can. Raises InputError."""
        return self._model.the().name

    async def set_model(self, model: Model | str) -> None:
        """Another model from the next turn on. Raises InputError when the name cannot be opened; nothing changes."""
        opened = self._model.open(model) if isinstance(model, str) else model
        await self._loop.wait(self._replace_model(opened))

    async def _replace_model(self, model: Model) -> None:
        self._model.replace(model)
        if not self.running:
            await self._model.close_retired()

    def _requested(self, text: str, *, on_approval: OnApproval | None = None, **options: Any) -> Request:
        """A request with the session's settings where it has none of its own; see `Session.run`."""
        return requested(
            text,
            redactor=self._redactor,
            limits=self.limits,
            mode=self.approve,
            on_approval=on_approval or self._on_approval,
            **options,
        )

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Which session of its notebook this is."""
        return self._recorder.label

    @property
    def kernel(self) -> Kernel | None:
        """The main kernel; None before it was needed."""
        return self._kernels.main

    @property
    def turns(self) -> list[Turn]:
        """The turns so far, oldest first."""
        return self._conversation.turns

    @property
    def past(self) -> SessionPast:
        """What an earlier process left of it."""
        return self._past

    @property
    def next_number(self) -> int:
        """Of the turn that runs, was interrupted, or is asked for next."""
        return self._conversation.next_number

    @property
    def usage(self) -> LlmUsage:
        """Tokens of all turns."""
        return sum((turn.usage for turn in self.turns), LlmUsage())

    @property
    def dollars(self) -> float | None:
        """What all turns cost in US dollars; None when that of any is not known."""
        return dollars_of(self.turns)

    @property
    def running(self) -> bool:
        """Whether a turn runs."""
        return self._slot.taken
