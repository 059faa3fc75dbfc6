"""Nothing that a cell tries gets out of a sandboxed kernel.

`python -m tests.faults.escapes --json`. Each attempt (`escapes_cases`) runs in one kernel that they share, or makes a
value there that is fetched here. Whether it succeeded is looked at from outside: the host's files as they were, the
secret nowhere in what came back, no connection to the host's sockets, its victim process unharmed.

The last line is one JSON object: `attempts`, `succeeded` (their names). The exit code is 1 when there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Sequence

from lash_nb.errors import LashError, ValueNotSentError
from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.children import descendants, marked
from lash_nb.kernels.guardian import lives, start_time
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.sandbox import sandbox_problem
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from tests.faults.escapes_cases import CELLS, PRELUDE, VALUES, Attempt
from tests.faults.escapes_world import MOST_PROCESSES, World, a_world

__all__ = ["ENDS", "HOST", "begun", "judge_cell", "judge_end", "judge_host", "judge_value", "main"]

_CELL_S = 20.0
_FORGES = """
session, out = get_ipython().kernel.session, get_ipython().kernel.iopub_socket
for content in (
    {'id': 'f1', 'name': 'stolen', 'args': '{"kwargs": {}}'}, {'id': 'f1', 'name': 'stolen', 'args': '{}'},
    {'id': ['x'], 'name': None, 'args': '['}, {}, {'id': 'f2', 'name': 'stolen', 'args': '"' + 'x' * 30_000_000 + '"'},
):
    session.send(out, 'lash_call', content, parent=get_ipython().get_parent())
import time; time.sleep(0.5)
"""
_SWAPS_SPILLED = """
import glob, threading
spills = [line.split()[4] for line in open('/proc/self/mountinfo') if '/spill' in line.split()[4]]
def swap():
    ends = time.time() + 5
    while time.time() < ends:
        for place in spills:
            for root, _, names in os.walk(place):
                for name in names:
                    path = os.path.join(root, name)
                    try:
                        if not os.path.islink(path):
                            os.unlink(path); os.symlink(W['places'][0] + '/secret', path)
                    except OSError: pass
threading.Thread(target=swap, daemon=True).start()
for n in range(60_000): print('line', n)
"""
_SWAPS_SHARED = """
import threading
import pandas
table = pandas.DataFrame({'a': range(200_000)})
def swap():
    ends = time.time() + 4
    while time.time() < ends:
        for name in os.listdir(W['runtime'] + '/shared'):
            path = os.path.join(W['runtime'], 'shared', name)
            try:
                if name.startswith('values-') and not os.path.islink(path):
                    os.unlink(path); os.symlink(W['places'][0] + '/canary', path)
            except OSError: pass
threading.Thread(target=swap, daemon=True).start()
"""
_FORKS = """
try:
    for _ in range(400):
        if os.fork() == 0: time.sleep(20); os._exit(0)
except OSError: pass
"""
_STAYS = """
import os, subprocess, sys
code = "import os, time\\nos.setsid()\\nwhile True: os.utime('alive'); time.sleep(0.02)"
open('alive', 'w').close()
for env in (None, {}):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', code], env or {})
        os._exit(0)
subprocess.Popen([sys.executable, '-I', '-S', '-c', code], start_new_session=True)
"""


async def begun(world: World) -> ManagedKernel:
    """A kernel with what the attempts use."""
    kernel = world.kernel()
    await kernel.start()
    await prepare(world, kernel)
    return kernel


async def prepare(world: World, kernel: ManagedKernel) -> None:
    """What the attempts use, in a kernel that has started."""
    result = await kernel.run(secrets.token_hex(8), f"W = {world.told(kernel)!r}\n{PRELUDE}")
    assert result.error is None, result


async def judge_cell(attempt: Attempt, world: World, kernel: ManagedKernel) -> str:
    """Run an attempt; what it got, or ""."""
    if not kernel.alive:
        await kernel.restart()
        await prepare(world, kernel)
    before = world.records(kernel)
    result = await kernel.run(secrets.token_hex(8), attempt.code, timeout_s=_CELL_S)
    said = repr(result)
    if kernel.alive and world.records(kernel).keys() != before.keys():
        return "the host's records were changed"
    if any(before[name] != data for name, data in world.records(kernel).items() if name != "log"):
        return "the host's records were changed"
    return world.breached(said)


async def judge_value(attempt: Attempt, world: World, kernel: ManagedKernel) -> str:
    """Fetch what an attempt makes; what it got, or ""."""
    result = await kernel.run(secrets.token_hex(8), attempt.code, timeout_s=_CELL_S)
    if result.error is not None:
        return f"the attempt itself is wrong: {result.error.evalue}"
    try:
        return f"it came: {type(await kernel.value('bad'))}"
    except ValueNotSentError:
        pass
    except LashError as error:
        return f"the host did not say that it does not come: {error}"
    fetched = await kernel.values(["bad"])
    if "bad" not in fetched.failed:
        return "it came with others"
    return world.breached("")


async def _forged_calls(world: World, kernel: ManagedKernel) -> str:
    made: list[str] = []

    async def on_call(call: PendingToolCall) -> ToolCallOutput:
        made.append(repr(call))
        return ToolCallOutput(outcome=ToolSucceeded(payload=None))

    tools = CellTools(offers=(ToolOffer(name="offered"),), on_call=on_call)
    await kernel.run(secrets.token_hex(8), _FORGES, tools=tools, timeout_s=_CELL_S)
    return f"the host made the call of {made}" if made else world.breached("")


async def _swapped_spill(world: World, kernel: ManagedKernel) -> str:
    result = await kernel.run(secrets.token_hex(8), _SWAPS_SPILLED, timeout_s=_CELL_S)
    for path in (world.state / "blobs").rglob("*"):
        if path.is_file() and world.secret in path.read_text(errors="replace") and not path.is_symlink():
            return f"the store has the secret in {path.name}"
    return world.breached(repr(result))


async def _swapped_share(world: World, kernel: ManagedKernel) -> str:
    await kernel.run(secrets.token_hex(8), _SWAPS_SHARED, timeout_s=_CELL_S)
    for _ in range(6):
        with contextlib.suppress(LashError):
            await kernel.push({"pushed": bytes(3_000_000)})
        with contextlib.suppress(LashError):
            await kernel.value("table")
    return world.breached("")


async def _fork_bomb(world: World, kernel: ManagedKernel) -> str:
    await kernel.run(secrets.token_hex(8), _FORKS, timeout_s=_CELL_S)
    number = len(descendants(kernel.pid or 0))
    await kernel.restart()
    await prepare(world, kernel)
    return (
        f"there were {number} processes" if number > MOST_PROCESSES and not kernel.unmet_limits else world.breached("")
    )


HOST = {
    "host: forged calls of tools": _forged_calls,
    "host: links in the place of spilled outputs": _swapped_spill,
    "host: links in the place of values": _swapped_share,
    "host: more processes than allowed": _fork_bomb,
}


async def judge_host(name: str, world: World, kernel: ManagedKernel) -> str:
    """What the host does with what it gets."""
    return await HOST[name](world, kernel)


async def _shut_down(kernel: ManagedKernel) -> None:
    await kernel.shutdown()


async def _restarted(kernel: ManagedKernel) -> None:
    await kernel.restart()


async def _killed(kernel: ManagedKernel) -> None:
    os.kill(kernel.pid or 0, signal.SIGKILL)


ENDS = {
    "survives: the shutdown": _shut_down,
    "survives: a restart": _restarted,
    "survives: SIGKILL to the guardian": _killed,
}


async def judge_end(name: str, world: World) -> str:
    """What is left of processes that a cell started, when their kernel ends."""
    kernel = world.kernel()
    await kernel.start()
    assert kernel.connection_file is not None
    mark = str(kernel.connection_file.parent)
    try:
        await kernel.run(secrets.token_hex(8), _STAYS)
        family = {pid: start_time(pid) for pid in descendants(kernel.pid or 0)}
        await ENDS[name](kernel)
        await asyncio.sleep(0.5)
        left = [pid for pid, started in family.items() if lives(pid, started)]
        if left or (name != "survives: a restart" and marked(mark)):
            return f"{len(left)} processes are left"
        alive = world.cwd / "alive"
        alive_at = alive.stat().st_mtime_ns
        await asyncio.sleep(0.2)
        return "one goes on" if alive.stat().st_mtime_ns != alive_at else ""
    finally:
        await kernel.shutdown()


async def _all(world: World) -> dict[str, str]:
    found = {}
    kernel = await begun(world)
    try:
        for attempt in CELLS:
            found[attempt.name] = await judge_cell(attempt, world, kernel)
        await kernel.restart()  # nothing of the attempts before is left in it
        await prepare(world, kernel)
        for attempt in VALUES:
            found[attempt.name] = await judge_value(attempt, world, kernel)
        for name in HOST:
            found[name] = await judge_host(name, world, kernel)
    finally:
        await kernel.shutdown()
    for name in ENDS:
        found[name] = await judge_end(name, world)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of them; 1 when one succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    given = parser.parse_args(arguments)
    if problem := sandbox_problem():
        print(problem, file=sys.stderr)
        return 2
    with a_world() as world:
        found = asyncio.run(_all(world))
    succeeded = [name for name, what in found.items() if what]
    for name in succeeded:
        print(f"{name}: {found[name]}", file=sys.stderr)
    told = {"attempts": len(found), "succeeded": succeeded}
    print(json.dumps(told) if given.json else f"{len(found)} attempts, {len(succeeded)} succeeded")
    return 1 if succeeded else 0


if __name__ == "__main__":
    sys.exit(main())
