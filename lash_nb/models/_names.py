"""What a real provider's name says: which model, at which address, with which key.

What is decided here: `WORD:MODEL` goes to the provider's own address, or to the one in its URL variable;
`WORD:MODEL@URL` names the address. A key of the environment goes to the provider, to the address that the user's own
variable gives, and to this machine; never to another host because a name says so (a name may come from a colleague or
a notebook). Imports the contract's errors only; nothing foreign.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from ..errors import InputError, MissingKeyError

__all__ = ["PROVIDERS", "Endpoint", "Provider", "address_of", "endpoint_of", "host_of", "is_loopback", "split_address"]

_MAX_MODEL_CHARS = 200
_ADDRESS = re.compile(r"@(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_BARE_ADDRESS = re.compile(r"@((?:localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]|[\w.-]+:\d+)(?:[:/].*)?)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Facts about a provider that need none of its packages."""

    word: str
    """What its names begin with."""
    title: str
    keys: tuple[str, ...]
    """The variables that may hold its key; the first that is set counts."""
    url_variable: str
    """The variable that holds the address of the user's own gateway."""
    url: str
    """Its own address."""
    example: str
    """How an address of its kind is written."""
    suffix: str
    """What its client puts behind every address itself: left off when it was given."""
    package: str
    """The module of its client."""
    install: str


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "anthropic": Provider(
            word="anthropic",
            title="Anthropic",
            keys=("ANTHROPIC_API_KEY",),
            url_variable="ANTHROPIC_BASE_URL",
            url="https://api.anthropic.com",
            example="http://HOST:PORT",
            suffix="/v1",
            package="anthropic",
            install="pip install 'lash-nb[providers]'",
        ),
        "google": Provider(
            word="google",
            title="Google",
            keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            url_variable="GOOGLE_GEMINI_BASE_URL",
            url="https://generativelanguage.googleapis.com",
            example="http://HOST:PORT",
            suffix="/v1beta",
            package="google.genai",
            install="pip install 'lash-nb[providers]'",
        ),
        "openai": Provider(
            word="openai",
            title="OpenAI",
            keys=("OPENAI_API_KEY",),
            url_variable="OPENAI_BASE_URL",
            url="https://api.openai.com/v1",
            example="http://HOST:PORT/v1",
            suffix="",
            package="openai",
            install="pip install 'pydantic-ai-slim[openai]'",
        ),
    }
)
"""The word before a name's colon → its provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model's calls go, and with what."""

    model: str
    url: str | None
    """None is the provider's own address."""
    key: str | None = field(repr=False)
    stranger: bool = False
    """Only a name says that anything should go there: it gets no key."""


def endpoint_of(provider: Provider, argument: str, env: Mapping[str, str]) -> Endpoint:
    """What the part of a name behind the colon means. Raises: InputError, MissingKeyError."""
    model, url = split_address(provider, argument)
    if not model:
        raise InputError(f"`{provider.word}` needs a model: {provider.word}:MODEL")
    key = _key(provider, env)
    configured = (env.get(provider.url_variable) or "").strip()
    if url is not None:
        host_of(url, provider)
        home = _origin(configured or provider.url)
        trusted = is_loopback(url) or (_origin(url) == home and urlsplit(url).scheme == "https")
        return Endpoint(model=model, url=url, key=key if trusted else None, stranger=not trusted)
    if configured:
        host_of(configured, provider)
    if key is None and not (configured and is_loopback(configured)):
        keys = " or ".join(provider.keys)
        raise MissingKeyError(f"{provider.word}:{argument} needs a key: set {keys} in the environment")
    return Endpoint(model=model, url=configured or None, key=key)


def split_address(provider: Provider, argument: str) -> tuple[str, str | None]:
    """The model and the address of `MODEL` or `MODEL@URL`. Raises: InputError when it can be neither."""
    model, url = argument.strip(), None
    if found := _ADDRESS.search(model):
        model, url = model[: found.start()].rstrip(), model[found.end() :]
    elif found := _BARE_ADDRESS.search(model):
        raise InputError(
            f"{provider.word}:{model}: an address begins with http:// or https://; "
            f"did you mean {provider.word}:{model[: found.start()]}@http://{found[1]}?"
        )
    if len(model) > _MAX_MODEL_CHARS or not model.isprintable():
        raise InputError(f"{model[:_MAX_MODEL_CHARS]!r} is not the name of a model")
    return model, url


def address_of(word: str, argument: str, env: Mapping[str, str]) -> str:
    """Where a name sends to, for people: the provider when it is its own address. Raises: InputError."""
    provider = PROVIDERS[word]
    _, url = split_address(provider, argument)
    url = url or (env.get(provider.url_variable) or "").strip()
    if not url:
        return provider.title
    host_of(url, provider)
    return url


def _masked(url: str) -> str:
    """An address that is quoted in a message may hold a password."""
    return re.sub(r"//[^/@]*@", "//…@", url)


def host_of(url: str, provider: Provider) -> str:
    """The host of an address. Raises: InputError when it is none, or holds a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{_masked(url)!r} is not an address of a model server ({error})") from error
    # An address is printed as it is, so it may hold nothing that hides the rest of it.
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url or "\\" in url:
        raise InputError(f"{_masked(url)!r} is not an address of a model server ({provider.example})")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"the address of {host} holds a user name or password: use {provider.keys[0]} instead")
    return host


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _key(provider: Provider, env: Mapping[str, str]) -> str | None:
    """The key in the environment, if any. Raises: InputError when it cannot be one."""
    for variable in provider.keys:
        key = (env.get(variable) or "").strip()
        if not key:
            continue
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(f"what {variable} holds is not a key: it has spaces or signs that no key has")
        return key
    return None
