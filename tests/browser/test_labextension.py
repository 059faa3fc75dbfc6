"""The labextension in a real frontend: it answers a kernel's half of the line that these tests write out by hand.

Kernel and notebook (`talking`) are shared by these tests, which leave them as they were.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lash_nb.version import __version__
from tests.line_notebooks import LINE

from .frontend import Frontend, OpenNotebook, wait_until
from .line import asks, carried, carries, focus, on_disk, ours, said, shows, sources, tells

EXTENSION = Path(__file__).resolve().parents[2] / "lash_nb" / "labextension"
WAITING = "\nimport pathlib, time\nprint('started')\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.05)"
BLOCK = {"version": 1, "session": "5e55", "head": None, "turns": [], "model": "ünï 🜁 <b>", "odd": [1.5, -0.25, None]}

# ------------------------------------------------------------------------------------------------------ the line


def test_whoever_asks_is_told_who_holds_the_notebook(frontend: Frontend, talking: OpenNotebook) -> None:
    here = asks(talking, op="who")
    assert re.fullmatch("[0-9a-f]{32}", here.pop("holder"))
    kind = {"lab": "jupyterlab", "notebook": "notebook"}[frontend.ui]
    path = talking.path.relative_to(frontend.notebooks).as_posix()
    assert here == {"op": "here", "kind": kind, "path": path, "value": None}


def test_what_is_set_is_in_the_notebook_and_then_in_its_file(frontend: Frontend, talking: OpenNotebook) -> None:
    answer = asks(talking, op="set", key="lash_nb", value=BLOCK, id=7)
    assert answer == {"id": 7, "ok": True, "holder": answer["holder"]}
    assert carried(talking) == BLOCK
    assert on_disk(talking) is None
    assert talking.saved().metadata["lash_nb"] == BLOCK
    got = asks(talking, op="get", key="lash_nb", id=8)
    path = talking.path.relative_to(frontend.notebooks).as_posix()
    assert got == {"id": 8, "ok": True, "holder": answer["holder"], "value": BLOCK, "path": path}
    assert asks(talking, op="who")["value"] == BLOCK


def test_it_is_saved_while_a_cell_runs(frontend: Frontend) -> None:
    ask = "line.send({'op': 'set', 'key': 'lash_nb', 'value': {'session': 'a', 'n': %d}, 'id': %d, 'save': %s})"
    asking = "\n".join(ask % (number, number, save) for number, save in enumerate(["False", "True", "True"]))
    asking += "\nline.send({'op': 'save', 'id': 3})\nawait line.heard(4)\nprint([a['ok'] for a in line.came])"
    with frontend.opened([LINE, asking + WAITING, f"{ask % (9, 9, 'True')}{WAITING}"]) as notebook:
        go = notebook.path.parent / "go"
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "[True, True, True, True]")
        notebook.sees(1, "started")
        assert on_disk(notebook) == {"session": "a", "n": 2}
        go.touch()
        notebook.ended(1)
        go.unlink()

        # The answer does not come before the cell ends, but it is done.
        notebook.start(2)
        wait_until(lambda: bool(on_disk(notebook) == {"session": "a", "n": 9}), "the file while a cell blocks")
        assert notebook.prompt(2) == "[*]:"
        go.touch()
        notebook.ended(2)
        assert notebook.page.locator(".jp-Dialog").count() == 0
        assert notebook.errors == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"op": "set", "key": "other", "value": {}}, "only lash_nb can be got and set"),
        ({"op": "get", "key": "kernelspec"}, "only lash_nb can be got and set"),
        ({"op": "set", "key": "lash_nb", "value": [1]}, "metadata.lash_nb must be an object"),
        ({"op": "set", "key": "lash_nb"}, "metadata.lash_nb must be an object"),
        ({"op": "run", "code": "1"}, "this page does not know how to do that"),
        ({"op": "insert", "cells": []}, "cells must be 1 to 1000 objects"),
        ({"op": "insert", "cells": [{"cell_type": "raw", "source": ""}]}, "cells must be 1 to 1000 objects"),
        ({"op": "insert", "cells": [{"cell_type": "code", "source": 1}]}, "cells must be 1 to 1000 objects"),
        (
            {"op": "insert", "cells": [{"cell_type": "code", "source": ""}], "after": "?"},
            "this notebook has no cell with the id that `after` names",
        ),
    ],
)
def test_what_it_does_not_do_is_refused(talking: OpenNotebook, request_: dict[str, Any], error: str) -> None:
    before = carried(talking), sources(talking)
    answer = asks(talking, id="x", **request_)
    assert (answer["id"], answer["ok"]) == ("x", False)
    assert answer["error"].startswith(error)
    assert (carried(talking), sources(talking)) == before


def test_what_is_not_of_the_line_is_passed_over(talking: OpenNotebook) -> None:
    talking.asked("line.came.clear()\nfor odd in (None, 1, 'who', ['who']):\n    line.send(odd)")
    assert asks(talking, op="get", key="lash_nb", id=1)["ok"] is True
    assert ours(talking) == []


def test_a_notebook_that_cannot_be_written_says_so(talking: OpenNotebook) -> None:
    model = "window.jupyterapp.shell.currentWidget.context.model"
    talking.page.evaluate(f"{model}.readOnly = true")
    for request in ({"op": "set", "key": "lash_nb", "value": {}}, {"op": "save"}, {"op": "insert", "cells": []}):
        answer = asks(talking, id=1, **request)
        assert (answer["ok"], answer["error"]) == (False, "the notebook is read-only")
    talking.page.evaluate(f"{model}.readOnly = false")


def test_a_save_that_fails_is_answered(talking: OpenNotebook) -> None:
    contents = re.compile("/api/contents/")
    talking.page.route(
        contents,
        lambda route: (
            route.fulfill(status=500, json={"message": "No space left"})
            if route.request.method == "PUT"
            else route.continue_()
        ),
    )
    answer = asks(talking, op="save", id=1)
    assert answer["ok"] is False
    assert answer["error"].startswith("the notebook could not be saved: ")
    talking.page.unroute(contents)
    dialog = talking.page.locator(".jp-Dialog")
    dialog.get_by_role("button").last.click()
    dialog.wait_for(state="detached")
    assert asks(talking, op="save", id=2)["ok"] is True


# -------------------------------------------------------------------------------------------------- beside a person


def test_setting_leaves_a_person_alone(talking: OpenNotebook) -> None:
    talking.cell(1).locator(".jp-InputArea-editor").click()
    talking.page.keyboard.press("Control+End")
    talking.page.keyboard.type("  # ab")
    before = focus(talking)
    assert asks(talking, op="set", key="lash_nb", value=BLOCK | {"n": 1}, id=1)["ok"] is True
    assert focus(talking) == before
    talking.page.keyboard.type("c")
    assert sources(talking)[1] == "'second'  # abc"
    while sources(talking)[1] != "'second'":
        talking.page.keyboard.press("Control+z")
    assert carried(talking) == BLOCK | {"n": 1}
    assert sources(talking) == ["'first'", "'second'", "'third'"]


def test_cells_are_put_in(talking: OpenNotebook) -> None:
    talking.cell(1).locator(".jp-InputArea-editor").click()
    talking.page.keyboard.press("Escape")
    talking.page.keyboard.press("Shift+ArrowDown")
    before = focus(talking)
    first = talking.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets[0].model.id")
    two = [{"cell_type": "code", "source": "x = 1"}, {"cell_type": "markdown", "source": "# <b>x</b>"}]
    above = asks(talking, op="insert", cells=two, after=first, id=1)
    below = asks(talking, op="insert", cells=[{"cell_type": "code", "source": "y"}], after=None, id=2)
    assert (above["ok"], len(above["cells"]), len(below["cells"])) == (True, 2, 1)
    assert sources(talking) == ["'first'", "x = 1", "# <b>x</b>", "'second'", "'third'", "y"]
    assert focus(talking)[:2] == before[:2]
    ids = talking.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.id)")
    assert [ids[1], ids[2], ids[5]] == [*above["cells"], *below["cells"]]
    assert talking.cell(1).locator(".jp-InputPrompt").inner_text() == "[ ]:"
    while len(sources(talking)) > 3:
        talking.page.keyboard.press("z")
    assert sources(talking) == ["'first'", "'second'", "'third'"]
    assert ours(talking) == []


# ----------------------------------------------------------------------------------------------- pages come and go

LATER = """
import asyncio, pathlib
async def later(parent):
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.05)
    content = {"comm_id": "lash_nb.notebook", "data": {"op": "set", "key": "lash_nb", "value": {"late": 1}, "id": 5}}
    kernel = get_ipython().kernel
    kernel.session.send(kernel.iopub_socket, "comm_msg", content, parent=parent)
task = asyncio.create_task(later(get_ipython().kernel.get_parent("shell")))
"""


def test_of_two_pages_the_one_that_asked_writes(frontend: Frontend, talking: OpenNotebook) -> None:
    holder = asks(talking, op="who")["holder"]
    with frontend.on_page(talking.path) as second:
        [here] = said(second)
        assert (here["op"], here["value"]) == ("here", on_disk(talking))
        assert here["holder"] != holder
        value = {"session": "two"}
        assert asks(talking, op="set", key="lash_nb", value=value, id=1)["holder"] == holder
        assert (carried(talking), carried(second)) == (value, here["value"])
        assert asks(second, op="set", key="lash_nb", value={"n": 2}, id=1)["holder"] == here["holder"]
        assert (carried(talking), carried(second)) == (value, {"n": 2})
        second.asked("line.send({'op': 'who'})")
        assert {told["holder"] for told in said(second, 2)} == {holder, here["holder"]}
        second.asked(LATER)
    # The page that asked is gone: the other one does it.
    (talking.path.parent / "go").touch()
    wait_until(lambda: bool(carried(talking) == {"late": 1}), "what was asked for by a page that is gone")
    assert ours(talking) == []


def test_a_page_that_is_loaded_anew_says_so(talking: OpenNotebook) -> None:
    before = asks(talking, op="who")["holder"]
    carries(talking, {"n": 5})
    talking.saved()
    talking.load()
    [here] = said(talking)
    assert (here["op"], here["value"]) == ("here", {"n": 5})
    assert here["holder"] != before


def test_a_connection_that_was_lost_begins_anew(talking: OpenNotebook) -> None:
    talking.asked("line.came.clear()")
    talking.page.evaluate(
        "window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.reconnect().then(() => null)"
    )
    talking.is_idle()
    [here] = said(talking)
    assert here["op"] == "here"


def test_a_new_name_is_said(frontend: Frontend, talking: OpenNotebook) -> None:
    path = talking.path.relative_to(frontend.notebooks).as_posix()
    for old, new in ((path, f"{path[:-6]} ünd 2.ipynb"), (f"{path[:-6]} ünd 2.ipynb", path)):
        talking.asked("line.came.clear()")
        talking.page.evaluate("names => window.jupyterapp.serviceManager.contents.rename(...names)", [old, new])
        [here] = said(talking)
        assert (here["op"], here["path"]) == ("here", new)


def test_a_restarted_kernel_begins_anew(talking: OpenNotebook) -> None:
    tells(talking)
    shows(talking, "lash · session 1 · openai:gpt-5")
    carries(talking, None)
    talking.page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel()")
    talking.is_idle()
    shows(talking, "")
    talking.asked(LINE)
    assert asks(talking, op="who")["op"] == "here"
    assert ours(talking) == []


def test_a_notebook_without_lash_hears_nothing_of_it(frontend: Frontend) -> None:
    with frontend.opened(["1 + 1"]) as notebook:
        notebook.run(0)
        notebook.page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel()")
        notebook.run(0)
        notebook.saved()
        asked = [message for message in notebook.sent if "lash_nb" in message]
        # One for each kernel that was connected to.
        assert ["comm_info_request" in message for message in asked] == [True, True]
        assert [line for line in notebook.console if "lash" in line] == []
        assert notebook.page.locator(".lash-nb-item").count() == 0


# -------------------------------------------------------------------------------------------------- what is shipped


def test_the_package_is_of_this_version() -> None:
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    assert (package["name"], package["version"]) == ("lash-nb", __version__)
    load = EXTENSION / package["jupyterlab"]["_build"]["load"]
    assert load.is_file()
    # What is in a directory of that name is served to be cached for a year.
    assert "static" not in load.parts[-2:]


def test_nothing_in_it_reaches_out_or_makes_code_of_text() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(EXTENSION.rglob("*.js")))
    forbidden = r"(inner|outer|adjacent)HTML|document\.write|\beval\b|Function\(|fetch\(|XMLHttp|WebSocket|\w+://"
    assert re.findall(forbidden, code) == []
