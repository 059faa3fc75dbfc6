"""How a kernel has copies of its turns written: it asks whoever holds the notebook, over a comm.

The holder is the headless runner or a frontend's extension, the comm target `lash_nb.notebook`, a request
`{op: "set", key, value, id}`, its answer `{id, ok}`. The notebook file is never written from here.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from ..machine.wire import Json
from .notebook import COMM_TARGET, METADATA_KEY

if TYPE_CHECKING:
    from comm.base_comm import BaseComm

__all__ = ["NotebookCopies"]


class NotebookCopies:
    """Has the notebook's holder write `metadata.lash_nb`; lives in the notebook's kernel, one a session.

    Call `begin` on the main thread when a turn starts, `set` from any thread while it runs. Messages carry the cell of
    `begin` as their parent, because nbclient drops what is not parented to the cell that runs. An answer arrives on
    the main thread, when the cell awaits or has ended: nothing here waits for one.

    This speaks the comm protocol itself: an ipykernel comm takes its parent from the calling thread's context, and
    triggers `post_execute` (which flushes plots) at each message that comes in.
    """

    def __init__(self, *, offered: bool) -> None:
        """`offered`: somebody may answer. Else nothing is ever sent: to a frontend an unknown target is an error."""
        self._kernel: Any = _ipykernel() if offered else None
        self.comm_id: str = ""
        self._parent: Mapping[str, Any] = {}
        self._ids = count(1)
        self._done: set[int] = set()
        self._refused: dict[int, str] = {}
        # The comm manager of the kernel reads and sets this name when the other side closes.
        self._closed = False

    @property
    def answering(self) -> bool | None:
        """True once something was acknowledged, False when nobody answers, None while that is open."""
        if self._kernel is None or self._closed:
            return False
        return True if self._done else None

    def begin(self) -> None:
        """A turn starts in the cell that is running now; the first time, this opens the comm."""
        if self._kernel is None or self._closed:
            return
        self._parent = dict(self._kernel.get_parent("shell"))
        if not self.comm_id:
            from comm import get_comm_manager

            self.comm_id = uuid.uuid4().hex
            get_comm_manager().register_comm(cast("BaseComm", self))
            self._send("comm_open", target_name=COMM_TARGET, data={})

    def set(self, block: Mapping[str, Json]) -> int | None:
        """Ask for `block` to be written; the number under which `acknowledged` knows it, None when not sent."""
        if not self.comm_id or self._closed:
            return None
        number = next(self._ids)
        self._send("comm_msg", data={"op": "set", "key": METADATA_KEY, "value": block, "id": number})
        return number

    def acknowledged(self, number: int | None) -> bool:
        """Whether that block has been written."""
        return number in self._done

    def refusal(self, number: int | None) -> str | None:
        """Why that block could not be written; None while that is not known."""
        return None if number is None else self._refused.get(number)

    def close(self) -> None:
        """Close the comm; sends nothing any more."""
        if not self.comm_id or self._closed:
            return
        self._closed = True
        self._send("comm_close", data={})
        from comm import get_comm_manager

        get_comm_manager().unregister_comm(cast("BaseComm", self))

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """An answer, handed over by the kernel's comm manager on the main thread."""
        data = message["content"].get("data")
        if not isinstance(data, Mapping) or not isinstance(data.get("id"), int):
            return
        if data.get("ok") is True:
            self._done.add(data["id"])
        else:
            self._refused[data["id"]] = str(data.get("error") or "refused")

    def handle_close(self, message: Mapping[str, Any]) -> None:
        """The other side closed, or never knew the target: nobody answers from now on."""
        self._closed = True

    def _send(self, kind: str, **content: Any) -> None:
        kernel = self._kernel
        # The kernel's iopub socket hands every message to the kernel's own I/O thread: any thread may send.
        kernel.session.send(
            kernel.iopub_socket,
            kind,
            {"comm_id": self.comm_id, **content},
            parent=self._parent,
            ident=f"comm-{self.comm_id}".encode("ascii"),
        )


def _ipykernel() -> Any:
    """The ipykernel that this process is, None when it is not one. Imports nothing that is not there already."""
    module = sys.modules.get("ipykernel.kernelbase")
    return module.Kernel.instance() if module is not None and module.Kernel.initialized() else None
