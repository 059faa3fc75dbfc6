"""What a call gave, as a picture has it: one line, in short."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.machine.picture_parts import result_in_short
from lash_nb.machine.tool_calls import RESERVED_KEY


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        (None, ""),
        ("", ""),
        ("two\n  lines", "two lines"),
        ({"a": [1, "b"]}, '{"a":[1,"b"]}'),
        ("x" * 300, "x" * 200 + " … (300 characters)"),
        (
            [{RESERVED_KEY: "attachment", "source": {}}, {RESERVED_KEY: "object", "entries": {"k": 1}}],
            '["[attachment]",{"k":1}]',
        ),
    ],
)
def test_a_result_in_short(payload: Any, line: str) -> None:
    assert result_in_short(payload) == line
