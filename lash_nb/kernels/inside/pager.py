"""`?name` and whatever else goes to a pager: shown among the outputs, since there is no pager. Runs in the kernel."""

from __future__ import annotations

from typing import Any


def install(shell: Any, inside: Any) -> None:
    """Take IPython's hook; the feature test is that it has it."""

    def show(shell: Any, data: Any, start: int = 0, screen_lines: int = 0, pager_cmd: Any = None) -> None:
        bundle = data if isinstance(data, dict) else {"text/plain": str(data)}
        shell.display_pub.publish(bundle.get("data", bundle))

    shell.hooks["show_in_pager"]
    shell.set_hook("show_in_pager", show, 0)
