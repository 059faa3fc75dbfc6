"""`lash-nb resume`: an interrupted turn is gone on with, by its session's journal or by a notebook file alone.

Decided here: what is outstanding is shown in full before anybody is asked, and nothing runs without a yes. Until then
no kernel is touched, so that whoever says no leaves the turn as it was. A notebook is written once, when the turn has
ended, and only if it is still the file that was read; the cells below its turn are left as they are, which is said. A
session that another process writes is at most followed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import kernel_words
from .consent import ask, ask_line, ask_or_why, at_terminal
from .deciding import known_mode, tightened
from .errors import ApprovalNeeded, InputError, JournalInUseError, TurnFailed
from .machine.approvals import Approval, ApprovalMode, Decision
from .trace_words import cut

if TYPE_CHECKING:
    from .finding import Found
    from .machine.events import TurnActivity
    from .machine.picture import TurnPicture
    from .resumed_notebook import NotebookFile
    from .session import Session
    from .turns import Turn

__all__ = ["add"]

_BAD_INPUT, _WAITING, _STOPPED = 2, 4, 5
_EXIT_CODES = {"done": 0, "failed": 1, "bound": 3, "stopped": _STOPPED}
"""By the status of the turn (design §10)."""
_LOOK_S = 0.1


def add(commands: Any) -> None:
    """Add `resume` to the command line."""
    resume = commands.add_parser("resume", help="go on with a turn that was interrupted", description=_resume.__doc__)
    resume.set_defaults(run=_resume)
    resume.add_argument("which", metavar="SESSION|FILE", help="a session's id, its directory, or a notebook")
    answer = resume.add_mutually_exclusive_group()
    answer.add_argument("--yes", action="store_true", help="agree to what is outstanding without being asked")
    answer.add_argument("--reject", metavar="WHY", help="the cell that waits for approval is not run; go on so")
    resume.add_argument(
        "--approve",
        choices=[mode.value for mode in ApprovalMode],
        help="what is asked about from now on (default: as before, but for `all`)",
    )
    who = "who answers (default: the model of that turn, unless only a notebook names it)"
    resume.add_argument("-m", dest="model", metavar="MODEL", help=who)
    kernel_words.add(resume)
    resume.add_argument("--state-dir", metavar="DIR", type=Path, help="where sessions are kept")
    resume.add_argument("--json", action="store_true", help="print the turn as JSON on one line")
    resume.add_argument("--follow", action="store_true", help="if another process has the session: watch its turn")


def _resume(options: argparse.Namespace) -> int:
    """Go on with a turn that was interrupted, once what is outstanding was shown and agreed to; the answer is printed.
    Exit codes: 0 done or nothing to do, 1 the turn failed, 2 bad input, 3 a bound was hit, 5 stopped or not agreed."""
    from .finding import find_session
    from .models.choice import choose_model
    from .resumed_notebook import NotebookFile
    from .session import Session

    if options.model is not None:
        choose_model(options.model)  # a name that is none is found before anything is opened
    found = find_session(options.which, state_dir=options.state_dir)
    file = NotebookFile(found.notebook) if found.notebook is not None else None
    try:
        session = Session.resume(
            found,
            model=options.model,
            base_dir=_base_dir(found),
            on_block=file.take if file is not None else None,
            **kernel_words.given(options),
        )
    except JournalInUseError as error:
        if options.follow:
            return _follow(found, options)
        print(f"lash-nb: {error}; `lash-nb resume {options.which} --follow` watches its turn", file=sys.stderr)
        return _BAD_INPUT
    try:
        code = _go_on(session, options, file)
    except ApprovalNeeded as error:
        print(f"lash-nb: {error}, at a terminal `lash-nb resume {options.which}`", file=sys.stderr)
        if options.json:
            _print_json({"session": session.id, "id": None, "state": "waiting"})
        return _WAITING
    finally:
        session.close()
        if file is not None:  # also a turn that failed is the notebook's
            file.save()
            _say_where(file, found)
    return code


def _say_where(file: NotebookFile, found: Found) -> None:
    if file.cell is None:
        return
    print(f"lash-nb: the turn is shown in cell {file.cell} of {found.notebook}", file=sys.stderr)
    if file.below:
        cells = "1 cell below it was" if file.below == 1 else f"{file.below} cells below it were"
        runs = "`lash-nb run IN` runs all cells of the notebook that it was made from"
        print(f"lash-nb: {cells} not run; {runs}", file=sys.stderr)


def _base_dir(found: Found) -> Path:
    """Where the session worked before, if that is still there: its model's name may be relative to it."""
    from .stores.journal import session_directory
    from .stores.session_files import glance, is_copy

    directory = session_directory(found.state_dir, found.session)
    place = glance(directory).place if found.has_journal and not is_copy(directory) else None
    if place is not None and Path(place).is_dir():
        return Path(place)
    return found.notebook.absolute().parent if found.notebook is not None else Path.cwd()


# -------------------------------------------------------------------------------------------------------- going on


def _go_on(session: Session, options: argparse.Namespace, file: NotebookFile | None) -> int:
    for note in (*session.notes, *([file.refusal] if file is not None and file.refusal else [])):
        print(f"lash-nb: {note}", file=sys.stderr)
    expected = session.past.foreseen(model=_model(session))
    if expected is None:
        print(f"lash-nb: no turn of session {session.id} was interrupted; there is nothing to do", file=sys.stderr)
        if options.json:
            _print_json({"session": session.id, "id": None, "state": "nothing to do"})
        return 0
    left = session.past.interrupted
    if left is not None and session.pending is not None and not options.yes and options.reject is None:
        _say_what_led_here(left.picture())
    print(expected, file=sys.stderr)
    _say_mode(session, options)
    session.check_model()  # before anybody is asked
    if not _agreed(session, options):
        return _STOPPED
    if file is not None:
        file.check()
    found = session.outstanding_sync()
    if str(found) != str(expected):
        print(f"\nIt has come otherwise:\n\n{found}", file=sys.stderr)
        if not _agreed(session, options):
            return _STOPPED
    _decide_as_agreed(session, options)
    turn = _finish(session, options)
    if turn is None:
        return _not_run(session, options, "stopped before anything was run")
    _show(turn, options)
    if file is not None:
        file.show(turn, session.store)
    return _EXIT_CODES[turn.status]


def _say_what_led_here(picture: TurnPicture) -> None:
    """Whoever has to decide may not have seen any of it."""
    from .answers import led_here

    led = led_here(picture)
    if led:
        print(f"\nUntil then, the turn did this:\n\n{led}\n", file=sys.stderr)


def _say_mode(session: Session, options: argparse.Namespace) -> None:
    """Where what is asked about is not what was wanted, or what it was before."""
    left = session.past.interrupted
    before = ApprovalMode.EFFECTS if left is None or left.asked.approve == ApprovalMode.ALL else left.asked.approve
    told = tightened(known_mode(options.approve or before), env=os.environ)
    if told:
        print(f"lash-nb: {told}", file=sys.stderr)


def _model(session: Session) -> str:
    """Who is asked from now on; empty when nothing says so, which is found when it is."""
    from .models.choice import choose_model

    try:
        return session.model_name or choose_model().name
    except InputError:
        return ""


def _agreed(session: Session, options: argparse.Namespace) -> bool:
    if options.reject is not None and session.pending is None:
        raise InputError("--reject: nothing waits for approval, and nothing was run; without it you are asked about it")
    if options.yes or options.reject is not None:
        return True
    agreed, why = ask_or_why("\nGo on?") if session.pending is not None else (ask("\nGo on?"), "")
    if why:
        options.reject = why  # as if it had been given
    if agreed or why:
        return True
    command = f"lash-nb resume {options.which}"
    hints = [] if agreed is not None else ["there is no terminal to ask at", f"`{command} --yes` agrees"]
    if session.pending is not None:
        hints.append(f"`{command} --reject WHY` goes on without what waits")
    _not_run(session, options, "; ".join(["nothing was run, and the turn can still be gone on with", *hints]))
    return False


def _decide_as_agreed(session: Session, options: argparse.Namespace) -> None:
    """Of a cell that waits, to go on says that it may run; what a running cell wants to do is asked by itself."""
    pending = session.pending
    if pending is not None and options.reject is not None:
        session.decide(Decision.reject(options.reject), approval_id=pending.id)
    elif pending is not None and pending.held:
        session.decide(Decision.approve(), approval_id=pending.id)


def _not_run(session: Session, options: argparse.Namespace, sentence: str) -> int:
    print(f"lash-nb: {sentence}", file=sys.stderr)
    if options.json:
        _print_json({"session": session.id, "id": None, "state": "resumable"})
    return _STOPPED


async def _decide(approval: Approval) -> Decision | None:
    """Ask at the terminal; None: there is none, or the cell is left for later."""
    from .answers import Edit, Later, decision_of, shown, unknown

    print(f"\n{shown(approval)}", file=sys.stderr)
    ways = ("yes, all (others like it, too), no [why]" if approval.wish is not None else "yes, no [why]") + (
        ", later" if approval.held else ""
    )
    while True:
        answer = await ask_line(f"{ways}: ")
        if answer is None:
            return None
        try:
            decision = decision_of(answer, approval)
        except Later:
            return None
        except Edit:
            print("lash-nb: a cell is edited in a notebook: `%lash resume`, then `edit`", file=sys.stderr)
            continue
        if decision is not None:
            return decision
        said = unknown(answer, approval)
        if said:
            print(said, file=sys.stderr)


def _finish(session: Session, options: argparse.Namespace) -> Turn | None:
    """The turn at its end; None: it was stopped before it went on."""
    before = session.past.interrupted
    told = _Progress(replayed=len(before.told) if before is not None else 0)
    stopped = asked = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal stopped
        if stopped:  # the second one does not wait
            session.end_now()
            raise KeyboardInterrupt
        stopped = True

    def on_tick() -> None:
        nonlocal asked
        if stopped and not asked and session.running:
            asked = True
            session.request_stop()

    with _signals(on_signal):
        try:
            return session.resume_turn_sync(
                approve=options.approve,
                on_activity=told,
                on_approval=told.decide if at_terminal() else None,
                on_tick=on_tick,
                raise_on_failure=False,
            )
        except TurnFailed:
            return None


@contextmanager
def _signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        try:
            before[number] = signal.signal(number, handler)
        except ValueError:  # not the main thread
            break
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


class _Progress:
    """Lines on stderr: a step when its model call begins, a cell when it has ended. What is only told again is not."""

    def __init__(self, *, replayed: int = 0) -> None:
        from .machine.picture import TurnPicture

        self.picture: TurnPicture = TurnPicture()
        self._replayed, self._seen = replayed, 0

    def __call__(self, activity: TurnActivity) -> None:
        """One more thing that happened."""
        from .machine.events import CodeBlockCompleted, LlmRequestEvent, RetryStatus

        self.picture = self.picture.apply(activity)
        if self._replayed > 0:
            self._replayed, self._seen = self._replayed - 1, len(self.picture.steps)
            return
        step = f"[step {len(self.picture.steps)}]"
        match activity:
            case LlmRequestEvent():
                who = self.picture.model.rpartition(", then ")[2]
                print(f"{step} {who or 'the model'} is asked", file=sys.stderr, flush=True)
            case CodeBlockCompleted():
                detail = f": {activity.detail}" if activity.detail else ""
                said = f"{step} cell: {activity.outcome}, {activity.duration_ms / 1000:.1f} s{detail}"
                print(said, file=sys.stderr, flush=True)
            case RetryStatus():
                print(f"{step} {self.picture.sentence}", file=sys.stderr, flush=True)
            case _:
                pass

    async def decide(self, approval: Approval) -> Decision | None:
        """Ask at the terminal, once what is new since the last question was shown; None as `_decide`."""
        if len(self.picture.steps) > self._seen:
            self._seen = len(self.picture.steps)
            _say_what_led_here(self.picture)
        return await _decide(approval)


def _show(turn: Turn, options: argparse.Namespace) -> None:
    print(f"lash-nb: turn {turn.number} {turn.picture.sentence}", file=sys.stderr)
    if not options.json:
        if turn.ok:
            print(turn.text)
        return
    from .machine.llm import LLM_USAGE

    told = {"session": turn.session, "id": turn.id, "status": turn.status, "text": turn.text, "value": turn.value}
    _print_json({**told, "code": list(turn.code), "usage": LLM_USAGE.encode(turn.usage), "state": "ended"})


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))


# ----------------------------------------------------------------------------------------------------------- following


def _follow(found: Found, options: argparse.Namespace) -> int:
    """Watch the turn that another process runs, to its end."""
    from .following import Following

    following = Following(found.state_dir, found.session)
    shown = 0
    goes_on = following.look()
    if following.turn is None:
        print(f"lash-nb: no turn runs in session {found.session}", file=sys.stderr)
        if options.json:
            _print_json({"session": found.session, "id": None, "state": "nothing to do"})
        return 0
    print(f"lash-nb: following turn {following.turn.number}: {cut(following.turn.asked.text)}", file=sys.stderr)
    while True:
        shown = _say_steps(following.picture, shown, whole=not goes_on)
        if not goes_on:
            break
        time.sleep(_LOOK_S)
        goes_on = following.look()
    if not following.turn.ended:
        print(
            f"lash-nb: the process that ran it has ended; `lash-nb resume {options.which}` goes on with the turn",
            file=sys.stderr,
        )
        if options.json:
            _print_json({"session": found.session, "id": None, "state": "resumable"})
        return _STOPPED
    from .recorded import RecordedSession
    from .tracing import ended_turns

    turn = ended_turns(RecordedSession(id=found.session, turns=[following.turn]))[0]
    _show(turn, options)
    return _EXIT_CODES[turn.status]


def _say_steps(picture: TurnPicture, shown: int, *, whole: bool) -> int:
    """Print the steps that are over; how many were printed by now."""
    over = len(picture.steps) if whole else max(0, len(picture.steps) - 1)
    for number, step in enumerate(picture.steps[shown:over], shown + 1):
        cell = "" if step.code is None else f" · cell: {cut(step.code, 60)} → {step.outcome or 'running'}"
        print(f"[step {number}] {cut(step.prose, 80)}{cell}", file=sys.stderr, flush=True)
    return max(shown, over)
