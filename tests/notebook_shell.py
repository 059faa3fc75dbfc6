"""IPython with lash_nb in it, in this process: a real InteractiveShell, and scripted kernels for the agent's code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output
from traitlets.config import Config

from lash_nb import magic
from lash_nb.kernels.scripted import ScriptedCell, ScriptedKernel
from lash_nb.machine.execution import DisplayOutput, StreamOutput

__all__ = ["CELL", "PNG", "Notebook", "bundles", "notebook_shell"]

CELL = "I look.\n<lash-cell>\nprint(41)\n</lash-cell>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_PLOT = DisplayOutput(data={"image/png": PNG, "text/plain": "<Figure>"}, metadata={})


class Notebook:
    """A shell with lash_nb in it."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell: Any = shell
        self.kernels: list[ScriptedKernel] = []
        self.cell = ScriptedCell(outputs=(StreamOutput(name="stdout", head="41\n"), _PLOT))

    def load(self, **traits: Any) -> str:
        said = self.run("%load_ext lash_nb").stdout
        self.magics.sessions.make_kernel = self._kernel
        for name, value in traits.items():
            setattr(self.magics, name, value)
        return said

    def _kernel(self) -> ScriptedKernel:
        self.kernels.append(ScriptedKernel(lambda code: self.cell))
        return self.kernels[-1]

    @property
    def magics(self) -> magic.Lash:
        found: magic.Lash = self.shell.magics_manager.registry["Lash"]
        return found

    def run(self, code: str) -> CapturedIO:
        """A cell; what it raises is raised here."""
        with capture_output() as captured:
            result = self.shell.run_cell(code, store_history=True)
        result.raise_error()
        return captured

    def value(self, name: str = "_") -> Any:
        return self.shell.user_ns[name]

    def script(self, *replies: str, name: str = "s") -> str:
        """The name of a model that says this."""
        Path(f"{name}.json").write_text(json.dumps(list(replies)))
        return f"scripted:{name}.json"

    def answers(self, *replies: str) -> None:
        """Such a model is the session's from now on."""
        self.run(f"%lash model {self.script(*replies)}")


def bundles(captured: CapturedIO) -> list[Any]:
    return [output for output in captured.outputs if "lash_nb" in (output.metadata or {})]


@contextmanager
def notebook_shell() -> Iterator[Notebook]:
    """In the current directory; lash_nb is not loaded yet, and is unloaded at the end."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    try:
        yield Notebook(shell)
    finally:
        magic.unload(shell)
        InteractiveShell.clear_instance()
