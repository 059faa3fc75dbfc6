"""Which model answers in one notebook's kernel: what chooses it, and that a model which was opened stays open.

Decided here: what an unattended run says (`LASH_NB_RUN_OPTIONS`) wins over what stands in the notebook; a script or a
cassette goes on where it was, because its model stays open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from .bridge import shared_loop
from .errors import CassetteError, LashError, UnknownModelError
from .models import Model
from .models.choice import MODEL_VARIABLE, ModelChoice, choose_model, open_model, suggestion
from .models.weights import local_provenance
from .previews import Previews, allowed_previews
from .run_settings import RunSettings
from .suggestion import suggested_model
from .trust import Redactor

__all__ = ["NotebookModels"]

_FROZEN = "--frozen: no model may be asked, and there are no recorded answers beside the notebook"
_CASSETTE = ".cassette.jsonl"


class NotebookModels:
    """The models of one notebook's kernel."""

    def __init__(
        self,
        *,
        run: RunSettings | None,
        file: Path | None,
        configured: Callable[[], str | None],
        previews: Callable[[], Previews],
    ) -> None:
        self.run = run
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
        self.home = notebook.parent if notebook else Path.cwd()
        self._stem = self.file.stem if self.file else None
        self._configured, self._previews = configured, previews
        self._models: dict[str, Model] = {}

    @property
    def previews(self) -> Previews:
        """How much of values the model is told. Raises InputError."""
        return allowed_previews(self._previews(), env=os.environ)

    def close_models(self) -> None:
        """Let go of all models, and wait for it."""
        models, self._models = self._models, {}
        for model in models.values():
            shared_loop().run(model.aclose())

    @cached_property
    def suggested(self) -> str | None:
        """The model that the notebook's file names in its metadata, as far as the file can be found and read."""
        return suggested_model(self.file) if self.file else None

    @property
    def cassette(self) -> Path | None:
        """The notebook's own cassette, whether it exists or not."""
        return self.home / f"{self._stem}{_CASSETTE}" if self._stem else None

    @property
    def _frozen(self) -> bool:
        """Whether the run forbids that a model is asked."""
        return self.run is not None and self.run.kept == "frozen"

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
        choice = self._recorded(named) if self._frozen else self._chosen(named)
        return replace(choice, previews=self._previews())

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

    def _recorded(self, named: str | None) -> ModelChoice:
        """Recorded answers, where no model may be asked: those that are chosen, else the notebook's own."""
        with suppress(UnknownModelError):
            choice = self._chosen(named)
            if choice.name.startswith("replay:"):
                return choice
        if self.cassette is None or not self.cassette.is_file():
            raise UnknownModelError(_FROZEN)
        return replace(choose_model(f"replay:{self.cassette.name}"), why="--frozen of the run, which asks no model")

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
        if not self.ordered and not self._frozen:
            self.open(choice.name, again=True)
        self.picked = choice.name
        return self._chosen(None) if self._frozen else self.choose()

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
