"""A final value as its schema reads it."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.protocols.termination import FinishRequired, Natural
from lash_nb.protocols.whole_numbers import value_read

BAND: dict[str, Any] = {"type": "object", "properties": {"zones": {"type": "integer"}, "share": {"type": "number"}}}


@pytest.mark.parametrize(
    ("schema", "value", "read"),
    [
        ({"type": "integer"}, 5.0, "5"),
        ({"type": "integer"}, 5, "5"),
        ({"type": "integer"}, -0.0, "0"),
        ({"type": "integer"}, 1e300, str(int(1e300))),
        ({"type": "number"}, 5.0, "5.0"),
        ({"type": ["integer", "null"]}, 5.0, "5"),
        ({"type": ["integer", "number"]}, 5.0, "5.0"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 5.0, "5"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 5.0, "5.0"),
        ({"type": "array", "items": {"type": "integer"}}, [1.0, 2], "[1, 2]"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "integer"}]}, [1.0, 2.0, 3.0], "[1.0, 2, 3.0]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1.0}, "{'a': 1}"),
        (BAND, {"zones": 3.0, "share": 1.0, "more": 2.0}, "{'zones': 3, 'share': 1.0, 'more': 2.0}"),
        ({"items": {"$ref": "#/$defs/Band"}, "$defs": {"Band": BAND}}, [{"zones": 3.0}], "[{'zones': 3}]"),
        ({"$ref": "#"}, 5.0, "5.0"),
        ({"$ref": "#/nowhere"}, 5.0, "5.0"),
        (True, 5.0, "5.0"),
        (None, 5.0, "5.0"),
        ({"type": "integer"}, True, "True"),
    ],
)
def test_whole_numbers_are_written_as_such_where_they_are_wanted(schema: Any, value: Any, read: str) -> None:
    assert repr(value_read(value, FinishRequired(schema=schema))) == read


def test_without_a_schema_a_value_is_what_it_was() -> None:
    assert repr(value_read(5.0, Natural())) == "5.0"
