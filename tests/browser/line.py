"""A kernel's half of the line to who holds the notebook, on a page: what it asks, what comes back, what is carried."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from .frontend import OpenNotebook, wait_until

__all__ = ["STATUS", "asks", "carried", "carries", "focus", "on_disk", "ours", "said", "shows", "sources", "tells"]

STATUS = {"session": "5e55", "label": "1", "model": "openai:gpt-5", "running": None, "interrupted": None}


def said(notebook: OpenNotebook, count: int = 1) -> list[Any]:
    """What the holder said since the last look."""
    told = notebook.asked(f"await line.heard({count})\nprint(json.dumps(line.came))\nline.came.clear()")
    assert told.startswith("["), told
    return list(json.loads(told))


def asks(notebook: OpenNotebook, **data: Any) -> Any:
    """Have the kernel ask something; the one answer."""
    notebook.asked(f"line.came.clear()\nline.send({data!r})")
    [answer] = said(notebook)
    return answer


def tells(notebook: OpenNotebook, **status: Any) -> None:
    """Have the kernel say what may be shown; what is not named is as in STATUS."""
    notebook.asked(f"line.send({ {'op': 'status', **STATUS, **status}!r})")


def carried(notebook: OpenNotebook) -> Any:
    """What the open notebook carries."""
    return notebook.page.evaluate("window.jupyterapp.shell.currentWidget.context.model.getMetadata('lash_nb') ?? null")


def carries(notebook: OpenNotebook, value: Any) -> None:
    """Have the open notebook carry this, as if it had been opened so; None: nothing."""
    notebook.page.evaluate(
        "value => window.jupyterapp.shell.currentWidget.context.model.setMetadata('lash_nb', value ?? undefined)", value
    )


def on_disk(notebook: OpenNotebook) -> Any:
    """What its file carries. The server may be writing it this very moment: then it is looked at again."""
    for _ in range(50):
        with suppress(json.JSONDecodeError):
            return json.loads(notebook.path.read_text(encoding="utf-8"))["metadata"].get("lash_nb")
        time.sleep(0.02)
    raise AssertionError(f"{notebook.path} is no JSON")


def sources(notebook: OpenNotebook) -> list[str]:
    """Its cells, of every kind."""
    found: list[str] = notebook.page.evaluate(
        "window.jupyterapp.shell.currentWidget.context.model.sharedModel.cells.map(cell => cell.source)"
    )
    return found


def shows(notebook: OpenNotebook, text: str) -> None:
    """Wait until the toolbar says so."""
    item = notebook.page.locator(".lash-nb-item")
    wait_until(lambda: item.all_inner_texts() == ([text] if text else []), f"{text!r} in the toolbar")


def focus(notebook: OpenNotebook) -> Any:
    """Where the person is: active cell, selected cells, edit mode, cursor, how far it is scrolled."""
    return notebook.page.evaluate(
        """() => {
          const { content } = window.jupyterapp.shell.currentWidget;
          const selected = content.widgets.filter(cell => content.isSelectedOrActive(cell)).map(cell => cell.model.id);
          const cursor = content.activeCell.editor?.getCursorPosition();
          return [content.activeCell.model.id, selected, content.mode, cursor, content.node.scrollTop];
        }"""
    )


def ours(notebook: OpenNotebook) -> list[str]:
    """What the page complained about that has to do with us: second pages and restarts bring complaints of its own."""
    return [error for error in notebook.errors if "lash" in error]
