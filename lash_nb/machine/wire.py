"""How values are written as JSON and read back: one table-driven codec for every struct and sum of the machine.

What is decided here (with `codec.py`, `structs.py`, `sums.py`, which are used through this module) and nowhere else:
which JSON each Python value takes, and what is refused. The rules are those of the reference's serde layout
(`reference/turn-machine.md` 1.15): fields in declared order, unknown fields ignored unless a struct is strict, integers
that are integers (never `true`, never `1.0`), free JSON objects with sorted keys, no NaN.

A table stands beside each dataclass:

    MESSAGE = struct(Message, id=STRING, role=enum(MessageRole), parts=array(PART), origin=omit_none(ORIGIN))

Field kinds: a bare codec is required; `omit_none(c)` is left out when None; `omit_empty(c, default)` is left out when
equal to its default; `nullable(c)` is always written, null for None, and may be missing on read; `defaulted(c,
default)` is always written and defaulted on read. Imports the standard library's json only.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import DecodeError
from .codec import (
    BOOLEAN,
    I64,
    JSON,
    STRING,
    U32,
    U64,
    UNIT,
    Codec,
    Field,
    Json,
    array,
    bounded_integer,
    canonical_json,
    defaulted,
    enum,
    mapping,
    nullable,
    omit_empty,
    omit_none,
    refined,
    trimmed,
)
from .structs import strict_struct, struct, wrapper
from .sums import adjacently_tagged, externally_tagged, internally_tagged, one_or_other

__all__ = [
    "BOOLEAN",
    "I64",
    "JSON",
    "STRING",
    "U32",
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
    "trimmed",
    "wrapper",
]


def dumps(value: Any) -> str:
    """Compact JSON text as the reference writes it: no spaces, not escaped to ASCII, no NaN."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """JSON text as Python values, refusing what the reference's parser refuses and Python's takes.

    Raises:
        DecodeError: never json's own error; for text that is not JSON in UTF-8, NaN, infinities, lone surrogates, and
            nesting or numbers beyond all bounds.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        else:
            text.encode()  # a str may hold lone surrogates, which could never be written again
        # "-0" is a float to the reference; the hook makes integers slower to read, so it is used only when needed.
        integer = _integer if "-0" in text else None
        value = json.loads(text, parse_constant=_no_constant, parse_int=integer)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise DecodeError("this is not JSON (not UTF-8, or half of a surrogate pair)") from None
    except RecursionError:
        raise DecodeError("this JSON is nested too deeply") from None
    except DecodeError:
        raise
    except ValueError as error:  # json.JSONDecodeError, and int's own limit of digits
        raise DecodeError(f"this is not JSON ({error})") from None
    return value


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def _no_constant(name: str) -> Any:
    raise DecodeError(f"{name} is not JSON")
