"""What waits for a person in a real notebook's kernel: asked in words, by a click, answered in a later cell."""

from __future__ import annotations

import pytest

from .notebook_kernel import Cell, NotebookKernel, scripted_notebook

COUNTS = "<lash-cell>\nlosers = [1, 2]\nprint('ran', len(losers))\n</lash-cell>"
STARTS = "<lash-cell>\nimport subprocess\nprint('code', subprocess.run(['true']).returncode)\n</lash-cell>"


SCRIPTS = {"counts": [COUNTS, "Done."], "twice": [COUNTS, COUNTS, "Done."], "starts": [STARTS, "Done."]}

directory, kernel, notebook = scripted_notebook(SCRIPTS)


@pytest.mark.parametrize("above", ["", "%%time\n"], ids=["awaited", "blocking"])
def test_the_cell_asks_where_nobody_draws_a_button(notebook: NotebookKernel, above: str) -> None:
    cell = notebook.ask("counts", f"{above}%%lash --approve every\nCount.")
    assert notebook.question()["prompt"] == "Run it? yes, no [why], edit, later: "
    notebook.answer("")
    assert notebook.question()["prompt"].startswith("Run it?"), "Enter alone agrees to nothing"
    notebook.answer("yes")
    notebook.finish(cell)
    assert not cell.error
    assert "The agent wants to run this cell.\n\n    losers = [1, 2]\n    print('ran', len(losers))" in cell.text
    assert "ran 2" in cell.shown


def test_a_click_answers_and_takes_the_question_back(notebook: NotebookKernel) -> None:
    cell = notebook.ask("counts", "%%lash --approve every\nCount.")
    notebook.until(cell, lambda: any('"approval"' in value for value in cell.drawn))
    notebook.click(cell.widgets["AnyModel"], "drawn")
    notebook.click(cell.widgets["AnyModel"], "decide", approval=approval(cell), verdict="rejected", why="not now")
    notebook.finish(cell)
    assert not cell.error
    assert "You rejected this cell: not now" in cell.shown
    assert "ran 2" not in cell.shown


def approval(cell: Cell) -> str:
    drawn = next(value for value in cell.drawn if '"approval"' in value)
    return drawn.partition('"approval": "')[2].partition('"')[0]


@pytest.mark.parametrize("above", ["", "%%time\n"], ids=["awaited", "blocking"])
def test_a_turn_is_left_waiting_and_gone_on_with_by_a_word(notebook: NotebookKernel, above: str) -> None:
    cell = notebook.ask("twice", f"{above}%%lash --approve every\nCount.")
    notebook.question()
    notebook.answer("yes")
    notebook.question()
    notebook.answer("later")
    notebook.finish(cell)
    assert cell.error.startswith("ApprovalNeeded: The agent wants to run this cell.")
    assert "Waiting for you" in cell.shown
    shown = notebook.run("%lash answer")
    assert "losers = [1, 2]" in shown.text
    assert "yes|no [WHY]|edit" in shown.text
    assert "waits for your approval" in notebook.run("%lash resume --no").text
    done = notebook.run("%lash answer no not today")
    assert not done.error
    assert "You rejected this cell: not today" in done.shown
    assert "Done." in done.shown
    late = notebook.run("%lash answer yes")
    assert not late.error
    assert late.text == "nothing waits for an answer any more: of turn 1 you rejected: its cell (not today)\n"


def test_a_turn_goes_on_with_the_model_that_it_was_asked_with(notebook: NotebookKernel) -> None:
    assert not notebook.run("%lash model scripted:starts.json").error
    ask = "%%lash -m scripted:counts.json --approve every\nCount."
    assert notebook.finish(notebook.start(ask, allow_stdin=False)).error.startswith("ApprovalNeeded")
    done = notebook.run("%lash answer yes")
    assert not done.error
    assert "scripted:counts.json, chosen by the turn that goes on; nothing leaves this machine" in done.text
    assert "ran 2" in done.shown
    assert "Done." in done.shown
    assert "scripted:starts.json, chosen by" in notebook.run("%lash model").text


def test_by_resume_it_goes_on_with_that_model_too(notebook: NotebookKernel) -> None:
    assert not notebook.run("%lash model scripted:starts.json").error
    ask = "%%lash -m scripted:counts.json --approve every\nCount."
    assert notebook.finish(notebook.start(ask, allow_stdin=False)).error.startswith("ApprovalNeeded")
    done = notebook.run("%lash resume --yes")
    assert not done.error
    assert "scripted:counts.json, chosen by the turn that goes on" in done.text
    assert "ran 2" in done.shown


def test_a_cell_is_edited_in_a_cell(notebook: NotebookKernel) -> None:
    cell = notebook.ask("counts", "%%lash --approve every\nCount.")
    notebook.question()
    notebook.answer("edit")
    notebook.finish(cell)
    assert cell.error.startswith("ApprovalNeeded")
    assert cell.reply is not None
    [payload] = cell.reply["payload"]
    assert payload["text"] == "%%lash answer edit\nlosers = [1, 2]\nprint('ran', len(losers))"
    done = notebook.run(payload["text"].replace("[1, 2]", "[1, 2, 3]"))
    assert not done.error
    assert "ran 3" in done.shown
    assert "You edited this cell before it ran." in done.shown
    for above in ("", "%%time\n"):
        late = notebook.run(above + payload["text"])
        assert not late.error
        assert "nothing waits for an answer any more: of turn 1 you edited: its cell" in late.text


def test_an_effect_is_asked_about_while_its_cell_runs(notebook: NotebookKernel) -> None:
    cell = notebook.ask("starts", "%%lash\nGo.")
    assert notebook.question()["prompt"] == "Allow it? yes, all (others like it, too), no [why]: "
    notebook.answer("no I would rather not")
    notebook.finish(cell)
    assert "The agent's code wants to start true." in cell.text
    assert "PermissionError" in cell.shown
    assert "You rejected: start true: I would rather not" in cell.shown
    late = notebook.run("%lash answer no")
    assert (
        late.text == "nothing waits for an answer any more: of turn 1 you rejected: start true (I would rather not)\n"
    )


def test_an_effect_cannot_be_left_for_later(notebook: NotebookKernel) -> None:
    cell = notebook.ask("starts", "%%lash\nGo.")
    for said in ("later", "edit"):
        notebook.question()
        notebook.answer(said)
    assert notebook.question()["prompt"].startswith("Allow it?")
    notebook.answer("yes")
    notebook.finish(cell)
    assert not cell.error
    assert "This cannot wait: the cell runs already." in cell.text
    assert "Only a cell can be edited, and this one runs already" in cell.text
    assert "nobody is here" not in cell.shown
    assert "code 0" in cell.shown


def test_an_answer_to_nothing_is_an_error(notebook: NotebookKernel) -> None:
    assert notebook.run("%lash answer yes").error.startswith("InputError: nothing waits")
    notebook.finish(notebook.ask("counts", "%%lash\nCount."))
    assert notebook.run("%lash answer yes").error.startswith("InputError: nothing waits")


def test_where_nobody_can_be_asked_a_cell_waits_and_an_effect_is_refused(notebook: NotebookKernel) -> None:
    cell = notebook.finish(notebook.ask("starts", "%%lash\nGo.", allow_stdin=False))
    assert "Not allowed: start true: nobody is here" in cell.shown
    notebook.run("%lash new")
    cell = notebook.finish(notebook.ask("counts", "%%lash --approve every\nCount.", allow_stdin=False))
    assert cell.error.startswith("ApprovalNeeded")
    done = notebook.run("%lash answer yes")
    assert "ran 2" in done.shown


def test_a_mode_holds_until_the_session_ends(notebook: NotebookKernel) -> None:
    assert notebook.run("%lash approve").text.startswith("approve effects: what code does beyond computing is asked")
    assert notebook.run("%lash approve plan").text.startswith("approve plan: no code runs")
    cell = notebook.finish(notebook.ask("counts", "%%lash\nCount."))
    assert "Not allowed: this cell: this turn plans only, and runs no code" in cell.shown
    notebook.run("%lash new")
    assert notebook.run("%lash approve").text.startswith("approve effects")
    assert "there is no way to approve called 'never'" in notebook.run("%lash approve never").error


def test_a_variable_is_pulled(notebook: NotebookKernel) -> None:
    notebook.finish(notebook.ask("counts", "%%lash\nCount."))
    notebook.run("del losers" if "losers" in notebook.run("print(dir())").text else "pass")
    assert notebook.run("%lash pull losers").text == "losers: a copy of the agent's losers\n"
    assert notebook.run("print(losers)").text == "[1, 2]\n"
    again = "losers: a copy of the agent's losers (in place of the one that was pulled before)\n"
    assert notebook.run("%lash pull losers").text == again
    notebook.run("losers = losers_agent = 'mine'")
    pulled = notebook.run("%lash pull losers")
    assert pulled.text == "losers_agent_2: a copy of the agent's losers (losers is yours and stays as it is)\n"
    assert notebook.run("%lash pull losers --as winners\nprint(winners)").text.endswith("[1, 2]\n")
    over = notebook.run("%lash pull losers --as losers_agent").text
    assert over == "losers_agent: a copy of the agent's losers (in place of what losers_agent was before)\n"
    assert notebook.run("print(losers, losers_agent, losers_agent_2)").text == "mine [1, 2] [1, 2]\n"
    assert "nothing" in notebook.run("%lash pull nothing").error
    assert notebook.run("%lash pull 1x").error.startswith("InputError")
    assert notebook.run("%lash pull a b --as c").error.startswith("InputError")
