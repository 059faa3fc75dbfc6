"""Which host an audit event of a socket is about to reach, as a person knows it. Used in the kernel, and tested.

Decided here: a name that was looked up stands for the addresses that the look-up gave; a look-up is itself an effect,
because names carry data out; what this process listens on is its own.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from typing import Any

from .effects import CONNECT, Effect, Places

__all__ = ["HOSTS", "LOOK_UPS", "Hosts"]

HOSTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname"})
MOST_NAMES = 10_000


class Hosts:
    """The names that were looked up, and who is reached."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """By address."""
        self.own_name = _plain(socket.gethostname())
        self.kinds = (socket.AF_INET, socket.AF_INET6)

    def learn(self, host: Any, found: Any) -> None:
        """What `getaddrinfo` gave for a name."""
        name = _plain(host)
        if self.is_local(name) or _address(name) is not None:
            return
        if len(self.names) > MOST_NAMES:
            self.names.clear()
        for *_, address in found:
            self.names[str(address[0])] = name

    def is_local(self, name: str) -> bool:
        """Whether a name is this machine's own, so that nobody else is asked for it."""
        return name in ("", "localhost", self.own_name) or name.endswith(".localhost")

    def looked_up(self, args: tuple[Any, ...]) -> list[Effect]:
        """The effect of a look-up: none for an address, or for this machine."""
        name, port = _plain(args[0]), args[1] if len(args) > 1 else None
        if self.is_local(name) or _address(name) is not None:
            return []
        number = _port(port)
        return [Effect(CONNECT, f"{name}:{number}" if number else name)]

    def reached(self, sock: Any, address: Any, places: Places) -> list[Effect]:
        """The effect of a connection, or of a datagram."""
        if address is None:  # a message on a connected socket
            return []
        if sock.family == getattr(socket, "AF_UNIX", None):
            return self.reached_file(address, places)
        if sock.family not in self.kinds:
            return []
        host, port = _plain(address[0]), int(address[1])
        literal = _address(host)
        mine = (
            self.is_local(host)
            or host == ""
            or (literal is not None and (literal.is_loopback or literal.is_unspecified))
        )
        if mine and own_port(port, sock.type):
            return []
        name = self.names.get(host, host)
        if mine and literal is None:
            name = "127.0.0.1"
        return [Effect(CONNECT, f"[{name}]:{port}" if ":" in name else f"{name}:{port}")]

    def reached_file(self, address: Any, places: Places) -> list[Effect]:
        path = os.fsdecode(address)
        if not path or path.startswith("\0"):
            return []
        path = os.path.realpath(path)
        return [] if places.free(path) else [Effect(CONNECT, f"unix:{path}")]


def _plain(host: Any) -> str:
    if host is None:
        return ""
    text = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)
    return text.rstrip(".").lower()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _port(port: Any) -> int:
    text = port.decode("ascii", "replace") if isinstance(port, bytes) else str(port or "")
    if text.isdecimal():
        return int(text)
    try:
        return socket.getservbyname(text) if text else 0
    except OSError:
        return 0


def own_port(port: int, kind: int) -> bool:
    """Whether this process listens on it, or has bound it for datagrams."""
    datagrams = kind & 0xF == socket.SOCK_DGRAM
    for name in os.listdir("/dev/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[1] != port:
                    continue
                if datagrams and sock.type == socket.SOCK_DGRAM:
                    return True
                if not datagrams and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return True
        except (OSError, ValueError):  # closed meanwhile
            continue
    return False
