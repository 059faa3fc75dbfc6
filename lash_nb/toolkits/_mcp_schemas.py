"""The schemas of a server's tools: which can be used, and whether arguments are of them.

Decided here: a schema is an object with an object of properties, of bounded size and depth, valid by its own dialect,
and refers to nothing outside itself (nothing is ever fetched). Arguments are checked before they leave. A stranger's
regular expression could run for ever, so patterns are left to the server; a check that goes on and on is given up
(schemas that multiply themselves), and the server judges these arguments alone.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ._mcp_words import shown

__all__ = ["ArgumentCheck", "SchemaRefused", "signature_of", "usable_schema", "weight"]

MAX_SCHEMA_CHARS = 64 * 1024
MAX_WEIGHT = 4_000
"""Of one schema: the entries of all its objects and lists, each of which takes most of a millisecond to be checked."""
MAX_DEPTH = 40
MAX_STEPS = 50_000
"""Keywords that are looked at for one call's arguments."""

_PROSE = ("description", "title", "$comment")
_MOST_GIVEN = 12
"""Names of what a tool gives, in its signature."""
_UNSAFE = ("pattern", "patternProperties", "unevaluatedProperties")
"""Keywords that run a schema's regular expressions."""
_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
    "null": "None",
}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class SchemaRefused(ValueError):
    """A schema that no tool can have; the message says why."""


class _TooLong(Exception):
    """The check of some arguments takes too many steps."""


def usable_schema(schema: Any) -> dict[str, Any]:
    """The schema as a model is told it: its prose cleaned. Raises SchemaRefused."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise SchemaRefused("its schema is not that of an object")
    try:
        size = len(json.dumps(schema))
    except (RecursionError, ValueError):
        raise SchemaRefused("its schema is nested too deeply") from None
    if size > MAX_SCHEMA_CHARS:
        raise SchemaRefused(f"its schema is too long ({size:,} characters)")
    if weight(schema) > MAX_WEIGHT:
        raise SchemaRefused(f"its schema has too many parts ({weight(schema):,})")
    cleaned: dict[str, Any] = _cleaned(schema, 0)
    _check_dialect(cleaned)
    return cleaned


def weight(value: Any) -> int:
    """Of how many parts a schema is made."""
    parts, open_ends = 0, [value]
    while open_ends:
        one = open_ends.pop()
        inner: list[Any] = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        parts += len(inner)
        open_ends += inner
    return parts


def _cleaned(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise SchemaRefused("its schema is nested too deeply")
    if isinstance(value, list):
        return [_cleaned(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    for key in _REFERENCES:
        target = value.get(key)
        if isinstance(target, str) and not target.startswith("#"):
            raise SchemaRefused(f"its schema refers to something outside of it ({shown(target, 80)})")
    return {
        key: shown(item) if key in _PROSE and isinstance(item, str) else _cleaned(item, depth + 1)
        for key, item in value.items()
    }


def _check_dialect(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable

    try:
        # Without formats: one of them is to be a regular expression, and would be compiled.
        dialect: Any = validator_for(schema, default=Draft202012Validator)
        dialect.check_schema(schema, format_checker=None)
    except SchemaError as error:
        place = ".".join(str(step) for step in error.absolute_path) or "it"
        raise SchemaRefused(f"its schema is not valid (see {shown(place, 80)})") from None
    except (RecursionError, Unresolvable):
        raise SchemaRefused("its schema cannot be followed") from None


class ArgumentCheck:
    """Checks arguments of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._steps = 0
        self._made: Any = None

    @property
    def _validator(self) -> Any:
        if self._made is None:  # of hundreds of tools few are called
            self._made = self._make()
        return self._made

    def _make(self) -> Any:
        from jsonschema import Draft202012Validator, validators
        from referencing import Registry

        found: Any = validators.validator_for(self._schema, default=Draft202012Validator)
        keywords: dict[str, Any] = {name: self._counted(check) for name, check in found.VALIDATORS.items()}
        keywords |= {name: _nothing for name in _UNSAFE}
        additional = keywords.get("additionalProperties", _nothing)
        keywords["additionalProperties"] = lambda validator, value, instance, within: (
            () if "patternProperties" in within else additional(validator, value, instance, within)
        )
        # Where a part names its dialect, jsonschema would take that one's own class, without any of the above.
        extend: Any = validators.extend
        return extend(found, validators=keywords)(_of_one_dialect(self._schema), registry=Registry())

    def _counted(self, check: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise _TooLong
            return check(*given)

        return counted

    def problem(self, arguments: Any) -> str | None:
        """What is wrong with them, with the field's name; None: nothing, or only the server can tell."""
        from referencing.exceptions import Unresolvable

        self._steps = 0
        if not isinstance(arguments, dict):
            return "the arguments are not a JSON object"
        try:
            for error in self._validator.iter_errors(arguments):
                return _told(error)
        except (_TooLong, RecursionError, Unresolvable):
            return None
        return None


def _of_one_dialect(value: Any) -> Any:
    if isinstance(value, list):
        return [_of_one_dialect(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _of_one_dialect(item) for key, item in value.items() if key != "$schema" or not isinstance(item, str)}


def _nothing(*given: Any) -> Iterator[Any]:
    return iter(())


def _told(error: Any) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    return f"{place or 'the arguments'}: {shown(error.message, 300)}"


def signature_of(schema: Mapping[str, Any], output: Mapping[str, Any] | None = None) -> str:
    """The arguments and the value as Python writes them: `(*, city: str, days: int = ...) -> {'hours': float}`."""
    found = schema.get("properties")
    properties = found if isinstance(found, Mapping) else {}
    wanted = schema.get("required")
    required = [name for name in wanted if name in properties] if isinstance(wanted, list) else []
    names = [*required, *(name for name in properties if name not in required)]
    plain = [name for name in names if name.isidentifier() and not keyword.iskeyword(name)]
    words = [f"{name}: {_type(properties[name])}{'' if name in required else ' = ...'}" for name in plain]
    rest = ["**more"] if len(plain) < len(names) or schema.get("additionalProperties") not in (None, False) else []
    return f"({', '.join((['*'] if words else []) + words + rest)}){_gives(output or {})}"


def _gives(schema: Mapping[str, Any]) -> str:
    found = schema.get("properties")
    if not isinstance(found, Mapping) or not found:
        kind = _type(schema)
        return "" if kind == "Any" else f" -> {kind}"
    shown = [f"{name!r}: {_type(found[name])}" for name in list(found)[:_MOST_GIVEN] if name.isidentifier()]
    return f" -> {{{', '.join(shown)}}}" if shown else " -> dict"


def _type(schema: Any) -> str:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    kinds = kinds if isinstance(kinds, list) else [kinds]
    words = [_TYPES[kind] for kind in kinds if isinstance(kind, str) and kind in _TYPES]
    return " | ".join(words) or "Any"
