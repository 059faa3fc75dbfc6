"""What the parts of the contract share: the codes, fresh keys, and the kernel under test.

Every cell has a key of its own, because a kernel runs a key once.
"""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from lash_nb.kernels import Kernel
from lash_nb.machine.execution import CellOutcome, CellResult, ResultOutput, StreamOutput

ADD = "1 + 1"
SPEAK = "import sys; print('out'); print('err', file=sys.stderr); print('more'); 'value'"
FAIL = "print('before'); 1 / 0"
RAISE_INTERRUPT = "raise KeyboardInterrupt"
FINISH = "print('done'); finish({'answer': 42})"
FINISH_NONE = "finish(None)"
SLOW = "import time; print('begun', flush=True); time.sleep(60)"
BIND = "x = [1, 2]; y = 'text'"
CHANGE = "x.append(3)"
UNBIND = "del x"
_KEYS = count(1)


def fresh() -> str:
    """A key that no cell had before."""
    return f"k{next(_KEYS)}"


def texts(result: CellResult) -> list[str]:
    """What a cell wrote, and its value."""
    return [
        output.head if isinstance(output, StreamOutput) else str(output.data["text/plain"])
        for output in result.outputs
        if isinstance(output, (StreamOutput, ResultOutput))
    ]


async def until_begun(kernel: Kernel, code: str = SLOW) -> asyncio.Task[CellResult]:
    """The task of a cell that has shown its first output."""
    begun = asyncio.Event()
    task = asyncio.ensure_future(kernel.run(fresh(), code, on_output=lambda outputs: begun.set()))
    await asyncio.wait_for(begun.wait(), 20)
    return task


class KernelSuite:
    async def kill(self, kernel: Kernel) -> None:
        raise NotImplementedError

    @pytest.fixture
    async def live(self, kernel: Kernel) -> Kernel:
        if not kernel.alive:
            await kernel.restart()
        return kernel

    async def check_usable(self, kernel: Kernel) -> None:
        result = await kernel.run(fresh(), ADD)
        assert result.outcome is CellOutcome.OK
        (output,) = result.outputs
        assert isinstance(output, ResultOutput)
        assert output.data["text/plain"] == "2"
