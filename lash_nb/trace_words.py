"""`lash-nb trace`: what a session did, as one JSON object on one line, or a line an effect.

Decided here: what is printed, and that it comes turn by turn. The journal is only read, also while another process
writes it; of a damaged one there is what comes before the damage, and stderr says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, JournalError
from .machine.tool_specs import RUN_CODE

if TYPE_CHECKING:
    from .finding import Found
    from .machine.llm import LlmUsage
    from .machine.wire import Json
    from .tracing import TracedEffect, TracedTurn, Tracer

__all__ = ["add", "cut", "found_journal", "tokens_text"]

_FAILED = 1
_WIDE = 100
_NOT_ENDED = "not known to have ended"


def add(commands: Any) -> None:
    """Add `trace` to the command line."""
    trace = commands.add_parser("trace", help="every effect of a session's turns", description=_trace.__doc__)
    trace.set_defaults(run=_trace)
    trace.add_argument("session", metavar="SESSION", help="its id or how that begins, its directory, or a notebook")
    trace.add_argument("--turn", metavar="N", type=int, help="this turn alone")
    trace.add_argument("--state-dir", metavar="DIR", type=Path, help="where sessions are kept")
    trace.add_argument("--json", action="store_true", help="one JSON object on one line, nothing cut")


def found_journal(which: str, state_dir: Path | None) -> Found:
    """The session that `which` names, which has a journal.

    Raises:
        InputError: there is no such session, or a notebook carries it and it was not gone on with yet.
    """
    from .finding import find_session

    found = find_session(which, state_dir=state_dir)
    if found.original:  # of a copied notebook too, it is about what was recorded
        found = replace(found, session=found.original, has_journal=True)
    if not found.has_journal:
        raise InputError(
            f"session {found.session} was never recorded in {found.state_dir}; "
            f"`lash-nb resume {which}` goes on with it from the notebook alone"
        )
    return found


def cut(text: str, width: int = _WIDE) -> str:
    """A text in one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def tokens_text(usage: LlmUsage) -> str:
    """`1,234 tokens in, 56 out`."""
    return f"{usage.total - usage.output_tokens:,} tokens in, {usage.output_tokens:,} out"


def _trace(options: argparse.Namespace) -> int:
    """Every effect of a session's turns: what was sent, what came back, when, and what it cost. Reads the journal
    alone, also while another process writes it."""
    from .stores.journal import session_directory
    from .stores.session_files import read_segments
    from .tracing import Tracer

    found = found_journal(options.session, options.state_dir)
    tracer = Tracer(found.session)
    segments = read_segments(session_directory(found.state_dir, found.session))
    turns = (turn for turn in tracer.turns(segments) if options.turn in (None, turn.turn))
    given = 0
    problem = ""
    print_turns = _as_json if options.json else _as_text
    try:
        for text in print_turns(tracer, turns):
            given += 1
            sys.stdout.write(text)
    except JournalError as error:
        problem = str(error)
    if options.json:
        sys.stdout.write(_json_end(tracer, problem, begun=given > 0))
    else:
        sys.stdout.write("".join(_text_end(tracer)))
    if problem:
        sys.stdout.flush()
        print(f"lash-nb: {problem}", file=sys.stderr)
    return _FAILED if problem else 0


# -------------------------------------------------------------------------------------------------------------- JSON


def _as_json(tracer: Tracer, turns: Iterator[TracedTurn]) -> Iterator[str]:
    """Piece by piece, so that one turn at a time is held as text."""
    begun = False
    for turn in turns:
        yield (", " if begun else _json_beginning(tracer)) + json.dumps(turn.to_json(), ensure_ascii=False)
        begun = True


def _json_beginning(tracer: Tracer) -> str:
    said = {"session": tracer.session, "label": tracer.label, "notebook": tracer.notebook}
    return json.dumps(said, ensure_ascii=False).removesuffix("}") + ', "turns": ['


def _json_end(tracer: Tracer, problem: str, *, begun: bool) -> str:
    rest: dict[str, Json] = {
        "said": list(tracer.said),
        "kernels": list(tracer.kernels),
        "processes": list(tracer.processes),
        "incomplete": tracer.incomplete,
        "damaged": problem or None,
    }
    end = json.dumps(rest, ensure_ascii=False).removeprefix("{")
    return f"{'' if begun else _json_beginning(tracer)}], {end}\n"


# -------------------------------------------------------------------------------------------------------------- text


def _as_text(tracer: Tracer, turns: Iterator[TracedTurn]) -> Iterator[str]:
    for turn in turns:
        yield "".join(f"{line}\n" for line in _turn_lines(turn))


def _turn_lines(turn: TracedTurn) -> Iterator[str]:
    yield f"turn {turn.turn}  {turn.began_at}  {turn.model}"
    yield f"  asked: {cut(turn.request)}"
    if turn.incomplete:
        yield "  (not all of its effects are on record)"
    for effect in turn.effects:
        took = "" if effect.duration_ms is None else f"{effect.duration_ms:,} ms"
        again = "again: " if effect.redelivered else ""
        yield f"  {effect.id:>3}  {effect.kind:<24}  {took:>10}  {again}{cut(_effect_text(effect))}".rstrip()
        for call in _cells_with_theirs(effect):
            within = _cell_of(call, effect) is not None
            yield f"       {'  ' if within else ''}{cut(_call_text(call))}"
    for note in turn.notes:
        yield f"  note: {cut(str(note))}"
    for at in turn.resumptions:
        yield f"  gone on with by another process: {at}"
    price = "" if turn.dollars is None else f", about {_dollars(turn.dollars)}"
    yield f"  [{turn.sentence or turn.status}] {tokens_text(turn.usage)}{price}"


def _effect_text(effect: TracedEffect) -> str:
    sent: Any = effect.sent or {}
    got: Any = effect.got
    back = "no answer" if got is None else ""
    match effect.kind:
        case "LlmCall":
            asked = f"{len(sent['request']['messages'])} messages"
            result = _result(got, "LlmComplete")
            cost = "" if effect.usage is None else f", {tokens_text(effect.usage)}"
            price = "" if effect.dollars is None else f", about {_dollars(effect.dollars)}"
            tries = f", {len(effect.retries)} retried" if effect.retries else ""
            back = back or str(result.get("full_text", result.get("message", "")))
            return f"{asked}{cost}{price}{tries}: {back}"
        case "ExecCode":
            return f"{sent['language']}: {cut(sent['code'], 60)} → {back or _cell_text(_result(got, 'ExecResult'))}"
        case "ToolCalls":
            names = ("cell" if call["name"] == RUN_CODE else str(call["name"]) for call in sent["calls"])
            return ", ".join(names) + (f" → {back}" if back else "")
        case "Checkpoint":
            return f"{sent['checkpoint']}{' → ' + back if back else ''}"
        case _:
            return back


def _result(got: Any, name: str) -> Any:
    """What a response holds, done or failed."""
    result = {} if got is None else got[name]["result"]
    return result.get("Ok", result.get("Err", {}))


def _cell_text(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result.get("error"), str):
        return f"error: {result['error']}"
    if result.get("terminal_finish") is not None:
        return f"finished: {json.dumps(result['terminal_finish'], ensure_ascii=False)}"
    return " ".join(str(text) for text in result.get("observations", ())) or "ok"


def _cell_of(call: Mapping[str, Json], effect: TracedEffect) -> str | None:
    """The id of the cell of a batch in which a call was made; None: the model made it, or a cell that is no call."""
    outer = str(call["call"]).rpartition("/")[0]
    return outer if any(one["call"] == outer for one in effect.calls) else None


def _cells_with_theirs(effect: TracedEffect) -> Iterator[dict[str, Json]]:
    """The calls as they began, those that a cell made behind it."""
    for call in effect.calls:
        if _cell_of(call, effect) is None:
            yield call
            yield from (one for one in effect.calls if _cell_of(one, effect) == call["call"])


def _call_text(call: Mapping[str, Json]) -> str:
    given, args = call.get("output"), call["args"]
    code = args.get("code") if call["name"] == RUN_CODE and isinstance(args, Mapping) else None
    if isinstance(code, str):
        return f"cell {cut(code, 60)} → {_called_cell_text(given)}"
    ended = _NOT_ENDED if not isinstance(given, Mapping) else _status(given)
    return f"tool {call['name']}({json.dumps(args, ensure_ascii=False)}) → {ended}"


def _called_cell_text(given: Json) -> str:
    """What a cell of a batch gave, as of one that is an effect."""
    from .machine.tool_calls import TOOL_CALL_OUTPUT
    from .protocols.run_code import read_cell_output

    if not isinstance(given, Mapping):
        return _NOT_ENDED
    cell = read_cell_output(TOOL_CALL_OUTPUT.decode(given))
    if cell is None:
        return _status(given)
    finish = None if cell.finish is None else {"value": cell.finish.value}
    return _cell_text({"error": cell.exec_error, "terminal_finish": finish, "observations": cell.output})


def _status(output: Mapping[str, Any]) -> str:
    return str(output["outcome"]["status"])


def _text_end(tracer: Tracer) -> Iterator[str]:
    for said in tracer.said:
        where = "not delivered" if said["delivered_to"] is None else f"delivered to turn {said['delivered_to']}"
        yield f"said {said['at']} ({where}): {cut(str(said['text']))}\n"
    for kernel in tracer.kernels:
        yield f"kernel {kernel['at'] or ''} {kernel['language']} {kernel['epoch']}\n"
    for process in tracer.processes[1:]:
        yield f"opened again {process['opened_at'] or ''}\n"
    if tracer.incomplete:
        yield "what came before is kept in fewer words: the archives with its effects were let go\n"


def _dollars(dollars: float) -> str:
    from .views.html import dollars_text

    return dollars_text(dollars)
