"""The line between a notebook's kernel and whoever holds the notebook: the kernel asks, the holder writes.

The holder is a frontend's extension, the headless runner or an engine of papermill. Both sides send `comm_msg`s of one
comm, whose id is that of its target, `lash_nb.notebook`:

| from   | data                                        | means                                                     |
|--------|---------------------------------------------|-----------------------------------------------------------|
| kernel | `{op: who}`                                 | whoever holds the notebook may say so                     |
| holder | `{op: here, holder, kind, path, value}`     | it does; `value` is what the notebook carries             |
| kernel | `{op: set, key, value, id, save?, clients}` | write it into the notebook's metadata (and save the file) |
| kernel | `{op: get, key, id}`, `{op: save, id}`      | say what is there; save the file                          |
| kernel | `{op: insert, cells, after, active?, id}`   | put cells below another one (and go to the first)         |
| kernel | `{op: replace, cell, source, was, id}`      | give a cell this source, while it still has that one      |
| kernel | `{op: place, cell, from, view, …, id}`      | show the turn of this cell, which the client `from` sent  |
| holder | `{id, ok, holder, …}`                       | the answer to one of these                                |
| kernel | `{op: status, …}`                           | what may be shown beside the notebook; not answered       |
| holder | `{op: pull, id, name}`                      | a person clicked: bring a variable into the kernel        |
| kernel | `{op: pulled, id, ok, text}`                | what came of it, in a sentence                            |
| holder | `{op: insert, id, turn, session, cell}`     | a person clicked: put a turn's code below that cell       |
| kernel | `{op: inserted, id, ok, text?}`             | it is on it; with `text`, or not `ok`: what came of it    |

`place` is for each page of the notebook, and the page of `from` does nothing: it is routed what the cell shows. Another
one puts it into the cell itself: `live`, the bundle of the live view (whose model is `view`), while the turn runs, then
`outputs` in its place. It may have neither, when the kernel knows of no other page: such a page says that it is here.

One kernel may have several notebooks, and one notebook several pages. *This* notebook is that of the page from which
the cell was sent that began something last: a holder's messages name its client (`header.session`), and so do the
parents of what the kernel sends. Other pages hold this notebook when they have it under the same path. Who fulfils a
request is decided among the holders, by its parent: the page of that client, else one of `clients`, which are those of
this notebook.

The comm is never opened with a `comm_open`: to a frontend an unknown target is an error, while a message of a comm that
it does not know is passed over. A frontend that comes later finds the comm by `comm_info_request`.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from ..machine.wire import Json
from .clicks import OPS, Clicks, OnInsert, OnPull, Spot, cell_of, client_of, running_spot, short
from .notebook import COMM_TARGET, METADATA_KEY

if TYPE_CHECKING:
    from comm.base_comm import BaseComm

__all__ = ["IN_PROCESS", "Holder", "NotebookLine", "OnAnswer"]

IN_PROCESS = ("papermill", "runner")
"""Kinds of holders that run the kernel: they hold the notebook of whatever cell, and are clients of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody who holds the notebook, as it says of itself: untrusted, like the notebook."""

    id: str
    kind: str
    path: str
    """The notebook's, as the holder knows it; empty when it does not say."""
    value: Json
    """What the notebook carries under `lash_nb`; None: nothing."""
    was: str = ""
    """The path that it named before."""
    client: str = ""
    """The connection that it speaks over, from which its cells are sent, too."""
    said: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The message; an answer to it is for this holder alone."""


OnHere = Callable[[Holder], None]
OnAnswer = Callable[[str, Mapping[str, Any]], None]
"""The client that answers, and what it says."""


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

    def __init__(
        self,
        *,
        on_here: OnHere,
        expected: bool = False,
        on_pull: OnPull | None = None,
        on_insert: OnInsert | None = None,
    ) -> None:
        """`on_here` is told who answers, on the kernel's main thread; `expected`: somebody is there, said or not.

        `on_pull` and `on_insert` are told what a page's user clicks, on the main thread, too; None: nobody can do that.
        """
        self._kernel: Any = _ipykernel()
        self._on_here = on_here
        self._clicks = Clicks(on_pull=on_pull, on_insert=on_insert)
        self._expected = expected
        self._opened = False
        self._parent: Mapping[str, Any] = {}
        self._ids = count(1)
        self._lock = threading.Lock()
        self._holders: dict[str, Holder] = {}
        """The one that spoke last is the last."""
        self._paths: dict[str, str] = {}
        """Of clients, also of those that are gone."""
        self._answers: dict[int, dict[str, Mapping[str, Any]]] = {}
        """By the holder's id."""
        self._waiting: dict[int, OnAnswer] = {}
        """Who is told of the answers to a request."""
        self._asked: dict[str, None] = {}
        """Who was asked who it is, having answered before it had said so."""

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Be there for whoever holds the notebook, and ask who does; nothing outside of a kernel."""
        if self._kernel is None or self._opened:
            return
        from comm import get_comm_manager

        self._opened = True
        get_comm_manager().register_comm(cast("BaseComm", self))
        self.begin()
        self.look()

    def begin(self) -> None:
        """Something begins in the cell that is running now, whose notebook is this one from here on."""
        if self._opened:
            self._parent = dict(self._kernel.get_parent("shell"))

    def look(self) -> None:
        """Ask who holds this notebook when nobody has said so."""
        if self._opened and not self.holders():
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
    def client(self) -> str:
        """The client from which the cell of this notebook was sent."""
        return client_of(self._parent)

    @property
    def cell(self) -> str | None:
        """The id of this notebook's cell that began something last, as its page says; None: it does not say."""
        return cell_of(self._parent)

    @property
    def spot(self) -> Spot | None:
        """On the main thread, where the cell stands that runs; None elsewhere, and between cells."""
        return running_spot(self._kernel.get_parent("shell")) if self._on_main else None

    @property
    def running(self) -> str:
        """On the main thread, the client of the cell that runs; else, and between cells, `client`."""
        return (client_of(self._kernel.get_parent("shell")) if self._on_main else "") or self.client

    @property
    def _on_main(self) -> bool:
        return self._opened and threading.current_thread() is threading.main_thread()

    def holders(self, client: str | None = None) -> tuple[Holder, ...]:
        """Those of this notebook, or of the one that a client shows: its own page first, then who spoke last."""
        client = self.client if client is None else client
        with self._lock:
            everybody = tuple(reversed(self._holders.values()))
            path = self._paths.get(client)
        own = [holder for holder in everybody if holder.client == client]
        others = [holder for holder in everybody if path and holder.path == path and holder.client != client]
        return (*own, *others) or tuple(holder for holder in everybody if holder.kind in IN_PROCESS)

    @property
    def held(self) -> bool:
        """Whether requests are sent: somebody is there who holds this notebook."""
        return self.held_for(self.client)

    def held_for(self, client: str) -> bool:
        """Whether somebody is there who holds the notebook that a client shows."""
        return self._opened and (self._expected or bool(self.holders(client)))

    def forget(self) -> None:
        """Take nobody for there any more who holds this notebook; whoever does says so at the next `look`."""
        gone = {holder.id for holder in self.holders()}
        with self._lock:
            self._holders = {name: holder for name, holder in self._holders.items() if name not in gone}

    def set(
        self,
        block: Mapping[str, Json],
        *,
        save: bool = False,
        answering: Holder | None = None,
        but: Collection[str] = (),
    ) -> int | None:
        """Ask for `block` to be written; the number under which it is known, None when nobody is there.

        `answering`: because of what this holder has said, which is to do it; `but`: holders who must not, by their ids.
        """
        parent = answering.said if answering is not None and answering.kind not in IN_PROCESS else None
        values: dict[str, Any] = {"key": METADATA_KEY, "value": block, **({"save": True} if save else {})}
        return self._ask("set", parent, but, **values)

    def get(self) -> int | None:
        """Ask for what the notebook carries now; `on_here` is told of it."""
        return self._ask("get", key=METADATA_KEY)

    def insert(
        self,
        cells: Sequence[Mapping[str, str]],
        *,
        after: str | None = None,
        active: bool = False,
        spot: Spot | None = None,
        on_answer: OnAnswer | None = None,
    ) -> int | None:
        """Ask for cells (`{cell_type, source}`) below the cell of that id; None: below the active one.

        `active`: the first becomes the active one, where nobody types; `spot`: on the page of that place.
        """
        values: dict[str, Any] = {"cells": [dict(cell) for cell in cells], "after": after}
        parent, client = (None, None) if spot is None else (spot.said, spot.client)
        return self._ask("insert", parent, (), client, on_answer, **values, **({"active": True} if active else {}))

    def replace(self, cell: str, source: str, *, was: str, on_answer: OnAnswer | None = None) -> int | None:
        """Ask for another source of the cell of that id, while it still has the one that it had."""
        return self._ask("replace", cell=cell, source=source, was=was, on_answer=on_answer)

    def place(
        self,
        cell: str,
        *,
        client: str,
        view: str | None,
        on_answer: OnAnswer,
        but: Collection[str] = (),
        **shown: Json,
    ) -> int | None:
        """Have a turn shown in its cell by the pages that did not send it; see the table at the top.

        `client`: which did; `shown`: `live` or `outputs`, left out while no other page is known.
        """
        others = any(holder.client != client and holder.id not in but for holder in self.holders(client))
        values = {"cell": cell, "from": client, "view": view, **(shown if others else {})}
        return self._ask("place", None, but, client, on_answer, **values)

    def tell(self, **status: Json) -> None:
        """Say what may be shown beside the notebook."""
        if self._opened and (self._expected or self._holders):
            self._send({"op": "status", **status})

    def acknowledged(self, number: int | None, client: str | None = None) -> bool:
        """Whether a request has been fulfilled, by a holder of this notebook or of the one that a client shows."""
        return any(answer.get("ok") is True for answer in self._answers_to(number, client))

    def refusal(self, number: int | None, client: str | None = None) -> str | None:
        """Why a request could not be fulfilled; None while that is not known."""
        answers = self._answers_to(number, client)
        if not answers or any(answer.get("ok") is True for answer in answers):
            return None
        return str(answers[0].get("error") or "refused")

    def _answers_to(self, number: int | None, client: str | None) -> list[Mapping[str, Any]]:
        ours = {holder.id for holder in self.holders(client)}
        with self._lock:
            answers = {} if number is None else self._answers.get(number, {})
            return [answer for name, answer in answers.items() if self._expected or name in ours]

    def _ask(
        self,
        op: str,
        parent: Mapping[str, Any] | None = None,
        but: Collection[str] = (),
        client: str | None = None,
        on_answer: OnAnswer | None = None,
        **values: Any,
    ) -> int | None:
        """`client`: of the notebook that it is about, if that is not this one."""
        client = self.client if client is None else client
        if not self.held_for(client):
            return None
        number = next(self._ids)
        if on_answer is not None:
            with self._lock:
                self._waiting[number] = on_answer
                _drop_oldest(self._waiting, _MOST_ANSWERS)
        clients = {} if self._expected else {"clients": self._clients(client, but)}
        self._send({"op": op, **values, **clients, "id": number}, parent)
        return number

    def _clients(self, client: str, but: Collection[str]) -> list[str]:
        return sorted({holder.client for holder in self.holders(client) if holder.id not in but})

    # -- what comes ----------------------------------------------------------------------------------------------------

    def handle_msg(self, message: Mapping[str, Any]) -> None:
        """What a holder says, handed over by the kernel's comm manager."""
        data = message["content"].get("data")
        if not isinstance(data, Mapping):
            return
        number = data.get("id")
        if data.get("op") == "here":
            self._heard(data, message)
        elif data.get("op") in OPS:
            self._clicks.take(data, message, lambda answer: self._send(answer, message))
        elif isinstance(number, int) and not isinstance(number, bool):
            name = _name(data)
            with self._lock:
                unknown = name not in self._holders and name not in self._asked
                if unknown:
                    self._asked[name] = None
                    _drop_oldest(self._asked, _MOST_ANSWERS)
                answers = self._answers.setdefault(number, {})
                answers[name] = {name: data[name] for name in ("ok", "error", "cells") if name in data}
                _drop_oldest(answers, _MOST_HOLDERS)
                _drop_oldest(self._answers, _MOST_ANSWERS)
            if data.get("ok") is True and "value" in data:
                self._heard(data, message)
            elif unknown:
                self._send({"op": "who"})  # a page that was loaded anew and has not found the comm yet
            on_answer = self._waiting.get(number)
            if on_answer is not None:
                on_answer(client_of(message), data)

    def handle_close(self, message: Mapping[str, Any]) -> None:
        """A frontend that does not know the comm closes it; that means nothing."""

    def _heard(self, data: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        name = _name(data)
        with self._lock:
            before = self._holders.pop(name, None)
            told = {**({"kind": before.kind, "path": before.path} if before is not None else {}), **data}
            holder = Holder(
                id=name,
                kind=short(told.get("kind")),
                path=short(told.get("path")),
                value=data.get("value"),
                was=before.path if before is not None else "",
                client=client_of(message),
                said=message,
            )
            self._holders[name] = holder
            _drop_oldest(self._holders, _MOST_HOLDERS)
            self._paths.pop(holder.client, None)
            self._paths[holder.client] = holder.path
            _drop_oldest(self._paths, _MOST_ANSWERS)
        self._on_here(holder)

    def _send(self, data: Mapping[str, Any], parent: Mapping[str, Any] | None = None) -> None:
        kernel = self._kernel
        # The kernel's iopub socket hands every message to the kernel's own I/O thread: any thread may send.
        kernel.session.send(
            kernel.iopub_socket,
            "comm_msg",
            {"comm_id": self.comm_id, "data": data},
            parent=self._parent if parent is None else parent,
            ident=f"comm-{uuid.uuid4().hex}".encode("ascii"),
        )


_MOST_HOLDERS, _MOST_ANSWERS = 16, 256


def _name(data: Mapping[str, Any]) -> str:
    return short(data.get("holder"))


def _drop_oldest(kept: dict[Any, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _ipykernel() -> Any:
    """The ipykernel that this process is, None when it is not one. Imports nothing that is not there already."""
    module = sys.modules.get("ipykernel.kernelbase")
    return module.Kernel.instance() if module is not None and module.Kernel.initialized() else None
