"""The settings of MCP servers: the form that all clients of MCP share, and a few keys of our own.

    {"files": {"command": "npx", "args": ["-y", "some-server", "."], "env": {"TOKEN": "${FILES_TOKEN}"}},
     "board": {"url": "https://board.example/mcp", "headers": {"Authorization": "Bearer ${BOARD_TOKEN}"}}}

Decided here: what may stand there, and that anything else is refused with its place; a word in `${…}` is a variable of
the environment, filled in when the server is started, so that no secret has to stand in a file. Settings start
programs: they come from the user (a call, a magic, a file of theirs), never from what a notebook carries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from ..errors import InputError
from . import AskedFrom

__all__ = ["DEFAULT_TIMEOUT_S", "ServerSettings", "filled", "settings_of"]

DEFAULT_TIMEOUT_S = 120.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_ENV_NAME = re.compile(r"[^=\0]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_APPROVE = get_args(AskedFrom)
_OURS = ("approve", "timeout_s", "safe", "tools", "prefix")
_STDIO = ("command", "args", "env", "cwd")
_HTTP = ("url", "headers")
_TYPES = {"stdio": "command", "http": "url", "streamable-http": "url", "streamableHttp": "url"}
_OF_THE_LINE = frozenset({"accept", "content-length", "content-type", "host", "mcp-protocol-version", "mcp-session-id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How one server is reached, and how its tools are called."""

    name: str
    command: str | None = None
    """The program to start; None: the server is at `url`."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    approve: AskedFrom = "effects"
    timeout_s: float = DEFAULT_TIMEOUT_S
    safe: frozenset[str] = frozenset()
    """Tools, as the server calls them, whose calls may be made again."""
    tools: frozenset[str] | None = None
    """Those that are taken, as the server calls them; None: all."""
    prefix: str = ""
    """Stands with an underscore before every tool's name."""

    @property
    def kind(self) -> Literal["stdio", "http"]:
        """How it is reached."""
        return "http" if self.url is not None else "stdio"


def settings_of(name: str, given: Mapping[str, Any], *, base_dir: str | Path | None = None) -> ServerSettings:
    """The settings of one server, checked. A relative `cwd` is one of `base_dir`.

    Raises InputError: the name or a setting cannot be used; the message names the place.
    """
    if not _NAME.fullmatch(str(name)):
        raise InputError(f"an MCP server cannot be called {name!r}: letters, digits, _ . and -, at most 40")
    place = f"the MCP server {name!r}"
    if not isinstance(given, Mapping):
        raise InputError(f"{place}: its settings are an object: {{'command': …}} or {{'url': …}}")
    kind = given.get("type")
    if kind is not None and kind not in _TYPES:
        raise InputError(f"{place}: type {kind!r} is not known; servers are reached by stdio or streamable HTTP")
    if ("command" in given) == ("url" in given):
        raise InputError(f"{place}: give either a 'command' to start it or a 'url' where it is")
    if kind is not None and _TYPES[kind] not in given:
        raise InputError(f"{place}: a server of type {kind!r} has a {_TYPES[kind]!r}")
    known = (*(_STDIO if "command" in given else _HTTP), *_OURS, "type")
    for key in given:
        if key not in known:
            raise InputError(f"{place}: {key!r} is no setting of it; there are: {', '.join(known)}")
    read = _Reader(place, given)
    cwd = read.text("cwd")
    if base_dir is not None and "command" in given:
        cwd = str(Path(base_dir) / (cwd or "."))
    return ServerSettings(
        name=name,
        command=read.text("command"),
        args=read.texts("args"),
        env=read.pairs("env", _ENV_NAME),
        cwd=cwd,
        url=read.url(),
        headers=read.pairs("headers", _HEADER_NAME),
        approve=read.approve(),
        timeout_s=read.seconds(),
        safe=frozenset(read.texts("safe")),
        tools=frozenset(read.texts("tools")) if given.get("tools") is not None else None,
        prefix=read.prefix(name),
    )


class _Reader:
    """Reads the values of one server's settings."""

    def __init__(self, place: str, given: Mapping[str, Any]) -> None:
        self._place = place
        self._given = given

    def _wrong(self, key: str, wanted: str) -> InputError:
        return InputError(f"{self._place}: {key} has to be {wanted}, not {str(self._given.get(key))[:80]!r}")

    def text(self, key: str) -> str | None:
        value = self._given.get(key)
        if value is not None and not _plain(value):
            raise self._wrong(key, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._given.get(key)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
            raise self._wrong(key, "a list of texts")
        if not all(isinstance(item, str) and "\0" not in item for item in value):
            raise self._wrong(key, "a list of texts")
        return tuple(value)

    def pairs(self, key: str, name: re.Pattern[str]) -> Mapping[str, str]:
        value = self._given.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InputError(f"{self._place}: {key} has to be an object of texts by name")
        for found, text in value.items():
            # The value may be a secret: it is not told.
            if not isinstance(found, str) or not name.fullmatch(found):
                raise InputError(f"{self._place}: {key} cannot have the name {found!r}")
            if not isinstance(text, str) or "\0" in text:
                raise InputError(f"{self._place}: {key}.{found} has to be a text")
            if key == "headers" and found.lower() in _OF_THE_LINE:
                raise InputError(f"{self._place}: {key}.{found} is set by the protocol itself")
        return dict(value)

    def url(self) -> str | None:
        value = self.text("url")
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            ok = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            ok = False
        if not ok or any(sign.isspace() or not sign.isprintable() for sign in value):
            raise self._wrong("url", "an address that begins with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise InputError(f"{self._place}: url holds a user or a password: give a header, with ${{VARIABLE}} in it")
        return value

    def approve(self) -> AskedFrom:
        value = self._given.get("approve", "effects")
        if value not in _APPROVE:
            raise self._wrong("approve", f"one of {', '.join(_APPROVE)}")
        return cast(AskedFrom, value)

    def seconds(self) -> float:
        value = self._given.get("timeout_s", DEFAULT_TIMEOUT_S)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise self._wrong("timeout_s", "a number of seconds above 0")
        return float(value)

    def prefix(self, name: str) -> str:
        value = self._given.get("prefix", False)
        if isinstance(value, bool):
            return re.sub(r"[^A-Za-z0-9]", "_", name) if value else ""
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,29}", value):
            raise self._wrong("prefix", "true, false, or letters, digits and _")
        return value


def _plain(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def filled(values: Mapping[str, str], env: Mapping[str, str], *, place: str) -> dict[str, str]:
    """The values with `${NAME}` (or `${NAME:-what else}`) filled in. Raises InputError: a variable is not set."""

    def fill(key: str) -> Callable[[re.Match[str]], str]:
        def value(match: re.Match[str]) -> str:
            found = env.get(match[1])
            found = match[2] if not found and match[2] is not None else found
            if found is None:
                raise InputError(f"{place}.{key} needs the environment variable {match[1]}, which is not set")
            return found

        return value

    return {key: _VARIABLE.sub(fill(key), text) for key, text in values.items()}
