"""What a codec is, and the codecs of scalars, free JSON and containers. Used through `wire.py`, which has the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import DecodeError

__all__ = [
    "BOOLEAN",
    "I64",
    "JSON",
    "STRING",
    "U32",
    "U64",
    "UNIT",
    "Codec",
    "Decode",
    "Encode",
    "Field",
    "Json",
    "array",
    "bounded_integer",
    "canonical_json",
    "decode_unit",
    "defaulted",
    "enum",
    "mapping",
    "nullable",
    "omit_empty",
    "omit_none",
    "refined",
    "same",
    "trimmed",
    "wrong",
]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Any JSON value: what `json.loads` gives (dict, list, str, int, float, bool, None)."""

T = TypeVar("T")
Encode: TypeAlias = Callable[[Any], Any]
Decode: TypeAlias = Callable[[Any], Any]

_I64_MIN, _U64_MAX = -(2**63), 2**64 - 1
_WHITE_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace() and not 0x1C <= code <= 0x1F)


class Codec(Generic[T]):
    """How values of one type are written as JSON (`encode`) and read back (`decode`, raises DecodeError)."""

    __slots__ = ("decode", "encode", "fields", "unit")

    def __init__(
        self,
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        *,
        fields: Mapping[str, Field] | None = None,
        unit: bool = False,
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.fields = fields
        """The table, when this is a struct."""
        self.unit = unit
        """True when the only value is null (a sum may then write its variant as a bare string)."""


class Field:
    """One field of a struct: its codec, and how absence is written and read."""

    __slots__ = ("codec", "default", "inner", "omit", "optional", "positional")

    def __init__(
        self,
        inner: Codec[Any],
        *,
        optional: bool,
        omit: bool,
        default: Any = None,
        null: bool = False,
        positional: bool = False,
    ) -> None:
        self.inner = inner
        """The codec of a value that is not None."""
        self.codec = _none_or(inner) if null else inner
        self.optional = optional
        """May be missing on read; `default` is then its value."""
        self.omit = omit
        """Is left out on write when it equals `default`."""
        self.default = default
        self.positional = positional
        """Must be there when the struct is read from an array (an Option to which serde gives no default)."""


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}
    return "null" if value is None else names.get(type(value), "a number")


def wrong(expected: str, value: object) -> DecodeError:
    """The error for a value of another kind than expected."""
    return DecodeError(f"expected {expected}, found {_kind(value)}")


def trimmed(text: str) -> str:
    """The text without leading and trailing Unicode White_Space (Python's `strip` also takes U+001C to U+001F)."""
    return text.strip(_WHITE_SPACE)


# -- scalars -----------------------------------------------------------------------------------------------------------


def _decode_string(value: Any) -> str:
    if type(value) is not str:
        raise wrong("a string", value)
    return value


def _decode_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong("a boolean", value)
    return value


def bounded_integer(low: int, high: int) -> Codec[int]:
    """An integer in [low, high]; a boolean or a float (also `1.0`) is refused."""

    def decode(value: Any) -> int:
        if type(value) is not int:
            raise wrong("an integer", value)
        if not low <= value <= high:
            raise DecodeError(f"{value} is outside {low}..{high}")
        return value

    return Codec(same, decode)


def same(value: Any) -> Any:
    """What is its own JSON."""
    return value


def canonical_json(value: Any) -> Any:
    """A copy of a free JSON value as the reference writes it: object keys sorted, out-of-range integers as floats.

    Raises DecodeError for NaN, infinities, keys that are not strings and values that are not JSON.
    """
    try:
        return _canonical(value)
    except RecursionError:
        raise DecodeError("this JSON is nested too deeply") from None


def _canonical(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if _I64_MIN <= value <= _U64_MAX:
            return value
        try:
            return float(value)
        except OverflowError:
            raise DecodeError("this number is out of range") from None
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise DecodeError("NaN and infinities are not JSON")
        return value
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise DecodeError("the keys of a JSON object are strings")
        return {key: _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    raise DecodeError(f"{kind.__name__} is not JSON")


def decode_unit(value: Any) -> None:
    """Null, and nothing else."""
    if value is not None:
        raise wrong("null", value)


STRING: Codec[str] = Codec(same, _decode_string)
BOOLEAN: Codec[bool] = Codec(same, _decode_boolean)
U32: Codec[int] = bounded_integer(0, 2**32 - 1)
U64: Codec[int] = bounded_integer(0, _U64_MAX)
I64: Codec[int] = bounded_integer(_I64_MIN, 2**63 - 1)
JSON: Codec[Any] = Codec(canonical_json, canonical_json)
UNIT: Codec[None] = Codec(same, decode_unit, unit=True)


def enum(kind: type[StrEnum], *, unknown: StrEnum | None = None) -> Codec[Any]:
    """A closed set of strings; with `unknown`, any other string reads as that member."""
    members: dict[str, StrEnum] = {member.value: member for member in kind}
    known = ", ".join(members)

    def decode(value: Any) -> StrEnum:
        # serde reads a unit variant from {"Name": null} too (conformance/FORMAT.md, quirks).
        if type(value) is dict and len(value) == 1 and next(iter(value.values())) is None:
            value = next(iter(value))
        if type(value) is not str:
            raise wrong(f"one of {known}", value)
        member = members.get(value, unknown)
        if member is None:
            raise DecodeError(f"unknown value {value!r}, expected one of {known}")
        return member

    return Codec(_enum_text, decode)


def _enum_text(value: StrEnum) -> str:
    return str.__str__(value)  # `.value` is a property in Python, and this is called for every part of a history


def refined(codec: Codec[T], check: Callable[[T], T]) -> Codec[T]:
    """The same JSON, with `check` normalising or refusing (DecodeError) what was read."""
    inner = codec.decode
    return Codec(codec.encode, lambda value: check(inner(value)))


# -- containers --------------------------------------------------------------------------------------------------------


def array(item: Codec[Any], make: Callable[[list[Any]], Any] = tuple) -> Codec[Any]:
    """A JSON array; a tuple in memory, or whatever `make` builds from the list."""
    encode_item, decode_item = item.encode, item.decode

    def decode(value: Any) -> Any:
        if type(value) is not list:
            raise wrong("an array", value)
        items: list[Any] = []
        try:
            for entry in value:
                items.append(decode_item(entry))
        except DecodeError as error:
            raise error.under(f"[{len(items)}]") from None
        return make(items)

    return Codec(lambda value: [encode_item(entry) for entry in value], decode)


def mapping(item: Codec[Any]) -> Codec[Any]:
    """A JSON object with free keys, written in sorted order."""

    def decode(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise wrong("an object", value)
        out = {}
        for key in sorted(value):
            try:
                out[key] = item.decode(value[key])
            except DecodeError as error:
                raise error.under(key) from None
        return out

    return Codec(lambda value: {key: item.encode(value[key]) for key in sorted(value)}, decode)


def omit_none(codec: Codec[Any]) -> Field:
    """An optional field that is left out when it is None; null reads as None."""
    return Field(codec, optional=True, omit=True, null=True)


def omit_empty(codec: Codec[Any], default: Any = ()) -> Field:
    """A field that is left out when it equals its default; null is refused."""
    return Field(codec, optional=True, omit=True, default=default)


def nullable(codec: Codec[Any], *, positional: bool = True) -> Field:
    """An optional field that is always written, null for None."""
    return Field(codec, optional=True, omit=False, null=True, positional=positional)


def defaulted(codec: Codec[Any], default: Any = ()) -> Field:
    """A field that is always written and takes its default when it is missing on read."""
    return Field(codec, optional=True, omit=False, default=default)


def _none_or(codec: Codec[Any]) -> Codec[Any]:
    encode, decode = codec.encode, codec.decode
    return Codec(
        lambda value: None if value is None else encode(value),
        lambda value: None if value is None else decode(value),
    )
