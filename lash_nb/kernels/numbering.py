"""Whether messages of a kernel were lost on their way; pure.

A kernel that publishes faster than its socket can send drops messages, and says nothing: the mark at which it does is
set in its own process, and only where our code runs inside is it raised. Kernels made with jupyter_client's `Session`
number all that they send, whatever the channel: a number that never came is a message that was lost. Replies can
overtake outputs: what comes late is taken off again.
"""

from __future__ import annotations

import re

__all__ = ["Numbering"]

_NUMBERED = re.compile(r"(.+)_(\d+)")


class Numbering:
    """The numbers of one kernel's messages. `missing`: how many never came, of those since it was last set to 0."""

    def __init__(self) -> None:
        self.missing = 0
        self._sender = ""
        self._last = -1

    def take(self, msg_id: str) -> None:
        match = _NUMBERED.fullmatch(msg_id)
        if match is None:
            return
        sender, number = match[1], int(match[2])
        if sender != self._sender:
            self._sender, self._last, self.missing = sender, number, 0
        elif number > self._last:
            self.missing += number - self._last - 1
            self._last = number
        else:  # it was overtaken, and counted as missing then
            self.missing -= 1
