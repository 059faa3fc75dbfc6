"""Values of every record of the machine, drawn from the annotations of its dataclasses."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Union

from hypothesis import strategies as st

from lash_nb.machine.attachments import AttachmentRef, AttachmentSource, ExternalUrl, InlineAttachment
from lash_nb.machine.execution import ExecImage
from lash_nb.machine.llm import GenerationOptions, LlmUsage
from lash_nb.machine.messages import AppendOnly
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import FinishControl, ToolCancellation, ToolFailure, ToolSucceeded

TEXT = st.text(max_size=6)
NUMBERS = st.integers(0, 2**32 - 1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
MEDIA_TYPES = st.sampled_from(["image/png", "text/plain", "application/vnd.x+json", "a/~"])


class _Json:
    """Stands for the alias `Json` while annotations are read."""


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    if hint is _Json or hint is Any:
        return JSON
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _records(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    if isinstance(hint, typing.NewType):
        return of(hint.__supertype__)
    simple = {
        str: TEXT,
        int: NUMBERS,
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        bytes: st.binary(max_size=3),
        type(None): st.none(),
    }
    if hint in simple:
        return simple[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([of(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(of, arguments))
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=2).map(tuple)
    if origin is AppendOnly:
        return st.lists(of(arguments[0]), max_size=2).map(AppendOnly)
    if origin is Mapping:
        return st.dictionaries(TEXT, of(arguments[1]), max_size=2)
    assert origin is Literal, hint
    return st.sampled_from(arguments)


_KNOWN: dict[type, st.SearchStrategy[Any]] = {}


def _records(kind: type) -> st.SearchStrategy[Any]:
    if kind not in _KNOWN:
        _KNOWN[kind] = st.deferred(lambda: _built(kind))
    return _KNOWN[kind]


def _built(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, localns={"Json": _Json})
    names = [field.name for field in dataclasses.fields(kind)]
    special = _SPECIAL.get(kind, {})
    return st.builds(kind, **{name: special[name] if name in special else of(hints[name]) for name in names})


def _tool_values() -> st.SearchStrategy[Any]:
    """Tool values in the form in which they are kept: attachments tagged, the reserved key escaped."""
    from lash_nb.machine.tool_calls import RESERVED_KEY, TOOL_VALUE

    sources = of(AttachmentSource).map(lambda source: {RESERVED_KEY: "attachment", "source": _encoded_source(source)})
    escaped = st.fixed_dictionaries(
        {RESERVED_KEY: st.just("object"), "entries": st.dictionaries(TEXT | st.just(RESERVED_KEY), JSON, max_size=2)}
    )
    return (JSON | sources | escaped | st.lists(sources, max_size=2)).map(TOOL_VALUE.decode)


def _encoded_source(source: Any) -> Any:
    from lash_nb.machine.attachments import ATTACHMENT_SOURCE

    return ATTACHMENT_SOURCE.encode(source)


TOOL_VALUES = st.deferred(_tool_values)
_SPECIAL: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    AttachmentRef: {"media_type": MEDIA_TYPES},
    InlineAttachment: {"media_type": MEDIA_TYPES},
    ExternalUrl: {"media_type": MEDIA_TYPES},
    ExecImage: {"mime": MEDIA_TYPES},
    GenerationOptions: {"output_token_cap": st.none() | st.integers(1, 2**64 - 1)},
    LlmUsage: {field.name: st.integers(-(2**63), 2**63 - 1) for field in dataclasses.fields(LlmUsage)},
    ToolSucceeded: {"payload": TOOL_VALUES},
    FinishControl: {"value": TOOL_VALUES},
    ToolFailure: {"raw": TOOL_VALUES},
    ToolCancellation: {"raw": TOOL_VALUES},
    TurnCheckpoint: {"next_effect_id": st.integers(0, 2**64 - 1)},
}
