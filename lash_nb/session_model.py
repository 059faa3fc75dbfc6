"""Which model answers in a session: opened when it is first needed, replaced from one turn to the next.

Decided here: a model that was replaced is let go when no turn runs any more, because closed under it the call would
fail.
"""

from __future__ import annotations

from pathlib import Path

from .models import KEPT, Model
from .models.choice import ModelChoice, choose_model, open_model

__all__ = ["SessionModel"]


class SessionModel:
    """The model of a session: `given`, or chosen as `%lash` does; names are relative to `base_dir`."""

    def __init__(self, given: Model | str | None, *, base_dir: Path) -> None:
        self.choice: ModelChoice | None = None
        """What was chosen, and why, when nothing was given."""
        self._given = given
        self._base_dir = base_dir
        self._model: Model | None = None
        self._retired: list[Model] = []

    @property
    def name(self) -> str:
        """The name of the model that answers, once it is known."""
        if self._model is not None:
            return self._model.name
        given = self._given
        return given if isinstance(given, str) else "" if given is None else given.name

    def open(self, name: str) -> Model:
        """A model by its name. Raises InputError."""
        return open_model(name, base_dir=self._base_dir)

    def the(self) -> Model:
        """The model that answers; opened when it is not yet. Raises InputError."""
        if self._model is None:
            given = self._given
            if given is None:
                self.choice = choose_model()
                given = self.choice.name
            self._model = self.open(given) if isinstance(given, str) else given
        return self._model

    def fall_back_on(self, name: str, *, trusted: bool) -> None:
        """The model of an earlier turn answers when no other was given; one that only a notebook names, if it is a
        cassette."""
        name = name.rpartition(", then ")[2]
        known = self._given is not None or self._model is not None
        if name and name != KEPT and not known and (trusted or name.startswith("replay:")):
            self._given = name

    def replace(self, model: Model) -> None:
        """Another one answers from now on; the one before stays open until `close_retired`."""
        before, self._model, self._given = self._model, model, model
        if before is not None and before is not model:
            self._retired.append(before)

    async def close_retired(self) -> None:
        """Let go what was replaced; when no turn runs."""
        while self._retired:
            await self._retired.pop().aclose()

    async def aclose(self) -> None:
        """Let go of the model, if it was opened."""
        if self._model is not None:
            await self._model.aclose()
