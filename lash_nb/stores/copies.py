"""The line between a notebook's kernel and whoever holds the notebook: the kernel asks, the holder writes.

The holder is a frontend's extension, the headless runner or an engine of papermill. Both sides send `comm_msg`s of one
comm, whose id is that of its target, `lash_nb.notebook`:

| from   | data                                        | means                                                     |
|--------|---------------------------------------------|-----------------------------------------------------------|
| kernel | `{op: who}`                                 | whoever holds the notebook may say so                     |
| holder | `{op: here, holder, kind, path, value}`     | it does; `value` is what the notebook carries             |
| kernel | `{op: set, key, value, id, save?}`          | write it into the notebook's metadata (and save the file) |
| kernel | `{op: get, key, id}`, `{op: save, id}`      | say what is there; save the file                          |
| kernel | `{op: insert, cells, after, id}`            | put cells below another one                               |
| holder | `{id, ok, holder, …}`                       | the answer to one of these                                |
| kernel | `{op: status, …}`                           | what may be shown beside the notebook; not answered       |

The comm is never opened with a `comm_open`: to a frontend an unknown target is an error, while a message of a comm that
it does not know is passed over. A frontend that comes later finds the comm by `comm_info_request`.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from ..machine.wire import Json
from .notebook import COMM_TARGET, METADATA_KEY

if TYPE_CHECKING:
    from comm.base_comm import BaseComm

__all__ = ["Holder", "NotebookLine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody who holds the notebook, as it says of itself: untrusted, like the notebook."""

    id: str
    kind: str
    path: str
    """The notebook's, as the holder knows it; empty when it does not say."""
    value: Json
    """What the notebook carries under `lash_nb`; None: nothing."""


OnHere = Callable[[Holder], None]


class NotebookLine:
    """The kernel's half; lives in the notebook's kernel, one a kernel.

    Call `open` and `begin` on the main thread, in the cell that runs; everything else from any thread. Messages carry
    that cell as their parent, because nbclient drops what is not parented to the cell that runs. An answer arrives on
    the main thread, when the cell awaits or has ended: nothing here waits for one.

    This speaks the comm protocol itself: an ipykernel comm takes its parent from the calling thread's context, and
    triggers `post_execute` (which flushes plots) at each message that comes in.
    """

    # The comm manager of the kernel reads these two.
    comm_id = target_name = COMM_TARGET

    def __init__(self, *, on_here: OnHere, expected: bool = False) -> None:
        """`on_here` is told who answers, on the kernel's main thread; `expected`: somebody is there, said or not."""
        self._kernel: Any = _ipykernel()
        self._on_here = on_here
        self._expected = expected
        self._opened = False
        self._parent: Mapping[str, Any] = {}
        self._ids = count(1)
        self._lock = threading.Lock()
        self._holders: dict[str, Holder] = {}
        self._answers: dict[int, Mapping[str, Any]] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Be there for whoever holds the notebook, and ask who does; nothing outside of a kernel."""
        if self._kernel is None or self._opened:
            return
        from comm import get_comm_manager

        self._opened = True
        get_comm_manager().register_comm(cast("BaseComm", self))
        self.begin()

    def begin(self) -> None:
        """Something begins in the cell that is running now; asks who is there when nobody has said so."""
        if not self._opened:
            return
        self._parent = dict(self._kernel.get_parent("shell"))
        if not self.holders:
            self._send({"op": "who"})

    def close(self) -> None:
        """Be there no more; sends nothing."""
        if not self._opened:
            return
        self._opened = False
        from comm import get_comm_manager

        get_comm_manager().unregister_comm(cast("BaseComm", self))

    # -- requests ------------------------------------------------------------------------------------------------------

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Those who have answered."""
        with self._lock:
            return tuple(self._holders.values())

    @property
    def held(self) -> bool:
        """Whether requests are sent: somebody is there."""
        return self._opened and (self._expected or bool(self.holders))

    def forget(self) -> None:
        """Take nobody for there any more; whoever is says so at the next `begin`."""
        with self._lock:
            self._holders.clear()

    def set(self, block: Mapping[str, Json], *, save: bool = False) -> int | None:
        """Ask for `block` to be written; the number under which it is known, None when nobody is there."""
        return self._ask("set", key=METADATA_KEY, value=block, **({"save": True} if save else {}))

    def get(self) -> int | None:
        """Ask for what the notebook carries now; `on_here` is told of it."""
        return self._ask("get", key=METADATA_KEY)

    def insert(self, cells: Sequence[Mapping[str, str]], *, after: str | None = None) -> int | None:
        """Ask for cells (`{cell_type, source}`) below the cell of that id; None: below the active one."""
        return self._ask("insert", cells=[dict(cell) for cell in cells], after=after)

    def tell(self, **status: Json) -> None:
        """Say what may be shown beside the notebook."""
        if self.held:
            self._send({"op": "status", **status})

    def acknowledged(self, number: int | None) -> bool:
        """Whether a request has been fulfilled, by anybody."""
        return number is not None and self._answers.get(number, {}).get("ok") is True

    def refusal(self, number: int | None) -> str | None:
        """Why a request could not be fulfilled; None while that is not known."""
        answer = None if number is None else self._answers.get(number)
        return None if answer is None or answer.get("ok") is True else str(answer.get("error") or "refused")

    def _ask(self, op: str, **values: Any) -> int | None:
        if not self.held:
            return None
        number = next(self._ids)
        self._send({"op": op, **values, "id": number})
        return number

    # -- what comes ----------------------------------------------------------------------------------------------------

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """What a holder says, handed over by the kernel's comm manager."""
        data = message["content"].get("data")
        if not isinstance(data, Mapping):
            return
        number = data.get("id")
        if data.get("op") == "here":
            self._heard(data)
        elif isinstance(number, int) and not isinstance(number, bool):
            with self._lock:
                # One may refuse (read-only, a page that is being left) what another has done.
                if not self.acknowledged(number):
                    self._answers[number] = {name: data[name] for name in ("ok", "error", "cells") if name in data}
                    while len(self._answers) > _MOST_ANSWERS:
                        del self._answers[next(iter(self._answers))]
            if data.get("ok") is True and "value" in data:
                self._heard(data)

    def handle_close(self, message: Mapping[str, Any]) -> None:
        """A frontend that does not know the comm closes it; that means nothing."""

    def _heard(self, data: Mapping[str, Any]) -> None:
        name = str(data.get("holder") or "")
        with self._lock:
            before = self._holders.get(name)
            told = {**({"kind": before.kind, "path": before.path} if before is not None else {}), **data}
            holder = Holder(
                id=name,
                kind=_short(told.get("kind")),
                path=_short(told.get("path")),
                value=data.get("value"),
            )
            self._holders[name] = holder
            while len(self._holders) > _MOST_HOLDERS:
                del self._holders[next(iter(self._holders))]
        self._on_here(holder)

    def _send(self, data: Mapping[str, Any]) -> None:
        kernel = self._kernel
        # The kernel's iopub socket hands every message to the kernel's own I/O thread: any thread may send.
        kernel.session.send(
            kernel.iopub_socket,
            "comm_msg",
            {"comm_id": self.comm_id, "data": data},
            parent=self._parent,
            ident=f"comm-{uuid.uuid4().hex}".encode("ascii"),
        )


_MOST_HOLDERS, _MOST_ANSWERS = 16, 256
_LONGEST = 4096


def _short(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _ipykernel() -> Any:
    """The ipykernel that this process is, None when it is not one. Imports nothing that is not there already."""
    module = sys.modules.get("ipykernel.kernelbase")
    return module.Kernel.instance() if module is not None and module.Kernel.initialized() else None
