"""The live view by itself, in a cell that awaits: what it draws, what clicks and keys do, a page that is reloaded."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from lash_nb.machine.activity import ApprovalAsked, CodeBlockStarted, VariableSeen, VariablesSeen
from lash_nb.machine.approvals import Approval, EffectKind, Wish
from lash_nb.views.document import Document, Facts, document
from tests.views.turns import asked, picture

from .axe import violations
from .contrast import unreadable
from .frontend import Frontend, OpenNotebook, wait_until
from .live_pages import page_of
from .plain_pages import PlainPages
from .shots import shot

STAGE = """
import asyncio, json
from pathlib import Path
from lash_nb.machine.activity import *
from lash_nb.machine.approvals import *
from lash_nb.machine.events import (InjectedTurnInputAccepted, LlmRequestEvent, MessageEvent, TextDelta,
    TokenUsageEvent, TurnOutcomeEvent)
from lash_nb.machine.execution import *
from lash_nb.machine.outcomes import AssistantMessage, Finished
from lash_nb.machine.picture import TurnPicture
from lash_nb.views import ViewActions
from lash_nb.views.live import publish_with_ipython
from lash_nb.views.widget import TurnView

heard = []

def note(*what):
    heard.append(what)
    Path("heard").write_text(json.dumps(heard))

def told(what, name, tell):
    note(what, name)
    tell(f"{what} done")

async def stage():
    shown = TurnPicture().apply(TurnStarted(turn=1, request="?", model="none"))
    view = TurnView(
        actions=ViewActions(
            stop=lambda: note("stop"),
            decide=lambda key, decision: not note("decide", key, decision.verdict, decision.why, decision.code),
            say=lambda text: note("say", text),
            insert=lambda code, tell: told("insert", code, tell),
            pull=lambda name, tell: told("pull", name, tell),
        ),
        publish=publish_with_ipython,
    )
    play = Path("play")
    while not Path("end").exists():
        if play.exists():
            for activity in eval(play.read_text()):
                shown = shown.apply(activity)
            play.unlink()
            view.show(shown)
        view.tick()
        await asyncio.sleep(0.05)
    view.close(shown)
"""
CODE = "import os\\nfor name in os.listdir('.'):  # all of them\\n    print(f'{name}: {len(name) + 10}')"
BEGIN = "[LlmRequestEvent(protocol_iteration=1, message_count=1, tool_list=''), TextDelta(content='Let **me** ')]"
MORE = f"""[TextDelta(content='see <img src=x onerror=alert(1)>.'), MessageEvent(text="{CODE}", kind='python_code'),
    CodeBlockStarted(effect_id=1, language='python', code="{CODE}"),
    CodeBlockCompleted(effect_id=1, outcome=CellOutcome.OK, duration_ms=3, outputs=(
        StreamOutput(name='stdout', head='wide ' * 400 + '\\n<script>alert(2)</script>'),
        DisplayOutput(data={{'text/html': '<style>p {{ color: teal }}</style><p>styled</p><a href=x>link</a>'
            '<script>document.body.remove()</script>', 'text/plain': 's'}}, metadata={{}}),
        DisplayOutput(data={{'text/html': '<table><tr><th>sold<td>10</table>'}}, metadata={{}}))),
    VariablesSeen(variables=(VariableSeen(name='sales', type='DataFrame', detail='2 rows × 3 columns'),
        VariableSeen(name='total', type='int', new=False)))]"""
ASK = """[LlmRequestEvent(protocol_iteration=2, message_count=1, tool_list=''),
    ApprovalAsked(approval=Approval(id='{id}', effect_id=2, code='x = 1  # \\u202e\\nprint(x)'))]"""
DECIDED = """[ApprovalDecided(approval=Approval(id='{id}', effect_id=2, code=''),
    decision=Decision(verdict=Verdict.REJECTED, why='no'))]"""
EFFECT = """[ApprovalAsked(approval=Approval(id='a4', effect_id=1, code='',
    wish=Wish(kind=EffectKind.WRITE, target='/data/out.csv')))]"""


WATCH = """() => {
    window.switched = [];
    const [approve] = [...document.querySelectorAll(".ln-ask button")].filter(one => one.textContent === "Approve");
    const seen = new MutationObserver(() => window.switched.push(performance.now()));
    seen.observe(approve, {attributeFilter: ["disabled"]});
}"""


class Playing:
    """A cell that plays what it is told to."""

    def __init__(self, notebook: OpenNotebook, number: int) -> None:
        self.notebook, self.page, self.number = notebook, notebook.page, number
        self.place = notebook.path.parent
        self.name = ""

    def play(self, code: str) -> None:
        written = self.place / "play.new"
        written.write_text(code, encoding="utf-8")
        written.rename(self.place / "play")
        wait_until(lambda: not (self.place / "play").exists(), "that the cell took what it is to play")

    def hears(self, *what: Any) -> None:
        """Wait until this was the last thing that the view asked for."""
        heard = self.place / "heard"
        wait_until(lambda: heard.exists() and json.loads(heard.read_text() or "[[]]")[-1:] == [list(what)], f"{what}")

    @property
    def view(self) -> Locator:
        return self.notebook.cell(self.number).locator(".lash-nb-turn")

    def button(self, name: str) -> Locator:
        return self.view.get_by_role("button", name=name, exact=True)

    def focused(self) -> str:
        text: str = self.page.evaluate("document.activeElement.textContent.trim()")
        return text


@pytest.fixture
def shots() -> Path | None:
    """Where pictures are left to be looked at."""
    place = os.environ.get("SHOTS_OF_TURNS")
    return Path(place) if place else None


@contextmanager
def playing(frontend: Frontend) -> Iterator[Playing]:
    with frontend.opened([STAGE, "await stage()", "'the last cell'"]) as notebook:
        notebook.run(0)
        notebook.start(1)
        found = Playing(notebook, 1)
        found.play(BEGIN)
        notebook.sees(1, "Let **me**")
        yield found
        (found.place / "end").touch()


def picture_of(playing: Playing, name: str, shots: Path | None) -> None:
    if shots is not None:
        playing.view.screenshot(path=shots / f"{name}.png")


def test_a_turn_is_drawn_and_decided_on(frontend: Frontend, shots: Path | None) -> None:
    with playing(frontend) as stage:
        stage.name = frontend.ui
        notebook, page, view = stage.notebook, stage.page, stage.view
        stage.play(MORE)
        view.get_by_text("Let me see").wait_for()
        assert view.locator("strong").inner_text() == "me"
        assert view.locator("img, script").count() == 0
        assert view.locator("pre .ln-keyword").all_text_contents() == ["import", "for", "in"]
        assert view.get_by_role("table").get_by_text("sold").count() == 1
        frame = view.frame_locator("iframe")
        frame.get_by_text("styled").wait_for()
        assert frame.locator("p").evaluate("p => getComputedStyle(p).color") == "rgb(0, 128, 128)"
        assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
        assert unreadable(view) == []

        view.get_by_role("button", name="Pull sales").click()
        stage.hears("pull", "sales")
        view.get_by_text("pull done").wait_for()
        view.locator("summary", has_text="Code").click()
        stage.button("Insert as cell").click()
        stage.hears("insert", CODE.replace("\\n", "\n"))
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        stage.button("Copy").click()
        view.get_by_text("Copied").first.wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == CODE.replace("\\n", "\n")
        picture_of(stage, f"{stage.name}-light", shots)

        edit_and_reject(stage, shots)
        stage.play(EFFECT)
        view.get_by_role("group", name="The agent's code wants to write /data/out.csv.").wait_for()
        assert stage.button("Edit").count() == 0
        stage.button("Approve").dblclick()
        stage.hears("decide", "a4", "approved", "", None)
        assert notebook.errors == []
        look_in_the_dark(stage, shots)
        notebook.stop_button(1).click()
        stage.hears("stop")
        view.get_by_text("stopping").wait_for()
        (stage.place / "end").touch()
        notebook.ended(1)
        assert page.locator(".lash-nb-turn").count() == 0


def edit_and_reject(stage: Playing, shots: Path | None) -> None:
    """With the keyboard alone."""
    page, view = stage.page, stage.view
    stage.button("Copy").focus()
    stage.play(ASK.format(id="a1"))
    group = view.get_by_role("group", name="The agent wants to run this cell.")
    group.get_by_text("x = 1 # \\u202e").wait_for()
    wait_until(lambda: has_focus(group), "the focus on the question as a whole")
    picture_of(stage, f"{stage.name}-ask", shots)
    page.keyboard.press("Enter")
    assert not heard_a_decision(stage), "whoever types on has approved nothing"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert stage.focused() == "Approve"
    page.keyboard.press("Enter")
    stage.hears("decide", "a1", "approved", "", None)
    wait_until(lambda: stage.focused() == "Stop", "the focus back on Stop")
    assert stage.button("Approve").is_disabled()

    stage.play(DECIDED.format(id="a1"))
    group.wait_for(state="detached")
    stage.play(ASK.format(id="a2"))
    stage.button("Approve").wait_for()
    assert stage.focused() == "Stop", "Stop stays within reach"
    wait_until(lambda: stage.button("Approve").is_enabled(), "the end of the moment in which no click counts")
    stage.button("Approve").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Control+End")
    page.keyboard.type("  # dd")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    stage.hears("decide", "a2", "edited", "", "x = 1  # \u202e\nprint(x)  # dd")

    stage.play(DECIDED.format(id="a2"))
    stage.play(ASK.format(id="a3"))
    stage.button("Reject").click()
    page.keyboard.type("no, add it")
    page.keyboard.press("Enter")
    stage.hears("decide", "a3", "rejected", "no, add it", None)
    stage.play(DECIDED.format(id="a3"))
    group.wait_for(state="detached")


def has_focus(place: Locator) -> bool:
    return bool(place.evaluate("place => place === document.activeElement"))


def heard_a_decision(stage: Playing) -> bool:
    heard = stage.place / "heard"
    return any(what[:2] == ["decide", "a1"] for what in json.loads(heard.read_text()))


def test_a_click_answers_no_question_that_came_in_between(frontend: Frontend) -> None:
    with playing(frontend) as stage:
        stage.play(ASK.format(id="a1"))
        stage.button("Approve").wait_for()
        stage.page.evaluate(WATCH)
        # In one go: the question is another one when it is drawn again.
        stage.play(f"[{DECIDED.format(id='a1')[1:-1]}, {ASK.format(id='a2')[1:-1]}]")
        wait_until(lambda: stage.page.evaluate("window.switched.length") == 2, "off and on again")
        off, on = stage.page.evaluate("window.switched")
        assert 450 < on - off < 2000
        stage.button("Approve").click()
        stage.hears("decide", "a2", "approved", "", None)


def look_in_the_dark(stage: Playing, shots: Path | None) -> None:
    stage.notebook.change_theme("JupyterLab Dark")
    picture_of(stage, f"{stage.name}-dark", shots)
    assert unreadable(stage.view) == []
    stage.page.set_viewport_size({"width": 480, "height": 1400})
    time.sleep(0.5)
    picture_of(stage, f"{stage.name}-narrow", shots)
    assert stage.view.evaluate("view => view.scrollWidth <= view.clientWidth")
    stage.page.set_viewport_size({"width": 1200, "height": 1400})
    stage.notebook.change_theme("JupyterLab Light")


def test_what_is_typed_is_not_a_shortcut_and_focus_stays(frontend: Frontend) -> None:
    with playing(frontend) as stage:
        notebook, page = stage.notebook, stage.page
        field = stage.view.get_by_role("textbox", name="Say something to the agent")
        field.click()
        page.keyboard.type("dd faster, a b x")
        stage.play(ASK.format(id="a1"))
        stage.button("Approve").wait_for()
        page.keyboard.type("!")
        page.keyboard.press("Enter")
        stage.hears("say", "dd faster, a b x!")
        stage.view.get_by_text("Waiting to be delivered: dd faster, a b x!").wait_for()
        page.keyboard.press("Enter")
        assert page.locator(".jp-Notebook .jp-CodeCell").count() == 3
        # Somebody writes in a cell meanwhile: a question takes no letter of it.
        notebook.cell(2).locator(".jp-InputArea-editor").click()
        stage.play(DECIDED.format(id="a1"))
        stage.button("Approve").wait_for(state="detached")
        stage.play(ASK.format(id="a2"))
        stage.button("Approve").wait_for()
        page.keyboard.type("# y")
        assert "# y" in notebook.cell(2).inner_text()


def test_a_page_that_is_loaded_again_shows_the_turn(frontend: Frontend) -> None:
    with playing(frontend) as stage:
        notebook = stage.notebook
        stage.play(MORE)
        stage.view.get_by_text("styled").or_(stage.view.locator("iframe")).first.wait_for()
        stage.play(ASK.format(id="a1"))
        stage.button("Approve").wait_for()
        notebook.saved()
        notebook.page.reload()
        stage.button("Approve").wait_for()
        stage.view.get_by_text("Let me see").wait_for()
        clock = stage.view.locator(".ln-clock")
        assert re.search(r"\d+ s", clock.inner_text())
        stage.button("Approve").click()
        stage.hears("decide", "a1", "approved", "", None)
        stage.play(DECIDED.format(id="a1"))
        stage.view.get_by_text("You rejected this cell: no").wait_for()
        (stage.place / "end").touch()
        stage.view.wait_for(state="detached")


# -- on a page of its own ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages() -> Iterator[PlainPages]:
    with PlainPages() as found:
        yield found


def wants(kind: EffectKind, target: str) -> Document:
    """A turn that asks for an effect, and has seen variables."""
    variables = (
        VariableSeen(name="sales", type="DataFrame", detail="2,311 rows × 3 columns: region, product, day of the sale"),
        VariableSeen(name="total_of_all_regions", type="sklearn.pipeline.Pipeline", new=False),
        VariableSeen(name="x" * 120, type="y" * 120),
    )
    approval = Approval(id="a", effect_id=1, code="f()", wish=Wish(kind=kind, target=target))
    started = CodeBlockStarted(effect_id=1, language="python", code="f()")
    turn = picture(asked(), started, VariablesSeen(variables=variables), ApprovalAsked(approval=approval))
    return document(turn, Facts(can_pull=True))


@pytest.mark.parametrize("width", [600, 350])
def test_a_narrow_table_of_variables_breaks_its_details_alone(pages: PlainPages, width: int) -> None:
    def look(page: Page) -> Any:
        page.wait_for_function("window.drawn")
        page.set_viewport_size({"width": width, "height": 700})
        shot(page, f"variables-{width}")
        lines = """rows => rows.map(row => [...row.children].map(cell => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            return new Set([...range.getClientRects()].map(one => Math.round(one.bottom / 10))).size;
        }))"""
        rows: list[list[int]] = page.locator("tbody tr").evaluate_all(lines)
        return rows, page.evaluate("document.documentElement.scrollWidth"), violations(page, ".lash-nb-turn")

    (rows, scrolls, found), trapped = pages.on(look, content=page_of([wants(EffectKind.WRITE, "/data/out.csv")]))
    assert (scrolls, found, trapped) == (width, [], [])
    [sales, total, long] = rows
    assert (sales[0], sales[1], total[0], total[1]) == (1, 1, 1, 1)
    assert 2 <= sales[2] <= 4
    assert (long[0] > 1, long[1] > 1) == (True, True)


def test_a_long_command_is_folded_code(pages: PlainPages) -> None:
    command = "echo " + "a" * 2_990 + " end."

    def look(page: Page) -> Any:
        page.wait_for_function("window.drawn")
        group = page.get_by_role("group", name="The agent's code wants to start this command (3,000 characters):")
        short, whole = group.locator("pre").nth(0), group.locator("details pre")
        assert short.inner_text() == f"echo {'a' * 145}\n[… 2,800 characters (0 lines) left out …]\n{'a' * 45} end."
        assert short.evaluate("one => getComputedStyle(one).fontWeight") == "400"
        assert not whole.is_visible()
        assert group.get_by_role("button", name="Approve all like it").evaluate(
            "one => document.getElementById(one.getAttribute('aria-describedby')).checkVisibility()"
        )
        group.locator("summary").click()
        short.wait_for(state="hidden")
        return whole.inner_text(), violations(page, ".lash-nb-turn")

    assert pages.on(look, content=page_of([wants(EffectKind.PROCESS, command)])) == ((command, []), [])


def test_where_nothing_more_is_like_it_there_is_no_button(pages: PlainPages) -> None:
    def look(page: Page) -> Any:
        page.wait_for_function("window.drawn")
        group = page.locator(".ln-ask")
        return group.get_by_role("button").all_inner_texts(), group.locator("pre:visible").all_inner_texts()

    documents = [wants(EffectKind.PROCESS, "ls && true")]
    assert pages.on(look, content=page_of(documents)) == ((["Approve", "Reject"], []), [])
