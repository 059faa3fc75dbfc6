"""Kept code in the place of a model: it answers a turn's first calls, and hands over where that code does not do.

Decided here: the cells are given as they were kept, without the words of then. What a model said of the results is said
again only when the outputs are the same and hold each number of it. When a cell does not run to its end, or what it
gave is refused, the model behind is asked, which sees all of it as its own work so far. Where there is none, or it is
forbidden, the turn fails and says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from .errors import InputError, KeptCodeError
from .machine.activity import TurnStarted
from .machine.events import CodeBlockCompleted, InjectedTurnInputAccepted, PluginEvent, StatusRuntimeEvent, TurnActivity
from .machine.execution import CellOutcome, CellOutput, ErrorOutput, StreamOutput
from .machine.llm import (
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    TextOutput,
    ToolCallOutputPart,
)
from .machine.tool_specs import RUN_CODE
from .machine.wire import dumps
from .models import KEPT, CallContext, Model, ModelTraits, OnDelta, play
from .protocols.grammar import CLOSE_TAG, OPEN_TAG, Grammar, render_cell
from .protocols.snippet_cells import read_cell
from .stores.kept import KeptCode
from .views.pieces import clean, cut

__all__ = ["REPAIR", "KeptModel", "results_digest"]

REPAIR = (
    "The first cells of this turn are code that was kept from an earlier run of this notebook, on the data of then. "
    "It runs again on the data of today. Where it fails, or does not give what is asked for, repair it: change as "
    "little as needed, keep what still works and the names of what it makes, and let it cope with the data in its old "
    "form, too, where that is easy. What you run from there on is kept in its place."
)
"""What the model behind is told with the request."""
_REFUSING = ("check", "code")
"""Whose notices say that what the code gave is not taken: a check's, the protocol's of a value."""
_WHY_CHARS = 300
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def results_digest(cells: Iterable[tuple[CellOutput, ...]]) -> str:
    """The digest of what cells gave, errors left out: the same for the same texts, values and pictures."""
    digest = hashlib.sha256()
    for outputs in cells:
        for output in outputs:
            if not isinstance(output, ErrorOutput):
                digest.update(json.dumps(_shown(output), ensure_ascii=False, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _shown(output: CellOutput) -> list[Any]:
    if isinstance(output, StreamOutput):
        return ["stream", output.name, _plain(output.head), _plain(output.tail), output.omitted_chars]
    assert not isinstance(output, ErrorOutput)
    return ["data", {mime: _plain(value) for mime, value in output.data.items()}, output.metadata.get("lash_nb")]


def _plain(value: object) -> object:
    return _ADDRESS.sub("0x", value) if isinstance(value, str) else value


def _told(done: CodeBlockCompleted) -> list[CellOutput]:
    return [output for output in done.outputs if not isinstance(output, ErrorOutput)]


def _numbers(text: str) -> list[str]:
    return [number.replace(",", "") for number in _NUMBER.findall(text)]


def _said(text: str) -> LlmResponse:
    return LlmResponse(full_text=text, parts=(TextOutput(text=text),), terminal_reason=LlmTerminalReason.STOP)


def _called(code: str, number: int) -> LlmResponse:
    """A cell as a model that calls tools gives it."""
    call = ToolCallOutputPart(call_id=f"kept_{number}", tool_name=RUN_CODE, input_json=dumps({"code": code}))
    return LlmResponse(full_text="", parts=(call,), terminal_reason=LlmTerminalReason.TOOL_USE)


class KeptModel:
    """Answers one turn with kept code.

    Args:
        kept: that code.
        behind: opens the model that repairs it. Raises InputError: there is none, or it cannot be opened.
        grammar: how a cell is marked.
    """

    name = KEPT

    def __init__(self, kept: KeptCode, *, behind: Callable[[], Model], grammar: Grammar) -> None:
        self._kept, self._behind, self._grammar = kept, behind, grammar
        self._model: Model | None = None
        self._given = 0
        self._done: list[CodeBlockCompleted] = []
        self._spoken_to = False
        """Whether the user said something, which code has no answer to."""
        self._refused = ""
        """What the reader was told last of a check or a value: why it was not taken, if it was not."""
        self._own_calls = 0
        self._tell: Callable[[TurnActivity], None] = lambda activity: None

    @property
    def answered(self) -> int:
        """How many calls it answered itself, or failed at."""
        return self._own_calls

    @property
    def handed_over(self) -> bool:
        """Whether the model behind was asked."""
        return self._model is not None

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """Those of the model behind, so that it can go on with the turn."""
        try:
            traits = self._behind().traits(session=session, turn=turn)
        except InputError:
            return ModelTraits()
        if traits.protocol == "snippet" and (len(self._kept.cells) > 1 or read_cell(self._kept.cells[0]) is None):
            return ModelTraits(vision=traits.vision, priced_as=traits.priced_as)
        return traits

    def join(self, tell: Callable[[TurnActivity], None]) -> None:
        """The turn in which it answers takes what it has to tell."""
        self._tell = tell

    def saw(self, activity: TurnActivity) -> None:
        """What happens in that turn."""
        if isinstance(activity, CodeBlockCompleted):
            self._done.append(activity)
        elif isinstance(activity, InjectedTurnInputAccepted):
            self._spoken_to = True
        elif isinstance(activity, PluginEvent) and activity.plugin_id in _REFUSING:
            self._refused = activity.event.label if isinstance(activity.event, StatusRuntimeEvent) else self._refused

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The next of the kept cells, then the answer; else what the model behind says.

        Raises: KeptCodeError: there is none that could repair the code, or it may not be asked; and as that model.
        """
        response = None if self._model is not None else self._next(context)
        self._own_calls += self._model is None
        if response is None:
            return await self._ask(request, context, on_delta)
        return await play(response, on_delta=on_delta, chunk_size=4_096)

    def _next(self, context: CallContext) -> LlmResponse | None:
        """None: what was kept does not do."""
        cells = self._kept.cells
        failed = any(done.outcome is not CellOutcome.OK for done in self._done)
        if self._spoken_to or failed or len(self._done) != self._given:
            return None
        if self._given < len(cells):
            code = cells[self._given]
            tags = self._grammar == "tags" and context.protocol != "tools"
            if tags and any(line.strip() in (OPEN_TAG, CLOSE_TAG) for line in code.split("\n")):
                return None  # not all of it would run
            self._given += 1
            if context.protocol == "tools":
                return _called(code, self._given)
            return _said(code if context.protocol == "snippet" else render_cell(code, self._grammar))
        if self._kept.answer is None or self._given > len(cells):
            return None
        self._given += 1
        when = f" on {self._kept.date}" if self._kept.date else ""
        if self._kept.results == results_digest(done.outputs for done in self._done) and self._is_vouched_for():
            self._say(f"the outputs are those of {self._kept.date or 'then'}, and so is the answer")
            return _said(self._kept.answer)
        return _said(
            f"This is what the code that was kept{when} gives today. What was said of it then is not said again: it "
            "may not be so any more."
        )

    def _is_vouched_for(self) -> bool:
        """Whether each number of the answer stands in what the cells gave, in the request, or in the code."""
        shown = [json.dumps(_shown(one), ensure_ascii=False, default=str) for done in self._done for one in _told(done)]
        known = set(_numbers("\n".join([*shown, self._kept.request, *self._kept.cells])))
        return bool(shown) and all(number in known for number in _numbers(self._kept.answer or ""))

    def _say(self, sentence: str) -> None:
        self._tell(PluginEvent(plugin_id="kept", event=StatusRuntimeEvent(key="kept", label=sentence)))

    async def _ask(self, request: LlmRequest, context: CallContext, on_delta: OnDelta | None) -> LlmResponse:
        if self._model is None:
            why = self._why()
            self._model = model = self._opened(why)
            self._own_calls -= 1
            self._say(f"{model.name} {'answers what you said' if self._spoken_to else f'repairs the kept code: {why}'}")
            about = {"request": context.user_text, "protocol": context.protocol}
            self._tell(TurnStarted(turn=context.turn, model=model.name, **about))
        request, context = replace(request, model=self._model.name), replace(context, kept=self._kept.program)
        return await self._model.complete(request, context=context, on_delta=on_delta)

    def _why(self) -> str:
        """How the kept code failed, in a sentence without its end."""
        for number, done in enumerate(self._done, 1):
            if done.outcome is not CellOutcome.OK:
                raised = next((one for one in done.outputs if isinstance(one, ErrorOutput)), None)
                how = f"raised {raised.ename}: {raised.evalue}" if raised is not None else f"ended as {done.outcome}"
                how = cut(clean(how), head_chars=_WHY_CHARS, tail_chars=0)
                return f"cell {number} of {len(self._kept.cells)} {how}"
        return self._refused or "what it gave was not taken"

    def _opened(self, why: str) -> Model:
        try:
            return self._behind()
        except InputError as error:
            raise KeptCodeError(f"the kept code failed ({why}), and nobody repairs it: {error}") from error

    async def aclose(self) -> None:
        """Nothing: the model behind is whose it was."""
