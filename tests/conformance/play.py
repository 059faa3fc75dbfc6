"""`python -m tests.conformance.play`: one operation per line on stdin, one answer per line on stdout, flushed."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from lash_nb.errors import DecodeError
from lash_nb.machine.wire import dumps, loads

from .player import Player

DEEPEST = 127
"""How many arrays and objects may lie within each other: serde_json refuses a line with more."""


def read(line: bytes) -> Any:
    """The operation on a line; None for what the reference's parser would not take."""
    try:
        operation = loads(line)
    except DecodeError:
        return None
    return None if beyond(operation, DEEPEST) else operation


def beyond(value: Any, depth: int) -> bool:
    """Whether the value is nested deeper than that, or holds a number beyond all bounds."""
    level = [value]
    while level:
        if any(isinstance(item, (int, float)) and abs(item) > sys.float_info.max for item in level):
            return True
        level = [item for item in level if isinstance(item, (dict, list))]
        if level and depth == 0:
            return True
        depth -= 1
        level = [item for box in level for item in (box.values() if isinstance(box, dict) else box)]
    return False


def main() -> None:
    """Play until stdin ends."""
    player = Player()
    # Lines end with "\n" only: the text may hold U+2028, so the bytes are split, not the text.
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            text = dumps(player.play(read(line)))
        except Exception:  # a fault of ours must not cost the scenarios that follow
            traceback.print_exc()
            text = dumps({"error": "crashed"})
        sys.stdout.buffer.write(text.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
