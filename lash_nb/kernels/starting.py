"""How a kernel gets from its launch to where it takes cells, or fails and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import KernelDiedError, KernelStartError
from ..machine.attachments import AdoptingStore
from . import OnInput
from .differences import why_no_kernel
from .launch import Launch, kernel_process
from .life import Life
from .outputs import OutputLimits

__all__ = ["Start", "started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything that makes two started kernels the same."""

    launch: Launch
    variables: Mapping[str, str]
    """Its environment, as it was."""
    outputs: OutputLimits
    spill_bytes: int
    within_s: float


async def started(
    start: Start,
    *,
    store: AdoptingStore | None,
    on_input: OnInput | None = None,
    recorded: bool = True,
    opened: Callable[[Life], None] = lambda life: None,
) -> Life:
    """A kernel that takes cells. `opened` gets it as soon as there is a process, so that it can be ended meanwhile.

    Raises:
        KernelStartError: it did not come up; nothing of it is left. InputError: it cannot run in its directory.
    """
    # Until it takes cells there is nothing in it that anybody could take over: it ends with this process.
    process = kernel_process(start.launch, variables=start.variables, recorded=False)
    life = Life(process, on_input=on_input, store=store)
    spec = start.launch.spec
    life.wire.by_message = spec is not None and spec.interrupt_mode == "message"
    opened(life)
    try:
        async with asyncio.timeout(start.within_s):
            if process.has_inside:
                await asyncio.to_thread(life.hand_over)
            await life.greet()
            await life.settle()
            if process.has_inside:
                await life.set_up(_inside_options(start, life))
            else:
                await life.answer()
    except TimeoutError as error:
        problem = f"the kernel did not come up within {start.within_s:g} s"
        raise await _failed(start.launch, life, problem) from error
    except (KernelStartError, KernelDiedError) as error:
        raise await _failed(start.launch, life, str(error)) from error
    except BaseException:
        Life.reap(life)
        raise
    if recorded:
        process.record()
    return life


def _inside_options(start: Start, life: Life) -> dict[str, object]:
    return {
        "limits": start.outputs.as_options(),
        "spill_dir": life.spill_dir,
        "spill_bytes": start.spill_bytes,
        "orphan_ttl_s": start.launch.orphan_ttl_s,
        "guarded": life.process.sandboxed,
    }


async def _failed(launch: Launch, life: Life, problem: str) -> KernelStartError:
    log = life.process.log_tail()
    await life.close("The kernel did not come up.")
    last = log.splitlines()[-1] if log else ""
    what = launch.python if launch.spec is None else f"kernel {launch.spec.name!r}"
    if launch.spec is None and (why := await asyncio.to_thread(why_no_kernel, launch.python, launch.env)):
        return KernelStartError(why)
    return KernelStartError(f"{problem}{': ' + last if last else ''} ({what})")
