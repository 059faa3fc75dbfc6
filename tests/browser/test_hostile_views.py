"""Hostile strings in every place of the live view, in a real browser: none runs, none loads, none breaks the layout;
and what somebody types into the view, whatever it is, is what the model is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import Page

from lash_nb.machine.execution import DisplayOutput
from lash_nb.machine.picture import TurnPicture
from lash_nb.machine.picture_parts import PictureState
from lash_nb.views.document import Document, Facts, document, variable_key
from tests.views.hostile_strings import FAMILIES, HUGE
from tests.views.hostile_turns import everywhere

from .live_pages import page_of
from .plain_pages import MARKERS, PlainPages
from .test_hostile_strings import LARGE

Turn: TypeAlias = Callable[[str], TurnPicture]
"""Makes a turn that holds a text everywhere."""

_FRAME_HEAD = (
    '<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src '
    "'none'; img-src data:; style-src 'unsafe-inline'\">"
)
_KEPT_OUT = re.compile(
    # The last two are of frames within ours: one that holds nothing yet, one that was not let load.
    r"navigation: (about:srcdoc|about:blank||chrome-error://chromewebdata/)"
    # What Chromium says of what it does not let happen; no hostile string writes to the console.
    r"|console: (?s:.)+"
)
"""What is to be heard of frames in which nothing happens; that it did not is asked of them and of the page."""

# Frames that are not in sight are not loaded.
_SCROLL = """async () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const frames = document.querySelectorAll("iframe");
  for (const frame of frames) {
    frame.scrollIntoView();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  }
  return frames.length;
}"""
_LOOK = """() => {
  const found = [];
  // Frames and fields are ours when they are what the view makes, to the last attribute.
  const ours = element => {
    const has = Object.fromEntries([...element.attributes].map(({ name, value }) => [name, value]));
    const only = (...names) => Object.keys(has).every(name => names.includes(name));
    switch (element.localName) {
      case "iframe":
        return only("sandbox", "title", "referrerpolicy", "loading", "style", "srcdoc") &&
          has.sandbox === "" && has.title === "Output as HTML" && /^height: \\d{2,3}px;$/.test(has.style) &&
          has.srcdoc.startsWith(FRAME_HEAD);
      case "input":
        return only("type", "aria-label", "placeholder", "autocomplete") && has.type === "text" &&
          ["Say something to the agent", "Why (optional): the model is told"].includes(has["aria-label"]);
      case "textarea":
        return only("aria-label", "spellcheck", "autocapitalize", "autocomplete", "hidden") &&
          has["aria-label"] === "The code, edited";
      default:
        return false;
    }
  };
  for (const element of document.querySelectorAll("body, body *")) {
    const tag = element.localName;
    if (ours(element)) continue;
    for (const { name, value } of element.attributes) {
      const acts = /^on|^(srcdoc|action|formaction|ping|background|srcset|data|poster)$/.test(name);
      const styled = name === "style" && !["overflow-x: auto", "white-space: pre-wrap"].includes(value);
      const leads = name.endsWith("href") && !/^(https?:|mailto:|#)/i.test(value);
      const loads = name === "src" && !/^data:image\\//.test(value);
      const named = name === "id" && !/^(ln-\\d+-\\d+(-covers)?|behind-\\d+)$/.test(value);
      if (acts || leads || loads || named || styled) found.push(`${tag} ${name}=${value.slice(0, 200)}`);
    }
    if (/^(script|style|iframe|object|embed|svg|math|meta|base|link|form|input|textarea|select|template)$/.test(tag)) {
      found.push(tag);
    }
  }
  const root = document.documentElement;
  const articles = [...document.querySelectorAll("article")];
  if (root.scrollWidth > root.clientWidth) {
    const wide = articles.flatMap((one, at) => (one.scrollWidth > one.clientWidth ? [at] : []));
    found.push(`as wide as ${root.scrollWidth}: ${wide}`);
  }
MARKERS
  const views = articles.filter(one => one.querySelectorAll(":scope > .lash-nb-turn").length === 1);
  const counts = [articles.length, views.length];
  if (counts.some(one => one !== markers.length)) found.push("there are more or fewer turns");
  if (document.title !== "ours" || window.pwned) found.push("pwned");
  if (window.sent.some(all => all.map(one => one.do).join() !== "whole,drawn")) found.push("something was sent");
  return [markers.length, found];
}""".replace("MARKERS\n", MARKERS)


def everything(text: str) -> Facts:
    """What is shown and not in the picture, with the text in it, too."""
    told = {"s1.c": text, "s2.c": text, variable_key(text): text}
    return Facts(waiting=(text, text + "!"), told=told, can_insert=True, can_pull=True)


def drawn(turn: Turn, text: str) -> Document:
    return document(turn(text), everything(text))


def wants_an_effect(text: str) -> TurnPicture:
    return everywhere(text)


def wants_a_cell(text: str) -> TurnPicture:
    turn = everywhere(text)
    assert turn.pending is not None
    return replace(turn, pending=replace(turn.pending, code=text, wish=None))


def ended(text: str) -> TurnPicture:
    return replace(everywhere(text), pending=None, state=PictureState.DONE)


def framed(text: str) -> TurnPicture:
    """With HTML that is not ours, in frames: a link makes it so."""
    turn = everywhere(text)
    sources = (f"<a href=http://e.org>before</a>{text}", f"{text}<a href=http://e.org>behind</a>")
    shown = tuple(DisplayOutput(data={"text/html": one, "text/plain": "x"}, metadata={}) for one in sources)
    return replace(turn, steps=(replace(turn.steps[0], outputs=shown),))


def look(page: Page) -> tuple[Any, list[str]]:
    """What is on the page that should not be; and what its frames have seen run, once all are there."""
    page.wait_for_function("window.drawn")
    count = page.evaluate(_SCROLL)
    frames = page.main_frame.child_frames
    assert len(frames) == count
    for frame in frames:
        frame.wait_for_url("about:srcdoc", wait_until="domcontentloaded")
    ran = [f"in a frame: {told}" for frame in frames if (told := frame.evaluate("window.pwned"))]
    return page.evaluate(_LOOK.replace("FRAME_HEAD", json.dumps(_FRAME_HEAD))), ran


def seen(pages: PlainPages, *documents: Document) -> tuple[Any, list[str]]:
    """What `look` finds, and what was trapped without being kept out."""
    # A picture within a frame's drawing (`<use href=data:…>`) is never loaded, and the page's loading never over.
    (found, ran), trapped = pages.on(look, content=page_of(documents), loaded=False)
    return found, ran + [one for one in trapped if not _KEPT_OUT.fullmatch(one)]


@pytest.fixture(scope="module")
def pages() -> Iterator[PlainPages]:
    with PlainPages() as found:
        yield found


TURNS = pytest.mark.parametrize("turn", [wants_an_effect, wants_a_cell, ended, framed])


@TURNS
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_runs_and_nothing_breaks_the_layout(pages: PlainPages, family: str, turn: Turn) -> None:
    texts = FAMILIES[family]
    assert seen(pages, *(drawn(turn, text) for text in texts)) == ([len(texts), []], [])


@pytest.mark.parametrize("name", LARGE)
def test_what_is_long_or_deep_stays_in_its_place(pages: PlainPages, name: str) -> None:
    documents = [drawn(wants_an_effect, text) for text in (HUGE[name], "after")]
    assert seen(pages, *documents) == ([2, []], [])


def test_the_trap_closes(pages: PlainPages) -> None:
    """What the pages are looked at with does find what it is to find."""
    evil = drawn(ended, "x")
    evil["answer"]["html"] = "<img src=http://evil.test/x onerror='pwned=1;alert(1)'>"
    evil["s1.p"]["html"] = "<iframe sandbox='allow-scripts' srcdoc=''></iframe><input type=password>"
    [count, found], trapped = seen(pages, evil)
    assert (count, sorted(found)) == (
        1,
        [
            "iframe",
            "iframe srcdoc=",
            "img onerror=pwned=1;alert(1)",
            "img src=http://evil.test/x",
            "input",
            "pwned",
        ],
    )
    assert {"request: http://evil.test/x", "dialog: 1"} <= set(trapped)


# -- what is typed -----------------------------------------------------------------------------------------------------

_SPACE = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
"""What a page takes for nothing, at the ends of a text."""

_TYPE = """texts => {
  const heard = [];
  const [articles, shown] = [document.querySelectorAll("article"), one => one.checkVisibility()];
  texts.forEach((text, number) => {
    const field = (at, label) => articles[2 * number + at].querySelector(`[aria-label^="${label}"]`);
    const press = (at, name) => {
      const buttons = [...articles[2 * number + at].querySelectorAll("button")];
      buttons.find(one => one.textContent === name && shown(one)).click();
    };
    field(0, "Say something").value = text;
    press(0, "Send");
    press(0, "Reject");
    field(0, "Why").value = text;
    press(0, "Reject");
    press(1, "Edit");
    heard.push(field(1, "The code").value);
    field(1, "The code").value = `#${text}`;
    press(1, "Run edited");
  });
  const told = window.sent.map(all => all.slice(2));
  return [heard, told];
}"""


def questions(text: str) -> list[Document]:
    """One about an effect, one about a cell; with nothing else in the turn."""
    turns = (wants_an_effect(text), wants_a_cell(text))
    return [document(replace(turn, steps=(), notes=(), variables=(), errors=())) for turn in turns]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_typed_is_what_is_sent(pages: PlainPages, family: str) -> None:
    # Halves of characters are no text that could come from a page.
    texts = [text for text in FAMILIES[family] if text.encode("utf-8", "ignore").decode() == text]
    content = page_of([one for text in texts for one in questions(text)])

    def types(page: Page) -> Any:
        page.wait_for_function("window.drawn")
        return page.evaluate(_TYPE, texts)

    (shown, told), trapped = pages.on(types, content=content)
    assert trapped == []
    for number, text in enumerate(texts):
        # Fields of one line have no ends of lines, those of many have one kind of them.
        line, lines = re.sub("[\r\n]", "", text), re.sub("\r\n?", "\n", text)
        said = [{"do": "say", "text": line.strip(_SPACE)}] if line.strip(_SPACE) else []
        decided = {"do": "decide", "approval": text}
        assert told[2 * number] == [*said, {**decided, "verdict": "rejected", "why": line}]
        assert shown[number] == lines
        assert told[2 * number + 1] == [{**decided, "verdict": "edited", "code": f"#{lines}"}]


def test_keys_and_clicks_send_the_same(pages: PlainPages) -> None:
    text = "</script><img src=http://evil.test/x onerror=pwned=1> \u202e' \" \\n dd"

    def types(page: Page) -> Any:
        page.wait_for_function("window.drawn")
        effect, cell = (page.locator("article").nth(at) for at in (0, 1))
        effect.get_by_role("textbox", name="Say something to the agent").click()
        page.keyboard.insert_text(text)
        effect.get_by_role("button", name="Send").click()
        effect.get_by_role("button", name="Reject").click()
        page.keyboard.insert_text(text)
        page.keyboard.press("Enter")
        cell.get_by_role("button", name="Edit").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(f"{text}\n{text}")
        cell.get_by_role("button", name="Run edited").click()
        return page.evaluate("window.sent.map(all => all.slice(2))")

    told, trapped = pages.on(types, content=page_of(questions("a")))
    decided = {"do": "decide", "approval": "a"}
    assert told == [
        [{"do": "say", "text": text}, {**decided, "verdict": "rejected", "why": text}],
        [{**decided, "verdict": "edited", "code": f"{text}\n{text}"}],
    ]
    assert trapped == []
