"""An engine of papermill, `--engine lash_nb`: papermill's own, with somebody who holds the notebook for its kernel.

Decided here: what papermill does stays as it is; a turn is in the output's `metadata.lash_nb` while it runs, and when
it failed. The output is replaced as a whole for that, where it is a file of this machine. The kernel is told what
`lash-nb run` tells it: which notebook it is (a cassette may lie beside that), and that its journal goes beside OUT.
papermill is imported when it calls.
"""

from __future__ import annotations

import json
import os
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from .errors import MissingExtraError, NotebookError
from .holder import NotebookHolder
from .run_settings import RUN_OPTIONS
from .stores.documents import Output
from .stores.notebook import METADATA_KEY, lasting

__all__ = ["LashEngine"]


class LashEngine:
    """What papermill finds under the name `lash_nb`; everything raises MissingExtraError where papermill is missing."""

    @classmethod
    def execute_notebook(cls, nb: NotebookNode, kernel_name: str, **options: Any) -> NotebookNode:
        """Execute every cell; the options are papermill's."""
        _forget_the_last_run(nb)
        done: NotebookNode = _engine().execute_notebook(nb, kernel_name, **options)
        return done

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """The kernel that is named, or that the notebook names."""
        return str(_engine().nb_kernel_name(nb, name))

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        """The language that is named, or that the notebook names."""
        return str(_engine().nb_language(nb, language))


def _part(name: str) -> Any:
    try:
        return import_module(f"papermill.{name}")
    except ImportError:
        raise MissingExtraError("papermill is not installed: pip install 'lash-nb[papermill]'") from None


@cache
def _engine() -> Any:
    theirs: Any = _part("engines").NBClientEngine

    class Engine(theirs):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> NotebookNode:
            return _executed(nb_man, kernel_name, options)

    return Engine


def _executed(nb_man: Any, kernel_name: str, options: dict[str, Any]) -> NotebookNode:
    """papermill's own client, by its settings, with our holder."""
    source, output = _file(options.pop("input_path", None)), _file(nb_man.output_path)
    options["timeout"] = options.pop("execution_timeout", None) or options.get("timeout")
    options["startup_timeout"] = options.pop("start_timeout", 60)
    log = _part("log").logger
    client: Any = _part("clientwrap").PapermillNotebookClient(nb_man, kernel_name=kernel_name, log=log, **options)
    path = str(output or nb_man.output_path or "")
    holder = NotebookHolder(client, kind="papermill", path=path, save=lambda: _save(nb_man, output))
    others = client.handle_comm_msg

    def handle_comm_msg(outs: Any, msg: dict[str, Any], cell_index: int) -> None:
        if not holder.take(msg):
            others(outs, msg, cell_index)

    client.handle_comm_msg = handle_comm_msg
    try:
        executed: NotebookNode = client.execute(env=_told(source, output))
    finally:
        holder.close()
    return executed


def _file(path: object) -> Path | None:
    """The file that papermill means; None when it is none of this machine."""
    io = _part("iorw")
    if not isinstance(path, str) or not isinstance(handler := io.papermill_io.get_handler(path), io.LocalHandler):
        return None
    started_in = handler.cwd(None)  # papermill goes to another directory before it calls an engine
    handler.cwd(started_in)
    return Path(os.path.realpath(Path(started_in or ".", path)))


def _forget_the_last_run(notebook: NotebookNode) -> None:
    """What is executed again begins anew, as its outputs do; what the author suggests and what is kept stays."""
    if rest := lasting(notebook.metadata.pop(METADATA_KEY, None)):
        notebook.metadata[METADATA_KEY] = rest


def _save(nb_man: Any, output: Path | None) -> None:
    """Write the output. Raises NotebookError: it cannot be."""
    if output is not None:
        Output(output).save(nb_man.nb)
    elif nb_man.output_path not in (None, "-"):
        try:
            nb_man.save()
        except Exception as error:  # of a storage's client, whichever it is
            raise NotebookError(f"the output {nb_man.output_path} cannot be written: {error}") from error


def _told(source: Path | None, output: Path | None) -> dict[str, str]:
    """The kernel's environment."""
    beside = str(output.with_suffix(".lash")) if output is not None else None
    told = {
        "headless": True,
        "notebook": str(source) if source is not None and source.is_file() else None,
        "state_dir": os.environ.get("LASH_NB_STATE_DIR") or beside,
    }
    return {**os.environ, RUN_OPTIONS: json.dumps(told)}
