"""Who holds the notebook where nbclient runs it: the other half of the line that `stores/copies.py` speaks.

Decided here: whoever asks in the kernel is told that somebody is there; `metadata.lash_nb` is set in the notebook that
nbclient fills, exactly as it comes, and that is saved before it is acknowledged; what is no block of ours is refused.
Cells cannot be put in while a notebook runs. The kernel is not trusted: what is not of the line's form is passed over.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jupyter_client.session import Session
from nbclient import NotebookClient

from .errors import NotebookError
from .stores.notebook import COMM_TARGET, METADATA_KEY, read_block

__all__ = ["NotebookHolder"]


class NotebookHolder:
    """Answers the kernel of one nbclient; `take` belongs into that client's `handle_comm_msg`."""

    def __init__(
        self, client: NotebookClient, *, kind: Literal["papermill", "runner"], path: str, save: Callable[[], None]
    ) -> None:
        """`path` is where `save` writes the notebook, empty when nowhere; `save` raises NotebookError."""
        self._client = client
        self._kind = kind
        self._path = path
        self._save = save
        self._id = uuid.uuid4().hex
        self._answers: Any = None

    def take(self, message: Mapping[str, Any]) -> bool:
        """Answer what the kernel asks; False when the message, one of `comm_…`, is of another comm."""
        content = message["content"]
        if content.get("comm_id") != COMM_TARGET:
            return False
        data = content.get("data")
        if message["msg_type"] == "comm_msg" and isinstance(data, Mapping):
            answer = self._answer(data)
            if answer is not None:
                self._send(answer)
        return True

    def close(self) -> None:
        """Answer nothing any more."""
        if self._answers is not None:
            self._answers.stop_channels()
            self._answers = None

    def _answer(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        match data.get("op"):
            case "status":
                return None
            case "who":
                return {"op": "here", "holder": self._id, "kind": self._kind, "path": self._path, "value": self._value}
        answer: dict[str, Any] = {"id": data.get("id"), "holder": self._id, "ok": True}
        try:
            return answer | self._fulfilled(data)
        except NotebookError as error:  # if it is the disk, the save at the end of the cell says so too
            return answer | {"ok": False, "error": str(error)}

    def _fulfilled(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What there is to say beside that it is done. Raises NotebookError: it cannot be."""
        match data.get("op"):
            case "get" | "set" if data.get("key") != METADATA_KEY:
                raise NotebookError(f"only {METADATA_KEY} can be got and set")
            case "get":
                return {"value": self._value, "path": self._path}
            case "set":
                value = data.get("value")
                read_block({METADATA_KEY: value})
                self._client.nb.metadata[METADATA_KEY] = value
                self._save()
            case "save":
                self._save()
            case "insert":
                raise NotebookError("cells cannot be put into a notebook while it is run from its file")
            case _:
                raise NotebookError("who holds this notebook does not know how to do that")
        return {}

    @property
    def _value(self) -> Any:
        return self._client.nb.metadata.get(METADATA_KEY)

    def _send(self, data: Mapping[str, Any]) -> None:
        if self._answers is None:
            self._open()
        self._answers.shell_channel.send(
            self._answers.session.msg("comm_msg", {"comm_id": COMM_TARGET, "data": dict(data)})
        )

    def _open(self) -> None:
        """A socket of its own for answers, which nobody reads.

        A send on the socket that nbclient awaits the cell's reply on can eat the event that announces the reply (the
        descriptor of a ZeroMQ socket is edge-triggered, and jupyter_client sends past pyzmq's asyncio half): the run
        would hang.
        """
        manager: Any = self._client.km
        # Under an identity of its own: of two sockets with one identity the kernel answers only the newer.
        session = Session(key=manager.session.key, signature_scheme=manager.session.signature_scheme)
        self._answers = manager.client(session=session)
        self._answers.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)
