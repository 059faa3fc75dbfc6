"""Going on with a session that an earlier process began: where it is found, what it left, what is outstanding.

Decided here: a session is named by its id (or the beginning of it), by its directory, or by a notebook file. Of a
notebook the journal is taken where there is one; else the turns that the file carries become a new journal. What a
notebook says is untrusted: no path of it is followed, no bound of it is above ours, the one model that it may name is
a cassette beside it, and its kernel is looked for by id among this user's own. Nothing here runs, unpickles or calls
anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import CorruptCheckpointError, DecodeError, InputError, JournalError, UnknownNameError
from .machine.effects import Checkpoint, ExecCode, LlmCall, SyncExecutionEnvironment, ToolCalls
from .machine.execution import NamespaceSummary, VariableSummary
from .machine.state import TurnCheckpoint
from .machine.wire import dumps
from .recorded import Asked, RecordedKernel, RecordedSession, RecordedTurn, protocol_of
from .stores.documents import load_notebook
from .stores.journal import session_directory
from .stores.notebook import Block, Envelope, checkpoint_text, read_block, verify_chain
from .stores.segments import segments
from .stores.session_files import sessions_in
from .stores.state_dir import default_state_dir
from .stores.summaries import summarize
from .stores.told import told_of

__all__ = ["Found", "Outstanding", "find_session", "lost_kernels", "outstanding", "session_of_notebook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a session is."""

    session: str
    state_dir: Path
    has_journal: bool = True
    """Whether it was recorded there; else all that is known of it is what the notebook says."""
    notebook: Path | None = None
    """The file that it was asked for by."""


def find_session(which: str | Path, *, state_dir: Path | None = None) -> Found:
    """The session that `which` names.

    Raises:
        UnknownNameError: there is none, or more than one.
        NotebookError: the notebook cannot be read, or carries no session.
    """
    path = Path(which)
    if path.suffix == ".ipynb":
        return _of_notebook(path, state_dir)
    if path.is_dir():
        return _of_directory(path)
    where = state_dir or default_state_dir()
    known = sessions_in(where)
    wanted = str(which)
    matching = [wanted] if wanted in known else [name for name in known if wanted and name.startswith(wanted)]
    if len(matching) == 1:
        return Found(session=matching[0], state_dir=where)
    problem = f"{len(matching)} sessions begin with it" if matching else "`lash-nb sessions list` shows which there are"
    raise UnknownNameError(f"there is no session {wanted!r} in {where}: {problem}")


def _of_notebook(path: Path, state_dir: Path | None) -> Found:
    block = _block(path)
    beside = path.with_suffix(".lash")
    places = [state_dir] if state_dir is not None else [beside, default_state_dir()]
    for place in places:
        if segments(session_directory(place, block.session)):
            return Found(session=block.session, state_dir=place, notebook=path.absolute())
    place = beside if beside.is_dir() and beside in places else places[-1]
    return Found(session=block.session, state_dir=place, has_journal=False, notebook=path.absolute())


def _of_directory(path: Path) -> Found:
    if path.parent.name == "sessions" and path.name not in ("", "sessions"):
        for name in sessions_in(path.parent.parent):
            if session_directory(path.parent.parent, name) == path:
                return Found(session=name, state_dir=path.parent.parent)
    known = sessions_in(path)
    if len(known) != 1:
        raise UnknownNameError(f"there are {len(known)} sessions in {path}: say which one by its id")
    return Found(session=known[0], state_dir=path)


# ------------------------------------------------------------------------------------------------ from the notebook


def _block(path: Path) -> Block:
    block = read_block(load_notebook(path).metadata)
    if block is None:
        raise InputError(f"{path} carries no session of lash_nb, and a session is what can be gone on with")
    return block


def session_of_notebook(
    path: Path, *, most_steps: int | None, most_seconds: float | None, most_cell_seconds: float | None = None
) -> RecordedSession:
    """The session that a notebook carries; its bounds are at most those given.

    Raises:
        NotebookError: it carries none that can be read.
        CorruptCheckpointError: what it carries is damaged; names the place.
    """
    block = _block(path)
    verify_chain(block)
    session = RecordedSession(id=block.session)
    before: TurnCheckpoint | None = None
    for place, envelope in block.placed():
        asked = _bounded(
            _asked(envelope, place),
            max_steps=most_steps,
            time_limit_s=most_seconds,
            cell_limit_s=most_cell_seconds,
        )
        try:
            checkpoint = TurnCheckpoint.from_text(checkpoint_text(envelope, place=place), protocol_of(asked.protocol))
        except (DecodeError, JournalError) as error:
            raise CorruptCheckpointError(f"{place}.checkpoint holds no TurnCheckpoint: {error}") from error
        turn = _turn(envelope, asked, checkpoint, before)
        if envelope is block.head:
            session.running = turn
        elif turn.done is None:
            raise CorruptCheckpointError(f"{place}.checkpoint is of a turn that has not ended")
        else:
            session.turns.append(turn)
        before = checkpoint
        session.seq = max(session.seq, envelope["seq"])
        _learn(session, envelope)
    return session


def _turn(envelope: Envelope, asked: Asked, checkpoint: TurnCheckpoint, before: TurnCheckpoint | None) -> RecordedTurn:
    number = envelope["turn"]
    summary = summarize(checkpoint, session=envelope["session"], turn=number, before=before)
    asked = replace(asked, text=asked.text or summary.request)
    resume = envelope.get("resume", {})
    ended = summary.outcome is not None
    waits = checkpoint.outstanding_effect
    return RecordedTurn(
        number=number,
        # The journal that is made of this is believed later.
        asked=replace(asked, model=asked.model if _is_cassette_beside(asked.model) else ""),
        at=envelope["saved_at"],
        told=told_of(checkpoint, before, turn=number, request=asked.text, model=asked.model, protocol=asked.protocol),
        checkpoint=checkpoint,
        effect=checkpoint.outstanding_effect_id,
        # A notebook does not say which calls were begun: none of them is made again.
        calls=dict.fromkeys(call.call_id for call in waits.calls) if isinstance(waits, ToolCalls) else {},
        calls_known=ended,
        steps=_count(resume.get("steps")),
        said=_count(resume.get("said")),
        ended=ended,
        ended_at=envelope["saved_at"] if ended else "",
        chain={name: envelope[name] for name in ("seq", "parent", "sha256", "engine", "saved_at")},
        dollars=envelope.get("dollars"),
    )


def _is_cassette_beside(model: str) -> bool:
    """Whether it names a cassette, and by no more than the name of a file."""
    word, _, name = model.partition(":")
    return word == "replay" and name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name)


def _asked(envelope: Envelope, place: str) -> Asked:
    """The request as the envelope says; older ones say nothing."""
    value = envelope.get("resume", {}).get("asked")
    if value is None:
        return Asked(text="", model="", protocol="code")
    try:
        return replace(Asked.from_json(value), instructions="")
    except DecodeError as error:
        raise CorruptCheckpointError(f"{place}.resume is damaged: {error}") from error


def _bounded(asked: Asked, **most: float | None) -> Asked:
    """With no bound above those given, which stand where it says none that is a bound (NaN is none)."""
    bounds: dict[str, Any] = {}
    for name, ours in most.items():
        told = getattr(asked, name)
        is_one = told is not None and 0 < told < _MOST and (ours is None or told <= ours)
        bounds[name] = told if is_one else ours
    return replace(asked, **bounds)


_MOST = 2**31


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


_MOST_WAITING = 100


def _learn(session: RecordedSession, envelope: Envelope) -> None:
    """Label, kernels, variables' names and what waits to be delivered, as far as they are what they should be."""
    resume = envelope.get("resume", {})
    label, kernels, known = resume.get("label"), resume.get("kernels"), resume.get("known")
    if isinstance(label, str) and re.fullmatch("[0-9]{1,9}", label):
        session.label = label
    for language, epoch in kernels.items() if isinstance(kernels, Mapping) else ():
        if isinstance(epoch, str) and re.fullmatch("[0-9a-f]{8,64}", epoch):
            session.kernels[str(language)] = RecordedKernel(language=str(language), epoch=epoch)
    waiting = resume.get("waiting")
    session.said = {}
    for text in waiting[:_MOST_WAITING] if isinstance(waiting, list) else ():
        if isinstance(text, str) and text.strip():
            session.last_said += 1
            session.said[session.last_said] = text
    if isinstance(known, list):
        names = [name for name in known[:200] if isinstance(name, str) and name.isidentifier()]
        session.known = NamespaceSummary(variables=tuple(VariableSummary(name=name, type="") for name in names))


# -------------------------------------------------------------------------------------------------- what is outstanding


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


def lost_kernels(kernels: Mapping[str, RecordedKernel], *, copied: bool) -> Callable[[str], bool]:
    """Whether the kernel that had the cells of a language is gone, or is not ours (`copied`); no kernel is touched."""
    from .kernels.specs import find_spec
    from .orphans import kernel_lives

    def lost(language: str) -> bool:
        kernel = _kernel_before(kernels, language)
        if kernel is not None:
            return copied or kernel.copied or not kernel_lives(kernel)
        try:
            spoken = find_spec(language).language if kernels and language.casefold() != "python" else ""
        except UnknownNameError:
            return False
        # By the name of its kernelspec a cell gets a kernel of its own, never one that was taken over.
        return _kernel_before(kernels, spoken) is not None

    return lost


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
            detail = effect.code
            cell = "cell" if effect.language.casefold() == "python" else f"{_visible(effect.language)} cell"
            if answered:
                sentence = f"The {cell} has run, and its result is recorded; the model is told of it next. The cell:"
            elif lost(effect.language):
                sentence = (
                    f"This {cell} was outstanding, and its kernel is gone. It is not run again, because nobody knows "
                    "whether it ran; the model is told so, and goes on in a new kernel. The cell:"
                )
            else:
                sentence = f"This {cell} runs next, unless its kernel says that it has run:"
        case ToolCalls():
            detail = "\n".join(f"{call.tool_name}({dumps(call.args)})" for call in effect.calls)
            sentence = "These tool calls are made next; those that had begun are not made again:"
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
