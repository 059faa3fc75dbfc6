"""Structs: JSON objects with declared fields, read and written by functions that are generated from the table.

Generated (as `dataclasses` generates `__init__`) because most of the time of reading and writing a long history was
spent in a loop over the table. Used through `wire.py`, which has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import DecodeError
from .codec import STRING, Codec, Decode, Encode, Field, same, wrong

__all__ = ["strict_struct", "struct", "wrapper"]

T = TypeVar("T")

_MISSING = object()


def struct(make: Callable[..., T], /, **fields: Codec[Any] | Field) -> Codec[T]:
    """A JSON object with declared fields, in that order; `make` is called with one keyword per field.

    Unknown fields are ignored. As serde does, a struct may also be read from an array of its fields.
    """
    return _struct(make, fields, strict=False)


def strict_struct(make: Callable[..., T], /, **fields: Codec[Any] | Field) -> Codec[T]:
    """A struct whose unknown fields are refused."""
    return _struct(make, fields, strict=True)


def _struct(make: Callable[..., T], fields: Mapping[str, Codec[Any] | Field], *, strict: bool) -> Codec[T]:
    table = {
        name: field if isinstance(field, Field) else Field(field, optional=False, omit=False, positional=True)
        for name, field in fields.items()
    }
    return Codec(_encoder(table), _decoder(make, table, strict), fields=table)


def wrapper(make: Callable[..., T], /, attribute: str, codec: Codec[Any]) -> Codec[T]:
    """A dataclass of one field that is written as that field alone (serde's newtype variant)."""
    return Codec(
        lambda value: codec.encode(getattr(value, attribute)),
        lambda value: make(**{attribute: codec.decode(value)}),
    )


def _generated(name: str, lines: list[str], scope: dict[str, Any]) -> Any:
    exec("\n".join(lines), scope)
    return scope[name]


def _encoder(table: Mapping[str, Field]) -> Encode:
    """A dict display for what is always written, an `if` for what may be left out."""
    scope: dict[str, Any] = {}
    lines = ["def encode(value):", "    out = {}"]
    for name, field in table.items():
        scope[f"e_{name}"], scope[f"i_{name}"], scope[f"d_{name}"] = (
            field.codec.encode,
            field.inner.encode,
            field.default,
        )
        plain = field.inner.encode is same
        if field.omit and field.default is None:
            text = "item" if plain else f"i_{name}(item)"
            lines.append(f"    if (item := value.{name}) is not None: out[{name!r}] = {text}")
        elif field.omit:
            text = "item" if plain else f"i_{name}(item)"
            lines.append(f"    if (item := value.{name}) != d_{name}: out[{name!r}] = {text}")
        else:
            text = f"value.{name}" if plain else f"e_{name}(value.{name})"
            lines.append(f"    out[{name!r}] = {text}")
    lines.append("    return out")
    encode: Encode = _generated("encode", lines, scope)
    return encode


def _decoder(make: Callable[..., Any], table: Mapping[str, Field], strict: bool) -> Decode:
    """One try block for all fields: `at` holds the name of the field that is being read."""
    scope: dict[str, Any] = {
        "make": make,
        "known": frozenset(table),
        "MISSING": _MISSING,
        "DecodeError": DecodeError,
        "named": _named,
        "unknown_field": _unknown_field,
        "lacking": lambda value: _lacking(value, table),
        "wrong": wrong,
    }
    lines = ["def decode(value):", "    if type(value) is not dict: value = named(value, table)"]
    scope["table"] = table
    if strict:
        lines.append("    if not known.issuperset(value): raise unknown_field(value, known)")
    lines.append("    get, at = value.get, ''")
    lines.append("    try:")
    for name, field in table.items():
        scope[f"c_{name}"], scope[f"d_{name}"] = field.inner.decode, field.default
        lines += [f"        {line}" for line in _reading(name, field)]
    arguments = ", ".join(f"{name}=f_{name}" for name in table)
    lines += [
        "        pass",
        "    except KeyError:",
        "        raise lacking(value) from None",
        "    except DecodeError as error:",
        "        raise error.under(at) from None",
        f"    return make({arguments})",
    ]
    decode: Decode = _generated("decode", lines, scope)
    return decode


def _reading(name: str, field: Field) -> list[str]:
    """The lines that read one field into `f_<name>`; a missing required one is a KeyError."""
    item = f"f_{name}"
    if field.inner is STRING:
        convert = [f"if type({item}) is not str: at = {name!r}; raise wrong('a string', {item})"]
    else:
        convert = [f"at = {name!r}", f"{item} = c_{name}({item})"]
    if not field.optional:
        return [f"{item} = value[{name!r}]", *convert]
    if field.codec is not field.inner:
        return [f"{item} = get({name!r})", f"if {item} is not None:", *(f"    {line}" for line in convert)]
    return [
        f"{item} = get({name!r}, MISSING)",
        f"if {item} is MISSING: {item} = d_{name}",
        "else:",
        *(f"    {line}" for line in convert),
    ]


def _named(value: Any, table: Mapping[str, Field]) -> dict[str, Any]:
    """The fields of an array by name, as serde's derived readers take them: in order, none but those with a default
    may be missing at the end."""
    if type(value) is not list:
        raise wrong("an object", value)
    if len(value) > len(table):
        raise DecodeError(f"expected at most {len(table)} fields, found {len(value)}")
    for name, field in list(table.items())[len(value) :]:
        if field.positional:
            raise DecodeError("this field is missing", path=name)
    return dict(zip(table, value, strict=False))


def _unknown_field(value: Mapping[str, Any], known: frozenset[str]) -> DecodeError:
    return DecodeError(f"unknown field {min(set(value) - known)!r}")


def _lacking(value: Mapping[str, Any], table: Mapping[str, Field]) -> DecodeError:
    missing = next(name for name, field in table.items() if not field.optional and name not in value)
    return DecodeError("this field is missing", path=missing)
