"""Sums: externally, internally and adjacently tagged, Rust's Result. Used through `wire.py`, which has the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from ..errors import DecodeError
from .codec import Codec, decode_unit, wrong

__all__ = ["Variants", "adjacently_tagged", "externally_tagged", "internally_tagged", "one_or_other"]

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


def _unknown(what: str, tag: object, variants: Variants, path: str = "") -> DecodeError:
    return DecodeError(f"unknown {what} {tag!r}, expected one of {', '.join(variants)}", path=path)


def externally_tagged(what: str, variants: Variants) -> Codec[Any]:
    """`{"Tag": content}`; a variant without content is the bare string `"Tag"`."""
    by_class, by_member = _tag_of(variants)
    # Dataclass instances of unit variants are immutable: one is enough.
    units = {tag: _unit(kind) for tag, (kind, codec) in variants.items() if codec is None}

    def encode(value: Any) -> Any:
        entry = by_class.get(type(value))
        if entry is None:
            return by_member[value]
        tag, codec = entry
        return tag if codec is None else {tag: codec.encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is str:
            if value in units:
                return units[value]
            if value not in variants:
                raise _unknown(what, value, variants)
            raise DecodeError("this variant has content, found a bare string", path=value)
        if type(value) is not dict or len(value) != 1:
            raise wrong(f"{what}: a string or an object with one key", value)
        ((tag, content),) = value.items()
        if tag not in variants:
            raise _unknown(what, tag, variants)
        codec = variants[tag][1]
        try:
            if codec is None:
                decode_unit(content)
                return units[tag]
            if codec.fields is not None and type(content) is not dict:
                raise wrong("an object", content)
            return codec.decode(content)
        except DecodeError as error:
            raise error.under(tag) from None

    return Codec(encode, decode)


def internally_tagged(what: str, tag_name: str, variants: Variants) -> Codec[Any]:
    """`{"<tag_name>": "tag", …fields}`; each variant's codec writes an object.

    As serde does, the whole may also be read from an array: the tag, then the fields.
    """
    by_class, _ = _tag_of(variants)

    def encode(value: Any) -> Any:
        tag, codec = by_class[type(value)]
        return {tag_name: tag} if codec is None else {tag_name: tag, **codec.encode(value)}

    def decode(value: Any) -> Any:
        content: Any
        if type(value) is dict and tag_name in value:
            content = value.copy()
            tag = content.pop(tag_name)
        elif type(value) is list and value:
            tag, *content = value
        elif type(value) is dict or type(value) is list:
            raise DecodeError("this field is missing", path=tag_name)
        else:
            raise wrong(f"{what}: an object", value)
        if type(tag) is not str or tag not in variants:
            raise _unknown(what, tag, variants, tag_name)
        kind, codec = variants[tag]
        if codec is not None:
            return codec.decode(content)
        if content and type(content) is list:
            raise DecodeError(f"expected no fields, found {len(content)}")
        return _unit(kind)

    return Codec(encode, decode)


def adjacently_tagged(what: str, tag_name: str, content_name: str, variants: Variants) -> Codec[Any]:
    """`{"<tag_name>": "tag", "<content_name>": content}`, or (as serde reads it) an array of the two."""
    by_class, _ = _tag_of(variants)

    def encode(value: Any) -> Any:
        tag, codec = by_class[type(value)]
        assert codec is not None
        return {tag_name: tag, content_name: codec.encode(value)}

    def decode(value: Any) -> Any:
        if type(value) is list and len(value) <= 2:
            value = dict(zip((tag_name, content_name), value, strict=False))
        if type(value) is not dict:
            raise wrong(f"{what}: an object", value)
        for name in (tag_name, content_name):
            if name not in value:
                raise DecodeError("this field is missing", path=name)
        tag = value[tag_name]
        if type(tag) is not str or tag not in variants:
            raise _unknown(what, tag, variants, tag_name)
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
            raise wrong('{"Ok": …} or {"Err": …}', value)
        ((side, content),) = value.items()
        try:
            return sides[side].decode(content)
        except DecodeError as error:
            raise error.under(side) from None

    return Codec(encode, decode)
