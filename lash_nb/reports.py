"""What `%lash` says in plain text of a session, open or only recorded: its turns, their tokens, and what they cost.

Decided here: the words. A price is "about", names the day of its list, and is left out when that of a call is not
known: a sum with holes would be taken for the whole.
"""

from __future__ import annotations

from .errors import InputError
from .kernels import Kernel
from .languages import Confined, is_sandboxed
from .machine.llm import LlmUsage
from .recorded import RecordedSession, RecordedTurn
from .session import Session
from .sessions import NotebookSessions
from .stores.segments import session_directory
from .turns import Turn
from .version import __version__
from .views.html import dollars_text
from .views.pieces import clean

__all__ = ["count", "history_text", "pick_recorded", "pick_turn", "recorded_history", "status_text", "usage_text"]

_LOOKING_S = 0.5
"""How long `%lash` looks for an earlier session."""


def count(number: int, thing: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def status_text(sessions: NotebookSessions) -> str:
    """What `%lash` alone says."""
    session = sessions.current
    try:
        model = sessions.choose().announcement
    except InputError as error:
        model = str(error)
    which = f"{sessions.label}, no turns yet"
    begun = session is not None and bool(session.turns or session.interrupted)
    if session is not None and begun:
        waits = f"; turn {session.next_number} {_left(session)}" if session.interrupted else ""
        which = f"{session.label} ({session.id}), {count(len(session.turns), 'turn')}{waits}"
    kernel = session.kernel if session is not None else None
    lives = "not started yet"
    if kernel is not None and kernel.epoch:
        lives = f"{kernel.language}, {'alive' if kernel.alive else 'ended'}{_held(kernel, session)}"
    return "\n".join(
        [
            f"lash_nb {__version__}",
            f"session: {which}",
            *_earlier(sessions, begun=begun),
            f"model: {model}",
            f"kernel: {lives}",
            f"approve: {sessions.mode()}",
            f"tools: {_tools(sessions)}",
            f"copies: journal {_journal(session)} · outputs {sessions.copying.outputs()} · "
            f"notebook metadata {sessions.copying.status()}",
        ]
    )


def _tools(sessions: NotebookSessions) -> str:
    catalogue = sessions.tools.catalogue
    servers = catalogue.sources
    of_servers = f", of {count(len(servers), 'MCP server')}" if servers else ""
    return f"{len(catalogue.tools) or 'none'}{of_servers} (`%lash tools`)"


def _held(kernel: Kernel, session: Session | None) -> str:
    """To what the kernel is held."""
    bounds = session.kernel_settings.resources.told() if session is not None else ()
    said = ", in a sandbox" if is_sandboxed(kernel) else ""
    said += f", at most {', '.join(bounds)}" if bounds else ""
    unmet = " ".join(kernel.unmet_limits) if isinstance(kernel, Confined) else ""
    return f"{said}; {unmet}" if unmet else said


def _left(session: Session) -> str:
    waits = session.pending is not None
    return "waits for your answer (`%lash answer`)" if waits else "was interrupted (`%lash resume`)"


def _earlier(sessions: NotebookSessions, *, begun: bool) -> list[str]:
    """The line on what `%lash resume` would go on with; once another session has begun, only where a turn waits."""
    if sessions.run is not None:
        return []
    found = sessions.past.earlier(most=1, within_s=_LOOKING_S)
    return [earlier.sentence for earlier in found if earlier.interrupted or not begun]


def _journal(session: Session | None) -> str:
    if session is None or not session_directory(session.state_dir, session.id).is_dir():
        return "– (no turn yet)"
    return f"✓ (in {session.state_dir.name})"


def history_text(session: Session | None) -> str:
    """The turns of the session, two lines each."""
    turns = session.turns if session is not None else []
    return "\n".join(_row(turn.number, turn.request, turn.picture.sentence) for turn in turns) or "no turns yet"


def recorded_history(session: RecordedSession) -> str:
    """The same of a session that is only read."""
    rows = [
        _row(turn.number, turn.asked.text, turn.picture().sentence if turn.ended else "has not ended")
        for turn in _recorded(session)
    ]
    return "\n".join([f"session {session.label} ({session.id})", *(rows or ["no turns yet"])])


def _row(number: int, request: str, how: str) -> str:
    request = " ".join(clean(request).split())
    return f"{number}. {request[:100]}{'…' if len(request) > 100 else ''}\n   [{how}]"


def _recorded(session: RecordedSession) -> list[RecordedTurn]:
    return [*session.turns, *([session.running] if session.running is not None else [])]


def pick_recorded(session: RecordedSession, number: int) -> RecordedTurn:
    """The turn of that number, also one that has not ended. Raises InputError when there is none."""
    turns = _recorded(session)
    for turn in turns:
        if turn.number == number:
            return turn
    raise InputError(f"there is no turn {number}; session {session.id} has {len(turns)}")


def pick_turn(session: Session | None, which: str, *, word: str) -> Turn:
    """The turn that `%lash WORD N` names. Raises InputError when there is none."""
    turns = session.turns if session is not None else []
    if not (which.isascii() and which.isdigit()):
        raise InputError(f"`%lash {word} {which}`: which turn? a number, as `%lash history` has them")
    for turn in turns:
        if turn.number == int(which):
            return turn
    raise InputError(f"there is no turn {which}; this session has {len(turns)}")


def usage_text(session: Session | None, which: str = "") -> str:
    """Tokens and their price: of the session and each turn, or of each call of the turn that `which` names."""
    if which:
        return _turn_usage(pick_turn(session, which, word="usage"))
    if session is None or not session.turns:
        return "no turns yet"
    uncounted = sum(not turn.picture.calls for turn in session.turns)
    unknown = f"; {count(uncounted, 'turn')} without a count (stopped or failed)" if uncounted else ""
    lines = [f"{count(len(session.turns), 'turn')}: {_tokens(session.usage)}{unknown}"]
    as_of = max(turn.picture.priced_as_of for turn in session.turns)
    if session.dollars is not None:
        lines[0] += f", about {dollars_text(session.dollars)} (prices of {as_of})"
    if session.usage.total and max(len(session.turns), len(session.turns[0].picture.calls)) > 1:
        for turn in session.turns:
            lines.append(f"  turn {turn.number}: {_counted(turn)}")
    return "\n".join(lines)


def _counted(turn: Turn) -> str:
    """What failed or was stopped in its first call has cost something; how much, nobody said."""
    if not turn.picture.calls:
        return "not counted (stopped or failed before the model said how much)"
    return f"{_tokens(turn.usage)}{_price(turn.dollars)}, {count(len(turn.picture.calls), 'call')}"


def _turn_usage(turn: Turn) -> str:
    if not turn.picture.calls:
        return f"turn {turn.number}, {turn.model}: {_counted(turn)}"
    about = f" (prices of {turn.picture.priced_as_of})" if turn.dollars is not None else ""
    lines = [f"turn {turn.number}, {turn.model}: {_tokens(turn.usage)}{_price(turn.dollars)}{about}"]
    for number, call in enumerate(turn.picture.calls, start=1):
        lines.append(f"  call {number}: {_tokens(call.usage)}{_price(call.dollars)}")
    return "\n".join(lines)


def _price(dollars: float | None) -> str:
    return "" if dollars is None else f", about {dollars_text(dollars)}"


def _tokens(usage: LlmUsage) -> str:
    read = usage.total - usage.output_tokens
    cached = f" ({usage.cache_read_input_tokens:,} of them cached)" if usage.cache_read_input_tokens else ""
    thought = f" ({usage.reasoning_output_tokens:,} of them reasoning)" if usage.reasoning_output_tokens else ""
    return f"{read:,} tokens in{cached}, {usage.output_tokens:,} out{thought}"
