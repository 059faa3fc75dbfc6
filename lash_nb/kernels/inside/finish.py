"""How a cell ends: by `finish(value)`, and by `exit()`. Runs in the kernel.

`finish(value)` ends the cell and hands a JSON value to the host. The value travels in the payload of the cell's reply,
never through stdout. The exception is a `BaseException`, so that `except Exception` does not swallow it; when something
did, and the cell then ended well, the value counts all the same.

`exit()` and `quit()` would end the kernel a moment after the cell, with all variables and maybe in the middle of the
next one. Whoever writes them means that this is all, so they do what `sys.exit()` does.
"""

from __future__ import annotations

import builtins
import json
import threading
from typing import Any

from .json_values import MAX_CHARS, to_json

NAME = "LashFinish"


class LashFinish(BaseException):
    """Ends the cell; it is no error."""


def install(shell: Any, inside: Any) -> None:
    """Put `finish` beside the builtins, and make its exception end a cell in silence."""

    def finish(value: Any = None) -> None:
        """End this cell and the task, and return `value` (JSON, or a table: its rows) to whoever asked."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("finish() must be called by the cell itself, not by a thread of it")
        try:
            text = json.dumps(to_json(value, "finish(): value"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error)) from None  # without our own frames
        if len(text) > MAX_CHARS:
            raise ValueError(
                f"finish(): the value is {len(text):,} characters of JSON, over the limit of {MAX_CHARS:,}; "
                "give a summary, or save it to a file and give its path"
            )
        shell.payload_manager.write_payload({"source": NAME, "value": text})
        raise LashFinish

    def silent(shell: Any, etype: Any, value: Any, tb: Any, tb_offset: Any = None) -> list[str]:
        return []

    def ask_exit() -> None:
        raise SystemExit("the cell ended itself; the kernel and its variables stay")

    shell.ask_exit = ask_exit
    shell.payload_manager.write_payload  # noqa: B018 (a feature test)
    shell.set_custom_exc((LashFinish,), silent)
    finish.__module__, finish.__qualname__ = "builtins", "finish"
    builtins.finish = finish  # type: ignore[attr-defined]
