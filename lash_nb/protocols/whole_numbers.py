"""A final value as it is read by its schema: 5.0 where a whole number is wanted is 5.

Decided here: to JSON Schema 5.0 is an integer, to Python it is none; what a turn says of its value is to be what its
value is. Everything else stays as it was given. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..machine.wire import Json
from .termination import FinishRequired

__all__ = ["value_read"]

_MOST_STEPS = 20
"""From one reference to the next."""


def value_read(value: Json, termination: object) -> Json:
    """The value that ends a turn, with whole numbers written as such wherever its schema wants those."""
    return _read(value, termination.schema, termination.schema) if isinstance(termination, FinishRequired) else value


def _read(value: Any, schema: Any, root: Any) -> Any:
    schema = _followed(schema, root)
    if isinstance(value, float):
        return int(value) if value.is_integer() and _is_whole(schema) else value
    if isinstance(value, (list, tuple)):
        first, others = schema.get("prefixItems"), schema.get("items")
        schemas = first if isinstance(first, list) else []
        return [
            _read(item, schemas[number] if number < len(schemas) else others, root) for number, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        named, others = schema.get("properties"), schema.get("additionalProperties")
        known = named if isinstance(named, Mapping) else {}
        return {name: _read(item, known.get(name, others), root) for name, item in value.items()}
    return value


def _is_whole(schema: Mapping[str, Any]) -> bool:
    """Whether it is that of a whole number, or of null beside it."""
    told = schema.get("type")
    return [kind for kind in (told if isinstance(told, list) else [told]) if kind != "null"] == ["integer"]


def _followed(schema: Any, root: Any) -> Mapping[str, Any]:
    """The schema, what it refers to, or the one beside null; empty when that is none that says something."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping):
            return {}
        reference, either = schema.get("$ref"), schema.get("anyOf")
        if isinstance(reference, str):
            schema = root
            for name in reference.split("/")[1:]:
                schema = schema.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(schema, Mapping) else None
        elif isinstance(either, list) and len(others := [one for one in either if one != {"type": "null"}]) == 1:
            schema = others[0]  # as pydantic says that something may be missing
        else:
            return schema
    return {}
