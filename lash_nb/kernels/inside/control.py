"""Our requests on the control channel: answered at once, also while a cell runs. Runs on the kernel's control thread.

ipykernel wraps each control request in two status messages and two flushes. That is a millisecond and more, and a
tool call waits for it: so ours are taken out before, and everything else goes its usual way. The handlers are reached
through closures: agent code that empties `control_handlers` breaks its own, not these. Nor does what it does to `json`
reach the kernel's messages: they are packed by an encoder of their own.
"""

from __future__ import annotations

import json
import threading
from typing import Any


def keep_packing(session: Any) -> None:
    """The same as jupyter_client's own functions, which look `json.dumps` up each time."""
    from jupyter_client import session as theirs
    from jupyter_client.session import json_packer, json_unpacker

    if session.pack is not json_packer or session.unpack is not json_unpacker:
        return
    encode = json.JSONEncoder(default=vars(theirs)["json_default"], ensure_ascii=False, allow_nan=False).encode
    decode, text = json.JSONDecoder().decode, bytes.decode
    odd = (TypeError, ValueError)

    def pack(value: Any) -> bytes:
        try:
            return encode(value).encode("utf8", errors="surrogateescape")
        except odd:
            packed: bytes = json_packer(value)
            return packed

    def unpack(data: Any) -> Any:
        return decode(data if type(data) is str else text(bytes(data), "utf8", "replace"))

    session.pack, session.unpack = pack, unpack


def install(shell: Any, inside: Any) -> None:
    """Put a dispatcher before the kernel's own; the feature test is that there is a control thread."""
    from jupyter_client.session import DELIM

    kernel = shell.kernel
    session, stream, loop = kernel.session, kernel.control_stream, kernel.control_thread.io_loop
    thread = kernel.control_thread
    keep_packing(session)
    original = kernel.dispatch_control
    feed, deserialize, unpack, send = session.feed_identities, session.deserialize, session.unpack, session.send
    handlers, log = inside.handlers, kernel.log
    inside.send = send

    def dispatch(frames: list[Any]) -> Any:
        names = [bytes(frame.buffer) for frame in frames]
        try:
            kind = unpack(names[names.index(DELIM) + 2])["msg_type"]
        except (ValueError, IndexError, KeyError, TypeError):
            kind = ""
        handler = handlers.get(kind)
        if handler is None:
            return original(frames)
        try:
            idents, rest = feed(frames, copy=False)
            message = deserialize(rest, content=True, copy=False)
        except Exception:  # not signed with our key
            log.error("Invalid control message", exc_info=True)
            return None

        def respond(content: dict[str, Any]) -> None:
            reply = kind.replace("_request", "_reply")
            if threading.current_thread() is thread:
                send(stream, reply, content, message, ident=idents)
            else:
                loop.add_callback(send, stream, reply, content, message, ident=idents)

        try:
            handler(message["content"], respond)
        except Exception as error:  # said, so that nobody waits
            log.error("Exception in %s", kind, exc_info=True)
            respond({"status": "error", "ename": type(error).__name__, "evalue": str(error)})
        return None

    loop.add_callback(stream.on_recv, dispatch, False)
