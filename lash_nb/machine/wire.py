"""How values are written as JSON and read back: one table-driven codec for every struct and sum of the machine.

What is decided here and nowhere else: which JSON each Python value takes, and what is refused. The rules are those of
the reference's serde layout (`reference/turn-machine.md` 1.15): fields in declared order, unknown fields ignored unless
a struct is strict, integers that are integers (never `true`, never `1.0`), free JSON objects with sorted keys, no NaN.

A table stands beside each dataclass:

    MESSAGE = struct(Message, id=STRING, role=enum(MessageRole), parts=array(PART), origin=omit_none(ORIGIN))

Field kinds: a bare codec is required; `omit_none(c)` is left out when None; `omit_empty(c, default)` is left out when
equal to its default; `nullable(c)` is always written, null for None, and may be missing on read; `defaulted(c,
default)` is always written and defaulted on read. Imports the standard library's json only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import DecodeError

__all__ = [
    "BOOLEAN",
    "I64",
    "JSON",
    "STRING",
    "U64",
    "UNIT",
    "Codec",
    "DecodeError",
    "Field",
    "Json",
    "adjacently_tagged",
    "array",
    "bounded_integer",
    "canonical_json",
    "defaulted",
    "dumps",
    "enum",
    "externally_tagged",
    "internally_tagged",
    "loads",
    "mapping",
    "nullable",
    "omit_empty",
    "omit_none",
    "one_or_other",
    "refined",
    "strict_struct",
    "struct",
    "wrapper",
]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""Any JSON value: what `json.loads` gives (dict, list, str, int, float, bool, None)."""

T = TypeVar("T")
Encode: TypeAlias = Callable[[Any], Any]
Decode: TypeAlias = Callable[[Any], Any]

_I64_MIN, _U64_MAX = -(2**63), 2**64 - 1


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

    __slots__ = ("codec", "default", "omit", "optional")

    def __init__(self, codec: Codec[Any], *, optional: bool, omit: bool, default: Any = None) -> None:
        self.codec = codec
        self.optional = optional
        self.omit = omit
        self.default = default


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}
    return "null" if value is None else names.get(type(value), "a number")


def _wrong(expected: str, value: object) -> DecodeError:
    return DecodeError(f"expected {expected}, found {_kind(value)}")


# -- scalars -----------------------------------------------------------------------------------------------------------


def _decode_string(value: Any) -> str:
    if type(value) is not str:
        raise _wrong("a string", value)
    return value


def _decode_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong("a boolean", value)
    return value


def bounded_integer(low: int, high: int) -> Codec[int]:
    """An integer in [low, high]; a boolean or a float (also `1.0`) is refused."""

    def decode(value: Any) -> int:
        if type(value) is not int:
            raise _wrong("an integer", value)
        if not low <= value <= high:
            raise DecodeError(f"{value} is outside {low}..{high}")
        return value

    return Codec(_same, decode)


def _same(value: Any) -> Any:
    return value


def canonical_json(value: Any) -> Any:
    """A copy of a free JSON value as the reference writes it: object keys sorted, out-of-range integers as floats.

    Raises DecodeError for NaN, infinities, keys that are not strings and values that are not JSON.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if _I64_MIN <= value <= _U64_MAX else float(value)
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise DecodeError("NaN and infinities are not JSON")
        return value
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise DecodeError("the keys of a JSON object are strings")
        return {key: canonical_json(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [canonical_json(item) for item in value]
    raise DecodeError(f"{type(value).__name__} is not JSON")


def _decode_unit(value: Any) -> None:
    if value is not None:
        raise _wrong("null", value)


STRING: Codec[str] = Codec(_same, _decode_string)
BOOLEAN: Codec[bool] = Codec(_same, _decode_boolean)
U64: Codec[int] = bounded_integer(0, _U64_MAX)
I64: Codec[int] = bounded_integer(_I64_MIN, 2**63 - 1)
JSON: Codec[Any] = Codec(canonical_json, canonical_json)
UNIT: Codec[None] = Codec(_same, _decode_unit, unit=True)


def enum(kind: type[StrEnum], *, unknown: StrEnum | None = None) -> Codec[Any]:
    """A closed set of strings; with `unknown`, any other string reads as that member."""
    members = {member.value: member for member in kind}
    known = ", ".join(members)

    def decode(value: Any) -> StrEnum:
        # serde reads a unit variant from {"Name": null} too (conformance/FORMAT.md, quirks).
        if type(value) is dict and len(value) == 1 and next(iter(value.values())) is None and unknown is None:
            value = next(iter(value))
        if type(value) is not str:
            raise _wrong(f"one of {known}", value)
        member = members.get(value, unknown)
        if member is None:
            raise DecodeError(f"unknown value {value!r}, expected one of {known}")
        return member

    return Codec(lambda value: value.value, decode)


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
            raise _wrong("an array", value)
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
            raise _wrong("an object", value)
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
    return Field(_none_or(codec), optional=True, omit=True)


def omit_empty(codec: Codec[Any], default: Any = ()) -> Field:
    """A field that is left out when it equals its default; null is refused."""
    return Field(codec, optional=True, omit=True, default=default)


def nullable(codec: Codec[Any]) -> Field:
    """An optional field that is always written, null for None."""
    return Field(_none_or(codec), optional=True, omit=False)


def defaulted(codec: Codec[Any], default: Any = ()) -> Field:
    """A field that is always written and takes its default when it is missing on read."""
    return Field(codec, optional=True, omit=False, default=default)


def _none_or(codec: Codec[Any]) -> Codec[Any]:
    encode, decode = codec.encode, codec.decode
    return Codec(
        lambda value: None if value is None else encode(value),
        lambda value: None if value is None else decode(value),
    )


# -- structs -----------------------------------------------------------------------------------------------------------


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
        name: field if isinstance(field, Field) else Field(field, optional=False, omit=False)
        for name, field in fields.items()
    }
    read = _struct_reader(make, table, strict)
    names = tuple(table)

    def decode(value: Any) -> T:
        if type(value) is list:
            if len(value) > len(names):
                raise DecodeError(f"expected at most {len(names)} fields, found {len(value)}")
            value = dict(zip(names, value, strict=False))
        elif type(value) is not dict:
            raise _wrong("an object", value)
        return read(value)

    return Codec(_struct_encoder(table), decode, fields=table)


def _struct_encoder(table: Mapping[str, Field]) -> Encode:
    """One generated function per struct: a dict display for what is always written, an `if` for what may be left out.

    Generated (as `dataclasses` generates `__init__`) because half of the time of writing a long history was spent in
    a loop over the table.
    """
    scope: dict[str, Any] = {}
    lines = ["def encode(value):", "    out = {}"]
    for name, field in table.items():
        scope[f"e_{name}"], scope[f"d_{name}"] = field.codec.encode, field.default
        text = f"value.{name}" if field.codec.encode is _same else f"e_{name}(value.{name})"
        if field.omit and field.default is None:
            lines.append(f"    if value.{name} is not None: out[{name!r}] = {text}")
        elif field.omit:
            lines.append(f"    if value.{name} != d_{name}: out[{name!r}] = {text}")
        else:
            lines.append(f"    out[{name!r}] = {text}")
    lines.append("    return out")
    exec("\n".join(lines), scope)
    encode: Encode = scope["encode"]
    return encode


def _struct_reader(make: Callable[..., T], table: Mapping[str, Field], strict: bool) -> Callable[[dict[str, Any]], T]:
    plan = tuple((name, field.codec.decode, field.optional, field.default) for name, field in table.items())
    known = frozenset(table)
    missing = object()

    def read(value: dict[str, Any]) -> T:
        if strict and not known.issuperset(value):
            extra = sorted(set(value) - known)[0]
            raise DecodeError(f"unknown field {extra!r}")
        found: dict[str, Any] = {}
        for name, decode, optional, default in plan:
            entry = value.get(name, missing)
            if entry is not missing:
                try:
                    found[name] = decode(entry)
                except DecodeError as error:
                    raise error.under(name) from None
            elif optional:
                found[name] = default
            else:
                raise DecodeError("this field is missing", path=name)
        return make(**found)

    return read


def wrapper(make: Callable[..., T], /, attribute: str, codec: Codec[Any]) -> Codec[T]:
    """A dataclass of one field that is written as that field alone (serde's newtype variant)."""
    return Codec(
        lambda value: codec.encode(getattr(value, attribute)),
        lambda value: make(**{attribute: codec.decode(value)}),
    )


# -- sums --------------------------------------------------------------------------------------------------------------

Variants: TypeAlias = Mapping[str, "tuple[type[Any] | StrEnum, Codec[Any] | None]"]
"""Tag → (class of the variant, or the enum member that stands for it; its codec, or None for a unit variant)."""


def _tag_of(variants: Variants) -> tuple[dict[type[Any], tuple[str, Codec[Any] | None]], dict[Any, str]]:
    by_class: dict[type[Any], tuple[str, Codec[Any] | None]] = {}
    by_member: dict[Any, str] = {}
    for tag, (kind, codec) in variants.items():
        if isinstance(kind, StrEnum):
            by_member[kind] = tag
        else:
            by_class[kind] = (tag, codec)
    return by_class, by_member


def _unit(kind: Any) -> Any:
    """The value of a unit variant: the enum member itself, or an instance of the empty dataclass."""
    return kind if isinstance(kind, StrEnum) else kind()


def externally_tagged(what: str, variants: Variants) -> Codec[Any]:
    """`{"Tag": content}`; a variant without content is the bare string `"Tag"`."""
    by_class, by_member = _tag_of(variants)

    def encode(value: Any) -> Any:
        entry = by_class.get(type(value))
        if entry is None:
            return by_member[value]
        tag, codec = entry
        return tag if codec is None else {tag: codec.encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is str:
            tag, content, bare = value, None, True
        elif type(value) is dict and len(value) == 1:
            (tag, content), bare = next(iter(value.items())), False
        else:
            raise DecodeError(f"expected {what}: a string or an object with one key, found {_kind(value)}")
        if tag not in variants:
            raise DecodeError(f"unknown {what} {tag!r}, expected one of {', '.join(variants)}")
        kind, codec = variants[tag]
        try:
            if codec is None:
                _decode_unit(content)
                return _unit(kind)
            if bare:
                raise DecodeError("this variant has content, found a bare string")
            if codec.fields is not None and type(content) is not dict:
                raise _wrong("an object", content)
            return codec.decode(content)
        except DecodeError as error:
            raise error.under(tag) from None

    return Codec(encode, decode)


def internally_tagged(what: str, tag_name: str, variants: Variants) -> Codec[Any]:
    """`{"<tag_name>": "tag", …fields}`; each variant's codec writes an object."""
    by_class, _ = _tag_of(variants)

    def encode(value: Any) -> Any:
        tag, codec = by_class[type(value)]
        return {tag_name: tag} if codec is None else {tag_name: tag, **codec.encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(f"{what}: an object", value)
        if tag_name not in value:
            raise DecodeError("this field is missing", path=tag_name)
        tag = value[tag_name]
        if type(tag) is not str or tag not in variants:
            raise DecodeError(f"unknown {what} {tag!r}, expected one of {', '.join(variants)}", path=tag_name)
        kind, codec = variants[tag]
        if codec is None:
            return _unit(kind)
        return codec.decode({key: entry for key, entry in value.items() if key != tag_name})

    return Codec(encode, decode)


def adjacently_tagged(what: str, tag_name: str, content_name: str, variants: Variants) -> Codec[Any]:
    """`{"<tag_name>": "tag", "<content_name>": content}`."""
    by_class, _ = _tag_of(variants)

    def encode(value: Any) -> Any:
        tag, codec = by_class[type(value)]
        assert codec is not None
        return {tag_name: tag, content_name: codec.encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(f"{what}: an object", value)
        for name in (tag_name, content_name):
            if name not in value:
                raise DecodeError("this field is missing", path=name)
        tag = value[tag_name]
        if type(tag) is not str or tag not in variants:
            raise DecodeError(f"unknown {what} {tag!r}, expected one of {', '.join(variants)}", path=tag_name)
        codec = variants[tag][1]
        assert codec is not None
        try:
            return codec.decode(value[content_name])
        except DecodeError as error:
            raise error.under(content_name) from None

    return Codec(encode, decode)


def one_or_other(is_first: Callable[[Any], bool], first: Codec[Any], second: Codec[Any]) -> Codec[Any]:
    """`{"Ok": value}` or `{"Err": value}`: Rust's Result. `is_first` says which of the two a value in memory is."""
    sides = {"Ok": first, "Err": second}

    def encode(value: Any) -> Any:
        side = "Ok" if is_first(value) else "Err"
        return {side: sides[side].encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is not dict or len(value) != 1 or next(iter(value)) not in sides:
            raise DecodeError(f'expected {{"Ok": …}} or {{"Err": …}}, found {_kind(value)}')
        side, content = next(iter(value.items()))
        try:
            return sides[side].decode(content)
        except DecodeError as error:
            raise error.under(side) from None

    return Codec(encode, decode)


# -- text --------------------------------------------------------------------------------------------------------------


def dumps(value: Any) -> str:
    """Compact JSON text as the reference writes it: no spaces, not escaped to ASCII, no NaN."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _no_constant(name: str) -> Any:
    raise DecodeError(f"{name} is not JSON")


def loads(text: str | bytes) -> Any:
    """JSON text as Python values; DecodeError (never json's own error) for text that is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"this is not JSON ({error})") from None
    except RecursionError:
        raise DecodeError("this JSON is nested too deeply") from None
