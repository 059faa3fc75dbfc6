"""The .ipynb file: read whole and checked, given parameters, written atomically.

Decided here: what is accepted as a notebook (nbformat 4; older ones are converted, missing or double cell ids filled
in), that an output is never its input however the two are named, that a file is replaced in one step and durable when
`save` returns, and how parameters go in (papermill's convention: after the cell tagged `parameters`, else at the top).
A notebook is read, never run. What is wrong is an error of one sentence, before anything is written.
"""

from __future__ import annotations

import ast
import importlib
import json
import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from ..errors import InputError, MissingExtraError, NotebookError
from .raw_documents import read_document

__all__ = [
    "Output",
    "error_output",
    "load_notebook",
    "parse_value",
    "place_output",
    "read_parameters",
    "with_parameters",
]

_nbformat: Any = nbformat
"""Its functions carry no annotations."""

# ---------------------------------------------------------------------------------------------------------- reading


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def load_notebook(path: Path) -> NotebookNode:
    """The notebook at `path`, valid nbformat 4.

    Raises:
        NotebookError: there is none, or it is not one.
    """
    data = read_document(path)
    minor = data.get("nbformat_minor", 0)
    if not isinstance(minor, int):  # nbformat's own checks end in an assertion
        raise NotebookError(
            f"{path} is not a valid notebook: nbformat_minor is of type {type(minor).__name__}, not a whole number"
        )
    try:
        notebook = _as_v4(data)
        # Of every minor version that nbformat does not know yet it would compile (and keep) a schema of its own.
        at_most = min(notebook.nbformat_minor, nbformat.current_nbformat_minor + 1)
        nbformat.validate(notebook, version=notebook.nbformat, version_minor=at_most, relax_add_props=True)
    except nbformat.ValidationError as error:
        place = ".".join(str(step) for step in getattr(error, "absolute_path", ())) or "notebook"
        raise NotebookError(f"{path} is not a valid notebook: {place}: {_first_line(error)}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise NotebookError(f"{path} is not a valid notebook ({type(error).__name__} on reading it)") from None
    for number, cell in enumerate(notebook.cells, 1):
        try:
            cell.source.encode()
        except UnicodeEncodeError as error:
            half = f"{cell.source[error.start]!a}, half of a surrogate pair"
            raise NotebookError(f"{path} is not a valid notebook: cell {number} holds {half}") from None
    return notebook


def _first_line(error: Exception) -> str:
    line = str(getattr(error, "message", error)).partition("\n")[0]
    return line if len(line) <= 120 else line[:117] + "..."


def _as_v4(data: dict[str, Any]) -> NotebookNode:
    if data["nbformat"] < nbformat.current_nbformat:
        # Converts; what it cannot make valid is found by the validation that follows.
        converted = _nbformat.convert(_nbformat.reader.reads(json.dumps(data)), nbformat.current_nbformat)
        data = _nbformat.from_dict(converted)
    notebook: NotebookNode = _nbformat.v4.to_notebook(data)
    notebook.setdefault("metadata", _nbformat.NotebookNode())
    notebook.setdefault("nbformat_minor", 0)
    if (notebook.nbformat, notebook.nbformat_minor) >= (4, 5):
        seen: set[str] = set()
        for index, cell in enumerate(notebook.cells):
            if not isinstance(cell.get("id"), str) or cell["id"] in seen:
                cell["id"] = f"cell-{index}" if f"cell-{index}" not in seen else f"cell-{index}-again"
            seen.add(cell["id"])
    return notebook


# ---------------------------------------------------------------------------------------------------------- writing


def place_output(in_: Path, out: Path | None) -> Path:
    """Where the executed notebook goes: `out`, or `IN.out.ipynb` beside the input.

    Raises:
        InputError: it is the input itself (through another name, a symbolic or a hard link, too).
    """
    placed = Path(os.path.realpath(out if out is not None else in_.with_name(f"{in_.stem}.out.ipynb")))
    same = placed == Path(os.path.realpath(in_)) or (placed.exists() and placed.samefile(in_))
    if same:
        raise InputError(f"the output {out or placed} is the notebook {in_} itself; a run never overwrites its input")
    return placed


class Output:
    """A notebook file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # One name for each process, so that two runs do not write into each other's file.
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def probe(self) -> None:
        """Find out, before anything is run, whether saving will be possible. Leaves nothing behind.

        Raises:
            NotebookError: it will not.
        """
        problem = ""
        if self.path.is_dir():
            problem = "it is a directory"
        elif self.path.exists() and not self.path.is_file():
            problem = "it is no file (a device or a pipe would be replaced by one)"
        elif not self.path.parent.is_dir():
            problem = f"there is no directory {self.path.parent}"
        elif self.path.exists() and not os.access(self.path, os.W_OK):
            problem = "it is write-protected"
        else:
            try:
                self._temporary.touch()
                self._temporary.unlink()
            except OSError as error:
                problem = _reason(error)
        if problem:
            raise NotebookError(f"the output {self.path} cannot be written: {problem}")

    def save(self, notebook: NotebookNode) -> None:
        """Replace the file; on the disk when this returns.

        Raises:
            NotebookError: it could not be written; the file is as it was.
        """
        data = (_nbformat.v4.writes(_tidy(notebook)) + "\n").encode("utf-8", "backslashreplace")
        try:
            mode = self.path.stat().st_mode & 0o777 if self.path.exists() else None
            with open(self._temporary, "wb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._temporary, self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise NotebookError(f"the output {self.path} cannot be written: {_reason(error)}") from None


def _sync_directory(path: Path) -> None:
    """Makes a rename in it durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(notebook: NotebookNode) -> NotebookNode:
    """The notebook with neighbouring pieces of one stream joined: where they are cut depends on timing alone.

    A copy, because nbclient finds the outputs that are to be updated by their index.
    """
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs: list[NotebookNode] = []
            for output in cell.outputs:
                last = outputs[-1] if outputs else None
                if last and output.output_type == "stream" == last.output_type and output.name == last.name:
                    outputs[-1] = _nbformat.NotebookNode({**last, "text": last.text + output.text})
                else:
                    outputs.append(output)
            cell = _nbformat.NotebookNode({**cell, "outputs": outputs})
        cells.append(cell)
    tidy: NotebookNode = _nbformat.NotebookNode({**notebook, "cells": cells})
    return tidy


def error_output(error: Exception) -> NotebookNode:
    """An output that says why a cell has no others."""
    name, said = type(error).__name__, str(error)
    output: NotebookNode = _nbformat.v4.new_output("error", ename=name, evalue=said, traceback=[f"{name}: {said}"])
    return output


# ------------------------------------------------------------------------------------------------------- parameters


def parse_value(text: str) -> Any:
    """The value that a command line means: JSON, Python's True, False and None, else the text itself."""
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]

    def constant(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError):
        return text


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters in a file: a JSON object, or YAML by its suffix where PyYAML is installed.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no parameter file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"the parameter file {path} cannot be read: {reason}") from None
    values = _yaml(path, text) if path.suffix in (".yaml", ".yml") else _json(path, text)
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"the parameter file {path} holds no object of names and values")
    return values


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the parameter file {path} is not JSON ({error})") from None


def _yaml(path: Path, text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise MissingExtraError(f"to read {path}: `pip install pyyaml`, or write the parameters as JSON") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"the parameter file {path} is not YAML ({_first_line(error)})") from None


def _tags(cell: NotebookNode) -> list[str]:
    tags = cell.metadata.get("tags", [])
    return tags if isinstance(tags, list) else []


def _assigned(source: str) -> set[str] | None:
    """The names that a cell assigns at its top; None when it is not Python."""
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    try:
        body = ast.parse(plain).body
    except (SyntaxError, ValueError):
        return None
    names: set[str] = set()
    for statement in body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            names |= {node.id for node in ast.walk(target) if isinstance(node, ast.Name)} if target else set()
    return names


def _literal(name: str, value: Any) -> str:
    """Python source of a value of JSON's kinds."""
    match value:
        case None | bool() | int() | str():
            return repr(value)
        case float():
            return repr(value) if value - value == 0 else f'float("{value}")'
        case list() | tuple():
            return f"[{', '.join(_literal(name, item) for item in value)}]"
        case dict() if all(isinstance(key, str) for key in value):
            return "{" + ", ".join(f"{key!r}: {_literal(name, item)}" for key, item in value.items()) + "}"
    raise InputError(
        f"the parameter {name} is a {type(value).__name__}; text, numbers, lists and mappings can be passed"
    )


def with_parameters(notebook: NotebookNode, parameters: Mapping[str, Any]) -> None:
    """Puts a cell that assigns `parameters` into the notebook, in the place of one that an earlier run put there.

    Raises:
        InputError: a name that cannot be assigned, that the cell tagged `parameters` does not have (or, without such a
            cell, that no cell mentions), or a value that cannot be written as source. The notebook is unchanged.
    """
    if not parameters:
        return
    cells = notebook.cells
    declared = next((i for i, cell in enumerate(cells) if "parameters" in _tags(cell)), None)
    injected = next((i for i, cell in enumerate(cells) if "injected-parameters" in _tags(cell)), None)
    known = _assigned(cells[declared].source) if declared is not None else None
    for name in parameters:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InputError(f"{name!r} cannot be a parameter: it is not a name in Python")
        if known is not None and name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise InputError(f"the notebook has no parameter {name}; its parameters: {names}")
        if known is None and not any(re.search(rf"\b{name}\b", c.source) for c in cells if c.cell_type == "code"):
            raise InputError(
                f"nothing in the notebook reads {name}: name the parameters in a cell with the tag `parameters`"
            )
    lines = [f"{name} = {_literal(name, value)}" for name, value in parameters.items()]
    cell = _nbformat.v4.new_code_cell("\n".join(["# Parameters", *lines]), metadata={"tags": ["injected-parameters"]})
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        del cell["id"]
    else:
        cell["id"] = "injected-parameters"
    if injected is not None:
        cells[injected] = cell
    else:
        cells.insert(0 if declared is None else declared + 1, cell)
