"""What tests of approval share: a kernel that keeps what it ran, a person who answers, a model."""

from __future__ import annotations

from lash_nb import ScriptedKernel, ScriptedModel
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.approvals import Approval, Decision, Verdict, Wish
from lash_nb.machine.events import TurnActivity
from lash_nb.machine.picture import PictureState, TurnPicture

from .conversations import cell, stdout

__all__ = ["YES", "Person", "Ran", "Watch", "model"]

YES = Decision(verdict=Verdict.APPROVED)


class Ran:
    """A kernel that keeps what it ran; every cell prints its number."""

    def __init__(self, *wishes: Wish) -> None:
        self.codes: list[str] = []
        self.kernel = ScriptedKernel(self._play)
        self._wishes = wishes

    def _play(self, code: str) -> ScriptedCell:
        self.codes.append(code)
        return ScriptedCell(outputs=(stdout(f"ran {len(self.codes)}\n"),), wishes=self._wishes)


class Person:
    """Answers in order, and keeps what was asked."""

    def __init__(self, *answers: Decision | None) -> None:
        self.asked: list[Approval] = []
        self._answers = list(answers)

    async def __call__(self, approval: Approval) -> Decision | None:
        self.asked.append(approval)
        return self._answers.pop(0)


class Watch:
    """The picture as it goes, and the states that it was in."""

    def __init__(self) -> None:
        self.picture = TurnPicture()
        self.states: list[PictureState] = []

    def __call__(self, activity: TurnActivity) -> None:
        self.picture = self.picture.apply(activity)
        if not self.states or self.states[-1] is not self.picture.state:
            self.states.append(self.picture.state)


def model() -> ScriptedModel:
    return ScriptedModel([cell("x = 1", "I count."), "It is one."])
