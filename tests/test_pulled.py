"""Copies of the agent's variables: under which name they come, and what is said of it. A kernel that gives values."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lash_nb import ScriptedKernel
from lash_nb.errors import InputError
from lash_nb.pulled import Pulled


class Giving(ScriptedKernel):
    """Gives a new list each time, or raises."""

    problem: BaseException | None = None

    async def value(self, name: str, *, data_only: bool = False) -> object:
        if self.problem is not None:
            raise self.problem
        return [name]


class Agent:
    """A session, as far as it matters here."""

    def __init__(self) -> None:
        self.kernel = Giving({})


@pytest.fixture
async def agent() -> Agent:
    agent = Agent()
    await agent.kernel.start()
    return agent


def pulled(agent: Agent, namespace: dict[str, Any]) -> Pulled:
    session: Any = agent
    return Pulled(namespace=lambda: namespace, session=lambda: session)


def test_nothing_of_the_persons_is_lost(agent: Agent) -> None:
    mine = {"df": 1, "df_agent": 2}
    pulling = pulled(agent, mine)
    assert pulling.now("df") == "df_agent_2: a copy of the agent's df (df is yours and stays as it is)"
    assert mine == {"df": 1, "df_agent": 2, "df_agent_2": ["df"]}


def test_what_was_pulled_makes_way_only_while_it_is_there(agent: Agent) -> None:
    mine: dict[str, Any] = {}
    pulling = pulled(agent, mine)
    assert pulling.now("df") == "df: a copy of the agent's df"
    first = mine["df"]
    assert pulling.now("df") == "df: a copy of the agent's df (in place of the one that was pulled before)"
    assert mine["df"] is not first
    mine["df"] = list(mine["df"])  # the person's own now, though it is equal
    assert pulling.now("df") == "df_agent: a copy of the agent's df (df is yours and stays as it is)"
    assert pulling.now("df") == "df_agent: a copy of the agent's df (in place of the one that was pulled before)"
    del mine["df"]
    assert pulling.now("df") == "df: a copy of the agent's df"


def test_a_name_that_was_given_is_taken_and_what_was_there_is_told(agent: Agent) -> None:
    mine: dict[str, Any] = {"x": 1}
    pulling = pulled(agent, mine)
    assert pulling.now("df", wanted="x") == "x: a copy of the agent's df (in place of what x was before)"
    assert pulling.now("df", wanted="y") == "y: a copy of the agent's df"
    # What is there is another variable's.
    assert pulling.now("x") == "x_agent: a copy of the agent's x (x is yours and stays as it is)"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (InputError("there is no such variable"), "there is no such variable"),
        (RuntimeError("broken"), "df was not pulled: RuntimeError: broken"),
    ],
)
def test_whoever_does_not_wait_is_told_in_any_case(agent: Agent, problem: Exception, said: str) -> None:
    agent.kernel.problem = problem
    told, heard = threading.Event(), list[str]()

    def done(sentence: str) -> None:
        heard.append(sentence)
        told.set()

    pulled(agent, {}).soon("df", done)
    assert told.wait(5)
    assert heard == [said]


def test_what_is_given_takes_its_name_and_is_none_of_the_agents(agent: Agent) -> None:
    mine: dict[str, Any] = {}
    pulling = pulled(agent, mine)
    assert pulling.given("n", 5, what="the turn's value (int)") == "n: the turn's value (int)"
    assert pulling.given("n", 6, what="a value") == "n: a value (in place of what n was before)"
    assert mine == {"n": 6}
    pulling.now("df")
    pulling.given("df", 1, what="a value")
    assert pulling.names() == frozenset()
    assert pulling.now("df") == "df_agent: a copy of the agent's df (df is yours and stays as it is)"
