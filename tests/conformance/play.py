"""`python -m tests.conformance.play`: one operation per line on stdin, one answer per line on stdout, flushed."""

from __future__ import annotations

import sys

from lash_nb.errors import DecodeError
from lash_nb.machine.wire import dumps, loads

from .player import Player


def main() -> None:
    """Play until stdin ends."""
    player = Player()
    # Lines end with "\n" only: the text may hold U+2028, so the bytes are split, not the text.
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            operation = loads(line)
        except DecodeError:
            operation = None
        sys.stdout.buffer.write(dumps(player.play(operation)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
