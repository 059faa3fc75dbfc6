"""The kernels that earlier processes of a session left: whether they live, and how they are ended with the session.

Decided here: to look changes nothing; only an orphan is ended, a kernel that has a host is that one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .errors import KernelError
from .kernels.guardian import lives
from .kernels.rundir import find_kernel
from .languages import attached_kernel
from .recorded import RecordedKernel
from .stores.blobs import BlobStore

__all__ = ["end_orphans", "kernel_lives"]


def kernel_lives(kernel: RecordedKernel, *, owner: str, sandboxed: bool = False) -> bool:
    """Whether the process of that life of a kernel still runs on this machine; `owner` is the session that had it.

    With `sandboxed` one that does not run in a sandbox counts as none.
    """
    file = Path(kernel.file) if kernel.file else find_kernel(kernel.epoch, owner=owner)
    if file is None:
        return False
    try:
        told = json.loads(file.with_name("kernel.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(told, dict) or told.get("epoch") != kernel.epoch or not isinstance(told.get("pid"), int):
        return False
    if sandboxed and told.get("sandboxed") is not True:
        return False
    return lives(told["pid"], told.get("started"))


async def end_orphans(kernels: Iterable[RecordedKernel], *, owner: str, state_dir: Path) -> tuple[str, ...]:
    """End those that live and have no host; the languages of those that were ended."""
    ended = []
    for recorded in kernels:
        if not kernel_lives(recorded, owner=owner):
            continue
        try:
            store = BlobStore(state_dir / "blobs")
            kernel = await attached_kernel(recorded, owner=owner, cwd=Path.cwd(), store=store, on_input=None)
        except KernelError:  # it has a host, or ended this moment
            continue
        await kernel.shutdown()
        ended.append(recorded.language)
    return tuple(ended)
