"""A request to a kernel that has one reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .flags import Flag

__all__ = ["Request"]

Content = Mapping[str, object]


class Request:
    """A request with one reply; `done` is set when it came, or when it never will."""

    def __init__(self, msg_id: str, then: Callable[[Content], None] | None = None) -> None:
        self.msg_id = msg_id
        self.then = then
        """Called with the reply, on the I/O thread."""
        self.reply: Content | None = None
        self.done = Flag()
