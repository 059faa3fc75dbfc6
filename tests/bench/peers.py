"""The others: each way of running a cell behind one small protocol, so that the bench can lay them side by side.

Decided here: how each peer is started, asked and ended. `raw` and `nbclient` are always there; the rest comes with
the extra `bench`, is imported only when it is asked for, and is left out when it is not installed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import importlib.util
import json
import os
import queue
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, TypeVarTuple

__all__ = ["PEERS", "Peer", "QuietLoop", "Received", "WrongAnswerError", "installed", "private_jupyter"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LONGEST_S = 120.0
_SERVER_START_S = 30.0


class WrongAnswerError(Exception):
    """A system answered, but not with what the cell printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a system hands back of one cell."""

    text: str = ""
    """Everything printed, then the value of the last expression."""
    png: str | bytes = b""
    """The last `image/png`, as the system gives it: base64 text or bytes."""
    count: int | None = None
    """The execution count, where the system tells it."""

    def png_bytes(self) -> bytes:
        return base64.b64decode(self.png) if isinstance(self.png, str) else self.png


class Peer(Protocol):
    """A system that runs cells; used from one thread."""

    name: str
    has_kernel: bool
    """Whether a kernel process of its own runs the cells: False for what interprets in this process."""

    def start(self) -> None:
        """Ready when it returns; `close` may be called after it failed, too."""
        ...

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        """Run one cell to its end.

        Raises:
            TimeoutError: nothing came for `bound_s`, where the system can be told to stop waiting.
            WrongAnswerError: the cell failed.
        """
        ...

    def close(self) -> None:
        """Nothing of it is left."""
        ...


class QuietLoop(asyncio.SelectorEventLoop):
    """A loop that takes no signal handlers: nbclient installs some, which would swallow Ctrl-C while no loop runs."""

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        raise RuntimeError("no signal handlers in a benchmark")  # nbclient goes on without


@contextlib.contextmanager
def private_jupyter() -> Iterator[None]:
    """Every Jupyter process that is started meanwhile keeps its files in a directory that is removed at the end."""
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    before = {name: os.environ.get(name) for name in (*names, "NO_PROXY")}
    with tempfile.TemporaryDirectory(prefix="lash-bench-", ignore_cleanup_errors=True) as directory:
        os.environ |= {name: str(Path(directory) / name.lower()) for name in names}
        os.environ["NO_PROXY"] = "127.0.0.1,localhost"
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _of_nbformat(outputs: Sequence[Mapping[str, Any]], count: int | None) -> Received:
    """Outputs in the form of nbformat."""
    text: list[str] = []
    png: str = ""
    for output in outputs:
        match output["output_type"]:
            case "stream":
                text.append(output["text"])
            case "error":
                raise WrongAnswerError(f"{output['ename']}: {output['evalue']}")
            case _:
                png = output["data"].get("image/png", png)
                if output["output_type"] == "execute_result":
                    text.append(output["data"]["text/plain"])
    return Received(text="".join(text), png=png, count=count)


class RawClient:
    """jupyter_client's blocking client on a stock ipykernel, over tcp with default settings: the measure of all."""

    name = "raw"
    has_kernel = True

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._client: Any = None

    def start(self) -> None:
        from jupyter_client.manager import KernelManager

        manager: Any = KernelManager()
        manager.start_kernel()
        self._ends.callback(manager.shutdown_kernel, now=True)
        self._client = manager.client()
        self._client.start_channels()
        self._ends.callback(self._client.stop_channels)
        self._client.wait_for_ready(timeout=60)

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        msg_id = self._client.execute(code)
        outputs: list[dict[str, Any]] = []
        try:
            while True:
                message = self._client.get_iopub_msg(timeout=bound_s)
                if message["parent_header"].get("msg_id") != msg_id:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content["execution_state"] == "idle":
                    break
                if kind in ("stream", "display_data", "execute_result", "error"):
                    outputs.append({"output_type": kind, **content})
            while (reply := self._client.get_shell_msg(timeout=bound_s))["parent_header"].get("msg_id") != msg_id:
                pass
        except queue.Empty:
            raise TimeoutError(f"nothing came for {bound_s:g} s") from None
        return _of_nbformat(outputs, reply["content"].get("execution_count"))

    def close(self) -> None:
        self._ends.close()


class _OnALoop:
    """A peer with coroutines: it has a loop of its own, that runs while a cell does."""

    def __init__(self) -> None:
        self._loop = QuietLoop()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def _end(self) -> None:
        self._wait(self._loop.shutdown_asyncgens())
        self._loop.close()


class NbClient(_OnALoop):
    name = "nbclient"
    has_kernel = True

    def __init__(self) -> None:
        super().__init__()
        self._context: Any = None
        self._client: Any = None
        self._cell: Any = None

    def start(self) -> None:
        nbformat: Any = importlib.import_module("nbformat.v4")
        nbclient: Any = importlib.import_module("nbclient")
        self._cell = nbformat.new_code_cell("")
        notebook = nbformat.new_notebook(cells=[self._cell])
        self._client = nbclient.NotebookClient(notebook, kernel_name="python3", timeout=int(_LONGEST_S))
        context = self._client.async_setup_kernel()
        self._wait(context.__aenter__())
        self._context = context

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        self._cell.source = code
        self._wait(self._client.async_execute_cell(self._cell, 0))
        return _of_nbformat(self._cell.outputs, self._cell.execution_count)

    def close(self) -> None:
        if self._context is not None:
            self._wait(self._context.__aexit__(None, None, None))
        self._end()


class Autogen(_OnALoop):
    name = "autogen"
    has_kernel = True

    def __init__(self) -> None:
        super().__init__()
        self._ends = ExitStack()
        self._executor: Any = None
        self._block: Any = None
        self._token: Any = None

    def start(self) -> None:
        jupyter: Any = importlib.import_module("autogen_ext.code_executors.jupyter")
        self._block = importlib.import_module("autogen_core.code_executor").CodeBlock
        self._token = importlib.import_module("autogen_core").CancellationToken
        files = self._ends.enter_context(tempfile.TemporaryDirectory())
        self._executor = jupyter.JupyterCodeExecutor(timeout=int(_LONGEST_S), output_dir=files)
        self._wait(self._executor.start())

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        block = self._block(code=code, language="python")
        result = self._wait(self._executor.execute_code_blocks([block], self._token()))
        if result.exit_code:
            raise WrongAnswerError(result.output[-200:])
        png = b""
        for path in result.output_files:  # its way of handing over an image
            png = path.read_bytes()
            path.unlink()
        return Received(text=result.output, png=png)

    def close(self) -> None:
        with self._ends:
            if self._executor is not None:
                self._wait(self._executor.stop())
            self._end()


class Smolagents:
    """Its local executor walks the syntax tree in this process: no kernel, few modules, no displays."""

    name = "smolagents"
    has_kernel = False

    def __init__(self) -> None:
        self._executor: Any = None

    def start(self) -> None:
        module: Any = importlib.import_module("smolagents")
        self._executor = module.LocalPythonExecutor([], max_print_outputs_length=10**9, timeout_seconds=int(_LONGEST_S))
        self._executor.send_tools({})

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        result = self._executor(code)
        return Received(text=result.logs + ("" if result.output is None else str(result.output)))

    def close(self) -> None:
        self._executor = None


class KernelClient:
    """jupyter-kernel-client, through a Jupyter server on loopback that is started and stopped with it."""

    name = "jupyter-kernel-client"
    has_kernel = True

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._client: Any = None

    def start(self) -> None:
        module: Any = importlib.import_module("jupyter_kernel_client")
        token = secrets.token_hex(16)
        url = self._ends.enter_context(_server(token))
        self._client = module.JupyterKernelClient(server_url=url, token=token)
        self._ends.callback(self._client.stop)
        self._client.start()

    def run(self, code: str, *, bound_s: float = _LONGEST_S) -> Received:
        reply = self._client.execute(code, timeout=bound_s)
        return _of_nbformat(reply["outputs"], reply["execution_count"])

    def close(self) -> None:
        self._ends.close()


@contextlib.contextmanager
def _server(token: str) -> Iterator[str]:
    """A Jupyter server on a free port of loopback; its URL."""
    with tempfile.TemporaryDirectory(prefix="lash-bench-root-") as root:
        options = ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={root}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *options, "--no-browser", "--allow-root", "--log-level=CRITICAL"],
            env={**os.environ, "JUPYTER_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _url_of(process)
        finally:
            process.terminate()  # it ends its kernels, then itself
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url_of(process: subprocess.Popen[bytes]) -> str:
    """Wait for the file in which the server says where it listens, then until it does."""
    told = Path(os.environ["JUPYTER_RUNTIME_DIR"]) / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + _SERVER_START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, json.JSONDecodeError):  # no file yet, half of it, nobody listens
            port = json.loads(told.read_text())["port"]
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return f"http://127.0.0.1:{port}"
        time.sleep(0.1)
    raise TimeoutError("the Jupyter server did not come up")


PEERS: dict[str, tuple[tuple[str, ...], Callable[[], Peer]]] = {
    "raw": ((), RawClient),
    "nbclient": ((), NbClient),
    "autogen": (("autogen_ext", "autogen_core", "nbclient"), Autogen),
    "smolagents": (("smolagents",), Smolagents),
    "jupyter-kernel-client": (("jupyter_kernel_client", "jupyter_server"), KernelClient),
}
"""The modules that each needs beside our own dependencies, and how it is made."""


def installed() -> tuple[dict[str, Callable[[], Peer]], list[str]]:
    """The peers that can be made here, and the names of those that are not installed."""
    there: dict[str, Callable[[], Peer]] = {}
    missing: list[str] = []
    for name, (modules, make) in PEERS.items():
        if all(importlib.util.find_spec(module) is not None for module in modules):
            there[name] = make
        else:
            missing.append(name)
    return there, missing
