"""What a turn gave, as a value: `Turn`, and how it shows itself.

A Turn is what `session.run` returns and what a `%%lash` cell evaluates to. It shows its static bundle, unless the magic
has drawn the turn already (then displaying it again would double it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .kernels.outputs import to_nbformat
from .machine.attachments import AttachmentStore
from .machine.llm import LlmUsage
from .machine.outcomes import AssistantMessage, Finished, Stopped, TurnOutcome, TurnStopReason
from .machine.picture import PictureState, TurnPicture
from .machine.wire import Json
from .views.text import static_bundle

__all__ = ["Turn", "dollars_of"]

_BOUNDS = (TurnStopReason.MAX_TURNS, TurnStopReason.INCOMPLETE)


def dollars_of(turns: Sequence[Turn]) -> float | None:
    """What turns cost together in US dollars; None when that of any is not known."""
    known = [turn.dollars for turn in turns if turn.dollars is not None]
    return sum(known) if known and len(known) == sum(bool(turn.usage.total) for turn in turns) else None


class Turn:
    """One finished turn.

    `id` is `SESSION.TURN`; `text` is the answer in words (the reason, when there is none); `code` holds the cells that
    were run, in order; `outputs` are all their outputs as nbformat dicts; `value` is what the code passed to
    `finish(...)`, or None; `usage` counts tokens; `outcome` is the machine's record of how it ended.
    """

    def __init__(
        self,
        *,
        session: str,
        number: int,
        picture: TurnPicture,
        outcome: TurnOutcome,
        usage: LlmUsage,
        value: Any = None,
        typed: bool = False,
        schema: Json = None,
        results: tuple[str, ...] = (),
        maybe: tuple[str, ...] = (),
        afresh: bool = False,
        envelope: dict[str, Any] | None = None,
        store: AttachmentStore | None = None,
    ) -> None:
        self.session = session
        self.number = number
        self.picture = picture
        self.outcome = outcome
        self.usage = usage
        self.value = value
        self.results = results
        """Names of the variables that it was to leave in the kernel."""
        self.maybe = maybe
        """Names that it may have left results under."""
        self.typed = typed
        """Whether it had to give a value, of a type or for a schema: then `results` begin with the name of that."""
        self.schema = schema
        """The JSON Schema of its value, when it was asked for with one."""
        self.afresh = afresh
        """Whether its cells worked on new copies of the notebook's variables each: nothing of them stays."""
        self.envelope = envelope
        """The copy of this turn that goes into the notebook."""
        self.shown = False
        """Whether it was drawn already, in the cell that is running; `display(turn)` then draws nothing."""
        self._store = store

    @property
    def id(self) -> str:
        """`SESSION.TURN`."""
        return f"{self.session}.{self.number}"

    @property
    def request(self) -> str:
        """What was asked."""
        return self.picture.request

    @property
    def model(self) -> str:
        """Which model answered."""
        return self.picture.model

    @property
    def dollars(self) -> float | None:
        """What its model calls cost in US dollars, by the price list that comes with lash_nb; None when not known."""
        return self.picture.dollars

    @property
    def ok(self) -> bool:
        """Whether it ended with an answer or a value."""
        return isinstance(self.outcome, Finished)

    @property
    def status(self) -> str:
        """`done`, `stopped` (by the user), `bound` (a limit was hit) or `failed`."""
        if self.ok:
            return "done"
        if isinstance(self.outcome, Stopped) and self.outcome.stop in _BOUNDS:
            return "bound"
        return "stopped" if self.picture.state is PictureState.STOPPED else "failed"

    @property
    def text(self) -> str:
        """The answer in words; for a value its text; else the sentence that says why there is none."""
        if isinstance(self.outcome, Finished):
            finish = self.outcome.finish
            return finish.text if isinstance(finish, AssistantMessage) else str(finish.value)
        return self.picture.sentence

    @property
    def code(self) -> tuple[str, ...]:
        """The cells that were run, in order."""
        return tuple(step.code for step in self.picture.steps if step.code is not None and step.outcome is not None)

    @property
    def outputs(self) -> tuple[dict[str, Any], ...]:
        """All outputs of all cells, in order, as nbformat dicts."""
        return tuple(output for step in self.picture.steps for output in to_nbformat(step.outputs))

    def bundle(self, *, with_request: bool = False) -> dict[str, Any]:
        """The static bundle: text/plain, text/markdown, text/html."""
        return static_bundle(self.picture, store=self._store, with_request=with_request)

    def __repr__(self) -> str:
        cells = len(self.code)
        return f"<Turn {self.id}: {self.picture.sentence}, {cells} cell{'' if cells == 1 else 's'}>"

    def __str__(self) -> str:
        return self.text

    def _repr_lash_(self) -> str:
        # Without the id: what the model sees of a notebook is to be the same in each run of it.
        return f"turn {self.number}: {self.picture.sentence}"

    def _ipython_display_(self) -> None:
        if self.shown:
            return
        from IPython.display import display

        display(self.bundle(), raw=True)  # type: ignore[no-untyped-call]
