"""`input()` of the agent's code: asked on the page, below the cell that waits."""

from __future__ import annotations

import pytest

from .frontend import IN_LAB, Frontend
from .provider import Provider

pytestmark = IN_LAB

ASKING = "I need a name.\n\n<lash-cell>\nname = input('Who are you? ')\nprint('Hello', name.upper())\n</lash-cell>"


@pytest.mark.parametrize("above", ["", "%%time\n"], ids=["awaited", "blocking"])
def test_the_agents_question_is_answered_on_the_page(frontend: Frontend, provider: Provider, above: str) -> None:
    provider.answers += [[ASKING], ["Greeted."]]
    setup = f"%load_ext lash_nb\n%lash model {provider.model}"
    with frontend.opened([setup, f"{above}%%lash\nGreet me."]) as notebook:
        notebook.run(0)
        notebook.start(1)
        question = notebook.cell(1).locator(".jp-Stdin")
        question.get_by_text("The agent's code asks: Who are you?").wait_for()
        question.locator("input").fill("Ada")
        question.locator("input").press("Enter")
        notebook.ended(1)
        notebook.sees(1, "Hello ADA")
        notebook.sees(1, "Greeted.")
        assert notebook.errors == []
