"""Whether a value has the type that was asked for: JSON Schema checks and Python types as schemas.

Schemas are checked offline: a `$ref` that leaves the schema is refused, nothing is ever fetched. May import jsonschema,
referencing and pydantic (all on first use).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .machine.wire import Json

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["OutputType", "schema_validator"]

_MOST_PROBLEMS = 8


def schema_validator(schema: Json) -> Callable[[Json], str | None]:
    """A function that says what is wrong with a value, or None.

    Raises:
        InputError: the schema is not valid, or refers to something outside of itself.
    """
    import jsonschema
    import referencing
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable

    if not isinstance(schema, (dict, bool)):
        raise InputError(f"a JSON Schema is an object, not {type(schema).__name__}")
    kind: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InputError(f"this JSON Schema is not valid: {_located(error)}") from None
    registry: Any = referencing.Registry()
    validator = kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER)
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise InputError(
                f"this JSON Schema refers to {reference!r}: only references within the schema are followed"
            )

    def validate(value: Json) -> str | None:
        try:
            problems = sorted(validator.iter_errors(value), key=lambda problem: list(map(str, problem.absolute_path)))
        except Unresolvable as error:
            return f"the schema refers to {error.ref!r}, which is not in it"
        shown = [_located(problem) for problem in problems[:_MOST_PROBLEMS]]
        if len(problems) > _MOST_PROBLEMS:
            shown.append(f"… and {len(problems) - _MOST_PROBLEMS} more")
        return "\n".join(shown) or None

    return validate


def _located(error: ValidationError | Any) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    return f"value{path}: {error.message}"


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


class OutputType:
    """A Python type as what a turn must give: its schema for the model, and values of it made from JSON."""

    def __init__(self, wanted: Any) -> None:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(wanted)
            self.schema: Json = self._adapter.json_schema()
        except (PydanticUserError, TypeError) as error:
            raise InputError(f"{wanted!r} cannot be the type of an answer ({error})") from None

    def problem(self, value: Json) -> str | None:
        """What keeps a JSON value from being of the type, or None."""
        from pydantic import ValidationError

        try:
            self._adapter.validate_python(value, strict=None)
        except ValidationError as error:
            lines = [f"value{''.join(f'[{step!r}]' for step in item['loc'])}: {item['msg']}" for item in error.errors()]
            return "\n".join(lines[:_MOST_PROBLEMS])
        return None

    def read(self, value: Json) -> Any:
        """The value as the type; only for values without a `problem`."""
        return self._adapter.validate_python(value)
