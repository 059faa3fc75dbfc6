"""The tools of a session: what is added and removed, whose goes first, and in which ways a person is asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from lash_nb.errors import InputError, UnknownNameError
from lash_nb.machine.approvals import ApprovalMode
from lash_nb.toolkits import AskedFrom, Tool, ToolPolicy, ToolSource
from lash_nb.toolkits.catalogue import ToolCatalogue, catalogue_of, checked_name
from lash_nb.toolkits.functions import function_tool


def named(name: str, source: str = "function") -> Tool:
    def it() -> str:
        return source

    made = function_tool(name, it)
    return Tool(name=name, source=source, invoke=made.invoke)


@dataclass
class ScriptedSource:
    """A server that has the tools that it is given."""

    name: str
    given: list[Tool] = field(default_factory=list)
    tells: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return f"{len(self.given)} tools"

    @property
    def tools(self) -> Sequence[Tool]:
        return tuple(self.given)

    async def refresh(self) -> tuple[str, ...]:
        self.notes.append(f"refresh {self.name}")
        return tuple(self.tells)

    async def aclose(self) -> None:
        self.notes.append(f"close {self.name}")


def test_tools_come_and_go() -> None:
    catalogue = ToolCatalogue()
    one, two, other = named("one"), named("two"), named("one")
    catalogue.add(one)
    catalogue.add(two)
    assert dict(catalogue.tools) == {"one": one, "two": two}
    catalogue.add(other)
    assert catalogue.tools["one"] is other
    catalogue.remove("one")
    assert dict(catalogue.tools) == {"two": two}


def test_what_is_the_users_own_goes_before_what_a_server_brings() -> None:
    catalogue = ToolCatalogue()
    served, second, own = named("it", "mcp:a"), named("it", "mcp:b"), named("it")
    catalogue.add_source(ScriptedSource("a", [served]))
    catalogue.add_source(ScriptedSource("b", [second, named("more", "mcp:b")]))
    assert catalogue.tools["it"] is served
    catalogue.add(own)
    assert catalogue.tools["it"] is own
    assert list(catalogue.tools) == ["it", "more"]
    catalogue.remove("it")
    assert catalogue.tools["it"] is served


def test_what_cannot_be_removed() -> None:
    catalogue = ToolCatalogue()
    with pytest.raises(UnknownNameError, match="there are: none"):
        catalogue.remove("it")
    catalogue.add(named("mine"))
    catalogue.add_source(ScriptedSource("server", [named("served", "mcp:server")]))
    with pytest.raises(UnknownNameError, match="there are: mine, server"):
        catalogue.remove("it")
    with pytest.raises(UnknownNameError, match="served comes with the server 'server'"):
        catalogue.remove("served")


async def test_servers_are_refreshed_in_order_and_those_that_went_are_closed() -> None:
    notes: list[str] = []
    catalogue = ToolCatalogue()
    catalogue.add_source(ScriptedSource("a", tells=["a is slow"], notes=notes))
    catalogue.add_source(ScriptedSource("b", tells=["b has 2 tools"], notes=notes))
    assert await catalogue.refresh() == ("a is slow", "b has 2 tools")
    catalogue.add_source(ScriptedSource("a", notes=notes))
    catalogue.remove("b")
    assert notes == ["refresh a", "refresh b"]
    await catalogue.refresh()
    assert notes[2:] == ["close a", "close b", "refresh a"]
    await catalogue.aclose()
    assert notes[5:] == ["close a"]
    assert [source.name for source in catalogue.sources] == ["a"]


def test_a_source_that_is_added_again_is_not_closed() -> None:
    catalogue = ToolCatalogue()
    source = ScriptedSource("a", [named("it")])
    assert isinstance(source, ToolSource)
    catalogue.add_source(source)
    catalogue.add_source(source)
    assert catalogue.sources == (source,)


def test_it_may_be_changed_from_any_thread() -> None:
    catalogue = ToolCatalogue()
    tools = [[named(f"t{thread}_{number}") for number in range(50)] for thread in range(8)]

    def change(own: list[Tool]) -> None:
        for tool in own:
            catalogue.add(tool)
            assert tool.name in catalogue.tools
        for tool in own[::2]:
            catalogue.remove(tool.name)

    threads = [threading.Thread(target=change, args=(own,)) for own in tools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(catalogue.tools) == sorted(tool.name for own in tools for tool in own[1::2])


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "two words", "a-b", "class", "_private", "1st", None, 3, "run_code", "finish"])
def test_what_is_no_name_of_a_tool(name: Any) -> None:
    with pytest.raises(InputError):
        checked_name(name)


@pytest.mark.parametrize("name", ["it", "größe", "Ab_1"])
def test_what_is_one(name: str) -> None:
    assert checked_name(name) == name


def add(a: int, b: int) -> int:
    return a + b


def test_what_a_session_is_given_becomes_a_catalogue() -> None:
    tool = named("other")
    catalogue = catalogue_of({"plus": add, "other": tool}, make=function_tool)
    assert list(catalogue.tools) == ["plus", "other"]
    assert catalogue.tools["plus"].signature == "(a: int, b: int) -> int"
    assert catalogue.tools["other"] is tool
    assert catalogue_of(catalogue, make=function_tool) is catalogue
    assert dict(catalogue_of(None, make=function_tool).tools) == {}
    assert dict(catalogue_of({}, make=function_tool).tools) == {}


@pytest.mark.parametrize("given", [[add], {"two words": add}, {"it": 3}, {"it": None}])
def test_what_cannot_become_one(given: Any) -> None:
    with pytest.raises(InputError):
        catalogue_of(given, make=function_tool)


# -- asking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_from", "asked_in"),
    [
        ("never", []),
        ("every", [ApprovalMode.EVERY]),
        ("effects", [ApprovalMode.EFFECTS, ApprovalMode.EVERY]),
        ("all", [ApprovalMode.ALL, ApprovalMode.EFFECTS, ApprovalMode.EVERY]),
    ],
)
def test_in_which_ways_to_approve_a_person_is_asked(asked_from: AskedFrom, asked_in: list[ApprovalMode]) -> None:
    policy = ToolPolicy(approve=asked_from)
    assert [mode for mode in ApprovalMode if policy.asks(mode)] == [mode for mode in ApprovalMode if mode in asked_in]
    assert [mode for mode in ApprovalMode if policy.refuses(mode)] == (
        [] if asked_from == "never" else [ApprovalMode.PLAN]
    )


async def test_a_tool_that_another_hides_is_told_once() -> None:
    first = ScriptedSource("first", [named("find", "mcp:first"), named("look", "mcp:first")])
    second = ScriptedSource("second", [named("find", "mcp:second"), named("mine", "mcp:second")])
    catalogue = ToolCatalogue()
    catalogue.add(named("mine"))
    catalogue.add_source(first)
    catalogue.add_source(second)
    told = await catalogue.refresh()
    assert [sentence.partition(":")[0] for sentence in told] == [
        "The tool find of the server second is hidden by that of first",
        "The tool mine of the server second is hidden by one of yours",
    ]
    assert await catalogue.refresh() == ()
