"""Screenshots for people to look at, where `SHOTS_OF_TURNS` names a directory for them."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

__all__ = ["shot"]


def shot(page: Page, name: str) -> None:
    """What the page shows now, as NAME.png; nothing where nobody wants to look."""
    directory = os.environ.get("SHOTS_OF_TURNS")
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(directory) / f"{name}.png")
