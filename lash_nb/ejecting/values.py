"""The value of a typed turn in a plain notebook: as the type that was asked for, and under the name that it was to get.

Decided here: what `-t` says is read, and only names of Python's own types are looked up: of another name it counts how
the user's cells define it. A table by a JSON Schema becomes the DataFrame that it was. Instances of a class are made by
pydantic, as they were; what JSON has anyway is left as it is. Nothing of the user's is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..machine.wire import Json
from ..typed import OutputType
from ..typed_tables import Columns, columns_of, table_frame

__all__ = ["ValueSource", "value_source"]

_PLAIN: Mapping[str, Any] = {one.__name__: one for one in (bool, dict, float, int, list, str, tuple)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSource:
    """Python that gives a turn's value."""

    expression: str
    imports: tuple[str, ...] = ()
    columns: Columns | None = None
    """Of a table; what is bound under a name is a DataFrame then."""

    def bound(self, name: str, value: Json) -> str:
        """The cell that binds the value under `name`; `value` is the one on record."""
        frame = None if self.columns is None else _frame_lines(name, self.expression, value, self.columns)
        return "\n".join([*self.imports, *(frame or [f"{name} = {self.expression}"])])


def value_source(wanted: str, *, given: str, value: Json, schema: Json, cells: Iterable[str]) -> ValueSource:
    """How the value comes to be what it was.

    Args:
        wanted: what `-t` says; empty: nobody knows.
        given: Python for the value as JSON has it.
        schema: the JSON Schema that the value had to fit, where that is known.
        cells: the user's own code, in which the type may be defined.
    """
    tree = _parsed(wanted)
    if tree is None:
        return ValueSource(expression=given)
    if _is_schema(tree, schema, cells):
        return ValueSource(expression=given, columns=columns_of(_as_written(tree, schema, cells)))
    kind = _plain_type(tree)
    if kind is int:
        return ValueSource(expression=f"int({given})")  # 5.0 would have done, too
    if kind is not None and _reads_as_it_is(kind, value):
        return ValueSource(expression=given)
    if kind is float:
        return ValueSource(expression=f"float({given})")
    if isinstance(tree, ast.Name) and _is_model(_definition(tree.id, cells)):
        return ValueSource(expression=f"{tree.id}.model_validate({given})")
    return ValueSource(
        expression=f"TypeAdapter({wanted}).validate_json(json.dumps({given}))",
        imports=("import json", "from pydantic import TypeAdapter"),
    )


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body if text.strip() else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


# ------------------------------------------------------------------------------------------------------- which type


def _is_schema(tree: ast.expr, schema: Json, cells: Iterable[str]) -> bool:
    """Whether what `-t` says is a JSON Schema and no type."""
    match tree:
        case ast.Dict():
            return True
        case ast.Name(id=name) if name in _PLAIN:
            return False
        case ast.Name(id=name):
            found = _definition(name, cells)
            if isinstance(found, ast.ClassDef | ast.Subscript | ast.BinOp):
                return False
            return isinstance(found, ast.Dict) or not _of_classes(schema)
        case ast.Call() | ast.Attribute():
            called = tree.func if isinstance(tree, ast.Call) else None
            made = isinstance(called, ast.Attribute) and called.attr in ("json_schema", "loads", "model_json_schema")
            return made or not _of_classes(schema)
        case _:
            return False


def _as_written(tree: ast.expr, schema: Json, cells: Iterable[str]) -> Json:
    """The schema with its columns in their order, which a notebook's own copy does not keep."""
    found = _definition(tree.id, cells) if isinstance(tree, ast.Name) else tree
    try:
        written: Json = ast.literal_eval(found) if isinstance(found, ast.Dict) else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return schema
    return written if written is not None and schema in (None, written) else schema


def _of_classes(schema: Json) -> bool:
    """Whether pydantic made it out of classes, which it names in it."""
    return isinstance(schema, dict) and ("$defs" in schema or ("title" in schema and "properties" in schema))


def _definition(name: str, cells: Iterable[str]) -> ast.stmt | ast.expr | None:
    """The class, or what is assigned, under a name in the user's cells; the last one."""
    found: ast.stmt | ast.expr | None = None
    for cell in cells:
        try:
            body = ast.parse(cell).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # a cell with magics, for example
        for statement in body:
            match statement:
                case ast.ClassDef(name=defined) if defined == name:
                    found = statement
                case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                    found = value
                case ast.AnnAssign(target=ast.Name(id=defined), value=ast.expr() as value) if defined == name:
                    found = value
    return found


def _is_model(found: object) -> bool:
    """Whether a class says by itself that it is a model of pydantic's."""
    bases = found.bases if isinstance(found, ast.ClassDef) else []
    return any(
        (isinstance(one, ast.Name) and one.id == "BaseModel")
        or (isinstance(one, ast.Attribute) and one.attr == "BaseModel")
        for one in bases
    )


def _plain_type(tree: ast.expr) -> Any:
    """The type, where it is made of Python's own; else None."""
    match tree:
        case ast.Name(id=name):
            return _PLAIN.get(name)
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=parts)) if name in _PLAIN:
            return _subscripted(name, parts)
        case ast.Subscript(value=ast.Name(id=name), slice=part) if name in _PLAIN:
            return _subscripted(name, [part])
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            kind = _plain_type(left)
            return None if kind is None else kind | None
        case _:
            return None


def _subscripted(name: str, parts: list[ast.expr]) -> Any:
    kinds = [_plain_type(part) for part in parts]
    try:
        return None if None in kinds else _PLAIN[name][tuple(kinds)]
    except TypeError:  # `int[str]`
        return None


def _reads_as_it_is(kind: Any, value: Json) -> bool:
    try:
        return repr(OutputType(kind).read(value)) == repr(value)
    except (InputError, ValueError):  # pydantic's own errors are ValueErrors
        return False


# ------------------------------------------------------------------------------------------------------------ tables


def _frame_lines(name: str, given: str, value: Json, columns: Columns) -> list[str] | None:
    """The table as a DataFrame, with the types that it had; None where it cannot be one."""
    frame = table_frame(value, columns)
    if frame is None:
        return None
    import pandas as pd

    names = list(frame.columns)
    before = pd.DataFrame(value, columns=names).dtypes
    kinds = {one: str(frame[one].dtype) for one in names if frame[one].dtype != before[one]}
    dates = [one for one in kinds if kinds[one].startswith("datetime")]
    others = {one: kind for one, kind in kinds.items() if one not in dates}
    cast = f".astype({others!r})" if others else ""
    return [
        "import pandas as pd",
        "",
        f"{name} = pd.DataFrame({given}, columns={names!r}){cast}",
        *(f'{name}[{one!r}] = pd.to_datetime({name}[{one!r}], format="ISO8601")' for one in dates),
    ]
