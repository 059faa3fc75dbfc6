"""Pages of our own in Chromium, without any frontend: set from text, with a trap for whatever tries to leave them.

Playwright's loop lives in a thread of its own here, because a frontend's may run in the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from playwright.sync_api import Dialog, Page, Route, sync_playwright

from .frontend import _CHROMIUM_FLAGS, PATIENCE_S, _chromium

__all__ = ["MARKERS", "PlainPages", "Trap"]

_T = TypeVar("_T")

MARKERS = """\
  const markers = [...document.querySelectorAll("aside")];
  const [first] = markers.map(one => one.getBoundingClientRect());
  for (const marker of markers) {
    marker.scrollIntoView();
    const { left, width, top, height } = marker.getBoundingClientRect();
    const style = getComputedStyle(marker);
    if (marker.parentElement !== document.body) found.push(`${marker.id} is swallowed`);
    if (left !== 8 || width !== first.width || height !== first.height) found.push(`${marker.id} has moved`);
    if (style.direction !== "ltr" || style.color !== "rgb(0, 0, 0)") found.push(`${marker.id} looks otherwise`);
    if (document.elementFromPoint(left + 2, top + height / 2) !== marker) found.push(`${marker.id} is covered`);
  }
"""
"""JavaScript: puts into `found` what is wrong with the `markers`, one `aside` behind each article of a page."""


@dataclass
class Trap:
    """What a page did that no page of ours does."""

    happened: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on("dialog", self._opened)
        page.on("popup", lambda popup: self.happened.append(f"popup: {popup.url}"))
        page.on("console", lambda message: self.happened.append(f"console: {message.text[:300]}"))
        page.on("pageerror", lambda error: self.happened.append(f"error: {error}"))
        page.on("download", lambda download: self.happened.append(f"download: {download.url}"))
        page.on("framenavigated", lambda frame: self.happened.append(f"navigation: {frame.url}"))
        page.route("**/*", self._asked)

    def _opened(self, dialog: Dialog) -> None:
        self.happened.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, route: Route) -> None:
        self.happened.append(f"request: {route.request.url[:300]}")
        route.abort()


class PlainPages:
    """A browser for the length of a `with`."""

    def __enter__(self) -> PlainPages:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._stack = ExitStack()
        try:
            self._thread.submit(self._start).result()
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._stack.close).result()
        self._thread.shutdown()

    def _start(self) -> None:
        playwright = self._stack.enter_context(sync_playwright())
        self._browser = playwright.chromium.launch(executable_path=_chromium(), args=list(_CHROMIUM_FLAGS))
        self._stack.callback(self._browser.close)

    def on(
        self, look: Callable[[Page], _T], *, content: str, dark: bool = False, loaded: bool = True
    ) -> tuple[_T, list[str]]:
        """What `look` finds on a page 800 pixels wide that holds `content`, and what fell into the trap.

        With `loaded`, all that it loads is there first.
        """
        return self._thread.submit(self._on, look, content, dark, loaded).result()

    def _on(self, look: Callable[[Page], _T], content: str, dark: bool, loaded: bool) -> tuple[_T, list[str]]:
        page = self._browser.new_page(
            viewport={"width": 800, "height": 600}, color_scheme="dark" if dark else "light", service_workers="block"
        )
        trap = Trap()
        try:
            page.set_default_timeout(PATIENCE_S * 1000)
            page.goto("about:blank")
            trap.on(page)
            page.set_content(content, wait_until="load" if loaded else "domcontentloaded")
            trap.happened = [what for what in trap.happened if what != "navigation: about:blank"]
            found = look(page)
            page.wait_for_timeout(50)
            return found, trap.happened
        finally:
            page.close()
