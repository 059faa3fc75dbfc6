"""A real JupyterLab or Notebook in Chromium, as a person uses it: cells, clicks, shortcuts, what is on the page.

    with Frontend(directory, "lab") as frontend, frontend.opened(["1 + 1"]) as notebook:
        notebook.run(0)
        notebook.saved()

Server, kernels and browser are ended with the block; everything they write is under `directory`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import nbformat
import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, WebSocket, sync_playwright

__all__ = ["IN_LAB", "Frontend", "OpenNotebook", "Ui", "wait_until"]

Ui: TypeAlias = Literal["lab", "notebook"]

IN_LAB = pytest.mark.parametrize("frontend", ["lab"], indirect=True)
"""For what kernel and view alone decide: it is shown in one frontend. A second one takes as long again."""

PATIENCE_S = 60.0
"""How long anything is waited for; the machine may be busy."""

_MODULES = {"lab": "jupyterlab", "notebook": "notebook"}
_APPS = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}
_PLACES = {"lab": "/lab/tree/{path}?reset&token={token}", "notebook": "/notebooks/{path}?token={token}"}
_CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}
_NOT_OURS = {"lab": (), "notebook": ("Cannot read properties of undefined (reading 'schema')",)}
"""What the pages complain about while a notebook without any cell run is opened."""
_KERNEL_STATUS = "window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status"
_ASK = """async code => {
  const { kernel } = window.jupyterapp.shell.currentWidget.context.sessionContext.session;
  const future = kernel.requestExecute({ code, store_history: false });
  let said = "";
  future.onIOPub = ({ content }) => (said += content.text ?? content.traceback?.join("\\n") ?? "");
  await future.done;
  return said;
}"""


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that no event tells of."""
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, f"this never came: {what}"
        time.sleep(0.1)


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "these tests need Chromium on the PATH"
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Frontend:
    """A server with settings of its own, and a browser."""

    def __init__(self, directory: Path, ui: Ui) -> None:
        self.directory, self.ui = directory, ui
        self.notebooks = directory / "notebooks"
        self._token = secrets.token_hex()
        self._opened = 0
        self._stack = ExitStack()

    def __enter__(self) -> Frontend:
        with ExitStack() as stack:
            self._start_server(stack)
            self._browser = self._start_browser(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- server --------------------------------------------------------------------------------------------------------

    def _start_server(self, stack: ExitStack) -> None:
        home = self.directory / "home"
        news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)
        news.write_text(json.dumps(_NO_NEWS), encoding="utf-8")
        self.notebooks.mkdir()
        self.port = _free_port()
        places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "run", "JUPYTERLAB_SETTINGS_DIR": "settings"}
        env = {**os.environ, "HOME": str(home), **{name: str(home / place) for name, place in places.items()}}
        env["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
        command = [
            *(sys.executable, "-m", _MODULES[self.ui], "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
            *(f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={self.notebooks}"),
            f"--{_APPS[self.ui]}.expose_app_in_browser=True",
        ]
        log = stack.enter_context((self.directory / "server.log").open("wb"))
        server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(self._end_server, server)
        wait_until(lambda: self._answers(server), f"an answer of the server ({log.name})")

    def _answers(self, server: subprocess.Popen[bytes]) -> bool:
        assert server.poll() is None, (self.directory / "server.log").read_text(encoding="utf-8")
        try:
            self._ask("GET", "/api/sessions")
        except OSError:
            return False
        return True

    def _end_server(self, server: subprocess.Popen[bytes]) -> None:
        """SIGTERM: the server ends its kernels first."""
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(PATIENCE_S)
        finally:
            server.kill()
            server.wait()

    def _ask(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    # -- browser -------------------------------------------------------------------------------------------------------

    def _start_browser(self, stack: ExitStack) -> BrowserContext:
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch_persistent_context(
            str(self.directory / "profile"),
            executable_path=_chromium(),
            args=list(_CHROMIUM_FLAGS),
            viewport={"width": 1200, "height": 1400},
        )
        stack.callback(browser.close)
        browser.set_default_timeout(PATIENCE_S * 1000)
        return browser

    @contextmanager
    def opened(self, cells: Sequence[str], **metadata: Any) -> Iterator[OpenNotebook]:
        """A new notebook in a directory of its own, on a page of its own; its kernel is ended with the block."""
        self._opened += 1
        path = self.notebooks / str(self._opened) / "notebook.ipynb"
        path.parent.mkdir()
        _write(path, cells, metadata)
        try:
            with self.on_page(path) as notebook:
                yield notebook
        finally:
            self.end_kernels(path.parent)

    @contextmanager
    def on_page(self, path: Path) -> Iterator[OpenNotebook]:
        """A notebook of the server's, on a page of its own: its kernel is the one that it has, and stays."""
        place = _PLACES[self.ui].format(path=path.relative_to(self.notebooks).as_posix(), token=self._token)
        page = self._browser.new_page()
        try:
            yield OpenNotebook(page, path, url=f"http://127.0.0.1:{self.port}{place}", not_ours=_NOT_OURS[self.ui])
        except Exception as error:
            error.add_note(f"The page then:\n{page.locator('body').inner_text()}")
            raise
        finally:
            page.close()

    def end_kernels(self, directory: Path) -> None:
        """End the kernels of a directory's notebooks, in an orderly way."""
        for session in self._ask("GET", "/api/sessions"):
            if (self.notebooks / session["path"]).parent == directory:
                self._ask("DELETE", f"/api/sessions/{session['id']}")


def _write(path: Path, cells: Sequence[str], metadata: Mapping[str, Any]) -> None:
    formats: Any = nbformat
    written = formats.v4.new_notebook(cells=[formats.v4.new_code_cell(cell) for cell in cells], metadata=metadata)
    written.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    formats.write(written, path)


class OpenNotebook:
    """One notebook on a page. Cells are counted from 0."""

    def __init__(self, page: Page, path: Path, *, url: str, not_ours: Sequence[str] = ()) -> None:
        self.page, self.path, self._url, self._not_ours = page, path, url, not_ours
        self._errors: list[str] = []
        self.console: list[str] = []
        """Everything in the console, with where it came from."""
        self.sent: list[str] = []
        """What the page sent to kernels: each message as it went over the wire."""
        page.on("console", self._heard)
        page.on("websocket", self._listen)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        # A question whether to leave without saving is answered with yes.
        page.on("dialog", lambda dialog: dialog.accept())
        self.load()

    def _heard(self, message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        self.console.append(text)
        if message.type == "error":
            self._errors.append(text)

    def _listen(self, socket: WebSocket) -> None:
        def keep(frame: str | bytes) -> None:
            self.sent.append(frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))

        socket.on("framesent", keep)

    @property
    def errors(self) -> list[str]:
        """What the page complained about."""
        return [error for error in self._errors if error not in self._not_ours]

    def load(self) -> None:
        """The page, anew: until cells are there and the kernel waits for something to do."""
        self.page.goto(self._url)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.is_idle()

    def is_idle(self) -> None:
        """Wait until the kernel has nothing more to do."""
        self.page.wait_for_function(f"{_KERNEL_STATUS} === 'idle'")

    # -- what a person does --------------------------------------------------------------------------------------------

    def start(self, number: int) -> Locator:
        """Run a cell, and see that it has begun; its outputs."""
        cell = self.cell(number)
        before = self.prompt(number)
        cell.locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")
        wait_until(lambda: self.prompt(number) != before, f"the beginning of cell {number}")
        return self.outputs(number)

    def run(self, number: int) -> Locator:
        """Run a cell to its end; its outputs."""
        outputs = self.start(number)
        self.ended(number)
        return outputs

    def ended(self, number: int) -> None:
        """Wait for the end of a cell."""
        wait_until(lambda: bool(re.fullmatch(r"\[\d+\]:?", self.prompt(number))), f"the end of cell {number}")

    def answer(self, number: int, text: str) -> None:
        """Type what a cell asks for, and Enter."""
        question = self.cell(number).locator(".jp-Stdin input")
        question.fill(text)
        question.press("Enter")

    def kernel_dies(self, pid: int) -> None:
        """Kill the notebook's kernel, as the system does when memory runs out; wait until the page has another one."""
        os.kill(pid, signal.SIGKILL)
        dialog = self.page.locator(".jp-Dialog", has_text="appears to have died")
        dialog.wait_for()
        dialog.get_by_role("button").last.click()
        self.is_idle()

    def interrupt_by_shortcut(self) -> None:
        """`i i`, in command mode."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("i")
        self.page.keyboard.press("i")

    def run_all(self) -> None:
        """Run, Run All Cells."""
        self._choose("Run", "Run All Cells")

    def interrupt_by_menu(self) -> None:
        """Kernel, Interrupt Kernel."""
        self._choose("Kernel", "Interrupt Kernel")

    def _choose(self, menu: str, item: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{item}$")).click()

    def saved(self) -> Any:
        """Save; the notebook as it is in the file then."""
        with self.page.expect_response(
            lambda answer: "/api/contents/" in answer.url and answer.request.method == "PUT"
        ):
            self.page.keyboard.press("Control+s")
        formats: Any = nbformat
        return formats.read(self.path, as_version=4)

    def asked(self, code: str) -> str:
        """Run code in the notebook's kernel, past its cells; what it said."""
        said: str = self.page.evaluate(_ASK, code)
        return said

    def change_theme(self, name: str) -> None:
        """The theme of the whole page."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")

    # -- what is on the page -------------------------------------------------------------------------------------------

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def outputs(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea-child")

    def sees(self, number: int, text: str) -> None:
        """Wait until a text stands in a cell's outputs."""
        self.outputs(number).get_by_text(text).first.wait_for()

    def prompt(self, number: int) -> str:
        text: str = self.cell(number).locator(".jp-InputPrompt").inner_text()
        return text.replace("\xa0", " ").strip()

    def stop_button(self, number: int) -> Locator:
        return self.cell(number).get_by_role("button", name="Stop")
