"""The live view on real ipywidgets; without a kernel their comms go nowhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ipywidgets.widgets import widget as widget_models

from lash_nb.machine.events import CellOutputs, CodeBlockStarted, MessageEvent, TextDelta, TurnActivity
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.picture import TurnPicture
from lash_nb.views import EMPTY_BUNDLE, widget
from lash_nb.views.widget import TurnView

from .test_live import Clock, Page
from .turns import answered, asked, ended, picture, stdout, step, whole_turn

VIEW = "application/vnd.jupyter.widget-view+json"
FRAME = '<div class="jp-RenderedHTMLCommon" style="width: 0; min-width: 100%">'


def framed(markup: str) -> str:
    return f"{FRAME}{markup}</div>"


class Stage:
    """A view, a page and a clock; `play` lets things happen, each in its own moment."""

    def __init__(self) -> None:
        self.page, self.clock = Page(), Clock()
        self.stops: list[str] = []
        self.view = TurnView(on_stop=self._stop, publish=self.page, clock=self.clock)
        self.picture = picture()

    def _stop(self) -> None:
        self.stops.append(threading.current_thread().name)

    def play(self, *activity: TurnActivity) -> None:
        for one in activity:
            self.picture = self.picture.apply(one)
            self.clock.now += 0.5
            self.view.show(self.picture)

    @property
    def steps(self) -> list[str]:
        return [child.value for child in self.view.steps.children]


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
    assert view["model_id"] == stage.view.root.model_id
    # In a saved notebook it stands for ever: it must be true then, too.
    assert bundle["text/plain"] == (
        "lash_nb: this turn was running when this was saved, or its live view needs widgets. What came of it is shown "
        "at its end, and `lash-nb show` reads it from the file."
    )


def test_a_step_grows(stage: Stage) -> None:
    stage.play(asked(), TextDelta(content="Let me **see** <b>."))
    assert stage.steps == [
        framed('<section aria-label="Step 1"><h4>Step 1</h4>\n<p>Let me <strong>see</strong> &lt;b&gt;.</p></section>')
    ]
    stage.play(CodeBlockStarted(effect_id=1, language="python", code="a < b"))
    assert "<details open><summary>Code (python, 1 line)</summary>" in stage.steps[0]
    assert "<pre><code>a &lt; b</code></pre>" in stage.steps[0]
    assert "not ended" not in stage.steps[0]
    stage.play(CellOutputs(effect_id=1, outputs=(stdout("<script>"),)))
    assert '<pre style="white-space: pre-wrap">&lt;script&gt;</pre>' in stage.steps[0]


def test_only_steps_that_changed_are_sent(stage: Stage) -> None:
    stage.play(*step(1, prose="One.", code="1"), asked(2))
    sent: list[object] = []
    first, second = stage.view.steps.children
    first.observe(lambda change: sent.append(1), "value")
    second.observe(lambda change: sent.append(2), "value")
    stage.view.steps.observe(lambda change: sent.append("children"), "children")
    stage.play(TextDelta(content="Two"), TextDelta(content="."), MessageEvent(text="2", kind="python_code"))
    assert sent == [2, 2, 2]


def test_the_state_is_said_in_words_with_a_clock_beside_it(stage: Stage) -> None:
    stage.play(asked())
    assert stage.view.state.value == (
        '<span role="status" aria-live="polite">waiting for the model</span> <span aria-hidden="true">· 0 s</span>'
    )
    stage.clock.now += 7
    stage.view.tick()
    assert '<span aria-hidden="true">· 7 s</span>' in stage.view.state.value


def test_notes_stand_between_the_steps(stage: Stage) -> None:
    stage.play(MessageEvent(text="first <i>", kind="notice"), *step(1, code="1"))
    stage.play(MessageEvent(text="second", kind="notice"))
    assert stage.steps[0].startswith(f"{FRAME}<p><em>first &lt;i&gt;</em></p><section")
    assert stage.steps[0].endswith("</section><p><em>second</em></p></div>")


def test_stop_only_calls_back(stage: Stage) -> None:
    stage.play(asked())
    assert not stage.view.stop_button.disabled
    clicking = threading.Thread(target=stage.view.stop_button.click, name="subshell")
    clicking.start()
    clicking.join()
    assert stage.stops == ["subshell"]
    assert not stage.view.stop_button.disabled
    stage.clock.now += 1
    stage.view.tick()
    assert stage.view.stop_button.disabled
    assert ">stopping</span>" in stage.view.state.value


def test_at_the_end_there_is_nothing_to_click_and_the_answer_is_shown_once(stage: Stage) -> None:
    stage.play(*step(1, prose="One.", code="1"), *answered("It is **42**."))
    stage.view.finish(stage.picture)
    assert stage.view.stop_button.disabled
    assert stage.view.state.value == '<span role="status" aria-live="polite">done · 1 cell · scripted</span>'
    assert len(stage.steps) == 1
    assert "42" not in stage.steps[0]
    assert stage.view.end.value == framed(
        '<section aria-label="Answer"><h4>Answer</h4><p>It is <strong>42</strong>.</p></section>'
    )


def test_a_stopped_turn_says_so(stage: Stage) -> None:
    stage.play(*step(1, code="1")[:-1], ended(Stopped(stop=TurnStopReason.CANCELLED)))
    assert "stopped by you: a cell was running" in stage.view.state.value
    assert "Output: not ended" in stage.steps[0]


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


def test_a_long_text_that_grows_is_cut_while_it_runs(stage: Stage) -> None:
    stage.play(asked(), TextDelta(content="word " * 10_000))
    assert len(stage.steps[0]) < 15_000
    assert "left out" in stage.steps[0]


def test_a_turn_without_a_picture_of_a_step(stage: Stage) -> None:
    stage.view.show(TurnPicture())
    assert stage.steps == []
    assert ">starting</span>" in stage.view.state.value
