"""The same tool called by the model itself, by a cell, by twenty tasks at once, by a thread: in a real ipykernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lash_nb import Session
from lash_nb.machine.events import ToolCallEvent, TurnActivity
from lash_nb.machine.llm import ToolResultBlock
from lash_nb.machine.tool_calls import ToolCallOutput, ToolSucceeded
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel, calling
from lash_nb.toolkits.functions import tool

from .left_sessions import records

ARGS = {"city": "Bremen", "days": 3}
RESULT: dict[str, Any] = {"city": "Bremen", "temperatures": [10, 11, 12]}

FROM_A_CELL = "print(tools.forecast(city='Bremen', days=3))"
AWAITED = "print(await tools.forecast('Bremen', days=3))"
TWENTY_TASKS = (
    "import asyncio\n"
    "found = await asyncio.gather(*(tools.forecast.aio(city='Bremen', days=3) for _ in range(20)))\n"
    "print(len(found), found.count(found[0]))\n"
    "print(found[0])"
)
FROM_A_THREAD = (
    "import threading\n"
    "kept = []\n"
    "thread = threading.Thread(target=lambda: kept.append(tools.forecast('Bremen', 3)))\n"
    "thread.start()\n"
    "thread.join()\n"
    "print(kept[0])"
)


def run_code(code: str, call_id: str) -> tuple[str, dict[str, str], str]:
    return "run_code", {"code": code}, call_id


async def test_results_and_records_are_equal_whichever_way_a_tool_is_called(tmp_path: Path) -> None:
    got: list[tuple[str, int]] = []

    @tool(safe=True)
    def forecast(city: str, days: int = 1) -> dict[str, Any]:
        """Temperatures of the next days."""
        got.append((city, days))
        return {"city": city, "temperatures": [10 + day for day in range(days)]}

    batch = calling(
        ("forecast", ARGS, "native"),
        run_code(FROM_A_CELL, "cell"),
        run_code(AWAITED, "awaited"),
        run_code(TWENTY_TASKS, "tasks"),
        run_code(FROM_A_THREAD, "thread"),
    )
    model = ScriptedModel([batch, "Done."], traits=ModelTraits(protocol="tools"))
    seen: list[TurnActivity] = []
    async with Session(model, tools={"forecast": forecast}, state_dir=tmp_path) as session:
        turn = await session.run("Forecast.", on_activity=seen.append)
        journal = records(session)
    assert turn.text == "Done."
    assert got == [("Bremen", 3)] * 24

    blocks = [block for message in model.requests[-1].messages for block in message.blocks]
    told = {block.call_id: block.content for block in blocks if isinstance(block, ToolResultBlock)}
    assert told["native"] == '~~~\n{"city":"Bremen","temperatures":[10,11,12]}\n~~~'
    for name in ("cell", "awaited", "tasks", "thread"):
        assert str(RESULT) in told[name]
    assert "20 20" in told["tasks"]

    # What views were told of each call, and what the journal has of it: the same, but for the id.
    done = [one for one in seen if isinstance(one, ToolCallEvent) and one.name == "forecast"]
    output = ToolCallOutput(outcome=ToolSucceeded(payload=RESULT))
    assert [(one.args, one.output) for one in done] == [(ARGS, output)] * 24
    begun = [record for record in journal if record["k"] == "call" and record["name"] == "forecast"]
    ended = [record for record in journal if record["k"] == "called" and record["call"] in {r["call"] for r in begun}]
    assert [record["args"] for record in begun] == [ARGS] * 24
    assert [record["output"] for record in ended] == [{"outcome": {"status": "success", "payload": RESULT}}] * 24
    ids = {str(record["call"]) for record in begun}
    assert ids == {"native", "cell/c1", "awaited/c1", "thread/c1", *(f"tasks/c{n}" for n in range(1, 21))}
