"""Whether a value has the type that was asked for: JSON Schema checks and Python types as schemas.

Decided here: a value fits a Python type when it fits the JSON Schema that the model was told and pydantic reads it, so
that "5" and true are no int, and 5.0 is one. Problems are told with their place, a few of each kind; what is wrong with
a table's columns is said once, not for each row. Schemas are checked offline: a `$ref` that leaves the schema is
refused, nothing is ever fetched. May import jsonschema, referencing and pydantic (all on first use).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .machine.wire import Json
from .typed_tables import Columns, columns_of, pointed_at

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["OutputType", "answer_type", "schema_validator"]

_MOST_PROBLEMS = 8
_MOST_LOOKED_AT = 2_000
_MOST_CHARS = 300
"""Of one problem: messages quote the value."""
_SCHEMA_WORDS = frozenset({"$ref", "$dynamicRef", "$defs", "definitions", "$schema", "$id", "title", "description"})
_SPEC = '{"type": "array", "items": {"type": "object", "properties": {"NAME": {"type": "number"}}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    path: tuple[str | int, ...]
    text: str
    kind: str = ""
    missing: frozenset[str] = frozenset()
    """Columns that a row lacks, when that is the problem."""
    extra: frozenset[str] = frozenset()
    """Columns that it has and is not to have, when that is."""

    @property
    def group(self) -> tuple[object, ...]:
        """The same for what is wrong in the same way in other rows."""
        return self.kind, self.missing, *(step for step in self.path if not isinstance(step, int))


def answer_type(expression: str, evaluate: Callable[[str], Any]) -> dict[str, Any]:
    """The options of `Session.run` for `-t EXPRESSION`: `output_type`, or `schema` for a dict or the text of JSON.

    Raises InputError: it is neither a type nor a JSON Schema; `evaluate` raises what it likes.
    """
    try:
        wanted = json.loads(expression) if expression.lstrip().startswith("{") else evaluate(expression)
    except ValueError:
        wanted = evaluate(expression)  # a dict as Python writes it
    if wanted is None:
        raise InputError("-t None: that is what a turn without -t gives")
    if not isinstance(wanted, dict):
        OutputType(wanted)
        return {"output_type": wanted}
    schema_validator(wanted)
    for reference in _references(wanted):
        try:
            if reference.startswith("#/"):
                pointed_at(reference, wanted)
        except LookupError:
            raise InputError(f"this JSON Schema refers to {reference!r}, which is not in it") from None
    return {"schema": wanted}


# -- JSON Schema -------------------------------------------------------------------------------------------------------


def schema_validator(schema: Json) -> Callable[[Json], str | None]:
    """A function that says what is wrong with a value, or None.

    Raises:
        InputError: the schema is not valid, or refers to something outside of itself.
    """
    find, columns = _finder(schema), columns_of(schema)

    def validate(value: Json) -> str | None:
        return _told(find(value), columns, value)

    return validate


def _finder(schema: Json, *, told_by_pydantic: bool = False) -> Callable[[Json], list[_Problem]]:
    """`told_by_pydantic`: it checks formats, and patterns of a grammar of its own."""
    import jsonschema
    import referencing
    from jsonschema import validators
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, (dict, bool)):
        raise InputError(f"a JSON Schema is an object, not {type(schema).__name__}")
    kind: Any = validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    if not told_by_pydantic:
        _check_schema(schema, kind)
    own = {"uniqueItems": _unique_items, **({"pattern": _nothing} if told_by_pydantic else {})}
    formats = None if told_by_pydantic else _formats(kind)
    registry: Any = referencing.Registry()
    extend: Any = validators.extend
    validator = extend(kind, own)(schema, registry=registry, format_checker=formats)

    def find(value: Json) -> list[_Problem]:
        try:
            errors = list(itertools.islice(validator.iter_errors(value), _MOST_LOOKED_AT))
        except Unresolvable as error:
            return [_Problem(path=(), text=f"the schema refers to {error.ref!r}, which is not in it")]
        except RecursionError:
            return [_Problem(path=(), text="it is nested too deeply to be checked, or the schema is")]
        return sorted(map(_problem, errors), key=lambda problem: [(str(type(step)), step) for step in problem.path])

    return find


def _check_schema(schema: Any, kind: Any) -> None:
    from jsonschema import SchemaError

    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this JSON Schema is no JSON ({error}); that of a table is, for example, {_SPEC}") from None
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        problem = _problem(error)
        raise InputError(f"this JSON Schema is not valid: {_place(problem.path)}: {problem.text}") from None
    if (
        isinstance(schema, dict)
        and schema
        and not any(word in kind.VALIDATORS or word in _SCHEMA_WORDS for word in schema)
    ):
        words = ", ".join(map(repr, list(schema)[:5]))
        raise InputError(f"{words}: no word of JSON Schema; that of a table is, for example, {_SPEC}")
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise InputError(
                f"this JSON Schema refers to {reference!r}: only references within the schema are followed"
            )


def _references(schema: Any) -> list[str]:
    found: list[str] = []
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                found.append(value)
            found.extend(_references(value))
    elif isinstance(schema, list):
        for item in schema:
            found.extend(_references(item))
    return found


def _unique_items(validator: Any, wanted: object, value: Json, schema: object) -> Iterator[ValidationError]:
    """As JSON Schema has it; jsonschema itself compares each row with each other one."""
    from jsonschema.exceptions import ValidationError

    if not wanted or not isinstance(value, list):
        return
    seen: dict[str, int] = {}
    for number, item in enumerate(value):
        before = seen.setdefault(json.dumps(_counted(item), sort_keys=True), number)
        if before != number:
            error = ValidationError(f"it is the same as [{before}], and all are to differ")
            error.path.append(number)
            yield error


def _nothing(validator: Any, wanted: object, value: Json, schema: object) -> None:
    """A word of a schema that is not looked at."""


def _counted(value: Any) -> Any:
    """With whole numbers written in one way: 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _counted(item) for name, item in value.items()}
    return [_counted(item) for item in value] if isinstance(value, list) else value


def _formats(kind: Any) -> Any:
    """The formats that are checked everywhere, whatever else is installed; times need not say their distance from UTC,
    which those of a notebook rarely do."""
    from jsonschema import FormatChecker

    checker = FormatChecker()
    checker.checkers = {
        **kind.FORMAT_CHECKER.checkers,
        "date-time": (_read_by(datetime.fromisoformat), ValueError),
        "time": (_read_by(time.fromisoformat), ValueError),
    }
    return checker


def _read_by(read: Callable[[str], object]) -> Callable[[object], bool]:
    def check(text: object) -> bool:
        if not isinstance(text, str):
            return True
        read(text)
        return ":" in text  # no date alone

    return check


def _problem(error: ValidationError | Any) -> _Problem:
    wanted: Any = error.validator_value
    kind, text = str(error.validator), _cut(error.message)
    if kind == "format" and wanted == "date":
        text += "; a date is written like 2026-01-31"
    if kind in ("anyOf", "oneOf") and error.context:
        text += ": " + "; ".join(dict.fromkeys(_cut(one.message) for one in error.context[:4]))
    path, given, schema = tuple(error.absolute_path), error.instance, error.schema
    missing = extra = frozenset[str]()
    if len(path) == 1 and isinstance(given, dict) and isinstance(schema, dict):  # a row
        if kind == "required":
            missing = frozenset(wanted) - set(given)
        elif kind == "additionalProperties":
            extra = frozenset(given) - set(schema.get("properties", ()))
    return _Problem(path=path, text=text, kind=kind, missing=missing, extra=extra)


# -- Python types ------------------------------------------------------------------------------------------------------


class OutputType:
    """A Python type as what a turn must give: its schema for the model, and values of it made from JSON."""

    def __init__(self, wanted: Any) -> None:
        """Raises InputError: there is no JSON of such a type."""
        from pydantic import TypeAdapter

        if isinstance(wanted, (dict, str)):
            hint = "a JSON Schema is given as `schema`" if isinstance(wanted, dict) else "give the type itself"
            raise InputError(f"{_shown(wanted)} cannot be the type of an answer: {hint}")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(wanted)
            self.schema: Json = self._adapter.json_schema()
        except Exception as error:  # what makes a type's schema may be its own code
            raise InputError(f"{_shown(wanted)} cannot be the type of an answer: {_why_not(wanted, error)}") from None
        self._find = _finder(self.schema, told_by_pydantic=True)
        self._columns = columns_of(self.schema)

    def problem(self, value: Json) -> str | None:
        """What keeps a JSON value from being of the type, or None."""
        found = self._unread(value)
        ends = {problem.path for problem in found}
        ways = {path[:steps] for path in ends for steps in range(len(path) + 1)}
        for problem in self._find(value):
            before = (problem.path[:steps] for steps in range(len(problem.path) + 1))
            if problem.path not in ways and ends.isdisjoint(before):
                found.append(problem)
        return _told(found, self._columns, value, dotted=False)

    def read(self, value: Json) -> Any:
        """The value as the type; only for values without a `problem`."""
        return self._adapter.validate_json(json.dumps(value))

    def _unread(self, value: Json) -> list[_Problem]:
        """Why pydantic cannot read it."""
        from pydantic import ValidationError

        try:
            self.read(value)
        except ValidationError as error:
            return [
                _Problem(
                    path=item["loc"],
                    text=_cut(item["msg"]),
                    kind=item["type"],
                    missing=_column(item, "missing"),
                    extra=_column(item, "extra_forbidden"),
                )
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        except Exception as error:  # of a validator that is the type's own
            return [_Problem(path=(), text=_cut(f"the type's own check failed: {type(error).__name__}: {error}"))]
        return []


def _column(item: Mapping[str, Any], kind: str) -> frozenset[str]:
    """The column that a row lacks, or has and is not to have, when that is what is wrong."""
    is_row = item["type"] == kind and len(item["loc"]) == 2 and isinstance(item["loc"][0], int)
    return frozenset({item["loc"][1]}) if is_row else frozenset()


def _shown(wanted: object) -> str:
    return _cut(wanted.__name__ if isinstance(wanted, type) else repr(wanted))


def _why_not(wanted: object, error: Exception) -> str:
    if getattr(wanted, "__name__", "") == "DataFrame":
        return f"a table is asked for with a JSON Schema of its columns, for example {_SPEC}"
    if type(error).__name__ == "PydanticSchemaGenerationError":
        return "give a type such as int or list[str], a pydantic model, or a JSON Schema"
    return _cut(str(error).partition("\n")[0])


# -- what is told ------------------------------------------------------------------------------------------------------


def _told(problems: Sequence[_Problem], columns: Columns | None, value: Json, *, dotted: bool = True) -> str | None:
    """A few of each kind, in order; None when there are none."""
    if not problems:
        return None
    many = len(problems) >= _MOST_LOOKED_AT
    hint = columns.hint(value) if columns is not None else None
    if columns is not None and hint is not None:
        problems = _once(problems, *columns.astray(value))
    chosen = _of_each_kind(problems, _MOST_PROBLEMS - (hint is not None))
    lines = [hint] if hint else []
    lines.extend(f"{_place(problem.path, dotted=dotted)}: {problem.text}" for problem in chosen)
    if len(problems) > len(chosen):
        lines.append(f"… and {'at least ' if many else ''}{len(problems) - len(chosen):,} more")
    return "\n".join(lines)


def _once(problems: Sequence[_Problem], missing: frozenset[str], extra: frozenset[str]) -> list[_Problem]:
    """Without what the hint says of all rows, but for the first of them."""
    said: set[frozenset[str]] = set()
    kept: list[_Problem] = []
    for problem in problems:
        names = problem.missing | problem.extra
        if not names or not names <= missing | extra:
            kept.append(problem)
        elif names not in said:
            said.add(names)
            kept.append(problem)
    return kept


def _of_each_kind(problems: Sequence[_Problem], most: int) -> list[_Problem]:
    """Some of each kind, so that what is wrong in many rows does not hide what is wrong in one."""
    groups: dict[tuple[object, ...], list[_Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.group, []).append(problem)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    chosen = {id(problem) for problem in itertools.islice(filter(None, turns), most)}
    return [problem for problem in problems if id(problem) in chosen]


def _place(path: Sequence[str | int], *, dotted: bool = True) -> str:
    return "value" + "".join(
        f".{step}" if dotted and isinstance(step, str) and step.isidentifier() else f"[{step!r}]" for step in path
    )


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[: _MOST_CHARS // 2]} … {text[-_MOST_CHARS // 2 :]}"
