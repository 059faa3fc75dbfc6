"""Variables of a real kernel, copied into this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lash_nb.errors import KernelDiedError, ValueNotSentError
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.scripted import ScriptedKernel
from lash_nb.machine.execution import CellOutcome

from .contract_guard import Deciding
from .suite import fresh, until_begun

CODE = """
import numpy as np, pandas as pd
frame = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})
array = np.arange(6).reshape(2, 3)
shared = [1]
nested = {'left': shared, 'right': shared}
double = lambda n: n * FACTOR
FACTOR = 2
class Point:
    def __init__(self, x): self.x = x
    def far(self): return self.x > 10
point = Point(11)
generator = (n for n in range(3))
class Rude:
    def __reduce__(self): raise KeyboardInterrupt('no')
rude = Rude()
class Ending:
    def __reduce__(self): import sys; return sys.exit, (3,)
ending = Ending()
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    async def begin() -> ManagedKernel:
        kernel = ManagedKernel()
        await kernel.start()
        assert (await kernel.run(fresh(), CODE)).outcome is CellOutcome.OK
        return kernel

    kernel = asyncio.run(begin())
    yield kernel
    asyncio.run(kernel.shutdown())


@pytest.fixture(autouse=True)
def nothing_left(kernel: ManagedKernel) -> Iterator[None]:
    yield
    assert kernel.connection_file is not None
    assert list(kernel.connection_file.parent.glob("values-*")) == []


async def test_data(kernel: ManagedKernel) -> None:
    pd.testing.assert_frame_equal(await kernel.value("frame"), pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    np.testing.assert_array_equal(await kernel.value("array"), [[0, 1, 2], [3, 4, 5]])


async def test_what_is_one_stays_one(kernel: ManagedKernel) -> None:
    nested = await kernel.value("nested")
    assert nested == {"left": [1], "right": [1]}
    assert nested["left"] is nested["right"]


async def test_what_the_kernel_defines_comes_whole(kernel: ManagedKernel) -> None:
    assert (await kernel.value("double"))(21) == 42
    point = await kernel.value("point")
    assert (type(point).__name__, point.x, point.far()) == ("Point", 11, True)
    assert (await kernel.value("Point"))(1).x == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "the agent's kernel has no variable 'nothing'"),
        ("generator", "generator cannot be sent: TypeError: cannot pickle 'generator' object"),
        ("rude", "rude cannot be sent: KeyboardInterrupt: no"),
    ],
)
async def test_what_does_not_come_is_said(kernel: ManagedKernel, name: str, said: str) -> None:
    with pytest.raises(ValueNotSentError) as raised:
        await kernel.value(name)
    assert str(raised.value).startswith(said)


async def test_while_a_cell_runs_and_many_at_once(kernel: ManagedKernel) -> None:
    task = await until_begun(kernel)
    found = await asyncio.gather(*(kernel.value(name) for name in ("FACTOR", "nested", "FACTOR")))
    assert found == [2, {"left": [1], "right": [1]}, 2]
    await kernel.interrupt()
    assert (await task).outcome is CellOutcome.INTERRUPTED


async def test_a_guarded_cell_is_not_asked_for_it(kernel: ManagedKernel) -> None:
    host = Deciding()
    code = "import time; print('begun', flush=True); time.sleep(60)"
    begun = asyncio.Event()
    running = kernel.run(fresh(), code, guard=host.guard(), on_output=lambda outputs: begun.set())
    task = asyncio.ensure_future(running)
    await asyncio.wait_for(begun.wait(), 20)
    assert await kernel.value("FACTOR") == 2
    await kernel.interrupt()
    await task
    assert host.wishes == []


async def test_what_this_process_lacks_is_said(kernel: ManagedKernel, tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text("class Thing: pass")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import only_there; thing = only_there.Thing()"
    await kernel.run(fresh(), code)
    with pytest.raises(
        ValueNotSentError, match=r"thing came, but cannot be loaded here: only_there is not installed here \(Python 3"
    ):
        await kernel.value("thing")


async def test_what_would_end_this_process_is_an_error(kernel: ManagedKernel) -> None:
    with pytest.raises(ValueNotSentError, match=r"ending came, but cannot be loaded here: SystemExit: 3"):
        await kernel.value("ending")


async def test_without_room_it_is_said(kernel: ManagedKernel) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); big = b'x' * 1_000_000\n"
    await kernel.run(fresh(), limit + "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))")
    with pytest.raises(ValueNotSentError, match="big cannot be sent: there is no room"):
        await kernel.value("big")
    await kernel.run(fresh(), "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)")
    assert len(await kernel.value("big")) == 1_000_000


async def test_without_cloudpickle_plain_data_comes(kernel: ManagedKernel) -> None:
    await kernel.run(fresh(), "import sys; sys.modules['cloudpickle'] = None")
    assert await kernel.value("nested") == {"left": [1], "right": [1]}
    await kernel.run(fresh(), "del sys.modules['cloudpickle']")


async def test_a_kernel_that_ended_has_none() -> None:
    kernel = ManagedKernel()
    with pytest.raises(KernelDiedError):
        await kernel.value("x")


async def test_the_double_gives_copies() -> None:
    values: dict[str, Any] = {"x": [1]}
    kernel = ScriptedKernel(values=values)
    await kernel.start()
    found = await kernel.value("x")
    assert found == [1]
    assert found is not values["x"]
    with pytest.raises(ValueNotSentError):
        await kernel.value("y")
