"""What one notebook's kernel keeps between its cells: which model answers, and the session that is current.

Decided here: one session at a time, the next one has the next label; what an unattended run says wins over what stands
in the notebook. Light to import: session, kernel and providers are loaded when they are needed, or in the background.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .asking import Desk
from .bridge import shared_loop
from .deciding import allowed_mode, known_mode
from .errors import InputError
from .kernels.sandbox import check_sandbox
from .kernels.settings import KernelSettings, as_ordered
from .languages import EndsNow
from .machine.approvals import ApprovalMode
from .notebook_models import NotebookModels
from .notebook_past import NotebookPast
from .notebook_tools import NotebookTools
from .pulled import Pulled
from .run_settings import RunSettings
from .stores.kept import KeptCode, KeptStore, carried_kept
from .stores.notebook import METADATA_KEY
from .stores.state_dir import default_state_dir
from .suggestion import read_document

if TYPE_CHECKING:
    from .copying import Copying
    from .finding import Found
    from .keeping import Keeping
    from .kernels import Kernel
    from .previews import Previews
    from .protocols.grammar import Grammar
    from .session import Limits, Session
    from .sharing import Sharing
    from .stores.clicks import OnInsert

__all__ = ["NotebookSessions"]


class NotebookSessions(NotebookModels):
    """Models and session of one notebook's kernel."""

    def __init__(
        self,
        *,
        run: RunSettings | None = None,
        file: Path | None = None,
        configured: Callable[[], str | None] = lambda: None,
        limits: Callable[[], Limits | None] = lambda: None,
        state_dir: Callable[[], str | None] = lambda: None,
        grammar: Callable[[], Grammar] = lambda: "tags",
        protocol: Callable[[], str | None] = lambda: None,
        saves: Callable[[], bool] = lambda: False,
        previews: Callable[[], Previews] = lambda: "sample",
        approve: Callable[[], ApprovalMode] = lambda: ApprovalMode.EFFECTS,
        namespace: Callable[[], dict[str, Any]] = dict,
        hidden: Callable[[], dict[str, Any]] = dict,
        kernels: Callable[[], KernelSettings] = lambda: KernelSettings(),
        servers: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        super().__init__(run=run, file=file, configured=configured, previews=previews)
        self.label = 1
        self.make_kernel: Callable[[], Kernel] | None = None
        """Where the agent's code runs; None: a managed kernel of this interpreter."""
        self._limits, self._state_dir = limits, state_dir
        self._grammar, self._protocol, self._saves = grammar, protocol, saves
        self.approve: ApprovalMode | None = None
        """What `%lash approve MODE` said last, until the session ends."""
        self._approve, self._namespace, self._hidden = approve, namespace, hidden
        self.told_cells = 0
        """Up to which of the notebook's cells the model was told of them; by execution count."""
        self.pulled = Pulled(
            namespace=namespace,
            session=lambda: self._session,
            came=lambda name, epoch: self.sharing.came(name, epoch),
            edited=lambda name: self.sharing.edited(name),
        )
        self.tools = NotebookTools(namespace=namespace, servers=servers, base_dir=self.home)
        self.sandboxed = False
        """Whether a cell of the session asked for the sandbox; until the session ends."""
        self._kernels, self._made_with = kernels, KernelSettings()
        self.on_insert: OnInsert | None = None
        """Has a turn's code put below the cell in which somebody clicked."""
        self._session: Session | None = None
        self._made: list[Session] = []
        """Those that have not been ended yet."""
        self.desk = Desk()
        """Where the agent's code asks the person at the notebook."""
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    # -- which session -------------------------------------------------------------------------------------------------

    @cached_property
    def copying(self) -> Copying:
        """What has the notebook carry its turns."""
        from .copying import Copying

        return Copying(
            attended=self.run is None,
            suggested=lambda: self.suggested,
            saves=self._saves,
            on_pull=self.pulled.soon,
            on_insert=self.on_insert,
        )

    @cached_property
    def keeping(self) -> Keeping:
        """What is kept of its turns: the user's own, whatever directory a run has for its state."""
        from .keeping import Keeping

        return Keeping(
            KeptStore(Path(self._state_dir() or default_state_dir())),
            place=lambda: str(self._place or Path.cwd()),
            carried=self._carried,
            carry=self.copying.carry,
        )

    def _carried(self) -> list[KeptCode]:
        """What the notebook carries; by its file as long as its holder has not spoken: the answer may come late."""
        if self.copying.notebook is not None or self.file is None:
            return self.copying.kept()
        metadata = (read_document(self.file) or {}).get("metadata")
        return list(carried_kept(metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None))

    @property
    def _place(self) -> Path | None:
        # A runner holds the notebook that it writes, and not the one that it was given.
        return self.file if self.run is not None else self.past.place

    @property
    def grammar(self) -> Grammar:
        """How a model marks a cell."""
        return self._grammar()

    @property
    def protocol(self) -> str | None:
        """How a model conducts a turn; None: as it suits the model."""
        return self._protocol()

    @cached_property
    def sharing(self) -> Sharing:
        """What of the notebook's variables its turns see and use."""
        from .sharing import Sharing

        # A function that is a tool is called as one: a copy of it would run in the agent's kernel.
        return Sharing(self._namespace(), hidden=ChainMap(cast("dict[str, Any]", self.tools.variables), self._hidden()))

    @property
    def current(self) -> Session | None:
        """The session, if there is one already."""
        return self._session

    @property
    def state_dir(self) -> Path:
        """Where journals and blobs are kept."""
        return self.told_state_dir or default_state_dir()

    @property
    def told_state_dir(self) -> Path | None:
        """The same, where the run or the configuration says so."""
        told = (self.run.state_dir if self.run else None) or self._state_dir()
        return Path(told) if told else None

    def mode(self, named: str | None = None) -> ApprovalMode:
        """What is asked about; `named` is the cell's own `--approve`. Raises InputError."""
        told = (self.run.approve if self.run else None) or named
        wanted = known_mode(told) if told else self.approve or self._approve()
        return allowed_mode(wanted, env=os.environ)

    def session(self) -> Session:
        """The session; made when there is none."""
        from .session import Session

        with self._lock:
            self._end_of_another_kernel()
            self.tools.configure()
            if self._session is None:
                self._session = Session(label=str(self.label), **self._arranged())
                self._made.append(self._session)
            self._session.notebook = self.past.place or self._session.notebook  # it may have been renamed
            # Settings hold from the next turn on, also where the session was made in the background before.
            self._session.protocol, self._session.grammar = self.protocol, self._grammar()
            self._session.previews, self._session.approve = self._previews(), self.mode()
            limits = self._limits()
            if limits is not None:
                self._session.limits = limits
            return self._session

    @property
    def kernel_settings(self) -> KernelSettings:
        """How the next session makes its kernels. Raises InputError: a bound is none."""
        told = self._kernels()
        if self.run is not None:
            told = self.run.kernel_over(told)
        return as_ordered(replace(told, sandbox=told.sandbox or self.sandboxed), os.environ)

    def want_sandbox(self) -> None:
        """The session's kernel is to be in a sandbox.

        Raises:
            InputError: it is not, and has run code; or there can be none here. Nothing changes.
        """
        session = self._session
        if session is not None and session.kernel_settings.sandbox:
            return
        if session is not None and not self._fresh(session):
            raise InputError(
                f"--sandbox: the kernel of session {self.label} is not in a sandbox, and its code has run outside of "
                "one; `--new` beside it, or `%lash new`, begins a session that is"
            )
        check_sandbox(Path.cwd())
        self.sandboxed = True

    def _end_of_another_kernel(self) -> None:
        """A session in which nothing was asked yet makes way when its kernel would be another one."""
        session = self._session
        if session is not None and self._made_with != self.kernel_settings and self._fresh(session):
            self._session = None
            self._end(session)

    def _fresh(self, session: Session) -> bool:
        return not (session.next_number > 1 or session.interrupted or session.running)

    def _arranged(self) -> dict[str, Any]:
        """What every session of this notebook is made with."""
        self._made_with = self.kernel_settings
        return {
            **self._made_with.as_arguments(),
            "kernel": self.make_kernel() if self.make_kernel else None,
            "notebook": self.file,
            "state_dir": self.told_state_dir,
            "sharing": self.sharing,
            "tools": self.tools.catalogue,
            "on_block": self.copying.keep,
            "on_head": self.copying.head,
            # Unattended nobody is there; the kernel says so itself.
            "on_input": self.desk.ask if self.run is None else None,
        }

    def tell(self) -> None:
        """Say what may be shown beside the notebook: session, model, what runs or was interrupted."""
        session = self._session
        name = (self.resumed_model or "") if session is None else session.model_name
        with contextlib.suppress(InputError):
            name = self.choose().name
        self.copying.tell(
            session=session.id if session is not None else None,
            label=str(self.label),
            model=name,
            running=session.next_number if session is not None and session.running else None,
            interrupted=session.next_number if session is not None and session.interrupted else None,
        )

    @cached_property
    def past(self) -> NotebookPast:
        """What earlier processes left for this notebook."""
        return NotebookPast(
            file=self.file,
            home=self.home,
            state_dir=lambda: self.state_dir,
            told_state_dir=lambda: self.told_state_dir,
            notebook=lambda: self.copying.notebook,
            mine=lambda: {session.id for session in self._made},
        )

    def resume(self, found: Found) -> Session:
        """Go on with an earlier session, which becomes the current one; the one before it ends.

        Raises:
            UnknownNameError, NotebookError, JournalInUseError, JournalError: as `Session.resume`; nothing changed.
        """
        from .session import Session

        with self._lock:
            limits = self._limits()
            bounds = {} if limits is None else {"limits": limits}
            session = Session.resume(found, **{**self._arranged(), **bounds, "state_dir": found.state_dir})
            before, self._session, self.approve, self.conducted = self._session, session, None, None
            self.told_cells = 0
            self._made.append(session)
            if session.label.isdecimal():
                self.label = max(self.label, int(session.label))
            self.resumed_model = session.model_name or None
            if before is not None:
                self._end(before)
        if self._closed:
            self.end_now()  # it came in between and did not see this session
        return self.session()

    def warm_up(self) -> None:
        """Load what a turn needs and start the managed kernel, in the background."""
        threading.Thread(target=self._warm, name="lash_nb-warm-up", daemon=True).start()

    def _warm(self) -> None:
        import_module(".live", __package__)
        with self._lock, contextlib.suppress(InputError):  # no sandbox here, say: the next request tells
            if not self._closed:
                self.session().warm_up()
                self._warm_model()
        if self._closed:
            self.end_now()  # it came in between and did not see this session

    def _warm_model(self) -> None:
        """A model that has to be loaded first is loaded while its request is being typed."""
        with contextlib.suppress(InputError):
            name = self.choose().name
            warm = getattr(self.open(name), "warm_up", None) if name.partition(":")[0] == "local" else None
            if warm is not None:
                warm()

    def renew(self) -> None:
        """End the session and its kernel; the next one has an empty history and the next label."""
        with self._lock:
            session = self._session
            if session is None or not (session.turns or session.interrupted):
                return  # it is new; whether it was made already depends on the background
            self._session = self.approve = self.conducted = None
            self.sandboxed = False
            self.label, self.told_cells = self.label + 1, 0
            self._end(session)

    def close(self) -> None:
        """End session, kernel, models and the line to the notebook's holder; idempotent, nothing in a forked child."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        self.copying.close()
        if session is not None:
            self._end(session)
        self.tools.close()
        self.close_models()

    def end_now(self) -> None:
        """Kill what runs for this notebook, from any thread: the process is about to end, and may be killed itself."""
        if self._pid != os.getpid():
            return
        self._closed = True  # without the lock: whoever holds it may wait for the very thing that is killed here
        self.desk.close()
        made = list(self._made)
        for session in made:
            session.end_now()
            kernel: object = session.kernel
            if self.make_kernel is not None and isinstance(kernel, EndsNow):
                kernel.end_now()  # it was not made by the session
        for session in made:
            session.let_go()

    def _end(self, session: Session) -> None:
        """With its kernel, also when that was not made by the session."""
        session.close()
        if session.kernel is not None:
            shared_loop().run(session.kernel.shutdown())
        self._made.remove(session)
