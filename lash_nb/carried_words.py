"""`lash-nb verify` and `lash-nb show`: whether what a notebook carries is whole, and what it is.

Decided here: how that is told, in words, as JSON and as one page of HTML without script. A notebook is untrusted: it is
read and drawn, never run; what of it goes to a terminal has no control characters, and what goes into a page is
escaped. A turn is drawn from its checkpoint alone, one that was folded away from the conversation that a later turn
holds; what has gone to the session's journal is listed with its request. What outputs show is no part of the verdict:
that is said, and an output that plainly lacks its turn's answer is named.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, NotebookError, UnknownNameError

if TYPE_CHECKING:
    from .machine.picture import TurnPicture
    from .machine.state import TurnCheckpoint
    from .machine.wire import Json
    from .stores.carried import Carried, CarriedSession, CarriedTurn
    from .stores.pictures import FoldedTurns

__all__ = ["Choice", "add", "carried_html", "carried_text", "verdict_json", "verdict_text"]

_INVALID = 1
_UNREADABLE = 2
_DIFFERS = "differs"
_MOST_COMPARED = 1_000
"""Outputs."""


def add(commands: Any) -> None:
    """Add `verify` and `show` to the command line."""
    verify = commands.add_parser("verify", help="is what notebooks carry whole?", description=_verify.__doc__)
    verify.set_defaults(run=_verify)
    verify.add_argument("notebooks", metavar="FILE", type=Path, nargs="+", help="a notebook")
    verify.add_argument("--json", action="store_true", help="one JSON object on one line")
    show = commands.add_parser("show", help="the turns that a notebook carries", description=_show.__doc__)
    show.set_defaults(run=_show)
    show.add_argument("notebook", metavar="FILE", type=Path, help="the notebook")
    show.add_argument("--html", action="store_true", help="one page of HTML, without script")
    show.add_argument("--session", metavar="SESSION", help="this session alone: its id, or how that begins")
    show.add_argument("--turn", metavar="N", type=int, help="this turn alone")
    show.add_argument("-o", dest="out", metavar="OUT", type=Path, help="write it there instead of to stdout")


def _verify(options: argparse.Namespace) -> int:
    """Look whether what notebooks carry of sessions is whole: every hash, every field, and how turns follow each other.
    What cells show is not checked against it (`show` draws the turns from their records). Nothing of it is run. The
    exit code is 0 when it is whole (also when there is nothing), 1 when something is damaged, of a newer lash_nb or
    goes two ways, 2 when a file cannot be read."""
    from .stores.carried import carried
    from .stores.raw_documents import read_document

    code = 0
    told: list[Json] = []
    for path in options.notebooks:
        try:
            document = read_document(path)
        except NotebookError as error:
            code = _UNREADABLE
            told.append({"file": str(path), "error": str(error)})
            print(f"lash-nb: {_line(str(error))}", file=sys.stderr)
            continue
        found = carried(document)
        code = max(code, 0 if found.ok else _INVALID)
        if options.json:
            told.append({"file": str(path), **verdict_json(found, document=document)})
        else:
            _say(verdict_text(found, name=str(path), document=document))
    if options.json:
        _say(_safe_json({"files": told}) + "\n")
    return code


def _show(options: argparse.Namespace) -> int:
    """Every turn that a notebook carries, as text or as one page of HTML: what was asked, the code, what came of it,
    the answer. Nothing of it is run, and no journal is needed."""
    from .stores.carried import carried
    from .stores.raw_documents import read_document

    if options.out is not None and options.out.exists() and options.out.samefile(options.notebook):
        raise InputError(f"{options.out} is the notebook itself; it is not overwritten")
    found = carried(read_document(options.notebook))
    choice = Choice(session=_named(found, options.session), turn=options.turn)
    if options.turn is not None and not any(choice.turns(session) for session in found.sessions):
        raise UnknownNameError(
            f"{options.notebook} carries no turn {options.turn}; `lash-nb verify` lists what there is"
        )
    draw = carried_html if options.html else carried_text
    text = draw(found, name=options.notebook.name, choice=choice)
    if options.out is None:
        _say(text)
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{options.out} cannot be written: {(error.strerror or '').lower()}") from None
    return 0


def _say(text: str) -> None:
    """On stdout, whatever it can hold."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _named(found: Carried, wanted: str | None) -> str | None:
    names = [session.session for session in found.sessions]
    if wanted is None or wanted in names:
        return wanted
    matching = [name for name in names if wanted and name.startswith(wanted)]
    if len(matching) != 1:
        known = ", ".join(_line(name, 40) for name in names[:10]) or "none"
        problem = f"{len(matching)} of its sessions begin with it" if matching else f"it carries: {known}"
        raise UnknownNameError(f"the notebook carries no session {_line(wanted, 40)!r}; {problem}")
    return matching[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of the carried turns are drawn; None: all."""

    session: str | None = None
    turn: int | None = None

    def turns(self, session: CarriedSession) -> list[tuple[CarriedTurn, str]]:
        """Those of a session that are drawn, with what is to be said of each."""
        if self.session is not None and session.session != self.session:
            return []
        told = [(turn, "") for turn in session.turns]
        told += [(session.head, "in progress")] if session.head is not None else []
        told += [(turn, "goes another way") for turn in session.forks]
        told += [(turn, "not connected with the others") for turn in session.apart]
        return [(turn, note) for turn, note in told if self.turn in (None, turn.number)]


# -------------------------------------------------------------------------------------------------------- the verdict


def verdict_json(found: Carried, *, document: object = None) -> dict[str, Json]:
    """What was found, as `lash-nb verify --json` prints it of a file; `document`: whose outputs are looked at, too."""
    problems: list[Json] = [
        {"trouble": one.trouble.value, "fatal": one.fatal, "place": one.place, "sentence": one.sentence}
        for one in found.problems
    ]
    problems += [
        {"trouble": _DIFFERS, "fatal": False, "place": place, "sentence": sentence}
        for place, sentence in _differing(document, found)
    ]
    return {
        "valid": found.ok,
        "empty": found.empty,
        "session": found.current,
        "sessions": [_session_json(session) for session in found.sessions],
        "problems": problems,
    }


def _session_json(session: CarriedSession) -> dict[str, Json]:
    from .stores.pictures import FoldedTurns

    origin, folded = session.forked_from, FoldedTurns(session)
    return {
        "session": session.session,
        "forked_from": None if origin is None else {name: origin[name] for name in ("session", "turn", "sha256")},
        "turns": [_turn_json(turn, folded) for turn in session.turns],
        "head": None if session.head is None else _turn_json(session.head, folded),
        "forks": [_turn_json(turn, folded) for turn in session.forks],
        "apart": [_turn_json(turn, folded) for turn in session.apart],
    }


def _turn_json(turn: CarriedTurn, folded: FoldedTurns) -> dict[str, Json]:
    holder = folded.holder(turn)
    return {
        "turn": turn.number,
        "seq": turn.seq,
        "sha256": turn.sha256,
        "parent": turn.parent,
        "saved_at": turn.saved_at,
        "place": turn.place,
        "whole": turn.text is not None,
        "held_by": None if holder is None else holder.number,
        "ended": turn.ended,
        **{name: turn.ref[name] for name in ("bytes", "request", "outcome")},
    }


def verdict_text(found: Carried, *, name: str, document: object = None) -> str:
    """What was found, as `lash-nb verify` prints it of a file: what is wrong, then a line a turn; `document`: whose
    outputs are looked at, too."""
    return "".join(f"{line}\n" for line in _verdict_lines(found, _line(name), document))


def _verdict_lines(found: Carried, name: str, document: object) -> Iterator[str]:
    from .stores.pictures import FoldedTurns

    if found.empty:
        yield f"{name}: valid; it carries no session of lash_nb"
        return
    turns = sum(len(Choice().turns(session)) for session in found.sessions)
    records = f" ({'its record' if turns == 1 else 'their records'}; what cells show is not checked against them)"
    yield f"{name}: {_verdict(found)}; it carries {_count(turns, 'turn')}{records if turns else ''}"
    yield from _problem_lines(found)
    yield from (f"  {_DIFFERS}: {sentence}" for _, sentence in _differing(document, found))
    for session in found.sessions:
        yield f"  {_session_words(session, found)}"
        folded = FoldedTurns(session)
        for turn, note in Choice().turns(session):
            yield f"    {_turn_words(turn, note, folded.holder(turn))}"


def _verdict(found: Carried) -> str:
    complete = all(problem.trouble != "incomplete" for problem in found.problems)
    return ("valid" if complete else "valid, not complete") if found.ok else "NOT valid"


def _problem_lines(found: Carried) -> Iterator[str]:
    for problem in found.problems:
        yield f"  {problem.trouble.value}: {problem.sentence}"


def _differing(document: object, found: Carried) -> Iterator[tuple[str, str]]:
    """The places of outputs in which the words of their turn's answer are not, and that in a sentence."""
    from .stores.shown_answers import shown_answers
    from .views.pieces import clean

    for shown in islice(shown_answers(document, found), _MOST_COMPARED):
        answer, text = (" ".join(clean(one).split()) for one in (shown.answer, shown.text))
        if answer not in text:
            yield shown.place, f"{shown.place} does not show the answer that turn {shown.turn}'s record has"


def _session_words(session: CarriedSession, found: Carried) -> str:
    words = f"Session {_line(session.session, 80)}"
    if session.session == found.current:
        words += " (the notebook's own)"
    origin = session.forked_from
    if origin is not None:
        words += f", branched off session {_line(str(origin['session']), 80)} after turn {origin['turn']}"
    return words


def _turn_words(turn: CarriedTurn, note: str, holder: CarriedTurn | None) -> str:
    size = _size(turn.ref["bytes"])
    where = f"turn {holder.number}'s conversation" if holder is not None else "the session's journal alone"
    folded = "" if turn.text is not None else f"; folded, its content is in {where}"
    state = ", ".join(word for word in (turn.ref["outcome"] or ("ended" if turn.ended else ""), note) if word)
    asked = _line(turn.ref["request"], 60)
    return f"turn {turn.number}  {turn.place}  {size}{folded}  [{state or 'not ended'}]  {asked}".rstrip()


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / 1024:,.0f} KB"


def _line(text: str, most: int = 400) -> str:
    """A text on one line, whatever is in it."""
    from .stores.bounds import visible

    return visible(" ".join(text.split()), most=most)


def _safe_json(value: object) -> str:
    """On one line; also without the one control character that JSON does not escape."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


# ------------------------------------------------------------------------------------------------------------ drawing


def _drawn(
    session: CarriedSession, turns: Iterable[tuple[CarriedTurn, str]], draw: Callable[[TurnPicture], str]
) -> Iterator[_Drawn]:
    """Each of these turns with its drawing, one checkpoint in memory at a time (and the one before)."""
    from .stores.envelopes import open_text
    from .stores.pictures import FoldedTurns, picture_of

    folded = FoldedTurns(session)
    before: TurnCheckpoint | None = None
    for turn, note in turns:
        checkpoint = open_text(turn.text, place=turn.place) if turn.text is not None else None
        picture = folded.picture(turn) if checkpoint is None else picture_of(turn, checkpoint, before)
        before = checkpoint
        drawing = draw(picture) if picture is not None else ""
        yield _Drawn(turn=turn, note=note, drawing=drawing, holder=folded.holder(turn))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    turn: CarriedTurn
    note: str
    drawing: str
    """Empty for a reference to what is not here."""
    holder: CarriedTurn | None
    """Whose conversation it is from, when it is not from the turn's own record."""

    @property
    def title(self) -> str:
        saved = _line(self.turn.saved_at, 40)
        held = f" (from the conversation that turn {self.holder.number} holds)" if self.holder is not None else ""
        words = [f"Turn {self.turn.number}{held}", self.note, f"saved {saved}" if saved else "", self.turn.place]
        return " · ".join(word for word in words if word)

    @property
    def folded(self) -> str:
        ref = self.turn.ref
        ended = f", which ended: {ref['outcome']}" if ref["outcome"] else ""
        return (
            f"The notebook only refers to this turn{ended}; its content ({_size(ref['bytes'])}) is in the session's "
            f"journal alone. It was asked: {_line(ref['request'], 400)}"
        )


def carried_text(found: Carried, *, name: str, choice: Choice | None = None) -> str:
    """What a notebook carries, as text; what is wrong with it stands first."""
    from .views.text import picture_text

    choice = choice or Choice()
    parts = ["\n".join([_summary(found, name), *_problem_lines(found)])]
    for session in found.sessions:
        turns = choice.turns(session)
        if turns:
            parts.append(f"══ {_session_words(session, found)} ══")
        for drawn in _drawn(session, turns, lambda picture: picture_text(picture, with_request=True)):
            parts.append(f"━━ {drawn.title} ━━\n\n{drawn.drawing or drawn.folded}")
    return "\n\n".join(parts) + "\n"


def _summary(found: Carried, name: str) -> str:
    if found.empty:
        return f"{_line(name)} carries no session of lash_nb"
    if not found.problems:
        return f"{_line(name)}: all that it carries is valid"
    verdict = f"what it carries is {_verdict(found)}" if found.ok else "NOT all that it carries is valid"
    return f"{_line(name)}: {verdict}:"


_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto }
h2, h3 { border-bottom: 1px solid; overflow-wrap: anywhere }
[role=alert] { border: 2px solid; padding: 0 1rem; overflow-wrap: anywhere }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def carried_html(found: Carried, *, name: str, choice: Choice | None = None) -> str:
    """What a notebook carries, as one page without script that loads nothing; what is wrong with it stands first."""
    from .views.html import picture_html

    choice = choice or Choice()
    parts = [f"<p>{_escaped(_summary(found, name))}</p>"]
    if found.problems:
        items = "\n".join(f"<li>{_escaped(line.strip())}</li>" for line in _problem_lines(found))
        parts = [f'<div role="{"note" if found.ok else "alert"}">{parts[0]}\n<ul>\n{items}\n</ul></div>']
    for session in found.sessions:
        turns = choice.turns(session)
        if turns:
            parts.append(f"<h2>{_escaped(_session_words(session, found))}</h2>")
        for drawn in _drawn(session, turns, lambda picture: picture_html(picture, with_request=True)):
            body = drawn.drawing or f"<p>{_escaped(drawn.folded)}</p>"
            parts.append(f"<article>\n<h3>{_escaped(drawn.title)}</h3>\n{body}\n</article>")
    return _PAGE.format(title=_escaped(_line(name)), style=_STYLE, body="\n".join(parts))


def _escaped(text: str) -> str:
    return html.escape(text)
