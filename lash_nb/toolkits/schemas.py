"""Signatures as JSON Schemas, and arguments read by them.

Decided here: arguments fit when they fit the JSON Schema that the model was told and pydantic reads them, as typed
answers do: "5" and true are no int, 5.0 is one; dates, enums, models, tuples and sets are made from their JSON. Names
that a function does not have are refused. Wrong arguments are told with their place, a line each.
A parameter that is left out keeps the function's own default. Imports pydantic and jsonschema on first use.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Optional

from ..errors import InputError, ToolError
from ..machine.attachments import AttachmentStore
from ..machine.wire import Json
from .docstrings import Described
from .signatures import parameter_hints, readable_signature, return_hint

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Arguments", "return_schema"]

_REST = "**"
"""What stands for the names that a function takes beside its own; no name of a parameter."""
_MOST_LINES = 8
_MOST_LOOKED_AT = 200
_MOST_CHARS = 300
"""Of one line: messages quote the value."""


class Arguments:
    """The arguments of one function."""

    schema: dict[str, Any]
    signature: str
    names: tuple[str, ...] | None
    """In order, when all can be given by position."""

    def __init__(self, name: str, function: Callable[..., Any], docs: Described) -> None:
        """Raises InputError: it cannot be called by name, or a type has no JSON; says which."""
        self._parameters = _parameters_of(name, function)
        self._model: type[BaseModel] | None = None
        self._judge: Any = None
        self.schema = {"type": "object", "properties": {}}
        if self._parameters is None:  # written in C, and silent about what it takes: by keyword, any names
            self.signature, self.names = "(**arguments)", None
            return
        hints = parameter_hints(name, function, self._parameters)
        self.signature = readable_signature(function, hints)
        plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        by_place = all(one.kind in plain for one in self._parameters)
        self.names = tuple(one.name for one in self._parameters) if by_place else None
        self._model, self.schema = _model_of(name, self._parameters, hints)
        for parameter, text in docs.parameters.items():
            about = self.schema["properties"].get(parameter)
            if isinstance(about, dict):
                about.setdefault("description", text)

    def read(
        self, arguments: Mapping[str, Any], *, store: AttachmentStore | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """What the function is called with: by position, and by name. Attachments are fetched from the store.

        Raises:
            ToolError: they do not fit; each thing that is wrong in a line.
        """
        if self._model is None or self._parameters is None:
            return [], dict(arguments)
        own = {one.name: one for one in self._parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}
        given: dict[str, Any] = {key: item for key, item in arguments.items() if key in own}
        rest = {key: item for key, item in arguments.items() if key not in own}
        if len(own) < len(self._parameters):  # it takes any names
            given[_REST] = rest
            rest = {}
        model, problems = self._validated({**rest, **given}, store)
        problems += [one for one in self._unfit(arguments) if one[0] not in {place for place, _ in problems}]
        if model is None or problems:
            raise ToolError(_told(problems, list(own) if rest else None), kind="invalid_request", code="bad_arguments")
        return _bound(self._parameters, model)

    def _validated(
        self, given: Mapping[str, Any], store: AttachmentStore | None
    ) -> tuple[BaseModel | None, list[tuple[str, str]]]:
        from pydantic import ValidationError

        assert self._model is not None
        try:
            text = json.dumps(given, allow_nan=False)
            return self._model.model_validate_json(text, context={"store": store}), []
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            problems = [_problem(one["loc"], _reworded(one["type"], one["msg"])) for one in found]
            return None, problems
        except (ValueError, TypeError, RecursionError) as error:
            return None, [("", f"the arguments are not JSON: {error}")]
        except Exception as error:  # of a validator that is a type's own
            return None, [("", f"the check of a type failed: {type(error).__name__}: {error}")]

    def _unfit(self, arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
        try:
            if self._judge is None:  # not before a call: jsonschema takes seconds to import where formats are installed
                self._judge = _judge(self.schema)
            found = list(itertools.islice(self._judge.iter_errors(dict(arguments)), _MOST_LOOKED_AT))
        except RecursionError:
            return [("", "they are nested too deeply")]
        places = [(tuple(error.absolute_path), error.message) for error in found]
        return [_problem(path, message) for path, message in places if path]


def return_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of what the annotation says a function gives; empty without one, or when it has no JSON."""
    from pydantic import TypeAdapter

    hint = return_hint(function)
    if hint is Any or hint is inspect.Parameter.empty:
        return {}
    try:
        schema = TypeAdapter(hint).json_schema(mode="serialization", schema_generator=_generator())
    except Exception:  # what makes a type's schema may be its own code
        return {}
    return {} if '"format": "binary"' in json.dumps(schema) else schema  # bytes become attachments


# -- the schema --------------------------------------------------------------------------------------------------------


def _parameters_of(name: str, function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    try:
        parameters = tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    except NameError as error:  # Python 3.14 resolves annotations here
        raise InputError(f"the tool {name!r}: an annotation of it cannot be resolved ({error})") from None
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise InputError(
                f"the tool {name!r} takes *{parameter.name}: arguments come by name; take a list of them instead"
            )
    return parameters


def _model_of(
    name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]
) -> tuple[type[BaseModel], dict[str, Any]]:
    """A model that reads the arguments, and the JSON Schema of it."""
    from pydantic import ConfigDict, create_model

    fields = {f"p{place}": _field(one, hints[one.name]) for place, one in enumerate(parameters)}
    config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)
    make: Any = create_model
    try:
        model: type[BaseModel] = make("Arguments", __config__=config, **fields)
        schema = model.model_json_schema(schema_generator=_generator())
    except Exception as error:  # what makes a type's schema may be its own code
        raise InputError(_no_schema(name, parameters, hints, error)) from None
    schema.pop("title", None)
    schema.setdefault("properties", {})
    rest = schema["properties"].pop(_REST, None)
    if rest is not None:
        schema["additionalProperties"] = rest.get("additionalProperties", True)
    return model, schema


def _field(parameter: inspect.Parameter, hint: Any) -> Any:
    """Under a name of ours: those of parameters (`self`, `model_config`, `_x`) need not be names of fields."""
    from pydantic import Field
    from pydantic.fields import FieldInfo

    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return dict[str, hint], Field(default_factory=dict, alias=_REST, validation_alias=_REST)
    name, default = parameter.name, parameter.default
    if isinstance(default, FieldInfo):
        return Annotated[hint, default], Field(alias=name, validation_alias=name)
    if default is inspect.Parameter.empty:
        return hint, Field(alias=name, validation_alias=name)
    if default is None:  # whatever its type says: models write null for what they leave out
        hint = Optional[hint]  # noqa: UP045 (hint is a value)
    return hint, Field(default=default, alias=name, validation_alias=name)


def _no_schema(name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], error: Exception) -> str:
    """Why there is no schema, with the parameter that it fails at."""
    from pydantic import TypeAdapter

    for parameter in parameters:
        try:
            TypeAdapter(hints[parameter.name]).json_schema(schema_generator=_generator())
        except Exception as found:  # as above
            why = str(found).partition("\n")[0][:_MOST_CHARS]
            return (
                f"the tool {name!r}: there is no JSON of the type of its parameter {parameter.name!r} ({why}); give it "
                "a type such as str or list[float], a pydantic model, or a name to look the value up by"
            )
    return f"the tool {name!r}: its signature has no JSON Schema ({str(error).partition(chr(10))[0][:_MOST_CHARS]})"


@functools.cache
def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        """Without titles that only repeat names; a default that is no JSON is left out without a warning."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return Quiet


def _judge(schema: Json) -> Any:
    """Formats and patterns are left to pydantic, which has a grammar of its own for both. Nothing is fetched."""
    import referencing

    registry: Any = referencing.Registry()
    return _validator()(schema, registry=registry)


@functools.cache
def _validator() -> Any:
    import jsonschema
    from jsonschema import validators

    extend: Any = validators.extend
    return extend(jsonschema.Draft202012Validator, {"pattern": _nothing})


def _nothing(validator: Any, wanted: object, value: Json, schema: object) -> Iterator[Any]:
    """A word of a schema that is not looked at."""
    return iter(())


# -- reading -----------------------------------------------------------------------------------------------------------


def _bound(parameters: Sequence[inspect.Parameter], model: BaseModel) -> tuple[list[Any], dict[str, Any]]:
    from pydantic.fields import FieldInfo

    positional: list[Any] = []
    named: dict[str, Any] = {}
    given = model.model_fields_set
    by_place = [number for number, one in enumerate(parameters) if one.kind is one.POSITIONAL_ONLY]
    last = max((number for number in by_place if f"p{number}" in given), default=-1)
    for number, one in enumerate(parameters):
        field = f"p{number}"
        if one.kind is one.VAR_KEYWORD:
            named |= getattr(model, field)
        elif field in given or one.default is one.empty or isinstance(one.default, FieldInfo):
            value = getattr(model, field)
            if one.kind is one.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[one.name] = value
        elif one.kind is one.POSITIONAL_ONLY and number < last:
            positional.append(one.default)  # one behind it is given
    return positional, named


def _reworded(kind: str, message: str) -> str:
    return {"missing": "it is missing", "extra_forbidden": "there is no such argument"}.get(kind, message)


def _problem(path: Sequence[str | int], message: str) -> tuple[str, str]:
    """The argument, and the line that says what is wrong with it."""
    path = path[1:] if path and path[0] == _REST else path
    if not path:
        return "", _cut(message)
    place = str(path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[1:])
    return str(path[0]), f"{_cut(place)}: {_cut(message)}"


def _told(problems: Sequence[tuple[str, str]], known: Sequence[str] | None) -> str:
    """`known`: the names that there are, where others were given."""
    lines = list(dict.fromkeys(line for _, line in problems))
    shown = lines[:_MOST_LINES]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown):,} more")
    if known is not None:
        shown.append(f"the arguments are: {', '.join(known) or 'none'}")
    return "the arguments do not fit, and nothing was done:\n" + "\n".join(shown)


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[: _MOST_CHARS // 2]} … {text[-_MOST_CHARS // 2 :]}"
