"""One turn in a notebook cell: drawn while it runs, waited for in ticks, its bundle and its copy left behind.

It is a new one, or the interrupted one of the session, which is gone on with.

Decided here: everything is displayed by the cell's own thread, never by the session's loop; the live view goes when the
turn ends, then its figures and one new, final display are left, whose metadata holds the turn's envelope, or only its
hash once the notebook itself was acknowledged to hold it. A stopped or failed turn leaves the same before it is raised.
What the agent's code asks with `input()` is asked by that thread, too (`asking.py`), and what is to be approved, unless
the live view was seen to be drawn: then its buttons are there. Tools that are functions of the notebook run on it
(`main_thread.py`); while one runs, nothing is drawn.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from .answers import Edit, ask_at, edit_cell, prompt
from .asking import can_ask
from .errors import ApprovalNeeded, InputError, JournalError, TurnFailed
from .kernels import InputRequest
from .machine.approvals import Approval, Decision
from .machine.events import CodeBlockCompleted, TurnActivity, TurnStarted
from .machine.picture import TurnPicture
from .machine.wire import Json
from .models import Model
from .models.choice import ModelChoice
from .session import Session
from .sessions import NotebookSessions
from .stores.notebook import METADATA_KEY
from .turns import Turn
from .variable_words import bring_back
from .views import LiveView, ViewActions
from .views.html import footer_text
from .views.live import QuietView, choose_view, publish_with_ipython
from .views.text import figures, static_bundle
from .views.turn_data import TURN_MIME, turn_data

__all__ = ["CellRequest", "CellTurn", "InCell", "cell_id", "publish"]

_log = logging.getLogger("lash_nb")

_ACK_WAIT_S = 1.0
_ACK_TICK_S = 0.02
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
_DRAWN_WAIT_S, _DRAWN_TICK_S = 3.0, 0.1
"""How long a decision waits for a sign that a frontend shows the buttons, before it is asked for in words."""
_BEFORE_IT_BEGAN = "stopped by you, before the turn began"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """What the cell asks for."""

    text: str | None
    """None: that the session's interrupted turn goes on, to which whoever makes this has agreed."""
    model: Model
    options: dict[str, Any] = field(default_factory=dict)
    """More for `Session.run`: output_type, schema, max_steps."""
    quiet: bool = False
    """Leave one line, no bundle."""
    live: bool = True
    """Draw while it runs, where something can be drawn."""
    raises: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InCell:
    """What the words that run a turn know of the cell in which they stand."""

    sessions: NotebookSessions
    shell: Any
    live: bool
    """Whether a running turn can be drawn."""
    announce: Callable[[ModelChoice], None]
    """Says who answers, where that is news."""
    on_shown: Callable[[Turn], None]
    """Takes the turn that the cell has drawn."""


class CellTurn:
    """A request on its way, in the cell that waits for it."""

    def __init__(
        self, request: CellRequest, sessions: NotebookSessions, *, on_shown: Callable[[Turn], None] = lambda turn: None
    ) -> None:
        """`on_shown`: told the turn that was drawn here; `shown` is to be taken back when the cell has ended."""
        self._main = sessions.tools.main
        self._main.check_free()
        if told := sessions.tools.follow():
            print("\n".join(told))
        self._request = request
        self._on_shown = on_shown
        self._sessions = sessions
        self._session: Session = sessions.session()
        self._known = len(self._session.turns)
        self._picture = TurnPicture()
        self._stop_wanted = False
        self._clicks = False
        """Clicks arrive while the cell waits."""
        self._edit: Approval | None = None
        """What the person wants to change, in a cell of its own."""
        sessions.copying.begin()
        self._desk = sessions.desk
        self._cell_id = cell_id()
        self._view: LiveView = QuietView()

    def _begin(self, *, clicks: bool) -> None:
        """Draw, before anything happens; `clicks`: they arrive while the cell waits."""
        self._clicks = clicks
        if self._request.live and not self._request.quiet:
            self._draw(self._choose_view)

    async def wait(self) -> Turn:
        """From a cell that awaits: clicks arrive meanwhile, and SIGINT as CancelledError."""
        problem: BaseException | None = None
        self._begin(clicks=True)
        try:
            with self._main.open(awaits=True):
                if self._request.text is None:
                    await self._session.resume_turn(**self._options())
                else:
                    await self._session.run(self._request.text, **self._options())
        except BaseException as error:
            problem = error
        task = asyncio.current_task()
        stopped = isinstance(problem, KeyboardInterrupt) or (task is not None and task.cancelling() > 0)
        if not stopped:
            await self._acknowledged()
        return self._end(problem, stopped=stopped)

    def block(self) -> Turn:
        """From a cell that cannot await; SIGINT comes as KeyboardInterrupt."""
        problem: BaseException | None = None
        self._begin(clicks=False)
        try:
            with self._main.open(awaits=False):
                if self._request.text is None:
                    self._session.resume_turn_sync(**self._options())
                else:
                    self._session.run_sync(self._request.text, **self._options())
        except BaseException as error:
            problem = error
        return self._end(problem, stopped=isinstance(problem, KeyboardInterrupt))

    def _options(self) -> dict[str, Any]:
        """For `Session.run` or `resume_turn`; from now on the agent's code can ask, until `_end`."""
        attended = can_ask(_shell())
        if attended:
            self._desk.open()
        return {
            **self._request.options,
            "model": self._request.model,
            "on_activity": self._saw,
            "on_approval": self._asked if attended and self._sessions.run is None else None,
            "on_tick": self._tick,
            "raise_on_failure": False,
        }

    # -- while it runs -------------------------------------------------------------------------------------------------

    def _saw(self, activity: TurnActivity) -> None:
        """On the session's loop: the view only remembers."""
        self._picture = self._picture.apply(activity)
        self._view.show(self._picture)
        if isinstance(activity, CodeBlockCompleted):
            self._desk.withdraw()  # nobody waits for an answer any more
        if isinstance(activity, TurnStarted):
            self._sessions.tell()
            if self._stop_wanted:
                self._session.request_stop()

    def _choose_view(self) -> None:
        actions = ViewActions(
            stop=self._stop,
            decide=self._decide if self._clicks else None,  # else the cell asks, and one question is enough
            say=self._say,
            insert=self._insert,
            pull=self._sessions.pulled.soon,
        )
        self._view = choose_view(actions=actions, publish=self._show, store=self._session.store)

    def _show(self, data: Mapping[str, Json], *, display_id: str, update: bool) -> None:
        """Publish the live view; pages that were loaded since this cell was sent are told what it shows."""
        publish_with_ipython(data, display_id=display_id, update=update)
        if not update:
            self._sessions.copying.turn_shown(self._cell_id, data)

    def _insert(self, code: str, done: Callable[[str], None]) -> None:
        if not self._sessions.copying.insert(code, done):
            done("Nobody here can insert cells: copy the code instead.")

    def _say(self, text: str) -> None:
        try:
            self._session.say(text)
        except JournalError as error:
            _log.warning("what was said could not be recorded, and is not delivered: %s", error)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _decide(self, approval_id: str, decision: Decision) -> bool:
        """From a view, on any thread; whether it was taken."""
        try:
            return self._session.decide(decision, approval_id=approval_id)
        except InputError as error:
            _log.warning("%s", error)
            return False

    async def _asked(self, approval: Approval) -> Decision | None:
        """Ask the person, on the session's loop; whatever decides otherwise cancels this."""
        waited = 0.0
        while self._clicks and waited < _DRAWN_WAIT_S:
            if getattr(self._view, "drawn", False):
                await asyncio.Event().wait()  # for a click, or `%lash answer`
            await asyncio.sleep(_DRAWN_TICK_S)
            waited += _DRAWN_TICK_S
        request = InputRequest(prompt=prompt(approval))
        try:
            return await asyncio.to_thread(ask_at, self._desk, approval, request)
        except Edit:
            self._edit = approval
            return None
        finally:
            self._desk.withdraw(request)

    def _stop(self) -> None:
        """From any thread. The button is there before the turn is: then it stops as soon as it has begun."""
        self._stop_wanted = True
        self._session.request_stop()

    def _tick(self) -> None:
        self._draw(partial(self._view.tick, now=self._main.waiting))
        self._desk.tick()
        self._main.serve()

    def _draw(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except Exception as error:
            # What draws must not end a turn; frontends are many.
            print(f"lash_nb: the live view failed and is off for this turn: {error!r}", file=sys.stderr)
            self._view = QuietView()

    async def _acknowledged(self) -> None:
        """Wait, bounded, until the notebook's holder says that it has written the block."""
        waited = 0.0
        while self._sessions.copying.pending and waited < _ACK_WAIT_S:
            await asyncio.sleep(_ACK_TICK_S)
            waited += _ACK_TICK_S

    # -- at its end ----------------------------------------------------------------------------------------------------

    def _end(self, problem: BaseException | None, *, stopped: bool) -> Turn:
        """Leave what there is of the turn, then return it or raise what it ended with."""
        self._desk.close()
        turn = self._session.turns[-1] if len(self._session.turns) > self._known else None
        final = turn.picture if turn is not None else self._picture
        self._draw(lambda: self._view.close(final))
        if turn is not None:
            self._leave(turn)
            if turn.ok and (told := bring_back(turn, self._sessions)):
                print("\n".join(told))
        elif isinstance(problem, ApprovalNeeded):
            self._leave_waiting(problem.approval)
        clicked = isinstance(problem, _CANCELLED) and not stopped
        if problem is not None and not clicked:
            raise problem
        if turn is None:
            raise TurnFailed(_BEFORE_IT_BEGAN) from problem
        if self._request.raises and not turn.ok:
            raise TurnFailed(turn.text, turn=turn)
        return turn

    def _leave(self, turn: Turn) -> None:
        turn.shown = True
        self._on_shown(turn)
        if self._request.quiet:
            self._publish_all([({"text/plain": f"[{footer_text(turn.picture)}]"}, self._copy(turn))])
            return
        # A new request stands in the cell itself.
        again, store = self._request.text is None, self._session.store
        bundle = static_bundle(turn.picture, store=store, images=False, with_request=again)
        if not self._offers:
            bundle[TURN_MIME] = turn_data(turn.picture)
        drawn = figures(turn.picture, store=store)
        self._publish_all([(bundle, self._copy(turn)), *((figure, {}) for figure in drawn)])

    @property
    def _offers(self) -> bool:
        """Whether something with buttons of its own is left below the turn: then the turn has none."""
        return False

    def _publish_all(self, displays: Sequence[tuple[dict[str, Json], dict[str, Json]]]) -> None:
        """What the cell shows at the end, here and in pages that have not seen it run."""
        for data, metadata in displays:
            publish(data, metadata)
        outputs: list[dict[str, Json]] = [
            {"output_type": "display_data", "data": data, "metadata": about} for data, about in displays
        ]
        self._sessions.copying.turn_left(self._cell_id, outputs)

    def _leave_waiting(self, approval: Approval) -> None:
        """What there is of a turn that waits for a decision, and where that is made."""
        self._publish_all([(static_bundle(self._picture, store=self._session.store), {})])
        shell = _shell()
        if self._edit is approval and shell is not None:
            shell.set_next_input(edit_cell(approval))
            print("The cell is below: change it and run it.")

    def _copy(self, turn: Turn) -> dict[str, Json]:
        """The metadata of the turn's display: its envelope, or what finds it in the notebook's own metadata."""
        if turn.envelope is None:
            return {}
        if not self._sessions.copying.written:
            return {METADATA_KEY: turn.envelope}
        return {METADATA_KEY: {name: turn.envelope[name] for name in ("session", "turn", "sha256")}}


def _shell() -> Any:
    interactive = sys.modules.get("IPython")
    return interactive.get_ipython() if interactive is not None else None


def cell_id() -> str | None:
    """The id of the cell that is run, where its frontend says so."""
    get_parent = getattr(_shell(), "get_parent", None)
    request = get_parent() if get_parent is not None else None
    about = request.get("metadata") if isinstance(request, Mapping) else None
    found = about.get("cellId") if isinstance(about, Mapping) else None
    return found if isinstance(found, str) else None


def publish(data: dict[str, Json], metadata: dict[str, Json]) -> None:
    """A display in the cell that the calling thread works for."""
    display: Any = import_module("IPython.display")
    display.publish_display_data(data, metadata)
