"""A plain notebook out of one that was answered by an agent: it gives the same results, and lash_nb is not needed.

Decided here: where the cells of a turn go, what becomes of the user's own cells, and what has to be said: in a note at
the top, and to whoever asked. The same notebook and journal give the same bytes. Nothing is run.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..errors import NotebookError
from ..stores.closed import ClosedNotebook
from ..stores.documents import load_notebook
from ..stores.notebook import METADATA_KEY
from ..views.pieces import clean
from ..views.prose import fenced
from .cells import TurnCells, quoted, turn_attributes
from .known_fields import known_fields
from .places import Placed, placed, slots
from .preface import preface
from .shim import Shim
from .sources import Asking, Names, names_of, read_cell, uses_us
from .turns import EjectedTurn, Gathered, gathered
from .values import ValueSource

__all__ = ["Ejected", "ejected"]

_nbformat: Any = nbformat
"""Its functions carry no annotations."""

_LAST_VALUES = re.compile(r"_{1,3}|_\d+|Out|_oh")
"""Names under which IPython has what cells gave."""
_WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejected:
    """The plain notebook."""

    text: str
    turns: int
    left_out: tuple[str, ...] = ()
    """What is not in it and should be, a sentence each."""
    notes: tuple[str, ...] = ()
    """What else has to be known."""

    @property
    def sentence(self) -> str:
        """What it holds."""
        return f"{self.turns} turn{'' if self.turns == 1 else 's'} as plain cells"


def ejected(file: ClosedNotebook, *, state_dir: Path | None = None) -> Ejected:
    """The plain notebook.

    Args:
        state_dir: where journals are; None: `NAME.lash` beside the notebook, then the user's own place.

    Raises:
        NotebookError: the notebook cannot be read.
    """
    notebook = load_notebook(file.path)
    file.check()
    # Its own bytes as they are: a conversion must not hide what is wrong with what it carries.
    document = json.loads(file.data)
    if not isinstance(document.get("cells"), list):
        document = notebook
    found = gathered(document, path=file.path, state_dir=state_dir)
    work = _Ejection(notebook, found, name=file.path.name)
    made = work.notebook()
    return Ejected(
        text=_nbformat.v4.writes(made) + "\n",
        turns=work.count,
        left_out=tuple(dict.fromkeys(found.left_out)),
        notes=tuple(work.notes),
    )


@dataclass(slots=True)
class _Made:
    """The cells of the result, so far."""

    cells: list[NotebookNode] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def add(self, cell: NotebookNode, name: str) -> None:
        """Under that id, or the like."""
        wanted = re.sub(r"[^a-zA-Z0-9_-]", "-", name)[:56] or "cell"
        number, free = 2, wanted
        while free in self.ids:
            free, number = f"{wanted}-{number}", number + 1
        self.ids.add(free)
        cell["id"] = free
        self.cells.append(cell)


class _Ejection:
    """One notebook on its way."""

    def __init__(self, notebook: NotebookNode, found: Gathered, *, name: str) -> None:
        self.count = 0
        self.notes: list[str] = []
        self._in = notebook
        self._found = found
        self._name = name
        self._asks: dict[int, Asking] = {
            at: read_cell(cell.source) for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"
        }
        self._placed: Placed = placed(notebook, found, self._asks)
        self._users = {at: names_of(self._rest(at)) for at in self._asks}
        self._turns = TurnCells(shim=Shim(), tried=frozenset(self._tried()))
        self._sessions = list(found.sessions)
        self._made = _Made()
        self._shown: list[EjectedTurn] = []
        self._assigns_underscore = False

    def _tried(self) -> Iterator[tuple[str, int]]:
        """The keys of turns of which nothing stays, because their cells worked on copies."""
        for turn in self._found:
            if turn.asked is not None and turn.asked.afresh:
                yield turn.key
        for at, turns in self._placed.at.items():
            asking = self._asks.get(at)
            if asking is not None and asking.fixes:
                yield from (turn.key for turn in turns if turn.asked is None and turn.request not in asking.requests)

    def notebook(self) -> NotebookNode:
        """The result."""
        shown = [turn for where in (self._placed.at, self._placed.before) for at in where for turn in where[at]]
        last = self._unplaced()
        self._turns.learn([*shown, *last])
        self._assigns_underscore = "_" in self._names_of([*shown, *last]).assigned
        for at, cell in enumerate(self._in.cells):
            self._cell(at, cell)
        for turn in last:
            self._turn(turn, why="No cell shows this request any more.")
        self._found.left_out += self._about_order()
        about = (*self._about_outputs(), *self._about_words(), *self._about_names())
        self.notes = [*self._found.notes, *self._turns.notes, *about]
        body = self._made
        top = _Made(ids=body.ids)
        said = [*dict.fromkeys(self._found.left_out), *self.notes]
        top.add(_nbformat.v4.new_markdown_cell(preface(self._name, said)), "ejected")
        # Behind the title: each cell before the first one with code is the user's own, and there as it was.
        title = min(self._asks, default=len(self._in.cells))
        top.cells += body.cells[:title]
        if self._turns.shim.source:
            hidden = {"jupyter": {"source_hidden": True}}
            top.add(_nbformat.v4.new_code_cell(self._turns.shim.source, metadata=hidden), "ejected-setup")
        top.cells += body.cells[title:]
        metadata = {key: value for key, value in self._in.metadata.items() if key != METADATA_KEY}
        if not any(_WIDGET in output.get("data", {}) for cell in body.cells for output in cell.get("outputs", [])):
            metadata.pop("widgets", None)
        made: NotebookNode = _nbformat.v4.new_notebook(cells=top.cells, metadata=metadata)
        try:
            _nbformat.validate(made)
        except nbformat.ValidationError as error:
            raise NotebookError(f"{self._name} does not make a valid notebook: {error.message}") from None
        return made

    # -- cells ---------------------------------------------------------------------------------------------------------

    def _cell(self, at: int, cell: NotebookNode) -> None:
        asking = self._asks.get(at)
        for turn in self._placed.before.get(at, ()):
            self._turn(turn, why="Asked before what its cell shows now.")
        turns = self._placed.at.get(at, [])
        torn = self._torn(at, turns)
        answers = slots(asking.requests, turns) if asking is not None and not torn else []
        resumed = asking.resume_target if asking is not None and not torn else None
        for number, turn in enumerate(turns):
            target = asking.targets[answers.index(turn)] if asking is not None and turn in answers else resumed
            shown = self._figures(at, turn) if number == len(turns) - 1 else ()
            self._turn(turn, figures=shown, target=target, at=None if torn else at)
        away = self._placed.elsewhere.get(at, [])
        for turn in away[-1:]:
            if not torn and (resumed or self._is_used_below(at)):
                self._stand_in(turn, target=resumed, at=at, near=False)
        if asking is not None and None in answers:
            open_ = [text for text, turn in zip(asking.requests, answers, strict=True) if turn is None]
            self._unanswered(at, cell, asking, open_)
        if asking is None or self._rest(at).strip() or not (asking.ours or turns):
            self._plain(at, cell, asking, had_turns=bool(turns or away), torn=torn)
        elif kept := asking.place_kept(resumed=bool(turns)):
            self._made.add(_nbformat.v4.new_code_cell(kept), cell.get("id") or f"cell-{at}")

    def _figures(self, at: int, turn: EjectedTurn) -> list[Any]:
        """The outputs beside the text of the turn, from a cell that shows it."""
        others = (other for other, turns in self._placed.elsewhere.items() if turn in turns)
        for shows in (at, *others):
            found = [output for output in self._in.cells[shows].get("outputs", ()) if self._is_figure(output)]
            if found:
                return found
        return []

    def _torn(self, at: int, turns: Sequence[EjectedTurn]) -> bool:
        """Whether a cell asks in a way that turns in front of it are not the same; says so."""
        asking = self._asks.get(at)
        if asking is None:
            return False
        several, requests = f"{len(turns)} turn{'' if len(turns) == 1 else 's'}", len(asking.requests)
        if asking.nested:
            why = "asks within other code"
        elif len(turns) > requests + asking.resumes:
            why = f"shows {several} and has {requests or 'no'} request{'s' if requests > 1 else ''}"
        else:
            return False
        code = f"; the code of {several} stands before it" if turns else ""
        self._found.left_out.append(f"cell {at + 1} {why}: it cannot be made plain{code}")
        return True

    def _plain(
        self, at: int, cell: NotebookNode, asking: Asking | None, *, had_turns: bool, torn: bool = False
    ) -> None:
        """One of the user's own."""
        kept = _nbformat.from_dict(known_fields(cell))
        kept.metadata.pop(METADATA_KEY, None)
        if asking is not None:
            kept.source = self._rest(at)
            kept.outputs = [output for output in kept.outputs if METADATA_KEY not in output.get("metadata", {})]
            if had_turns:
                kept.outputs = [output for output in kept.outputs if not self._is_figure(output)]
            ours = uses_us(kept.source)
            if ours:
                self._note(f"cell {at + 1} uses lash_nb in other ways, and is left as it is: it fails without it")
            if ours or torn:
                tags = kept.metadata.get("tags")
                kept.metadata["tags"] = sorted({*(tags if isinstance(tags, list) else ()), "raises-exception"})
        self._made.add(kept, cell.get("id") or f"cell-{at}")

    def _rest(self, at: int) -> str:
        """A cell's source as it is in the result."""
        asking = self._asks[at]
        if not asking.ours:
            return str(self._in.cells[at].source)
        return asking.rest_resumed if at in self._placed.at or at in self._placed.elsewhere else asking.rest

    def _is_figure(self, output: Mapping[str, Any]) -> bool:
        """Whether an output of a cell that shows a turn is of that turn, beside its text."""
        data = output.get("data", {})
        return METADATA_KEY not in output.get("metadata", {}) and any(str(mime).startswith("image/") for mime in data)

    def _turn(
        self,
        turn: EjectedTurn,
        *,
        why: str = "",
        figures: Sequence[Any] = (),
        target: str | None = None,
        at: int | None = None,
    ) -> None:
        name = f"turn-{self._sessions.index(turn.session) + 1}-{turn.number}"
        cells = list(self._turns.of(turn, why_here=why, figures=() if turn.exact else figures))
        for number, cell in enumerate(cells, 1):
            self._made.add(cell, f"{name}-{number}")
        if bound := self._bound_name(turn, at):
            self._made.add(self._turns.bound(turn, bound, self._value(turn, at)), f"{name}-{bound}")
        if target is not None or (at is not None and self._is_used_below(at)):
            self._stand_in(turn, target=target, at=at or 0)
        self._shown.append(turn)
        self.count += turn.key not in self._turns.tried

    def _bound_name(self, turn: EjectedTurn, at: int | None) -> str:
        """The name under which the notebook had its value; empty: none, or there was no value."""
        asked, asking = turn.asked, self._asks.get(-1 if at is None else at)
        typed, names = asked is not None and asked.typed, () if asked is None else tuple(asked.results)
        if asked is None and asking is not None and asking.wanted:
            typed, names = True, asking.names
        return names[0] if typed and names and turn.picture.value is not None else ""

    def _value(self, turn: EjectedTurn, at: int | None, *, near: bool = True) -> ValueSource:
        asking = self._asks.get(-1 if at is None else at)
        wanted = asking.wanted if asking is not None and turn.request in asking.requests else ""
        own = [self._rest(cell) for cell in self._asks if at is None or cell < at]
        return self._turns.value(turn, wanted=wanted, cells=own, near=near)

    def _stand_in(self, turn: EjectedTurn, *, target: str | None, at: int, near: bool = True) -> None:
        """What stands for the Turn in the cells from `at` on."""
        below = [names.attributes for cell, names in self._users.items() if cell >= at]
        # Once `_` was assigned, IPython leaves it alone.
        target = target or ("_" if self._assigns_underscore else None)
        words = turn_attributes(frozenset().union(*below))
        name = f"turn-{self._sessions.index(turn.session) + 1}-{turn.number}-value"
        source = self._value(turn, at, near=near)
        self._made.add(self._turns.stand_in(turn, target=target, words=words, source=source), name)

    def _is_used_below(self, at: int) -> bool:
        """Whether a cell of the user's, before the next turn, takes what this one gave."""
        for below in range(at, len(self._in.cells)):
            if below > at and (self._placed.at.get(below) or self._placed.elsewhere.get(below)):
                return False
            if below in self._users and any(_LAST_VALUES.fullmatch(name) for name in self._users[below].used):
                return True
        return False

    def _unanswered(self, at: int, cell: NotebookNode, asking: Asking, requests: Sequence[str]) -> None:
        """Requests without a turn in this place."""
        shown = [output for output in cell.outputs if METADATA_KEY in output.get("metadata", {})]
        ways = [self._placed.way_to(request, at=at) for request in requests]
        parts: list[str] = []
        for request, way in zip(requests, ways, strict=True):
            parts.append(quoted(request))
            if way:
                parts.append(f"*Answered {way}.*")
            elif not shown or len(requests) < len(asking.requests):
                parts.append("*This was not answered.*")
                self._note(f"cell {at + 1} asks something that no turn answers; the request alone is kept")
        if shown and not any(ways) and len(requests) == len(asking.requests):
            texts = [output.get("data", {}).get("text/plain") for output in shown]
            parts.append("*The turn could not be read. What the notebook showed of it:*")
            parts += [fenced(clean(text)) for text in texts if isinstance(text, str)]
        self._made.add(_nbformat.v4.new_markdown_cell("\n\n".join(parts)), cell.get("id") or f"cell-{at}")

    def _unplaced(self) -> list[EjectedTurn]:
        """Turns of a session of which no cell shows anything: the notebook's own is taken, at the end. What came after
        all that is shown is needed by nothing."""
        for turn in self._placed.later:
            self._note(f"turn {turn.number} of session {turn.session} is shown by no cell any more: it was not taken")
        left = dict.fromkeys(turn.session for turn in self._placed.unplaced if turn.session != self._found.current)
        for session in left:
            self._note(f"no cell shows anything of session {session} any more: its turns were not taken")
        return [turn for turn in self._placed.unplaced if turn.session == self._found.current]

    def _note(self, sentence: str) -> None:
        self._turns.notes[sentence] = None

    # -- what has to be said -------------------------------------------------------------------------------------------

    def _about_order(self) -> Iterator[str]:
        for session in dict.fromkeys(turn.session for turn in self._shown):
            numbers = [turn.number for turn in self._shown if turn.session == session]
            if numbers != sorted(numbers):
                order = ", ".join(map(str, numbers))
                yield f"turns were asked in another order than their cells stand in ({order}): results may be others"

    def _about_words(self) -> Iterator[str]:
        words = {}
        for at, asking in self._asks.items():
            # A turn stands for the `%lash resume` that shows it.
            if count := asking.words - (asking.resumes if at in self._placed.at else 0):
                words[at + 1] = count
        if words:
            count, cells = sum(words.values()), [str(number) for number in words]
            lines = "1 line of `%lash` words was" if count == 1 else f"{count} lines of `%lash` words were"
            where = f"cells {', '.join(cells[:-1])} and {cells[-1]}" if len(cells) > 1 else f"cell {cells[0]}"
            yield f"{lines} taken out, in {where}"

    def _about_outputs(self) -> Iterator[str]:
        if any(not turn.exact for turn in self._shown):
            yield "of turns without a journal, the outputs are what the model saw of them"
        sessions = len({turn.session for turn in self._shown})
        if sessions > 1:
            yield f"the notebook has {sessions} sessions, each with a kernel of its own; here they share one"

    def _about_names(self) -> Iterator[str]:
        agents, users = self._names_of(self._shown), Names()
        for names in self._users.values():
            users |= names
        if self._turns.shim.source:
            agents |= names_of(self._turns.shim.source)
        both = (agents.assigned & (users.assigned | (users.used & {"_", *dir(builtins)}))) | (
            users.assigned & agents.used
        )
        # An import under one name is one and the same on both sides.
        differ = agents.imported ^ users.imported
        same = {name for name, _ in agents.imported & users.imported} - {name for name, _ in differ}
        # What the cell at the top has, is for both.
        given = {"finish", "Turn"} if self._turns.shim.source else set()
        for name in sorted(both - same - (given - users.assigned)):
            yield f"`{name}` is one variable here, the agent's and yours; in the notebook the agent has its own"

    def _names_of(self, turns: Sequence[EjectedTurn]) -> Names:
        found = Names()
        for turn in turns:
            for step in turn.picture.steps:
                if step.code is not None and step.language.casefold() == "python" and turn.key not in self._turns.tried:
                    found |= names_of(step.code)
        return found
