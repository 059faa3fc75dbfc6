"""What an open notebook carries of its turns: saved and opened again, after a crash, renamed, copied, in two tabs."""

from __future__ import annotations

import shutil
from typing import Any

from lash_nb.stores.notebook import Block, read_block, verify_chain

from .frontend import Frontend, wait_until
from .line import carried, on_disk, ours, shows, sources
from .provider import Provider
from .test_resuming import SETUP, SLOW

ASK = "%%lash\nAnswer me."


def setup(provider: Provider, *answers: str) -> str:
    provider.answers += [[answer] for answer in answers]
    return f"%load_ext lash_nb\n%lash model {provider.model}"


def verified(metadata: Any) -> Block:
    """A notebook's block, which is whole."""
    block = read_block(metadata)
    assert block is not None
    verify_chain(block)
    return block


def turns(block: Block) -> list[int]:
    return [turn["turn"] for turn in block.turns]


def test_a_saved_notebook_carries_its_turns(frontend: Frontend, provider: Provider) -> None:
    with frontend.opened([setup(provider, "One.", "Two."), ASK, "%lash", ASK]) as notebook:
        notebook.run(0)
        notebook.run(1)
        shows(notebook, f"lash · session 1 · {provider.model[:27]}…")
        notebook.run(2)
        notebook.sees(2, "notebook")
        notebook.run(3)
        saved = notebook.saved()
        block = verified(saved.metadata)
        assert (turns(block), block.head) == ([1, 2], None)
        [copy] = [output.metadata.lash_nb for output in saved.cells[3].outputs if output.get("metadata")]
        assert (copy.session, copy.turn, copy.sha256) == (block.session, 2, block.turns[1]["sha256"])
        notebook.load()
        assert carried(notebook) == saved.metadata["lash_nb"]
        shows(notebook, f"lash · session 1 · {provider.model[:27]}…")
        assert ours(notebook) == []


def test_a_turn_goes_on_from_the_notebook_after_a_crash(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [["One."], [SLOW], ["It is **over**."]]
    with frontend.opened([SETUP.format(model=provider.model), ASK, "%%lash\nTake your time."]) as notebook:
        place = notebook.path.parent
        notebook.run(0)
        notebook.run(1)
        notebook.start(2)
        wait_until((place / "ran").exists, "the agent's cell")
        wait_until(lambda: (carried(notebook) or {}).get("head") is not None, "the turn in progress in the notebook")
        shows(notebook, "lash · session 1 · turn 2 runs")
        block = verified(notebook.saved().metadata)
        assert (turns(block), block.head and block.head["turn"]) == ([1], 2)

        notebook.kernel_dies(int((place / "pid").read_text()))
        notebook.load()
        shows(notebook, "lash: turn 2 can be resumed")
        notebook.page.screenshot(path=place / "crashed.png")
        notebook.page.get_by_role("button", name="lash: turn 2 can be resumed").click()
        [number] = [at for at, source in enumerate(sources(notebook)) if source == "%load_ext lash_nb\n%lash resume"]
        notebook.start(number)
        notebook.cell(number).locator(".jp-Stdin").get_by_text("Go on with it? [y/N]").wait_for()
        (place / "go").touch()
        notebook.answer(number, "y")
        notebook.ended(number)
        notebook.sees(number, "It is over.")
        assert (place / "ran").read_text() == "once "
        shows(notebook, f"lash · session 1 · {provider.model[:27]}…")
        after = verified(notebook.saved().metadata)
        assert (after.session, turns(after), after.head) == (block.session, [1, 2], None)


def test_a_renamed_notebook_goes_on(frontend: Frontend, provider: Provider) -> None:
    with frontend.opened([setup(provider, "One.", "Two."), ASK]) as notebook:
        notebook.run(0)
        notebook.run(1)
        session = carried(notebook)["session"]
        renamed = notebook.path.with_name("renamed.ipynb")
        names = [path.relative_to(frontend.notebooks).as_posix() for path in (notebook.path, renamed)]
        notebook.page.evaluate("names => window.jupyterapp.serviceManager.contents.rename(...names)", names)
        wait_until(renamed.exists, "the new name")
        notebook.run(1)
        notebook.path = renamed
        block = verified(notebook.saved().metadata)
        assert (block.session, turns(block)) == (session, [1, 2])


def test_a_copied_notebook_goes_its_own_way(frontend: Frontend, provider: Provider) -> None:
    with frontend.opened([setup(provider, "One.", "Two.", "Three."), ASK, "%lash resume"]) as notebook:
        notebook.run(0)
        notebook.run(1)
        original = verified(notebook.saved().metadata)
        before = notebook.path.read_bytes()
        copy = notebook.path.with_name("copy.ipynb")
        shutil.copy(notebook.path, copy)
        with frontend.on_page(copy) as second:
            shows(second, f"lash · session {original.session[:8]}")
            second.run(0)
            second.run(2)
            second.sees(2, f"this notebook is a copy of {notebook.path}")
            second.run(1)
            second.sees(1, "Two.")
            metadata = second.saved().metadata
        fork = verified(metadata)
        assert (turns(original), turns(fork)) == ([1], [1, 2])
        assert fork.session != original.session
        last = original.turns[-1]
        assert metadata.lash_nb.forked_from == {"session": original.session, "turn": 1, "sha256": last["sha256"]}
        assert notebook.path.read_bytes() == before

        # The original goes on as if nothing had been.
        notebook.run(1)
        after = verified(notebook.saved().metadata)
        assert (after.session, turns(after)) == (original.session, [1, 2])


def test_two_tabs_lose_nothing(frontend: Frontend, provider: Provider) -> None:
    with frontend.opened([setup(provider, "One.", "Two.", "Three."), ASK, "1 + 1"]) as notebook:
        notebook.run(0)
        notebook.run(1)
        session = verified(notebook.saved().metadata).session
        with frontend.on_page(notebook.path) as second:
            second.run(1)
            block = verified(second.saved().metadata)
            assert (block.session, turns(block)) == (session, [1, 2])
        # Here the file has changed, and the frontend asks which is to stay.
        notebook.run(1)
        notebook.page.keyboard.press("Control+s")
        notebook.page.locator(".jp-Dialog").get_by_role("button", name="Overwrite").click()
        wait_until(lambda: len(on_disk(notebook)["turns"]) == 3, "the file as this page has it")
        block = verified({"lash_nb": on_disk(notebook)})
        assert (block.session, turns(block)) == (session, [1, 2, 3])
