"""What one notebook's kernel keeps between its cells: which model answers, and the session that is current.

Decided here: what an unattended run says (`LASH_NB_RUN_OPTIONS`) wins over what stands in the notebook; one session at
a time, the next one has the next label; a model that was opened stays open, so that a script or a cassette goes on
where it was. Light to import: session, kernel and providers are loaded when they are needed, or in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .asking import Desk
from .bridge import shared_loop
from .errors import CassetteError, InputError, LashError
from .languages import EndsNow
from .models import Model
from .models.choice import MODEL_VARIABLE, ModelChoice, choose_model, open_model, suggestion
from .models.weights import LOCAL_WEIGHTS, find_weights
from .suggestion import suggested_model
from .trust import Redactor

if TYPE_CHECKING:
    from .kernels import Kernel
    from .protocols.grammar import Grammar
    from .session import Limits, Session
    from .stores.copies import NotebookCopies

__all__ = ["RUN_OPTIONS", "NotebookSessions", "RunSettings", "notebook_file"]

RUN_OPTIONS = "LASH_NB_RUN_OPTIONS"
_CASSETTE = ".cassette.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What `lash-nb run` tells the kernel of its notebook."""

    model: str | None = None
    record: str | None = None
    replay: str | None = None
    notebook: str | None = None
    state_dir: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RunSettings | None:
        """None when this is no such run.

        Raises:
            InputError: the variable is not what a runner writes.
        """
        text = env.get(RUN_OPTIONS)
        if text is None:
            return None
        try:
            told = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{RUN_OPTIONS} is not JSON: {error.msg}") from error
        if not isinstance(told, dict):
            raise InputError(f"{RUN_OPTIONS} is not a JSON object")
        values = {name: told.get(name) for name in cls.__slots__}
        wrong = [name for name, value in values.items() if not isinstance(value, str | None)]
        if wrong:
            raise InputError(f"{RUN_OPTIONS}.{wrong[0]} is not a text")
        return cls(**values)


def notebook_file(user_ns: Mapping[str, Any], env: Mapping[str, str]) -> Path | None:
    """The notebook's file, where the frontend tells it; a hint, it does not follow renames."""
    hints = (user_ns.get("__vsc_ipynb_file__"), env.get("JPY_SESSION_NAME"), user_ns.get("__session__"))
    for hint in hints:
        if isinstance(hint, str) and hint.endswith(".ipynb"):
            return Path(hint)
    return None


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
    ) -> None:
        self.run = run
        self.label = 1
        self.picked: str | None = None
        """What `%lash model NAME` said last."""
        notebook = Path(run.notebook) if run and run.notebook else None
        self._file = notebook or file
        self.make_kernel: Callable[[], Kernel] | None = None
        """Where the agent's code runs; None: a managed kernel of this interpreter."""
        self.home = notebook.parent if notebook else Path.cwd()
        self._stem = self._file.stem if self._file else None
        self._configured, self._limits, self._state_dir = configured, limits, state_dir
        self._grammar, self._protocol = grammar, protocol
        self._models: dict[str, Model] = {}
        self._session: Session | None = None
        self._made: list[Session] = []
        """Those that have not been ended yet."""
        self.desk = Desk()
        """Where the agent's code asks the person at the notebook."""
        self._copies: NotebookCopies | None = None
        self._block_number: int | None = None
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()

    # -- which model ---------------------------------------------------------------------------------------------------

    @cached_property
    def suggested(self) -> str | None:
        """The model that the notebook's file names in its metadata, as far as the file can be found and read."""
        return suggested_model(self._file) if self._file else None

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
        ordered = self.ordered
        if ordered == "-m":
            assert self.run
            return replace(choose_model(self.run.model), why="-m of the run")
        if ordered == "--replay":
            assert self.cassette
            return replace(choose_model(f"replay:{self.cassette.name}"), why="--replay of the run")
        configured = self._configured() or None
        if not (self.run and self.run.replay):
            return choose_model(
                named,
                notebook_pick=self.picked,
                notebook_pin=self.suggested,
                configured=configured,
                cassette=self.cassette,
            )
        return self._replayed(named or self.picked or configured or os.environ.get(MODEL_VARIABLE, ""))

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
            return _local_provenance()
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

    @property
    def current(self) -> Session | None:
        """The session, if there is one already."""
        return self._session

    def session(self) -> Session:
        """The session; made when there is none."""
        from .session import Session

        with self._lock:
            if self._session is None:
                state_dir = (self.run.state_dir if self.run else None) or self._state_dir()
                self._session = Session(
                    kernel=self.make_kernel() if self.make_kernel else None,
                    label=str(self.label),
                    state_dir=state_dir,
                    # Without a holder nobody needs the turn's head, which costs a little at every effect.
                    on_block=self._keep if self.run is not None else None,
                    # Unattended nobody is there; the kernel says so itself.
                    on_input=self.desk.ask if self.run is None else None,
                )
                self._made.append(self._session)
            # Settings hold from the next turn on, also where the session was made in the background before.
            self._session.protocol, self._session.grammar = self._protocol(), self._grammar()
            limits = self._limits()
            if limits is not None:
                self._session.limits = limits
            return self._session

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
            if session is None or not session.turns:
                return  # it is new; whether it was made already depends on the background
            self._session = None
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
            copies, self._copies = self._copies, None
        if copies is not None:
            copies.close()
        if session is not None:
            self._end(session)
        for model in models.values():
            shared_loop().run(model.aclose())

    def end_now(self) -> None:
        """Kill what runs for this notebook, from any thread and without waiting: the process is about to end."""
        if self._pid != os.getpid():
            return
        self._closed = True  # without the lock: whoever holds it may wait for the very thing that is killed here
        self.desk.close()
        for session in list(self._made):
            session.end_now()
            kernel: object = session.kernel
            if isinstance(kernel, EndsNow):
                kernel.end_now()  # also when it was not made by the session

    def _end(self, session: Session) -> None:
        """With its kernel, also when that was not made by the session."""
        session.close()
        if session.kernel is not None:
            shared_loop().run(session.kernel.shutdown())
        self._made.remove(session)

    # -- copies in the notebook ----------------------------------------------------------------------------------------

    @property
    def copies(self) -> NotebookCopies:
        """The line to whoever holds the notebook; only a runner is known to answer."""
        if self._copies is None:
            from .stores.copies import NotebookCopies

            self._copies = NotebookCopies(offered=self.run is not None)
        return self._copies

    def _keep(self, block: dict[str, Any], final: bool) -> None:
        copies = self._copies
        if copies is not None:
            self._block_number = copies.set(block)

    @property
    def copied(self) -> bool:
        """Whether the newest block has been written into the notebook."""
        return self._copies is not None and self._copies.acknowledged(self._block_number)

    @property
    def copying(self) -> bool:
        """Whether that may still come."""
        if self._copies is None or self._block_number is None or self.copied:
            return False
        return self._copies.answering is not False and self._copies.refusal(self._block_number) is None

    def copy_status(self) -> str:
        """Where the notebook-level copy is, for `%lash`."""
        if self.run is None:
            return "✗ (nothing here writes it; `lash-nb run` does)"
        if self._block_number is None:
            return "– (no turn yet)"
        refusal = self._copies.refusal(self._block_number) if self._copies else None
        return "✓" if self.copied else f"✗ ({refusal})" if refusal else "✗ (not acknowledged)"


def _local_provenance() -> str:
    """What answers, and how well: nobody should take a small model for a large one."""
    found = find_weights()
    measured = f", right on {LOCAL_WEIGHTS.scored} as measured" if found.pinned else ""
    return f"{found.name}: a small model{measured}; it writes one cell a request, look at its code"


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
