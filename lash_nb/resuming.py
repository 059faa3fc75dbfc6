"""What a turn that an earlier process began does next, in full and in words, before anybody agrees to it.

Decided here: what is shown hides nothing and draws over nothing. Nothing here runs, unpickles or calls anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .errors import UnknownNameError
from .machine.effects import Checkpoint, ExecCode, LlmCall, SyncExecutionEnvironment, ToolCalls
from .machine.tool_calls import PendingToolCall
from .machine.wire import dumps
from .recorded import RecordedKernel, RecordedTurn

__all__ = ["Outstanding", "lost_kernels", "outstanding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """What a turn that was interrupted does next when it is gone on with."""

    turn: int
    request: str
    kind: str
    """The effect's name (`ExecCode`, `LlmCall`, …); empty before the first one."""
    sentence: str
    """What happens next, in words."""
    detail: str = ""
    """In full: the code of the cell, the tool calls."""
    said: tuple[str, ...] = ()
    """What was said to the turn and is delivered to it when it pauses next."""

    def __str__(self) -> str:
        asked = f"Turn {self.turn} was interrupted. It was asked:\n\n{_indented(self.request)}\n\n"
        told = asked + self.sentence + (f"\n\n{_indented(self.detail)}" if self.detail else "")
        waiting = "\n\n".join(_indented(text) for text in self.said)
        return told + (
            f"\n\nWhat was said to it meanwhile is delivered at its next pause:\n\n{waiting}" if waiting else ""
        )


def _kernel_before(kernels: Mapping[str, RecordedKernel], language: str) -> RecordedKernel | None:
    """The one that had cells of that language, whose case does not count."""
    folded = language.casefold()
    return next((kernel for name, kernel in kernels.items() if name.casefold() == folded), None)


def lost_kernels(
    kernels: Mapping[str, RecordedKernel], *, owner: str, copied: bool, sandboxed: bool = False
) -> Callable[[str], bool]:
    """Whether the kernel that had the cells of a language is gone, or is not ours (`copied`); no kernel is touched.

    With `sandboxed` one that does not run in a sandbox is not gone on with.
    """
    from .kernels.specs import find_spec
    from .orphans import kernel_lives

    def lost(language: str) -> bool:
        kernel = _kernel_before(kernels, language)
        if kernel is not None:
            return copied or kernel.copied or not kernel_lives(kernel, owner=owner, sandboxed=sandboxed)
        try:
            spoken = find_spec(language).language if kernels and language.casefold() != "python" else ""
        except UnknownNameError:
            return False
        # By the name of its kernelspec a cell gets a kernel of its own, never one that was taken over.
        return _kernel_before(kernels, spoken) is not None

    return lost


def _cell_told(turn: RecordedTurn, effect: ExecCode, *, answered: bool, lost: Callable[[str], bool]) -> tuple[str, str]:
    """What becomes of the outstanding cell, and its code."""
    detail = effect.code
    cell = "cell" if effect.language.casefold() == "python" else f"{_visible(effect.language)} cell"
    decision, wish = turn.decisions.get(f"cell-{effect.id}"), None if turn.asking is None else turn.asking.wish
    if decision is not None and decision.code is not None:
        detail = decision.code
    if answered:
        sentence = f"The {cell} has run, and its result is recorded; the model is told of it next. The cell:"
    elif decision is not None and not decision.allows:
        sentence = f"This {cell} was rejected and is not run; the model is told so:"
    elif turn.asking is not None and wish is None:
        sentence = f"This {cell} waits for your approval; if you go on, it runs:"
    elif wish is not None and not lost(effect.language):
        sentence = f"This {cell} runs, and waits because it wants to {_visible(str(wish))}:"
    elif lost(effect.language):
        sentence = (
            f"This {cell} was outstanding, and its kernel is gone. It is not run again, because nobody knows "
            "whether it ran; the model is told so, and goes on in a new kernel. The cell:"
        )
    else:
        sentence = f"This {cell} runs next, unless its kernel says that it has run:"
    return sentence, detail


def _call_line(turn: RecordedTurn, call: PendingToolCall) -> str:
    """A call of a batch, and how far it came."""
    line = f"{call.tool_name}({dumps(call.args)})"
    if turn.asking is not None and turn.asking.call_id == call.call_id:
        return f"{line}  # waits for your approval; if you go on, it is made"
    if call.call_id not in turn.calls:
        return line
    return (
        f"{line}  # {'may have begun' if turn.calls[call.call_id] is None else 'has ended, and its result is recorded'}"
    )


def outstanding(
    turn: RecordedTurn, *, lost: Callable[[str], bool], said: Iterable[str] = (), model: str = ""
) -> Outstanding:
    """What the turn would do next.

    `lost` says of a language whether its kernel of before is known to be another life than the one that runs its cells
    now; `said` is what waits for the turn, `model` the name of the one that is asked from now on (else the recorded).
    """
    effect = turn.checkpoint.outstanding_effect if turn.checkpoint is not None else None
    answered = turn.answer is not None
    detail = ""
    match effect:
        case ExecCode():
            sentence, detail = _cell_told(turn, effect, answered=answered, lost=lost)
        case ToolCalls():
            detail = "\n".join(_call_line(turn, call) for call in effect.calls)
            sentence = (
                "These tool calls are made next; one that had begun is not made again, unless its tool says that this "
                "is safe:"
            )
        case LlmCall():
            words = "Its model's answer is recorded, and followed" if answered else "Its model is asked next"
            name = turn.asked.model if answered else model or turn.asked.model
            sentence = f"{words} ({_visible(name or 'the model that is chosen')})."
        case Checkpoint():
            sentence = (
                "It goes on between two steps: what was said meanwhile is delivered, then it finishes or asks on."
            )
        case SyncExecutionEnvironment() | None:
            sentence = "It goes on before a step: the kernel's variables are looked at, then its model is asked."
    kind = type(effect).__name__ if effect is not None else ""
    return Outstanding(
        turn=turn.number, request=turn.asked.text, kind=kind, sentence=sentence, detail=detail, said=tuple(said)
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {_visible(line)}" for line in text.splitlines())


def _visible(line: str) -> str:
    """Nothing may draw over what a person is to agree to, or hide a part of it."""
    seen = (sign if sign.isprintable() or sign.isspace() else sign.encode("unicode_escape").decode() for sign in line)
    return "".join(seen)
