"""When live views draw, what they leave behind, and which one is chosen. The clock is the test's."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest

from lash_nb.machine.events import TextDelta
from lash_nb.machine.picture import TurnPicture
from lash_nb.machine.wire import Json
from lash_nb.views import EMPTY_BUNDLE, ViewActions
from lash_nb.views.live import DisplayView, Preference, QuietView, Surroundings, choose_view, surroundings
from lash_nb.views.pace import Pace
from lash_nb.views.widget import TurnView

from .turns import answered, asked, picture

ACTIONS = ViewActions(stop=lambda: None, decide=lambda key, decision: True, say=lambda text: None)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Page:
    """What is displayed, by display id, and how often it was sent."""

    def __init__(self) -> None:
        self.shown: dict[str, Mapping[str, Json]] = {}
        self.sent = 0

    def __call__(self, data: Mapping[str, Json], *, display_id: str, update: bool) -> None:
        assert (display_id in self.shown) == update
        self.shown[display_id] = data
        self.sent += 1

    @property
    def only(self) -> Mapping[str, Json]:
        (found,) = self.shown.values()
        return found


def saying(text: str) -> TurnPicture:
    return picture(asked(), TextDelta(content=text))


# -- pace --------------------------------------------------------------------------------------------------------------


class Drawn:
    def __init__(self) -> None:
        self.clock = Clock()
        self.seen: list[tuple[str, float]] = []
        self.pace = Pace(self._draw, clock=self.clock, interval_s=0.25)

    def _draw(self, picture: TurnPicture, elapsed_s: float) -> None:
        self.seen.append((picture.steps[-1].prose if picture.steps else "", elapsed_s))


def test_the_first_picture_is_drawn_at_once_and_the_newest_when_it_is_due() -> None:
    drawn = Drawn()
    for text in ("a", "ab", "abc"):
        drawn.pace.show(saying(text))
    assert drawn.seen == [("a", 0.0)]
    drawn.clock.now += 0.125
    drawn.pace.tick()
    assert len(drawn.seen) == 1
    drawn.clock.now += 0.125
    drawn.pace.tick()
    assert drawn.seen == [("a", 0.0), ("abc", 0.25)]


def test_a_thousand_pictures_in_a_second_are_drawn_five_times() -> None:
    drawn = Drawn()
    for number in range(1024):
        drawn.pace.show(saying(str(number)))
        drawn.clock.now += 1 / 1024
    assert [text for text, _ in drawn.seen] == ["0", "256", "512", "768"]
    drawn.pace.tick()
    assert drawn.seen[-1] == ("1023", 1.0)


def test_nothing_new_is_not_drawn_again() -> None:
    drawn = Drawn()
    drawn.pace.tick()
    drawn.pace.show(saying("a"))
    for _ in range(10):
        drawn.clock.now += 1
        drawn.pace.tick()
    assert len(drawn.seen) == 1


def test_something_beside_the_picture_is_drawn_when_it_is_due() -> None:
    drawn = Drawn()
    drawn.pace.renew()
    assert drawn.seen == []
    drawn.pace.show(saying("a"))
    drawn.clock.now += 0.125
    drawn.pace.renew()
    assert drawn.seen == [("a", 0.0)]
    drawn.clock.now += 0.125
    for _ in range(3):
        drawn.pace.tick()
        drawn.clock.now += 1
    assert drawn.seen == [("a", 0.0), ("a", 0.25)]


def test_other_threads_leave_the_drawing_to_the_owner() -> None:
    drawn = Drawn()
    other = threading.Thread(target=drawn.pace.show, args=(saying("a"),))
    other.start()
    other.join()
    assert drawn.seen == []
    drawn.pace.tick()
    assert drawn.seen == [("a", 0.0)]


def test_the_end_is_drawn_at_once_and_once() -> None:
    drawn = Drawn()
    drawn.pace.show(saying("a"))
    assert drawn.pace.end(saying("b"))
    assert not drawn.pace.end(saying("c"))
    drawn.clock.now += 1
    drawn.pace.show(saying("d"))
    assert drawn.seen == [("a", 0.0), ("b", 0.0)]


# -- without widgets ---------------------------------------------------------------------------------------------------


def test_one_display_is_updated_and_then_emptied() -> None:
    page, clock = Page(), Clock()
    view = DisplayView(publish=page, clock=clock)
    view.show(saying("Let"))
    assert page.only == {
        "text/markdown": "#### Step 1\n\nLet\n\n*the model is answering · scripted*",
        "text/plain": "── Step 1 ──\n\nLet\n\n[the model is answering · scripted]",
    }
    clock.now += 1
    view.show(saying("Let me"))
    assert "Let me" in str(page.only["text/plain"])
    view.close(picture(answered("Let me")))
    view.close(picture(answered("Let me")))
    assert page.only == EMPTY_BUNDLE
    assert page.sent == 3


def test_a_view_that_showed_nothing_leaves_nothing() -> None:
    page = Page()
    DisplayView(publish=page, clock=Clock()).close(picture(answered("1")))
    TurnView(actions=ACTIONS, publish=page, clock=Clock()).close(picture(answered("1")))
    assert page.sent == 0


def test_the_empty_bundle_is_of_no_use_but_valid() -> None:
    assert set(EMPTY_BUNDLE.values()) == {""}
    assert "text/plain" in EMPTY_BUNDLE


# -- the choice --------------------------------------------------------------------------------------------------------

LAB = Surroundings(headless=False, widgets=True)
PLAIN = Surroundings(headless=False, widgets=False)
NBCLIENT = Surroundings(headless=True, widgets=True)


@pytest.mark.parametrize(
    ("place", "prefer", "kind"),
    [
        (LAB, "auto", TurnView),
        (PLAIN, "auto", DisplayView),
        (NBCLIENT, "auto", QuietView),
        (LAB, "quiet", QuietView),
        (LAB, "display", DisplayView),
        (PLAIN, "widget", DisplayView),
        (NBCLIENT, "widget", QuietView),
        (NBCLIENT, "display", DisplayView),
    ],
)
def test_the_view_fits_the_place(place: Surroundings, prefer: Preference, kind: type) -> None:
    view = choose_view(actions=ACTIONS, prefer=prefer, publish=Page(), place=place)
    assert type(view) is kind
    view.close(picture(answered("1")))


def test_outside_of_a_kernel_nothing_is_shown() -> None:
    assert surroundings().headless
    view = choose_view(actions=ACTIONS, publish=Page())
    view.show(saying("a"))
    view.tick()
    view.close(saying("a"))
    assert isinstance(view, QuietView)


class Kernel:
    """As much of a kernel as is asked."""

    def __init__(self, content: Json) -> None:
        self._content = content

    def get_parent(self) -> dict[str, Json]:
        return {"content": self._content}


class Shell:
    def __init__(self, kernel: object) -> None:
        self.kernel = kernel


@pytest.mark.parametrize(
    ("kernel", "headless"),
    [
        (Kernel({"allow_stdin": True}), False),
        (Kernel({"allow_stdin": False}), True),
        (Kernel({}), False),
        (Kernel(None), False),
        (object(), False),
        (None, True),
    ],
)
def test_who_cannot_be_asked_is_no_person(kernel: object, headless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell(kernel))
    assert surroundings().headless == headless
    monkeypatch.setenv("LASH_NB_RUN_OPTIONS", "{}")
    assert surroundings().headless


def test_the_modules_load_neither_widgets_nor_ipython() -> None:
    code = (
        "import sys, lash_nb.views.live, lash_nb.views.widget, lash_nb.views.text;"
        "assert not {'anywidget', 'ipywidgets', 'IPython', 'traitlets', 'comm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
