"""What one notebook's kernel keeps between its cells: which model answers, and the session that is current.

Decided here: what an unattended run says (`LASH_NB_RUN_OPTIONS`) wins over what stands in the notebook; one session at
a time, the next one has the next label; a model that was opened stays open, so that a script or a cassette goes on
where it was. Light to import: session, kernel and providers are loaded when they are needed, or in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .asking import Desk
from .bridge import shared_loop
from .deciding import allowed_mode, known_mode
from .errors import CassetteError, InputError, LashError, UnknownModelError
from .languages import EndsNow
from .machine.approvals import ApprovalMode
from .models import Model
from .models.choice import MODEL_VARIABLE, ModelChoice, choose_model, open_model, suggestion
from .models.weights import local_provenance
from .notebook_past import NotebookPast
from .pulled import Pulled
from .run_settings import RunSettings
from .stores.state_dir import default_state_dir
from .suggestion import suggested_model
from .trust import Redactor

if TYPE_CHECKING:
    from .copying import Copying
    from .finding import Found
    from .kernels import Kernel
    from .previews import Previews
    from .protocols.grammar import Grammar
    from .session import Limits, Session

__all__ = ["NotebookSessions"]

_CASSETTE = ".cassette.jsonl"


class NotebookSessions:
    """Model and session of one notebook's kernel."""

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
        namespace: Callable[[], MutableMapping[str, Any]] = dict,
    ) -> None:
        self.run = run
        self.label = 1
        self.picked: str | None = None
        """What `%lash model NAME` said last."""
        self.resumed_model: str | None = None
        """The model of a session that was gone on with, for when nothing chooses one."""
        self.conducted: ModelChoice | None = None
        """Who answered the last turn of the session that began here; one that was left waiting goes on with it."""
        notebook = Path(run.notebook) if run and run.notebook else None
        named = notebook or file
        self.file = named.absolute() if named else None
        """The notebook's file, as far as anybody tells."""
        self.make_kernel: Callable[[], Kernel] | None = None
        """Where the agent's code runs; None: a managed kernel of this interpreter."""
        self.home = notebook.parent if notebook else Path.cwd()
        self._stem = self.file.stem if self.file else None
        self._configured, self._limits, self._state_dir = configured, limits, state_dir
        self._grammar, self._protocol, self._saves, self._previews = grammar, protocol, saves, previews
        self.approve: ApprovalMode | None = None
        """What `%lash approve MODE` said last, until the session ends."""
        self._approve = approve
        self.pulled = Pulled(namespace=namespace, session=lambda: self._session)
        self._models: dict[str, Model] = {}
        self._session: Session | None = None
        self._made: list[Session] = []
        """Those that have not been ended yet."""
        self.desk = Desk()
        """Where the agent's code asks the person at the notebook."""
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    # -- which model ---------------------------------------------------------------------------------------------------

    @cached_property
    def suggested(self) -> str | None:
        """The model that the notebook's file names in its metadata, as far as the file can be found and read."""
        return suggested_model(self.file) if self.file else None

    @property
    def cassette(self) -> Path | None:
        """The notebook's own cassette, whether it exists or not."""
        return self.home / f"{self._stem}{_CASSETTE}" if self._stem else None

    @property
    def ordered(self) -> str:
        """The option of the run that decides over the model; empty when none does."""
        run = self.run
        if run and run.model:
            return "-m"
        return "--replay" if run and run.replay and self.cassette and self.cassette.is_file() else ""

    def choose(self, named: str | None = None) -> ModelChoice:
        """The model that answers now; `named` is the cell's own -m.

        Raises:
            UnknownModelError: nothing chooses a model, or what does is not of any known form.
            CassetteError: the run shall replay, and there is nothing to replay.
        """
        return replace(self._chosen(named), previews=self._previews())

    def _chosen(self, named: str | None) -> ModelChoice:
        ordered = self.ordered
        if ordered == "-m":
            assert self.run
            return replace(choose_model(self.run.model), why="-m of the run")
        if ordered == "--replay":
            assert self.cassette
            return replace(choose_model(f"replay:{self.cassette.name}"), why="--replay of the run")
        configured = self._configured() or None
        name = named or self.picked or configured or os.environ.get(MODEL_VARIABLE, "")
        if self.run and self.run.replay:
            return self._replayed(name)
        try:
            return choose_model(
                named,
                notebook_pick=self.picked,
                notebook_pin=self.suggested,
                configured=configured,
                cassette=self.cassette,
            )
        except UnknownModelError:
            if name or not self.resumed_model:
                raise
            return replace(choose_model(self.resumed_model), why="the session that goes on")

    def _replayed(self, name: str) -> ModelChoice:
        """--replay without a cassette of the notebook's own: what it names may be another one, never a real model."""
        if name.startswith("replay:"):
            return replace(choose_model(name), why="the notebook, under --replay of the run")
        cassette = self.cassette.name if self.cassette else "cassette"
        raise CassetteError(f"there is no {cassette} to replay beside the notebook; `lash-nb run --record` makes one")

    def open(self, name: str, *, again: bool = False) -> Model:
        """The model of that name, opened once; `again` opens it anew.

        Raises:
            InputError: it cannot be opened.
        """
        if again or name not in self._models:
            run = self.run
            model = open_model(name, base_dir=self.home, strict=bool(run and run.replay == "strict"))
            if run and run.record:
                self._let_go(list(self._models))  # one at a time writes the cassette
                model = _recording(model, Path(run.record), name)
            self._let_go([name])
            self._models[name] = model
        return self._models[name]

    def pick(self, name: str) -> ModelChoice:
        """`%lash model NAME`. Raises InputError when it cannot be opened; then nothing changes."""
        choice = choose_model(notebook_pick=name)
        if not self.ordered:
            self.open(choice.name, again=True)
        self.picked = choice.name
        return self.choose()

    def provenance(self, choice: ModelChoice) -> str:
        """Whose answers a cassette holds, what the local model is and can do; empty for others."""
        kind = choice.name.partition(":")[0]
        if kind == "local":
            return local_provenance()
        return str(getattr(self.open(choice.name), "provenance", "")) if kind == "replay" else ""

    def _let_go(self, names: list[str]) -> None:
        for name in names:
            model = self._models.pop(name, None)
            if model is not None:
                _close_later(model)

    @property
    def suggestion(self) -> str:
        """What is said of the model that the notebook's author would like; empty when there is none to ask about."""
        name = self.suggested or ""
        return "" if not name or name.startswith("replay:") else suggestion(name, os.environ)

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
        )

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
            if self._session is None:
                self._session = Session(label=str(self.label), **self._arranged())
                self._made.append(self._session)
            self._session.notebook = self.past.place or self._session.notebook  # it may have been renamed
            # Settings hold from the next turn on, also where the session was made in the background before.
            self._session.protocol, self._session.grammar = self._protocol(), self._grammar()
            self._session.previews, self._session.approve = self._previews(), self.mode()
            limits = self._limits()
            if limits is not None:
                self._session.limits = limits
            return self._session

    def _arranged(self) -> dict[str, Any]:
        """What every session of this notebook is made with."""
        return {
            "kernel": self.make_kernel() if self.make_kernel else None,
            "notebook": self.file,
            "state_dir": self.told_state_dir,
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
        with self._lock:
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
            self.label += 1
            self._end(session)

    def close(self) -> None:
        """End session, kernel, models and the line to the notebook's holder; idempotent, nothing in a forked child."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
            models, self._models = self._models, {}
        self.copying.close()
        if session is not None:
            self._end(session)
        for model in models.values():
            shared_loop().run(model.aclose())

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


def _recording(model: Model, path: Path, name: str) -> Model:
    from .models.replay import Origin, RecordingModel

    origin = Origin.SCRIPTED if name.startswith("scripted:") else Origin.RECORDED
    try:
        return RecordingModel(model, path, origin=origin, redact=Redactor(os.environ).response)
    except LashError:
        _close_later(model)
        raise


def _close_later(model: Model) -> None:
    """Without waiting: what it holds is a connection pool at most."""
    asyncio.run_coroutine_threadsafe(model.aclose(), shared_loop().loop)
