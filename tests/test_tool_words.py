"""`%lash tools`: what it lists, what it makes tools of, what it removes, and how a tool follows its function."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import InputError, UnknownNameError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.picture_parts import ToolCallPicture
from lash_nb.machine.tool_calls import PendingToolCall

from .notebook_shell import CELL, Notebook, notebook_shell

ADD = '''
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: The first one.
    """
    return a + b
'''
SERVER = '''
import asyncio
from mcp.server import MCPServer

server = MCPServer("numbers")

@server.tool()
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number

asyncio.run(server.run_stdio_async())
'''


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as made:
        made.load()
        yield made


def says(notebook: Notebook, line: str) -> str:
    return notebook.run(f"%lash tools {line}").stdout


def names(notebook: Notebook) -> list[str]:
    return list(notebook.magics.sessions.tools.catalogue.tools)


# ------------------------------------------------------------------------------------------------------------ functions


def test_without_tools_it_says_how_there_are_some(notebook: Notebook) -> None:
    said = says(notebook, "")
    assert said.startswith("no tools; `%lash tools add NAME...`")
    assert "`%lash tools mcp NAME COMMAND...`" in said
    assert "tools: none (`%lash tools`)" in notebook.run("%lash").stdout


def test_a_function_becomes_a_tool_by_its_name(notebook: Notebook) -> None:
    notebook.run(ADD)
    assert says(notebook, "add add") == "added: add(a: int, b: int = 2) -> int\n"
    assert says(notebook, "") == (
        "1 tool:\n"
        "  add(a: int, b: int = 2) -> int: Add two numbers.\n"
        "      a function of the notebook\n"
        "The agent calls them in its cells, as tools.NAME(...); native calls: %config Lash.protocol = 'tools'\n"
    )
    assert "tools: 1 (`%lash tools`)" in notebook.run("%lash").stdout


def test_with_the_protocol_of_tools_it_says_so(notebook: Notebook) -> None:
    notebook.run(ADD)
    says(notebook, "add add")
    notebook.run("%config Lash.protocol = 'tools'")
    said = says(notebook, "")
    assert said.endswith("as tools.NAME(...), and by native calls\n")
    assert said.startswith("3 tools:\n  read_output(")
    assert "      of lash_nb, approve never, safe to repeat, at most 60 s\n" in said
    assert says(notebook, "read_file").startswith("read_file(")


def test_several_and_another_name(notebook: Notebook) -> None:
    notebook.run("def one(): pass\ntwo = lambda: 2")
    assert says(notebook, "add one two") == "added: one()\nadded: two()\n"
    assert says(notebook, "add one as uno") == "added: uno()\n"
    assert names(notebook) == ["one", "two", "uno"]
    assert "a function of the notebook, one" in says(notebook, "uno")
    assert says(notebook, "add one") == "changed: one()\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add", "which function"),
        ("add one missing", "the notebook has no missing"),
        ("add one x", "x is of type int, and no function"),
        ("add one as", "takes one function"),
        ("add one x as y", "takes one function"),
        ("add one as 2x", "2x"),
        ("add one as run_code", "run_code"),
        ("remove", "which one"),
        ("remove one", "no tool or server 'one'"),
        ("nothing", "there is no tool nothing; there are: none"),
        ("ad", "did you mean `%lash tools add`"),
        ("one", "`%lash tools add one` makes it one"),
    ],
)
def test_what_goes_wrong_changes_nothing(notebook: Notebook, line: str, message: str) -> None:
    notebook.run("def one(): pass\nx = 1")
    with pytest.raises(InputError, match=re.escape(message)):
        says(notebook, line)
    assert names(notebook) == []


def test_a_function_may_say_itself_what_it_is_called(notebook: Notebook) -> None:
    notebook.run("from lash_nb.toolkits.functions import tool\n@tool(name='weather')\ndef get_weather(): pass")
    assert says(notebook, "add get_weather") == "added: weather()\n"
    assert says(notebook, "add get_weather as other") == "added: other()\n"
    notebook.run("@tool(name='climate')\ndef get_weather(): pass")
    says(notebook, "")
    assert names(notebook) == ["other", "climate"]


def test_a_name_that_is_nearly_one_is_not_guessed_at(notebook: Notebook) -> None:
    notebook.run("def weather(): pass")
    says(notebook, "add weather")
    with pytest.raises(UnknownNameError, match="did you mean `%lash tools weather`"):
        says(notebook, "wether")


def test_details(notebook: Notebook) -> None:
    notebook.run(ADD)
    notebook.run(
        "from typing import Literal\nfrom lash_nb.toolkits.functions import tool\n"
        "@tool(approve='effects', safe=True, retries=2, timeout_s=1.5, max_chars=1000)\n"
        "def ask(kind: Literal['a', 'b'], words: list[str] | None = None): 'Ask.'"
    )
    says(notebook, "add add ask")
    assert says(notebook, "add") == (
        "add(a: int, b: int = 2) -> int\n"
        "  a function of the notebook\n"
        "  Add two numbers.\n"
        "  parameters:\n"
        "    a: integer (The first one.)\n"
        "    b: integer = 2\n"
    )
    said = says(notebook, "ask")
    assert (
        "  a function of the notebook, approve effects, safe to repeat, up to 2 times, at most 1.5 s, "
        "results up to 1,000 characters\n"
    ) in said
    assert '    kind: "a" | "b"\n' in said
    assert "    words: array of string | null = null\n" in said


def test_a_tool_may_be_called_as_a_word(notebook: Notebook) -> None:
    """The word alone is the tool; with something behind it, it is the word."""
    notebook.run("def remove(): 'Take away.'\ndef mcp(): 'Other.'")
    says(notebook, "add remove mcp")
    assert says(notebook, "remove").startswith("remove()\n")
    assert says(notebook, "mcp").startswith("mcp()\n")
    assert says(notebook, "remove remove mcp") == "removed: remove\nremoved: mcp\n"
    assert names(notebook) == []


def test_tools_stay_over_a_new_session(notebook: Notebook) -> None:
    notebook.run(ADD)
    says(notebook, "add add")
    notebook.answers("One.", "Two.")
    notebook.run("%%lash\nFirst?")
    notebook.run("%lash new")
    notebook.run("%%lash\nSecond?")
    assert names(notebook) == ["add"]
    session = notebook.magics.sessions.current
    assert session is not None
    assert session.tools is notebook.magics.sessions.tools.catalogue


# ------------------------------------------------------------------------------------------------------- as they change


def calling(name: str, **arguments: Any) -> ScriptedCell:
    """A cell that calls a tool."""
    return ScriptedCell(calls=(PendingToolCall(call_id="", tool_name=name, args=arguments),))


def outcome(notebook: Notebook) -> ToolCallPicture:
    """The only call of the newest turn."""
    session = notebook.magics.sessions.current
    assert session is not None
    (call,) = [call for step in session.turns[-1].picture.steps for call in step.tool_calls]
    return call


def test_a_tool_follows_its_function(notebook: Notebook) -> None:
    notebook.run("def where(): return seen.append('old')\nseen = []")
    says(notebook, "add where")
    notebook.run("def where(again: int): return seen.append('new')")
    notebook.cell = calling("where", again=1)
    notebook.answers(CELL, "Done.")
    assert "removed" not in notebook.run("%%lash\nGo.").stdout
    assert notebook.value("seen") == ["new"]
    assert "where(again: int)" in says(notebook, "")


@pytest.mark.parametrize(("code", "why"), [("del one", "one is of type NoneType"), ("one = 1", "one is of type int")])
def test_a_tool_whose_function_is_gone_goes_too(notebook: Notebook, code: str, why: str) -> None:
    notebook.run("def one(): pass")
    says(notebook, "add one")
    notebook.run(code)
    notebook.answers("One.", "Two.")
    assert "the tool one was removed: " in notebook.run("%%lash\nGo.").stdout
    assert "removed" not in notebook.run("%%lash\nGo.").stdout
    assert names(notebook) == []


def test_a_function_that_cannot_be_a_tool_any_more_takes_it_away(notebook: Notebook) -> None:
    notebook.run("def one(): pass")
    says(notebook, "add one")
    notebook.run("def one(*values): pass")
    assert "the tool one was removed: " in says(notebook, "")


def test_what_another_has_put_there_is_left_alone(notebook: Notebook) -> None:
    notebook.run("def one(): pass\ndef two(): 'Second.'")
    says(notebook, "add one")
    says(notebook, "add two as one")
    notebook.run("del one")
    assert "Second." in says(notebook, "")
    notebook.magics.sessions.tools.catalogue.remove("one")
    notebook.run("def two(): 'Third.'")
    assert says(notebook, "").startswith("no tools")


# ------------------------------------------------------------------------------------------------ on the cell's thread


@pytest.mark.parametrize("code", ["%%lash\nGo.", "%%time\n%%lash\nGo.", "%lash ask Go."])
def test_functions_run_on_the_cell_s_thread(notebook: Notebook, code: str) -> None:
    notebook.run("import threading\ndef where(): print('called here'); return threading.current_thread().name")
    says(notebook, "add where")
    notebook.cell = calling("where")
    notebook.answers(CELL, "Done.")
    assert "called here" in notebook.run(code).stdout
    assert outcome(notebook).succeeded


def test_what_they_print_is_captured_with_the_cell(notebook: Notebook) -> None:
    notebook.run("def says(): print('called here')")
    says(notebook, "add says")
    notebook.cell = calling("says")
    notebook.answers(CELL, "Done.")
    assert "called here" not in notebook.run("%%capture out\n%%lash\nGo.").stdout
    assert "called here" in notebook.value("out").stdout


def test_a_function_cannot_use_the_magic(notebook: Notebook) -> None:
    """It would wait for the turn that waits for it."""
    notebook.run("def again(word: str): get_ipython().run_line_magic('lash', word)")
    says(notebook, "add again")
    for word in ("ask More?", "new", "vars", ""):
        notebook.cell = calling("again", word=word)
        notebook.answers(CELL, "Done.")
        notebook.run("%%lash\nGo.")
        assert "a turn is running" in outcome(notebook).problem


def test_nor_the_session_itself(notebook: Notebook) -> None:
    notebook.shell.user_ns["sessions"] = notebook.magics.sessions
    notebook.run("def again(): sessions.current.run_sync('More?')")
    says(notebook, "add again")
    notebook.cell = calling("again")
    notebook.answers(CELL, "Done.")
    notebook.run("%%lash\nGo.")
    assert "a turn is running in this session" in outcome(notebook).problem


# -------------------------------------------------------------------------------------------------------------- servers


@pytest.fixture
def server(notebook: Notebook) -> str:
    """The line that starts a server."""
    Path("numbers_server.py").write_text(SERVER)
    return f"{sys.executable} numbers_server.py"


def test_a_server_is_started_and_its_tools_are_there(notebook: Notebook, server: str) -> None:
    said = says(notebook, f"mcp numbers {server}")
    assert said.startswith("added: numbers: 1 tool\n")
    assert "  double(" in said
    assert says(notebook, "mcp") == "numbers: 1 tool\n"
    assert "tools: 1, of 1 MCP server (`%lash tools`)" in notebook.run("%lash").stdout
    listed = says(notebook, "")
    assert "      of the server numbers, approve effects" in listed
    assert "Twice the number." in listed
    assert "numbers: 1 tool" in listed
    assert "  double(" in says(notebook, "mcp numbers")
    notebook.cell = calling("double", number=21)
    notebook.answers(CELL, "Done.")
    notebook.run("%%lash\nGo.")
    assert says(notebook, "remove numbers") == "removed: numbers\n"
    assert says(notebook, "mcp").startswith("no MCP servers")


def test_a_function_goes_before_a_server_s_tool(notebook: Notebook, server: str) -> None:
    says(notebook, f"mcp numbers {server}")
    notebook.run("def double(number: int): 'Mine.'")
    assert says(notebook, "add double").endswith(", in the place of mcp:numbers's\n")
    assert "Mine." in says(notebook, "double")
    says(notebook, "remove double")
    assert "Twice the number." in says(notebook, "double")


def test_a_server_that_does_not_start_is_not_added(notebook: Notebook, server: str) -> None:
    with pytest.raises(InputError, match="It was not added"):
        says(notebook, f"mcp numbers {sys.executable} missing.py")
    assert says(notebook, "mcp").startswith("no MCP servers")
    says(notebook, f"mcp numbers {server}")
    with pytest.raises(InputError, match="It was not added"):
        says(notebook, f"mcp numbers {sys.executable} missing.py")
    assert names(notebook) == ["double"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mcp numbers", "there is no MCP server numbers"),
        ("mcp --approve all", "which server"),
        ("mcp --approve all numbers", "what is numbers"),
        ("mcp numbers https://127.0.0.1:9/mcp more", "no use for more"),
        ("mcp --nonsense x numbers python", "has no --nonsense"),
        ("mcp numbers --env", "nothing behind it"),
        ("mcp numbers --env X python", "NAME=VALUE"),
        ("mcp numbers --header =1 https://127.0.0.1:9/mcp", "NAME=VALUE"),
        ("mcp numbers --header X=1 python", "headers"),
        ("mcp numbers --approve sometimes python", "approve"),
        ("mcp 'numbers", "quotation"),
    ],
)
def test_a_server_has_to_be_said_as_it_is(notebook: Notebook, line: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        says(notebook, line)
    assert says(notebook, "mcp").startswith("no MCP servers")


def test_secrets_come_from_the_environment(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    code = SERVER.replace("2 * number", "len(__import__('os').environ['MY_TOKEN'])")
    Path("numbers_server.py").write_text(code)
    monkeypatch.setenv("LONG_TOKEN", "x" * 1234)
    said = says(notebook, f"mcp numbers --env MY_TOKEN=$LONG_TOKEN {sys.executable} numbers_server.py")
    assert "note" not in said
    said = says(notebook, f"mcp numbers --env MY_TOKEN=abc {sys.executable} numbers_server.py")
    assert "note: MY_TOKEN stands in the notebook; `MY_TOKEN=$NAME` would take it from the environment" in said


def test_servers_of_the_settings(notebook: Notebook, server: str) -> None:
    python, script = server.split()
    settings = {"numbers": {"command": python, "args": [script]}}
    notebook.shell.user_ns["settings"] = settings
    notebook.run("%config Lash.mcp_servers = settings")
    assert says(notebook, "mcp").startswith("numbers: ")
    notebook.answers("One.", "Two.")
    notebook.run("%%lash\nGo.")
    assert names(notebook) == ["double"]
    notebook.run("%config Lash.mcp_servers = {}")
    notebook.run("%%lash\nGo.")
    assert names(notebook) == []


@pytest.mark.parametrize("dropped", [False, True])
def test_servers_end_with_the_notebook(notebook: Notebook, server: str, dropped: bool) -> None:
    """Also one that the settings have no more, and that no request has ended yet."""
    leaves_pid = "import os, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\n"
    Path("numbers_server.py").write_text(leaves_pid + SERVER)
    python, script = server.split()
    notebook.magics.mcp_servers = {"numbers": {"command": python, "args": [script]}}
    notebook.answers("Done.")
    notebook.run("%%lash\nGo.")
    pid = int(Path("pid").read_text())
    if dropped:
        notebook.magics.mcp_servers = {}
        says(notebook, "")
    notebook.run("%unload_ext lash_nb")
    assert not Path(f"/proc/{pid}").exists()
