"""A real ipykernel, driven as a frontend drives it: cells, their outputs, interrupts and clicks."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

__all__ = ["Cell", "NotebookKernel", "Page", "is_gone", "notebook_kernel", "scripted_notebook", "wait_until_gone"]

PATIENCE_S = 40.0


@dataclass
class Cell:
    """A cell that runs, or has run."""

    message_id: str
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """Content of what was published, each with its `msg_type`."""
    widgets: dict[str, str] = field(default_factory=dict)
    """Name of a widget's model → its comm; the newest."""
    drawn: list[str] = field(default_factory=list)
    """What its views were told to show, in order, as JSON."""
    reply: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """All that it wrote on its streams."""
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def error(self) -> str:
        """`NAME: message`; empty when it ended well."""
        found = self.of("error")
        return f"{found[-1]['ename']}: {found[-1]['evalue']}" if found else ""

    @property
    def displays(self) -> list[dict[str, Any]]:
        return self.of("display_data")

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The static bundles among the displays: those that carry a record."""
        return [content for content in self.displays if "lash_nb" in content["metadata"]]

    @property
    def bundle_text(self) -> str:
        """The plain text of its only bundle."""
        (bundle,) = self.bundles
        found: str = bundle["data"]["text/plain"]
        return found

    @property
    def shown(self) -> str:
        """The plain text of all its displays; a turn that waits leaves no bundle."""
        return "\n".join(str(content["data"].get("text/plain", "")) for content in self.displays)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [content for content in self.outputs if content["msg_type"] == kind]


@dataclass
class Page:
    """A page that shows the notebook, and holds what it carries, as JupyterLab's extension does."""

    name: str = "page 1"
    kind: str = "jupyterlab"
    path: str = "notebook.ipynb"
    value: Any = None
    there: bool = True
    """Whether it answers: else its browser was closed."""
    client: str = ""
    """Its connection to the kernel."""
    said: bool = False
    """Whether it has said that it is here."""
    heard: list[dict[str, Any]] = field(default_factory=list)
    """What the kernel said, in order."""
    heard_at: list[float] = field(default_factory=list)

    def here(self) -> dict[str, Any]:
        return {"op": "here", "kind": self.kind, "path": self.path, "value": self.value}

    def take(self, data: dict[str, Any], asked: bool = True) -> dict[str, Any] | None:
        """What it answers; `asked`: it is the one that does what is asked for."""
        self.heard.append(data)
        self.heard_at.append(time.monotonic())
        if data["op"] == "status" or not asked:
            return None
        if data["op"] == "who":
            return self.here()
        answer: dict[str, Any] = {"id": data["id"], "ok": True}
        if data["op"] == "set" and self.there:
            self.value = data["value"]
        return {**answer, "value": self.value, "path": self.path} if data["op"] == "get" else answer

    def of(self, op: str) -> list[dict[str, Any]]:
        return [data for data in self.heard if data["op"] == op]


class NotebookKernel:
    """One kernel and the only client of it."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client: Any = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)
        self.pages: list[Page] = []
        """Those who hold the notebook, or another one."""
        self._first = True

    def opened(self, page: Page) -> None:
        """A page of a notebook is opened, and finds the kernel; cells are sent from the first, if nothing is said."""
        self.joined(page)
        self.client.comm_info(target_name="lash_nb.notebook")
        reply = self.client.get_shell_msg(timeout=PATIENCE_S)
        while reply["msg_type"] != "comm_info_reply":
            reply = self.client.get_shell_msg(timeout=PATIENCE_S)
        if "lash_nb.notebook" in reply["content"]["comms"]:
            self.say(page, page.here())

    def joined(self, page: Page) -> None:
        """A page is opened while a cell runs: until that has ended, the kernel does not say whether it has the comm."""
        page.client = self.client.session.session if self._first else f"client of {page.name}"
        page.said = self._first = False
        self.pages.append(page)

    def say(self, page: Page, data: Mapping[str, Any]) -> None:
        """Something that a page says."""
        page.said = page.said or data.get("op") == "here"
        content = {"comm_id": "lash_nb.notebook", "data": {**data, "holder": page.name}}
        self._send("comm_msg", content, page.client)

    def _send(self, kind: str, content: Mapping[str, Any], client: str) -> str:
        message = self.client.session.msg(kind, content)
        message["header"]["session"] = client or message["header"]["session"]
        self.client.shell_channel.send(message)
        message_id: str = message["header"]["msg_id"]
        return message_id

    def run(self, code: str, *, client: str = "") -> Cell:
        """A cell, to its end."""
        return self.finish(self.start(code, client=client))

    def start(self, code: str, *, allow_stdin: bool = True, client: str = "") -> Cell:
        """A cell; `client`: of the page from which it is sent."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        return Cell(self._send("execute_request", content, client))

    def model(self, script: str) -> None:
        """From now on one of the `scripted_notebook`'s scripts answers."""
        assert not self.run(f"%lash model scripted:{script}.json").error

    def ask(self, script: str, code: str, *, allow_stdin: bool = True) -> Cell:
        """A cell whose turn is answered by one of the `scripted_notebook`'s scripts."""
        self.model(script)
        return self.start(code, allow_stdin=allow_stdin)

    def question(self) -> dict[str, Any]:
        """What the running cell asks the person: the content of its `input_request`."""
        content: dict[str, Any] = self.client.get_stdin_msg(timeout=PATIENCE_S)["content"]
        return content

    def answer(self, text: str) -> None:
        """The person's answer."""
        self.client.input(text)

    def finish(self, cell: Cell) -> Cell:
        self.until(cell, lambda: cell.reply is not None)
        return cell

    def until(self, cell: Cell, done: Callable[[], bool]) -> None:
        """Take messages until something holds; the cell's `reply` is set once it is idle and has answered."""
        ends = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < ends, f"nothing more came; outputs: {cell.outputs}"
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            self._take(cell, message)

    def _take(self, cell: Cell, message: Mapping[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_msg" and content["comm_id"] == "lash_nb.notebook":
            self._heard(content["data"], message["parent_header"].get("session"))
            return
        if kind == "comm_open" and "_model_name" in content["data"].get("state", {}):
            cell.widgets[content["data"]["state"]["_model_name"]] = content["comm_id"]
            if message["parent_header"].get("msg_id") == cell.message_id and "document" in content["data"]["state"]:
                cell.drawn.append(json.dumps(content["data"]["state"]["document"]))
        if message["parent_header"].get("msg_id") != cell.message_id:
            return
        if kind == "comm_msg" and content["data"].get("method") == "custom":
            cell.drawn.append(json.dumps(content["data"]["content"]))
        elif kind == "status" and content["execution_state"] == "idle":
            reply = self.client.get_shell_msg(timeout=PATIENCE_S)
            while reply["parent_header"].get("msg_id") != cell.message_id:
                reply = self.client.get_shell_msg(timeout=PATIENCE_S)
            cell.reply = reply["content"]
        elif kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            cell.outputs.append({"msg_type": kind, **content})

    def _heard(self, data: dict[str, Any], asker: str) -> None:
        """Every page hears it; what is asked for is done by the page of the cell, or another of its notebook."""
        there = [page for page in self.pages if page.there and page.client in data.get("clients", [page.client])]
        asked = ([page for page in there if page.client == asker] or there)[:1]
        for page in self.pages:
            answer = page.take(data, data["op"] == "who" or page in asked)
            if page.there and not page.said and page.client not in data.get("clients", [page.client]):
                answer = page.here()
            if answer is not None and page.there:
                self.say(page, answer)

    def interrupt(self) -> None:
        """What a frontend's own Stop does: SIGINT."""
        self.manager.interrupt_kernel()

    def click(self, comm_id: str, do: str = "stop", **more: str) -> None:
        """What a click in a turn's view sends."""
        data = {"method": "custom", "content": {"do": do, **more}, "buffers": []}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))


def is_gone(pid: int) -> bool:
    """Whether the process ended: its entry is gone, or that of a zombie which its parent has not reaped."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    """Until the process ended."""
    while not is_gone(pid):
        time.sleep(0.02)


@contextmanager
def notebook_kernel(directory: Path, **env: str) -> Iterator[NotebookKernel]:
    """A kernel in `directory`, ended at the end with everything it started."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(directory), env={**os.environ, **env})
    kernel = NotebookKernel(manager)
    try:
        yield kernel
    finally:
        kernel.client.stop_channels()
        manager.shutdown_kernel(now=False)


def scripted_notebook(scripts: Mapping[str, object]) -> tuple[Any, Any, Any]:
    """Three fixtures: a directory with `NAME.json` for each script, a module's kernel in it, that with lash_nb loaded.

    Only the last one is new for each test: the extension is loaded before it, and unloaded behind it.
    """

    @pytest.fixture(scope="module")
    def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
        place = tmp_path_factory.mktemp("notebook")
        for name, replies in scripts.items():
            (place / f"{name}.json").write_text(json.dumps(replies))
        return place

    @pytest.fixture(scope="module")
    def kernel(directory: Path) -> Iterator[NotebookKernel]:
        with notebook_kernel(directory) as started:
            yield started

    @pytest.fixture
    def notebook(kernel: NotebookKernel) -> Iterator[NotebookKernel]:
        kernel.run("%load_ext lash_nb")
        yield kernel
        kernel.run("%unload_ext lash_nb")

    return directory, kernel, notebook
