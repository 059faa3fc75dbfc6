"""`lash-nb sessions`: which sessions are on the disk, what is in one, and how they are let go.

Decided here: what is printed, what is asked before anything is removed, and how long a session is kept that nobody
uses. What is removed is counted; what could not be looked into is said, and kept. `--json` prints one document on one
line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .consent import ask
from .errors import InputError
from .trace_words import cut, found_journal, tokens_text

if TYPE_CHECKING:
    from .finding import Found
    from .machine.wire import Json
    from .recorded import RecordedSession
    from .removing import Removed
    from .stores.session_files import SessionGlance

__all__ = ["add"]

KEPT_DAYS = 90.0
"""How long a session is kept that nobody uses, unless `gc --older-than` says otherwise."""
_FAILED, _DECLINED = 1, 5


def add(commands: Any) -> None:
    """Add `sessions` to the command line."""
    sessions = commands.add_parser("sessions", help="the sessions on the disk: list, look into, remove, repair")
    words = sessions.add_subparsers(title="words", dest="word", required=True)

    def word(name: str, run: Any, said: str, *, names: str | None = None) -> Any:
        parser = words.add_parser(name, help=said, description=run.__doc__)
        parser.set_defaults(run=run)
        if names is not None:
            told = "its id or how that begins, its directory, or a notebook"
            parser.add_argument("session", metavar="SESSION", nargs=names or None, help=told)
        parser.add_argument("--state-dir", metavar="DIR", type=Path, help="where sessions are kept")
        parser.add_argument("--json", action="store_true", help="print one JSON document on one line")
        return parser

    word("list", _list, "which sessions there are")
    word("show", _show, "what is in one", names="")
    word("rm", _rm, "remove some", names="+").add_argument("--yes", action="store_true", help="do not ask")
    gc = word("gc", _gc, "remove what nobody has used for long, and what nothing refers to")
    gc.add_argument("--older-than", metavar="DAYS", type=_days, default=KEPT_DAYS, help=f"default: {KEPT_DAYS:g}")
    gc.add_argument("--interrupted", action="store_true", help="also sessions with a turn that has not ended")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    gc.add_argument("--yes", action="store_true", help="do not ask")
    word("repair", _repair, "make a damaged one readable again, from what is before the damage", names="")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _print_json(value: Mapping[str, Json]) -> None:
    print(json.dumps(value, ensure_ascii=False))


# -------------------------------------------------------------------------------------------------------------- list


def _list(options: argparse.Namespace) -> int:
    """The sessions, the one used last first. One that cannot be read is listed with what is wrong."""
    from .stores.session_files import glances

    where = _where(options)
    found = glances(where)
    if options.json:
        _print_json({"state_dir": str(where), "sessions": [_glance_json(seen) for seen in found]})
        return 0
    if not found:
        print(f"no sessions in {where}", file=sys.stderr)
    for seen in found:
        turns = _count(seen.turns, "turn")
        columns = [seen.session, _when(seen.used), turns, _bytes(seen.size), _state(seen)]
        print("  ".join(filter(None, columns)))
        if not seen.problem:
            print(f"    {seen.notebook or seen.place or '?'}: {cut(seen.request, 80) or '(nothing asked yet)'}")
    return 0


def _where(options: argparse.Namespace) -> Path:
    from .stores.state_dir import default_state_dir

    return options.state_dir or default_state_dir()


def _state(seen: SessionGlance) -> str:
    if seen.owner is not None:
        return f"in use by {_pid(seen.owner)}"
    if seen.problem:
        return f"damaged: {seen.problem}" if seen.damaged else f"cannot be read: {seen.problem}"
    return "" if seen.interrupted is None else f"turn {seen.interrupted} interrupted"


def _pid(owner: Mapping[str, Any]) -> str:
    return str(owner.get("pid") or "another process")


def _glance_json(seen: SessionGlance) -> dict[str, Json]:
    return {
        "session": seen.session,
        "used": _iso(seen.used),
        "turns": seen.turns,
        "state": _state(seen),
        "in_use_by": None if seen.owner is None else dict(seen.owner),
        "interrupted": seen.interrupted,
        "problem": seen.problem or None,
        "bytes": seen.size,
        "label": seen.label,
        "notebook": seen.notebook,
        "directory": seen.place,
        "request": seen.request,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size / 1e6:,.1f} MB"


# -------------------------------------------------------------------------------------------------------------- show


def _show(options: argparse.Namespace) -> int:
    """What is in a session: its turns, tokens and price, what is outstanding, its kernels and files. Nothing is run."""
    from .following import read_session
    from .stores.session_files import glance

    found = found_journal(options.session, options.state_dir)
    seen = glance(_directory(found))
    session = read_session(found.state_dir, found.session)
    told = _session_json(session, seen)
    if options.json:
        _print_json(told)
    else:
        print("\n".join(_session_lines(told)))
    return 0


def _directory(found: Found) -> Path:
    from .stores.journal import session_directory

    return session_directory(found.state_dir, found.session)


def _session_json(session: RecordedSession, seen: SessionGlance) -> dict[str, Any]:
    from .machine.llm import LLM_USAGE, LlmUsage
    from .orphans import kernel_lives
    from .resuming import lost_kernels, outstanding
    from .stores.session_files import is_copy
    from .tracing import ended_turns
    from .turns import dollars_of

    ended, running = ended_turns(session), session.running
    ours = [kernel for kernel in session.kernels.values() if not kernel.copied]
    kernels = [] if is_copy(seen.directory) else ours
    living = {kernel.language for kernel in kernels if kernel_lives(kernel, owner=session.id)}
    turns: list[dict[str, Json]] = [
        {"turn": t.number, "request": t.request, "status": t.status, "sentence": t.picture.sentence, "text": t.text}
        for t in ended
    ]
    next_ = None
    if running is not None:
        status = "running" if seen.owner is not None else "interrupted"
        turns.append({"turn": running.number, "request": running.asked.text, "status": status, "sentence": status})
        lost = lost_kernels(session.kernels, owner=session.id, copied=is_copy(seen.directory))
        next_ = outstanding(running, lost=lost) if seen.owner is None else None
    models = [turn.asked.model for turn in (*session.turns, *([running] if running else []))]
    usage = sum((turn.usage for turn in ended), LlmUsage())
    return {
        "session": session.id,
        "label": session.label,
        "notebook": seen.notebook,
        "directory": seen.place,
        "began": session.began_at,
        "used": _iso(seen.used),
        "in_use_by": None if seen.owner is None else dict(seen.owner),
        "models": sorted(set(filter(None, models))),
        "usage": LLM_USAGE.encode(usage),
        "tokens": tokens_text(usage),
        "dollars": dollars_of(ended),
        "turns": turns,
        "outstanding": None if next_ is None else str(next_),
        "undelivered": list(session.said.values()),
        "kernels": [
            {"language": kernel.language, "epoch": kernel.epoch, "living": kernel.language in living}
            for kernel in session.kernels.values()
        ],
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(seen.directory.iterdir())],
        "path": str(seen.directory),
    }


def _session_lines(told: Mapping[str, Any]) -> list[str]:
    from .views.html import dollars_text

    price = "" if told["dollars"] is None else f", about {dollars_text(told['dollars'])}"
    used = f"used last {told['used']}"
    if told["in_use_by"] is not None:
        used = f"in use by {_pid(told['in_use_by'])}"
    lines = [
        f"session    {told['session']} (label {told['label']})",
        f"notebook   {told['notebook'] or 'none'}",
        f"directory  {told['directory'] or '?'}",
        f"began      {told['began']}, {used}",
        f"models     {', '.join(told['models']) or 'none yet'}",
        f"tokens     {told['tokens']}{price}",
    ]
    for turn in told["turns"]:
        lines += [f"turn {turn['turn']}: {cut(turn['request'])}", f"   [{turn['sentence']}]"]
        if turn["status"] == "done":
            lines.append(f"   {cut(turn['text'])}")
    if told["outstanding"]:
        lines += ["", told["outstanding"], ""]
    lines += [f"said, not delivered yet: {cut(text)}" for text in told["undelivered"]]
    lines += [
        f"kernel     {kernel['language']} {kernel['epoch']}: {'lives' if kernel['living'] else 'gone'}"
        for kernel in told["kernels"]
    ]
    lines.append(f"files      {told['path']}")
    return lines + [f"   {file['name']}: {_bytes(file['bytes'])}" for file in told["files"]]


# ----------------------------------------------------------------------------------------------------------- rm and gc


def _rm(options: argparse.Namespace) -> int:
    """Remove sessions, what only they refer to, and kernels of theirs that wait for a process to take them over. One
    that is in use is not removed."""
    from .removing import Removed, remove_sessions
    from .stores.session_files import glance

    founds = {found.session: found for found in (found_journal(name, options.state_dir) for name in options.session)}
    seen = {name: glance(_directory(found)) for name, found in founds.items()}
    for one in seen.values():
        if one.owner is not None:
            who = f"process {_pid(one.owner)} on {one.owner.get('host', '?')}"
            raise InputError(f"session {one.session} is in use by {who}: nothing was removed; end that first")
    question = f"Remove {_count(len(seen), 'session')} ({_bytes(sum(one.size for one in seen.values()))})?"
    if not _agreed(question, options, what=f"lash-nb sessions rm {' '.join(options.session)}"):
        return _DECLINED
    done = [remove_sessions([seen[name]], state_dir=found.state_dir) for name, found in founds.items()]
    _say_removed(sum(done, Removed()), options)
    return 0 if all(removed.sessions for removed in done) else _FAILED


def _gc(options: argparse.Namespace) -> int:
    """Remove sessions that nobody has used for long, archives beyond 256 MB a session (the oldest first), stored files
    that no session refers to, and what ended processes left half-done. Nothing that is in use."""
    from .removing import find_garbage, remove_garbage

    where = _where(options)
    garbage = find_garbage(where, older_than_days=options.older_than, interrupted=options.interrupted)
    if garbage.empty or options.dry_run:
        _say_removed(garbage.expected, options)
        return 0
    if not options.yes and not options.json:
        _say_removed(garbage.expected, options, would=True)
    question = f"Remove all that ({_bytes(garbage.expected.size)})?"
    if not _agreed(question, options, what="lash-nb sessions gc"):
        return _DECLINED
    _say_removed(remove_garbage(garbage, state_dir=where), options)
    return 0


def _agreed(question: str, options: argparse.Namespace, *, what: str) -> bool:
    """Whether what `question` says may be done.

    Raises:
        InputError: nobody can be asked.
    """
    if options.yes:
        return True
    agreed = ask(question)
    if agreed is None:
        raise InputError(f"nothing is removed unasked, and there is no terminal to ask at: `{what} --yes` agrees")
    if not agreed:
        print("Nothing was removed.", file=sys.stderr)
    return agreed


def _say_removed(removed: Removed, options: argparse.Namespace, *, would: bool = False) -> None:
    would = would or getattr(options, "dry_run", False)
    if options.json:
        told: dict[str, Json] = {
            "dry_run": would,
            "sessions": list(removed.sessions),
            "archives": removed.archives.count,
            "leftovers": removed.leftovers.count,
            "blobs": removed.blobs.count,
            "freed_bytes": removed.size,
            "notes": list(removed.notes),
        }
        _print_json(told)
        return
    for note in removed.notes:
        print(note, file=sys.stderr)
    parts = [f"session {name}" for name in removed.sessions]
    counts = (("archive", removed.archives), ("stored file", removed.blobs), ("leftover", removed.leftovers))
    parts += [_count(freed.count, thing) for thing, freed in counts if freed.count]
    did = "Would remove" if would else "Removed"
    print(f"{did} {', '.join(parts) or 'nothing'} ({_bytes(removed.size)}).")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------------------------------ repair


def _repair(options: argparse.Namespace) -> int:
    """Make a damaged session one that opens, from what is whole before the damage. The damaged file is kept aside."""
    from .stores.journal import repair

    found = found_journal(options.session, options.state_dir)
    notes = repair(_directory(found), session=found.session)
    if options.json:
        _print_json({"session": found.session, "notes": list(notes)})
    else:
        print("\n".join(notes) or f"session {found.session} is not damaged; nothing was done")
    return 0
