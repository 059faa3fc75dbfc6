"""TurnPicture: the pure fold from TurnActivity to what is shown of a turn.

Decided here: what belongs to which step, what counts as the answer, and the words for the state of a turn. Live views
and the static bundle draw pictures and read nothing else. Pure: other modules of the machine only.

- A step begins with a model call. What an attempt said that is made again (`RetryStatus`) does not count.
- The words that end the turn are its answer: they leave their step and are shown once.
- The same activity gives the same picture, however the model's text was split on its way.
- Adding a delta costs O(1) at the time and O(log n) copies of a character over the whole stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .activity import (
    ApprovalAsked,
    ApprovalDecided,
    ChangesSeen,
    CodeKept,
    VariableSeen,
    VariablesSeen,
    VariablesShared,
)
from .approvals import Approval, Decision, Verdict
from .events import (
    CallPrice,
    CellOutputs,
    ChildTokenUsageEvent,
    CodeBlockCompleted,
    CodeBlockStarted,
    CodeDelta,
    ErrorEvent,
    InjectedMessagesCommitted,
    InjectedTurnInputAccepted,
    LlmRequestEvent,
    LlmResponseEvent,
    MessageEvent,
    PluginEvent,
    ReasoningDelta,
    RetryStatus,
    StatusRuntimeEvent,
    TextDelta,
    TokenUsageEvent,
    ToolCallEvent,
    ToolCallStart,
    TurnActivity,
    TurnOutcomeEvent,
    TurnStarted,
)
from .execution import CellOutcome, FinishValue
from .llm import LlmTerminalReason, LlmUsage
from .messages import MessageRole, PluginMessage
from .outcomes import (
    AgentFrameSwitch,
    AssistantMessage,
    Finished,
    Stopped,
    SubmittedError,
    ToolError,
    TurnFinish,
    TurnOutcome,
    TurnStop,
    TurnStopReason,
    value_text,
)
from .picture_parts import (
    CallPicture,
    Note,
    NoteKind,
    Phase,
    PictureState,
    StepPicture,
    ToolCallPicture,
    placed,
    result_in_short,
)
from .sequences import GrowingText
from .shared_words import shared_text
from .tool_calls import ToolSucceeded
from .tool_specs import RUN_CODE

__all__ = [
    "CallPicture",
    "GrowingText",
    "Note",
    "NoteKind",
    "Phase",
    "PictureState",
    "StepPicture",
    "ToolCallPicture",
    "TurnPicture",
]


_GROWS = {TextDelta: "said", ReasoningDelta: "thought", CodeDelta: "draft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPicture:
    """What is shown of one turn."""

    turn: int = 0
    request: str = ""
    model: str = ""
    protocol: str = "code"
    steps: tuple[StepPicture, ...] = ()
    state: PictureState = PictureState.RUNNING
    phase: Phase = Phase.STARTING
    why: str = ""
    """Why it stopped or failed; while it runs, more about the phase."""
    answer: str | None = None
    value: FinishValue | None = None
    usage: LlmUsage = field(default_factory=LlmUsage)
    child_usage: LlmUsage = field(default_factory=LlmUsage)
    calls: tuple[CallPicture, ...] = ()
    """The model calls that were counted, in order; those that failed are not."""
    priced_as_of: str = ""
    """The day of the price list by which they were priced."""
    errors: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    pending: Approval | None = None
    """What waits for a decision."""
    variables: tuple[VariableSeen, ...] = ()
    """Those of the managed kernel that the turn has made or changed, sorted by name."""
    changes: str = ""
    """What its cells have changed outside of variables, in one line."""

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self.state in (PictureState.RUNNING, PictureState.WAITING)

    @property
    def dollars(self) -> float | None:
        """What the turn's calls cost together; None when that of any of them is not known."""
        known = [call.dollars for call in self.calls if call.dollars is not None]
        return sum(known) if known and len(known) == len(self.calls) else None

    @property
    def sentence(self) -> str:
        """The state in words: never only a colour or a spinner."""
        if self.state is PictureState.RUNNING:
            head: str = self.phase
        else:
            head = self.state
        return f"{head}{'' if self.why.startswith('by you') else ':'} {self.why}" if self.why else head

    def apply(self, activity: TurnActivity) -> TurnPicture:
        """The picture after one more thing happened."""
        match activity:
            case TurnStarted(turn=turn, request=request, model=model, protocol=protocol):
                begun = TurnPicture(turn=turn, request=request, model=model, protocol=protocol)
                return begun if turn != self.turn else replace(self, model=f"{self.model}, then {model}")
            case LlmRequestEvent():
                steps = self.steps if self.steps and self.steps[-1].empty else (*self.steps, StepPicture())
                return replace(self._unasked(), steps=steps, phase=Phase.WAITING, why="")
            case TextDelta(content=text) | ReasoningDelta(content=text) | CodeDelta(content=text) if text:
                return self._unrun()._grown(_GROWS[type(activity)], text)
            case LlmResponseEvent():
                return self._now(Phase.BETWEEN)
            case MessageEvent(text=text, kind=kind):
                if not kind.endswith("_code"):
                    return self._noted(NoteKind.NOTICE, text)
                return self._unrun()._last(code=text, language=kind.removesuffix("_code"))
            case CodeBlockStarted(effect_id=effect_id, call_id=call_id, language=language, code=code):
                cell = {"effect_id": effect_id, "call_id": call_id, "language": language, "code": code}
                last = self.steps[-1] if self.steps else None
                same = last is not None and (last.effect_id, last.call_id) == (effect_id, call_id)
                again = same and last is not None and last.running
                picture = self._unasked() if again else self._unasked()._unrun()
                return picture._last(**cell)._now(Phase.CELL)
            case CellOutputs(outputs=outputs):
                return self._cell(activity, outputs=outputs)
            case CodeBlockCompleted():
                ended = {
                    "outputs": activity.outputs,
                    "outcome": activity.outcome,
                    "duration_ms": activity.duration_ms,
                    "detail": activity.detail,
                }
                return self._unasked()._cell(activity, **ended)._now(Phase.BETWEEN)
            case ToolCallStart() | ToolCallEvent():
                return self._tool(activity)
            case TurnOutcomeEvent(outcome=outcome):
                return self._ended(outcome)
            case _:
                return self._beside(activity)

    # -- parts of a step -----------------------------------------------------------------------------------------------

    def _now(self, phase: Phase) -> TurnPicture:
        return replace(self, phase=phase, why="") if self.goes_on else self

    def _last(self, **changes: object) -> TurnPicture:
        steps = self.steps or (StepPicture(),)
        return replace(self, steps=(*steps[:-1], replace(steps[-1], **changes)))  # type: ignore[arg-type]

    def _grown(self, part: str, text: str) -> TurnPicture:
        """With the last step's `said`, `thought` or `draft` longer by `text`."""
        return self._last(**{part: getattr(self.steps[-1], part).appended(text)})._now(Phase.ANSWERING)

    def _unrun(self) -> TurnPicture:
        """With a last step whose cell was not run yet."""
        if self.steps and self.steps[-1].effect_id is None:
            return self
        return replace(self, steps=(*self.steps, StepPicture()))

    def _cell(self, cell: CellOutputs | CodeBlockCompleted, **changes: object) -> TurnPicture:
        for index in range(len(self.steps) - 1, -1, -1):
            if (self.steps[index].effect_id, self.steps[index].call_id) == (cell.effect_id, cell.call_id):
                step = replace(self.steps[index], **changes)  # type: ignore[arg-type]
                return replace(self, steps=(*self.steps[:index], step, *self.steps[index + 1 :]))
        return self

    @property
    def _calls_tools(self) -> bool:
        """Whether its model calls tools itself: then each call has an id of its own."""
        return self.protocol == "tools"

    def _tool(self, event: ToolCallStart | ToolCallEvent) -> TurnPicture:
        if event.name == RUN_CODE and any(step.call_id == event.call_id for step in self.steps):
            return self  # it is drawn as a cell
        shown = ToolCallPicture(call_id=event.call_id, name=event.name, args=event.args)
        if isinstance(event, ToolCallStart):
            calls = self.steps[-1].tool_calls if self.steps else ()
            if self._calls_tools and any(one.call_id == event.call_id for one in calls):
                return self  # made again after a crash
            return self._last(tool_calls=placed(calls, shown))._now(Phase.TOOLS)
        outcome = event.output.outcome
        if isinstance(outcome, ToolSucceeded):
            shown = replace(shown, succeeded=True, result=result_in_short(outcome.payload))
        else:
            shown = replace(shown, succeeded=False, problem=outcome.payload.message)
        for number in range(len(self.steps) - 1, -1, -1):
            step = self.steps[number]
            for index, call in enumerate(step.tool_calls):
                told_before = self._calls_tools and event.call_id is not None  # by the host, and by the machine
                open_still = call.succeeded is None or told_before
                if open_still and call.call_id == event.call_id and call.name == event.name:
                    calls = (*step.tool_calls[:index], shown, *step.tool_calls[index + 1 :])
                    steps = (*self.steps[:number], replace(step, tool_calls=calls), *self.steps[number + 1 :])
                    return replace(self, steps=steps)
        return self._last(tool_calls=(*(self.steps[-1].tool_calls if self.steps else ()), shown))

    # -- beside the steps ----------------------------------------------------------------------------------------------

    def _beside(self, activity: TurnActivity) -> TurnPicture:
        match activity:
            case TokenUsageEvent(usage=usage, cumulative=cumulative):
                return replace(self, usage=cumulative, calls=(*self.calls, CallPicture(usage=usage)))
            case CallPrice(dollars=dollars, as_of=as_of) if self.calls:
                calls = (*self.calls[:-1], replace(self.calls[-1], dollars=dollars))
                return replace(self, calls=calls, priced_as_of=as_of)
            case ChildTokenUsageEvent(usage=usage):
                return replace(self, child_usage=self.child_usage + usage)
            case ErrorEvent(message=message, envelope=envelope):
                if envelope is not None and envelope.terminal_reason is LlmTerminalReason.CANCELLED:
                    return self
                return replace(self, errors=(*self.errors, message))
            case RetryStatus():
                return self._retried(activity)
            case InjectedTurnInputAccepted(inputs=inputs):
                return self._delivered(one.message for one in inputs)
            case InjectedMessagesCommitted(messages=messages):
                return self._delivered(messages)
            case PluginEvent(event=StatusRuntimeEvent(label=label, detail=detail)):
                return self._noted(NoteKind.STATUS, f"{label}: {detail}" if detail else label)
            case ApprovalAsked(approval=approval):
                return self._asked(approval)
            case ApprovalDecided(approval=approval, decision=decision):
                return self._decided(approval, decision)
            case VariablesSeen(variables=variables):
                return replace(self, variables=variables)
            case CodeKept(cells=cells, diff=diff):
                several = "" if cells == 1 else "s"
                kept = f"kept: {cells} cell{several}, which run{'' if several else 's'} without a model the next time"
                return self._noted(NoteKind.KEPT, f"the kept code was repaired:\n{diff}" if diff else kept)
            case ChangesSeen(text=text):
                return replace(self, changes=text)
            case VariablesShared():
                text = shared_text(activity)
                return self._noted(NoteKind.SHARED, text) if text else self
            case _:
                return self

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _asked(self, approval: Approval) -> TurnPicture:
        picture = self
        if approval.wish is None:
            picture = self._unrun()._last(code=approval.code, language=approval.language, call_id=approval.call_id)
        return replace(picture, state=PictureState.WAITING, pending=approval, why="") if self.goes_on else self

    def _unasked(self) -> TurnPicture:
        """With nothing to be decided: the turn went on."""
        return replace(self, state=PictureState.RUNNING, pending=None) if self.pending is not None else self

    def _decided(self, approval: Approval, decision: Decision) -> TurnPicture:
        who = "" if decision.by_policy else "You "
        what = f"{approval.wish}" if approval.wish is not None else "this cell"
        if decision.verdict is Verdict.EDITED:
            text = f"{who}edited this cell before it ran."
        elif decision.verdict is Verdict.REJECTED:
            text = f"{who}rejected{':' if approval.wish is not None else ''} {what}" if who else f"Not allowed: {what}"
            text += f": {decision.why}" if decision.why else "." if approval.wish is None else ""
        else:
            text = f"{who}allowed: {what}" if approval.wish is not None and who else ""
            text += ", and others like it" if text and decision.alike else ""
        return self._unasked()._noted(NoteKind.DECISION, text) if text else self._unasked()

    def _noted(self, kind: NoteKind, text: str) -> TurnPicture:
        """With one more note; the same one twice at the same place is one (input is accepted, then committed)."""
        after = len(self.steps) - (1 if self.steps and self.steps[-1].empty else 0)
        note = Note(kind=kind, text=text, after=after)
        return self if note in self.notes else replace(self, notes=(*self.notes, note))

    def _delivered(self, messages: Iterable[PluginMessage]) -> TurnPicture:
        picture = self
        for message in messages:
            text = message.content or "\n\n".join(part.content for part in message.parts if part.content)
            kind = NoteKind.SAID if message.role is MessageRole.USER else NoteKind.NOTICE
            picture = picture._noted(kind, text) if text else picture
        return picture

    def _retried(self, event: RetryStatus) -> TurnPicture:
        why = f"attempt {event.attempt} of {event.max_attempts} in {event.wait_seconds} s ({event.reason})"
        picture = self
        if self.steps and self.steps[-1].code is None:
            picture = self._last(said=GrowingText(), thought=GrowingText(), draft=GrowingText())
        return replace(picture._noted(NoteKind.RETRY, why)._now(Phase.WAITING), why=why)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _ended(self, outcome: TurnOutcome) -> TurnPicture:
        if not self.goes_on:
            return self
        ended = replace(self, state=PictureState.DONE, why="", pending=None)
        match outcome:
            case Finished(finish=finish):
                ended = ended._finished(finish)
            case AgentFrameSwitch(task=task):
                ended = ended._noted(NoteKind.NOTICE, f"handed over: {task}")
            case Stopped(stop=stop):
                state, why = self._reason(stop)
                ended = replace(ended, state=state, why=why)
        return ended._trimmed()

    def _finished(self, finish: TurnFinish) -> TurnPicture:
        if isinstance(finish, AssistantMessage):
            return replace(self, answer=finish.text)._without_answer(finish.text)
        return replace(self, value=FinishValue(value=finish.value))

    def _without_answer(self, text: str) -> TurnPicture:
        """The last step without the words that are the answer."""
        if not self.steps or self.steps[-1].code is not None or self.steps[-1].prose.strip() != text.strip():
            return self
        return self._last(said=GrowingText())

    def _trimmed(self) -> TurnPicture:
        """Without a last step in which nothing is left; notes behind it move up."""
        if not self.steps or not self.steps[-1].empty:
            return self
        last = len(self.steps) - 1
        notes = tuple(replace(note, after=min(note.after, last)) for note in self.notes)
        return replace(self, steps=self.steps[:-1], notes=notes)

    def _reason(self, stop: TurnStop) -> tuple[PictureState, str]:
        failed = PictureState.FAILED
        match stop:
            case SubmittedError(value=value):
                return failed, f"the agent gave up: {value_text(value)}"
            case ToolError(tool_name=name, value=value):
                return failed, f"the tool {name} ended the turn: {value_text(value)}"
            case TurnStopReason.CANCELLED:
                return PictureState.STOPPED, f"by you: {self._doing()}"
            case TurnStopReason.MAX_TURNS:
                return PictureState.STOPPED, "the limit of steps was reached"
            case TurnStopReason.INCOMPLETE:
                return PictureState.STOPPED, self.errors[-1] if self.errors else "there was no answer"
            case _:
                return failed, self.errors[-1] if self.errors else stop.replace("_", " ")

    def _doing(self) -> str:
        if self.pending is not None:
            return "it waited for you"
        last = self.steps[-1] if self.steps else StepPicture()
        if last.running or last.outcome is CellOutcome.INTERRUPTED:
            return "a cell was running"
        if any(call.succeeded is None for call in last.tool_calls):
            return "a tool was running"
        return "between two steps" if last.code is not None else "the model was answering"
