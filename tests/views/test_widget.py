"""The live view on a real anywidget whose comm is recorded: what is sent, what it may ask for, what it leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import comm
import pytest
from ipywidgets.widgets import widget as widget_models

from lash_nb.machine.activity import ApprovalAsked, ApprovalDecided, VariableSeen, VariablesSeen
from lash_nb.machine.approvals import Approval, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.events import TextDelta, TurnActivity
from lash_nb.machine.picture import Note, NoteKind, TurnPicture
from lash_nb.views import EMPTY_BUNDLE, ViewActions, widget
from lash_nb.views.widget import TurnView

from .replay import Replay
from .test_live import Clock, Page
from .turns import answered, asked, picture, step, whole_turn

VIEW = "application/vnd.jupyter.widget-view+json"
CELL = Approval(id="a1", effect_id=1, code="open('x', 'w')")
EFFECT = Approval(id="a2", effect_id=1, code="1", wish=Wish(kind=EffectKind.WRITE, target="/data/x"))


class Wire(comm.base_comm.BaseComm):  # type: ignore[misc,unused-ignore]
    """A comm that keeps what the kernel sends."""

    sent: list[tuple[str, Any]]

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        if msg_type != "comm_close":
            self.__dict__.setdefault("sent", []).append((msg_type, json.loads(json.dumps(data))))


class Stage:
    """A view, a page and a clock; `play` lets things happen, each in its own moment."""

    def __init__(self, *, notebook: bool = True) -> None:
        self.page, self.clock = Page(), Clock()
        self.heard: list[Any] = []
        self.waits = True
        self.tellers: list[Callable[[str], None]] = []
        self.view = TurnView(
            actions=ViewActions(
                stop=lambda: self.heard.append("stop"),
                decide=self._decided,
                say=self.heard.append,
                insert=self._asked if notebook else None,
                pull=self._asked if notebook else None,
            ),
            publish=self.page,
            clock=self.clock,
        )
        self.picture = picture()

    def _decided(self, key: str, decision: Decision) -> bool:
        self.heard.append((key, decision))
        return self.waits

    def _asked(self, what: str, tell: Callable[[str], None]) -> None:
        self.heard.append(what)
        self.tellers.append(tell)

    def play(self, *activity: TurnActivity) -> None:
        for one in activity:
            self.picture = self.picture.apply(one)
            self.clock.now += 0.5
            self.view.show(self.picture)

    def later(self) -> None:
        self.clock.now += 0.5
        self.view.tick()

    def says(self, **content: Any) -> None:
        """The frontend sends a message."""
        self.view.model._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})

    @property
    def sent(self) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = self.view.model.comm.sent
        return found

    @property
    def drawn(self) -> dict[str, dict[str, Any]]:
        """What a frontend has that saw all of it."""
        replay = Replay()
        for kind, data in self.sent:
            if kind == "comm_open" or data["method"] == "update":
                replay.take(data["state"]["document"])
            else:
                replay.hear(data["content"])
        return dict(replay.flat)


@pytest.fixture(autouse=True)
def _wires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "create_comm", Wire)


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = Stage()
    yield found
    found.view.close(found.picture)


def live_models() -> set[str]:
    return set(widget_models._instances)


def test_it_is_displayed_once_as_a_widget_with_a_sentence_for_others(stage: Stage) -> None:
    stage.play(asked(), TextDelta(content="Let me see."))
    assert stage.page.sent == 1
    bundle = stage.page.only
    assert set(bundle) == {VIEW, "text/plain"}
    view: Any = bundle[VIEW]
    assert view["model_id"] == stage.view.model.model_id
    # In a saved notebook it stands for ever: it must be true then, too.
    assert bundle["text/plain"] == (
        "lash_nb: this turn was running when this was saved, or its live view needs widgets. What came of it is shown "
        "at its end, and `lash-nb show` reads it from the file."
    )


def test_the_frontend_comes_from_the_package(stage: Stage) -> None:
    stage.play(asked())
    state = stage.sent[0][1]["state"]
    assert state["_esm"].startswith("// The frontend of a running turn")
    assert ".lash-nb-turn {" in state["_css"]
    assert "://" not in state["_esm"] + state["_css"]


def test_only_what_is_new_is_sent(stage: Stage) -> None:
    stage.play(asked(), TextDelta(content="Let me"), TextDelta(content=" see."))
    assert stage.sent[-1] == (
        "comm_msg",
        {
            "method": "custom",
            "content": {"number": 2, "operations": [["edit", "s1.p", "head", 6, 6, " see."]]},
        },
    )
    assert stage.drawn["s1.p"]["head"] == "Let me see."


def test_nothing_new_is_not_sent(stage: Stage) -> None:
    stage.play(asked())
    before = len(stage.sent)
    for _ in range(20):
        stage.later()
    stage.play(TextDelta(content=""))
    assert len(stage.sent) == before


def test_ten_times_a_second_at_most(stage: Stage) -> None:
    stage.play(asked())
    moments: list[float] = []
    for _ in range(3_000):
        before = len(stage.sent)
        stage.picture = stage.picture.apply(TextDelta(content="word "))
        stage.view.show(stage.picture)
        stage.view.tick()
        if len(stage.sent) > before:
            moments.append(stage.clock.now)
        stage.clock.now += 1 / 1024
    assert len(moments) == 29
    assert all(later - sooner >= 0.1 for sooner, later in pairwise(moments))


def test_who_asks_gets_the_whole_as_it_is(stage: Stage) -> None:
    stage.play(asked(), TextDelta(content="Let me"), TextDelta(content=" see."))
    stage.clock.now += 2
    stage.says(do="whole")
    kind, data = stage.sent[-1]
    assert (kind, data["method"], set(data["state"])) == ("comm_msg", "update", {"document"})
    replay = Replay()
    replay.take(data["state"]["document"])
    assert replay.number == 2
    assert data["state"]["document"]["elapsed_s"] == 3.5
    assert dict(replay.flat) == stage.drawn
    stage.view.model._handle_msg({"content": {"data": {"method": "request_state"}}, "buffers": []})
    assert stage.sent[-1][1]["state"]["document"] == data["state"]["document"]


# -- what the frontend asks for ----------------------------------------------------------------------------------------


def test_stop_only_calls_the_action_on_whatever_thread(stage: Stage) -> None:
    stage.play(asked())
    clicking = threading.Thread(target=lambda: stage.says(do="stop"), name="subshell")
    clicking.start()
    clicking.join()
    assert stage.heard == ["stop"]
    assert not stage.drawn["head"]["stopping"]
    stage.later()
    assert stage.drawn["head"]["stopping"]
    assert stage.drawn["head"]["sentence"] == "stopping"


@pytest.mark.parametrize(
    ("message", "decision"),
    [
        ({"verdict": "approved"}, Decision(verdict=Verdict.APPROVED)),
        ({"verdict": "approved", "code": "evil()"}, Decision(verdict=Verdict.APPROVED)),
        ({"verdict": "rejected"}, Decision(verdict=Verdict.REJECTED)),
        ({"verdict": "rejected", "why": " not here\n"}, Decision(verdict=Verdict.REJECTED, why="not here")),
        ({"verdict": "rejected", "why": 7}, Decision(verdict=Verdict.REJECTED)),
        ({"verdict": "edited", "code": "1"}, Decision(verdict=Verdict.EDITED, code="1")),
        ({"verdict": "edited", "code": "open('x', 'w')"}, Decision(verdict=Verdict.APPROVED)),
    ],
)
def test_a_decision_is_made_once(stage: Stage, message: dict[str, Any], decision: Decision) -> None:
    stage.play(asked(), ApprovalAsked(approval=CELL))
    stage.says(do="decide", approval="a1", **message)
    stage.says(do="decide", approval="a1", verdict="rejected")
    assert stage.heard == [("a1", decision)]
    stage.later()
    assert stage.drawn["ask"]["decided"] is True
    stage.play(ApprovalDecided(approval=CELL, decision=decision))
    assert "ask" not in stage.drawn


def test_a_decision_that_came_to_nothing_can_be_made_again(stage: Stage) -> None:
    stage.play(asked(), ApprovalAsked(approval=CELL))
    stage.waits = False
    stage.says(do="decide", approval="a1", verdict="approved")
    # The frontend has switched its buttons off: only a document of another number is drawn anew.
    kind, data = stage.sent[-1]
    assert (kind, data["method"], data["state"]["document"]["number"]) == ("comm_msg", "update", 2)
    stage.later()
    assert stage.drawn["ask"]["decided"] is False
    stage.waits = True
    stage.says(do="decide", approval="a1", verdict="approved")
    assert [key for key, _ in stage.heard] == ["a1", "a1"]
    stage.later()
    assert stage.drawn["ask"]["decided"] is True


def test_an_effect_is_not_edited(stage: Stage) -> None:
    stage.play(asked(), ApprovalAsked(approval=EFFECT))
    stage.says(do="decide", approval="a2", verdict="edited", code="2")
    assert stage.heard == []
    stage.says(do="decide", approval="a2", verdict="approved")
    assert stage.heard == [("a2", Decision(verdict=Verdict.APPROVED))]


def test_something_said_waits_until_it_is_delivered(stage: Stage) -> None:
    stage.play(asked())
    stage.says(do="say", text="  Faster! ")
    assert stage.heard == ["Faster!"]
    stage.later()
    assert stage.drawn["w0"]["head"] == "Faster!"
    stage.picture = TurnPicture(
        turn=1, steps=stage.picture.steps, notes=(Note(kind=NoteKind.SAID, text="Faster!", after=1),)
    )
    stage.clock.now += 1
    stage.view.show(stage.picture)
    assert "w0" not in stage.drawn
    assert stage.drawn["n0"]["head"] == "You said: Faster!"


def test_code_is_inserted_and_variables_are_pulled(stage: Stage) -> None:
    stage.play(*step(1, code="len(df)"), VariablesSeen(variables=(VariableSeen(name="df", type="DataFrame"),)))
    stage.says(do="insert", step=1)
    stage.says(do="pull", variable="v.df")
    assert stage.heard == ["len(df)", "df"]
    for tell, sentence in zip(stage.tellers, ("inserted", "pulled"), strict=True):
        telling = threading.Thread(target=tell, args=(sentence,))
        telling.start()
        telling.join()
    stage.later()
    assert (stage.drawn["s1.c"]["told"], stage.drawn["v.df"]["told"]) == ("inserted", "pulled")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"do": "dance"},
        {"do": ["stop"]},
        {"do": "say"},
        {"do": "say", "text": "  "},
        {"do": "say", "text": 7},
        {"do": "say", "text": "x" * 100_001},
        {"do": "insert", "step": 3},
        {"do": "insert", "step": 0},
        {"do": "insert", "step": "1"},
        {"do": "insert", "step": 10**30},
        {"do": "pull", "variable": "df"},
        {"do": "pull", "variable": None},
        {"do": "decide"},
        {"do": "decide", "approval": "a9", "verdict": "approved"},
        {"do": "decide", "approval": "a1", "verdict": "maybe"},
        {"do": "decide", "approval": "a1", "verdict": "edited"},
        {"do": "decide", "approval": "a1", "verdict": "edited", "code": " \n"},
        {"do": "decide", "approval": ["a1"], "verdict": "approved"},
    ],
)
def test_what_makes_no_sense_is_passed_over(stage: Stage, message: dict[str, Any]) -> None:
    stage.play(*step(1, code="1"), asked(2), ApprovalAsked(approval=CELL))
    stage.says(**message)
    stage.view._heard(stage.view.model, "stop", [])
    assert stage.heard == []


def test_where_nobody_inserts_or_pulls() -> None:
    stage = Stage(notebook=False)
    stage.play(*step(1, code="1"), VariablesSeen(variables=(VariableSeen(name="df", type="DataFrame"),)))
    stage.says(do="insert", step=1)
    stage.says(do="pull", variable="v.df")
    assert stage.heard == []
    assert (stage.drawn["s1.c"]["insert"], stage.drawn["v.df"]["pull"]) == (False, False)
    stage.view.close(stage.picture)


def test_where_somebody_only_looks_on() -> None:
    page, heard = Page(), list[str]()
    view = TurnView(actions=ViewActions(stop=lambda: heard.append("stop")), publish=page, clock=Clock())
    view.show(picture(asked(), ApprovalAsked(approval=CELL)))
    assert (view._document["ask"]["here"], view._document["head"]["say"]) == (False, False)
    for message in ({"do": "say", "text": "hi"}, {"do": "decide", "approval": "a1", "verdict": "approved"}):
        view._heard(view.model, message, [])
    assert heard == []
    view._heard(view.model, {"do": "stop"}, [])
    assert heard == ["stop"]
    view.close(picture())


# -- the end -----------------------------------------------------------------------------------------------------------


def test_at_the_end_nothing_is_asked_for_any_more(stage: Stage) -> None:
    stage.play(*step(1, prose="One.", code="1"), *answered("It is **42**."))
    assert stage.view.finish(stage.picture)
    assert not stage.view.finish(stage.picture)
    assert stage.drawn["head"]["running"] is False
    assert stage.drawn["answer"]["html"] == (
        '<section aria-label="Answer"><h4>Answer</h4><p>It is <strong>42</strong>.</p></section>'
    )
    for message in ({"do": "stop"}, {"do": "say", "text": "more"}, {"do": "insert", "step": 1}):
        stage.says(**message)
    assert stage.heard == []


def test_closing_empties_the_place_and_ends_all_models() -> None:
    before = live_models()
    stage = Stage()
    stage.play(*step(1, code="1"), asked(2), TextDelta(content="x"))
    assert live_models() > before
    stage.view.close(whole_turn())
    stage.view.close(whole_turn())
    assert stage.page.only == EMPTY_BUNDLE
    assert stage.page.sent == 2
    assert live_models() == before
    stage.play(TextDelta(content="late"))
    assert stage.page.sent == 2


class Comm:
    """A comm of ipykernel 7.4, as far as it matters here."""

    def __init__(self) -> None:
        self.comm_id = "c"
        self._reply_subshell_for: Callable[[object, str], str] = lambda data, default: "the busy one"


def test_clicks_are_handled_where_the_frontend_says() -> None:
    class Button:
        comm = Comm()

    widget._answer_on_the_usual_thread(Button)
    assert Button.comm._reply_subshell_for({}, "the frontend's choice") == "the frontend's choice"


def test_a_turn_without_a_step(stage: Stage) -> None:
    stage.view.show(TurnPicture())
    assert list(stage.drawn) == ["head"]
    assert stage.drawn["head"]["sentence"] == "starting"
