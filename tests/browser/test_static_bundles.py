"""The static bundles on a page of their own, light and dark: for people who use a keyboard, or a screen reader."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from lash_nb.machine.activity import ApprovalAsked
from lash_nb.machine.approvals import Approval
from lash_nb.machine.events import MessageEvent, ReasoningDelta
from lash_nb.machine.execution import DisplayOutput
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.picture import TurnPicture
from lash_nb.views.text import static_bundle
from tests.views.turns import PNG, answered, asked, ended, picture, stdout, step, whole_turn

from .axe import violations
from .plain_pages import PlainPages

WORDS = """# What I found

A [page](https://e.org) says **so**, and `this`:

1. one
2. two

> as was said

| region | sold |
|---|---|
| north | 10 |

```python
print("a line of code that is much too long for the page that it stands on, and so has to be scrolled to be read")
```"""
TABLE = "<table border='1' class='dataframe'><tr><th></th><th>a</th></tr><tr><th>0</th><td>1</td></tr></table>"
WIDE = "x" * 500


def rich_turn() -> TurnPicture:
    """Everything that a bundle can have."""
    shown = (
        stdout("1\n" * 50),
        DisplayOutput(data={"text/html": TABLE}, metadata={}),
        DisplayOutput(data={"image/png": PNG}, metadata={}),
    )
    return picture(
        MessageEvent(text="The session was resumed.", kind="notice"),
        asked(),
        ReasoningDelta(content="I think about it."),
        step(1, prose=WORDS, code=f"y = '{WIDE}'", outputs=shown),
        step(2, prose="| " + " | ".join(["column"] * 60) + " |\n" + "|-" * 60, code="2", outputs=(stdout(WIDE),)),
        answered(WORDS),
    )


def waiting_turn() -> TurnPicture:
    cell = Approval(id="1", effect_id=1, code=f"z = '{WIDE}'")
    return picture(asked(), ApprovalAsked(approval=cell))


TURNS = {
    "whole": whole_turn(),
    "rich": rich_turn(),
    "waiting": waiting_turn(),
    "stopped": picture(step(1, code="1"), ended(Stopped(stop=TurnStopReason.CANCELLED))),
}


HEAD = """<!DOCTYPE html><html lang="en"><head><title>A turn</title><style>
:root { color-scheme: light dark }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } a { color: #8ab4f8 } }
</style></head><body>"""
"""As a theme has it: the bundle's own colours are none."""


@pytest.fixture(scope="module")
def pages() -> Iterator[PlainPages]:
    with PlainPages() as found:
        yield found


def page_of(turn: TurnPicture) -> str:
    body = static_bundle(turn, with_request=True)["text/html"]
    return f"{HEAD}<main>{body}</main></body></html>"


def look(page: Page) -> list[str]:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    return violations(page, "main")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", TURNS)
def test_no_serious_violation(pages: PlainPages, name: str, dark: bool) -> None:
    assert pages.on(look, content=page_of(TURNS[name]), dark=dark) == ([], [])


def test_axe_does_find_what_is_wrong(pages: PlainPages) -> None:
    wrong = "<main><img src='data:image/png;base64,AAAA'><p style='color: #ccc; background: #fff'>pale</p></main>"
    found, _ = pages.on(lambda page: violations(page, "main"), content=f"<html lang='en'><title>x</title>{wrong}")
    assert sorted(one.partition(":")[0] for one in found) == ["color-contrast", "image-alt"]
