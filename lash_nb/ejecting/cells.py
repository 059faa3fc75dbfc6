"""One turn as plain cells, for `lash-nb eject`: what was asked and said as Markdown, the agent's code as code.

Decided here: a cell that ran is a code cell with the outputs that are on record, also one that failed, because what it
had done by then stands (its tag lets a run go on). One that did not run to its end is shown, and not run. What a cell
had from lash_nb (`finish`, the Turn) is made good in a cell before the first one; what cannot be (tools) is said.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..accepted.model_calls import called_names, model_calls
from ..errors import LashError
from ..kernels.outputs import NOTE_KEY, to_nbformat
from ..machine.attachments import AttachmentRef
from ..machine.execution import CellOutcome
from ..machine.picture import NoteKind, PictureState, StepPicture, ToolCallPicture
from ..views.pieces import clean, value_text
from ..views.prose import fenced, inert_markdown
from .shim import Shim
from .sources import asks_person, finishes_last, names_of, uses_us
from .turns import EjectedTurn
from .values import ValueSource, value_source

__all__ = ["TurnCells", "quoted", "turn_attributes"]

_nbformat: Any = nbformat
"""Its functions carry no annotations."""

_MAGICS = {"bash": "bash", "sh": "sh", "perl": "perl", "ruby": "ruby", "javascript": "javascript", "html": "html"}
"""Languages for which IPython has a cell magic."""
_OURS = ("tools", "read_output", "ToolError")
"""What a cell had from its host, and has from nobody now."""

_WHY = {
    CellOutcome.INTERRUPTED: "was interrupted",
    CellOutcome.TIMEOUT: "ran too long and was stopped",
    CellOutcome.DEAD: "ended its kernel's process, and with it all that was in it",
    CellOutcome.ABORTED: "was not run",
    CellOutcome.LOST: "was lost: nobody knows whether it ran",
    None: "had not ended when this was recorded",
}
_TURN_WORDS = ("code", "id", "model", "number", "ok", "request", "session", "status", "text", "value")
"""What of a Turn can be told without lash_nb."""
_ALWAYS = ("text", "code", "value", "ok")
"""What each stand-in has."""


def turn_attributes(attributes: frozenset[str]) -> tuple[str, ...]:
    """Which of these names behind a dot a Turn has, and can have here."""
    return tuple(name for name in _TURN_WORDS if name in attributes)


def quoted(text: str) -> str:
    """A request as a Markdown quotation."""
    lines = inert_markdown(text).split("\n") if text.strip() else [""]
    return "\n".join(f"> {line}".rstrip() for line in lines)


@dataclass(slots=True, kw_only=True)
class TurnCells:
    """Makes the cells of turns; `notes` is what has to be said of them."""

    shim: Shim
    tried: frozenset[tuple[str, int]] = frozenset()
    """The keys of turns whose cells worked on copies each, so that nothing of them stays: shown, and not run."""
    notes: dict[str, None] = field(default_factory=dict)

    def of(self, turn: EjectedTurn, *, why_here: str = "", figures: Sequence[Any] = ()) -> Iterator[NotebookNode]:
        """The cells of one turn; `figures` are outputs that the notebook shows of it, for when there is no record."""
        # Values that the notebook shared with the turn are assigned here, once turns record any.
        picture = turn.picture
        said = [quoted(picture.request), *([f"*{why_here}*"] if why_here else [])]
        notes: dict[int, list[str]] = {note.after: [] for note in picture.notes}
        for note in picture.notes:
            if note.kind is NoteKind.SAID:
                notes[note.after].append(quoted(note.text))
        tried = turn.key in self.tried
        if tried:
            said.append("*What was tried worked on copies; it is not run here.*")
            self._note(f"turn {turn.number} (`%lash fix`) worked on copies: its code is shown, and not run")
        self._note_calls(turn)
        ran = [number for number, step in enumerate(picture.steps) if _ran(step)]
        for number, step in enumerate(picture.steps):
            said += notes.get(number, [])
            if step.prose.strip():
                said.append(inert_markdown(step.prose))
            said += _calls_said(model_calls(picture, step) if step.code is not None else step.tool_calls)
            if step.code is None:
                continue
            if tried:
                said.append(fenced(clean(step.code), language=step.language))
                continue
            last = bool(ran) and number == ran[-1]
            cell, words = self._step(turn, step, number + 1, last=last, figures=figures if last else ())
            if words:
                said.append(words)
            if cell is not None:
                yield from _markdown(said)
                said = []
                yield cell
        said += [text for after, texts in notes.items() if after >= len(picture.steps) for text in texts]
        said += self._end(turn)
        yield from _markdown(said)

    def _note_calls(self, turn: EjectedTurn) -> None:
        called = ", ".join(map(clean, called_names(turn.picture)))
        if called:
            self._note(
                f"in turn {turn.number} the model called tools itself ({called}): they are not called again, so that "
                "what they changed is not changed here; what they gave is in its code only where it wrote that in"
            )

    def _end(self, turn: EjectedTurn) -> list[str]:
        picture = turn.picture
        parts = []
        if picture.answer is not None and picture.answer.strip():
            parts.append(inert_markdown(picture.answer))
        if picture.value is not None:
            parts += ["The value:", fenced(value_text(picture.value.value))]
        if picture.goes_on and not parts:
            parts.append("*The turn had not ended.*")
        elif picture.state is not PictureState.DONE and not picture.goes_on:
            parts.append(f"*The turn ended without an answer: {_literal(picture.sentence)}.*")
        return parts

    # -- one step ------------------------------------------------------------------------------------------------------

    def _step(
        self, turn: EjectedTurn, step: StepPicture, number: int, *, last: bool, figures: Sequence[Any]
    ) -> tuple[NotebookNode | None, str]:
        """Its code cell, or none and the words in the place of one."""
        code = step.code or ""
        where = f"step {number} of turn {turn.number}"
        language = step.language.casefold()
        if not _ran(step):
            self._note(f"{where} {_WHY[step.outcome]}; its code is shown, and not run")
            detail = f" {_literal(step.detail)}" if step.detail else ""
            return None, f"{fenced(clean(code), language=step.language)}\n\n*This cell {_WHY[step.outcome]}.{detail}*"
        if language != "python" and language not in _MAGICS:
            self._note(f"{where} is in {step.language}, which this notebook's kernel does not run; it is shown only")
            return None, fenced(clean(code), language=step.language)
        tags = ["raises-exception"] if step.outcome is CellOutcome.ERROR else []
        outputs = list(_outputs(turn, step)) + [dict(output) for output in figures]
        if language != "python":
            self._note(
                f"cells in {step.language} know nothing of earlier ones: `%%{_MAGICS[language]}` runs each by itself"
            )
            code = f"%%{_MAGICS[language]}\n{code}"
        else:
            tags += self._needs(code, where)
        if last and turn.picture.value is not None and "finish" in names_of(code).used:
            outputs.append(_value_output(turn.picture.value.value, ends=self.shim.raises))
        metadata = {"tags": sorted(set(tags))} if tags else {}
        made = [_nbformat.from_dict(output) for output in outputs]
        return _nbformat.v4.new_code_cell(code, outputs=made, metadata=metadata), ""

    def _needs(self, code: str, where: str) -> list[str]:
        """The tags that a cell gets because of what it has from us; says what it cannot have."""
        names = names_of(code)
        lacking = [name for name in _OURS if name in names.used - names.assigned]
        if lacking:
            self._note(
                f"{where} uses {' and '.join(f'`{name}`' for name in lacking)}, which lash_nb alone has: it fails here"
            )
        ours, asks = uses_us(code), asks_person(code)
        if ours:
            self._note(f"{where} uses lash_nb, and is left as it is: it fails without it")
        if asks:
            self._note(f"{where} asks for input: whoever runs it is asked, and it fails where nobody can answer")
        ends = self.shim.raises and "finish" in names.used - names.assigned
        return ["raises-exception"] if lacking or ours or asks or ends else []

    def learn(self, turns: Sequence[EjectedTurn]) -> None:
        """Find out what the cells of these turns need, before any is made."""
        for turn in turns:
            for code in self._finishing(turn):
                self.shim.finish = True
                self.shim.raises = self.shim.raises or not finishes_last(code)

    def _finishing(self, turn: EjectedTurn) -> list[str]:
        """Those of its cells that call `finish` here."""
        if turn.key in self.tried:
            return []
        codes = [step.code or "" for step in turn.picture.steps if _ran(step) and step.language.casefold() == "python"]
        return [code for code in codes if "finish" in names_of(code).used - names_of(code).assigned]

    # -- its value -----------------------------------------------------------------------------------------------------

    def value(self, turn: EjectedTurn, *, wanted: str, cells: Sequence[str], near: bool = True) -> ValueSource:
        """Python that gives its value; `wanted` is what was said with `-t`, `cells` the user's own code."""
        value = None if turn.picture.value is None else turn.picture.value.value
        given = "finish.value" if near and turn.picture.value is not None and self._finishing(turn) else repr(value)
        asked = turn.asked
        if turn.picture.value is None or (asked is not None and not asked.typed):
            return ValueSource(expression=given)
        schema = None if asked is None else asked.schema
        return value_source(wanted, given=given, value=value, schema=schema, cells=cells)

    def bound(self, turn: EjectedTurn, name: str, source: ValueSource) -> NotebookNode:
        """A cell that binds its value under the name of its `-o`."""
        assert turn.picture.value is not None
        if source.imports:
            self._note(f"`{name}` is made by pydantic, which has to be there")
        value = turn.picture.value.value
        cell: NotebookNode = _nbformat.v4.new_code_cell(source.bound(name, value))
        return cell

    # -- the Turn ------------------------------------------------------------------------------------------------------

    def stand_in(
        self, turn: EjectedTurn, *, target: str | None, words: Sequence[str], source: ValueSource
    ) -> NotebookNode:
        """A cell whose value stands for the Turn, for user cells that ask it for `words`, too; `target`: it is
        assigned; `source` gives its value."""
        self.shim.turn = True
        fields = {name: self._field(turn, name, source=source) for name in dict.fromkeys((*_ALWAYS, *words))}
        given = ", ".join(f"{name}={code}" for name, code in fields.items())
        assigned = f"{target} = " if target else ""
        lines = [*source.imports, "# the Turn, for the cells below", f"{assigned}Turn({given})"]
        cell: NotebookNode = _nbformat.v4.new_code_cell("\n".join(lines))
        return cell

    def _field(self, turn: EjectedTurn, name: str, *, source: ValueSource) -> str:
        picture = turn.picture
        value = None if picture.value is None else picture.value.value
        match name:
            case "value":
                return source.expression
            case "text":
                return repr(
                    picture.answer
                    if picture.answer is not None
                    else str(value)
                    if value is not None
                    else picture.sentence
                )
            case "code":
                cells = [step.code for step in picture.steps if step.code is not None and step.outcome is not None]
                return "(\n" + "".join(f"    {code!r},\n" for code in cells) + ")" if cells else "()"
            case "ok":
                return repr(picture.state is PictureState.DONE)
            case "status":
                return repr(str(picture.state))
            case "id":
                return repr(f"{turn.session}.{turn.number}")
            case "session":
                return repr(turn.session)
            case "number":
                return repr(turn.number)
            case "request":
                return repr(picture.request)
            case _:
                return repr(picture.model)

    def _note(self, sentence: str) -> None:
        self.notes[sentence] = None


def _ran(step: StepPicture) -> bool:
    return step.outcome in (CellOutcome.OK, CellOutcome.ERROR)


def _markdown(parts: Sequence[str]) -> Iterator[NotebookNode]:
    """A cell with what was said; none for nothing."""
    text = "\n\n".join(part for part in parts if part)
    if text:
        yield _nbformat.v4.new_markdown_cell(text)


def _calls_said(calls: Sequence[ToolCallPicture]) -> Iterator[str]:
    """In place of calls that a model made itself."""
    names = ", ".join(_literal(call.name) for call in calls)
    if calls:
        what = "A tool was called" if len(calls) == 1 else f"{len(calls)} calls of tools were made"
        yield f"*{what} here, which is not done again: {names}.*"


def _literal(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", clean(text).replace("\n", " "))


# ------------------------------------------------------------------------------------------------------------- outputs


def _outputs(turn: EjectedTurn, step: StepPicture) -> Iterator[dict[str, Any]]:
    """The outputs on record, with what was too large for the record from where it is kept."""
    for output in to_nbformat(step.outputs):
        plain: dict[str, Any] = dict(output)
        if "execution_count" in plain:
            plain["execution_count"] = None
        if "metadata" in plain:
            note = plain["metadata"].pop(NOTE_KEY, {})
            spilled = note.get("spilled") if isinstance(note, Mapping) else None
            plain["data"] = {**plain["data"], **_kept(turn, spilled if isinstance(spilled, Mapping) else {})}
        yield plain


def _kept(turn: EjectedTurn, spilled: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for mime, told in spilled.items():
        if turn.store is None or not isinstance(told, Mapping):
            continue
        try:
            raw = turn.store.get(AttachmentRef(id=told["id"], media_type=mime, byte_len=told["byte_len"]))
            text = mime.startswith("text/") or mime.endswith(("json", "xml"))
            found[mime] = raw.decode() if text else base64.b64encode(raw).decode("ascii")
        except (LashError, OSError, KeyError, ValueError):
            continue  # its place in the text says what is not there
    return found


def _value_output(value: Any, *, ends: bool) -> dict[str, Any]:
    """What `finish` shows."""
    from IPython.lib import pretty

    printer: Any = pretty
    data = {"text/plain": printer.pretty(value)}
    if ends:
        return {"output_type": "display_data", "data": data, "metadata": {}}
    return {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}
