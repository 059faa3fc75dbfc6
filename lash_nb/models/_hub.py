"""Weights from the model hub, over plain HTTP with ranges.

Decided here: the session is `huggingface_hub`'s (endpoint, offline mode, proxies and certificates as the user set them
up for it), the requests are ours: its own download throws an interrupted file away, and its look-up of a file tells
the hub more than it has to. No token is sent, no cache of its own is written. What the hub announces is compared with
the pin before a byte of it is fetched. What the hub says is a stranger's: its numbers are bounded, its words made
printable. It is read in a thread of its own, so a hub that says nothing can be left. Foreign types stay inside.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from ..errors import MissingExtraError
from ..version import __version__
from ._partial import Partial, SourceError, Stop, Stopped
from ._watched import Give, watched

if TYPE_CHECKING:
    import httpx2

__all__ = ["HUB", "address_shown", "fetch_from_hub", "hub_endpoint"]

HUB = "https://huggingface.co"

_TIMEOUT_S = 15.0
_REDIRECTS = 5
_RETRIES = 3
"""Connections in a row that may bring next to nothing."""
_LEAST_BYTES = 64 * 1024
"""What a connection has to bring, unless it brings the end, to be worth another one at once."""
_HEADERS = {"user-agent": f"lash-nb/{__version__}", "accept-encoding": "identity"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,15}")
_YES = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Announced:
    location: str
    """Where the bytes are."""
    is_hub: bool
    size_bytes: int | None
    etag: str
    """The SHA-256 of a large file on the official hub; mirrors may have others."""


def hub_endpoint(env: Mapping[str, str]) -> str:
    """The hub's address, without a slash at its end: `HF_ENDPOINT`, or the official one."""
    return env.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB


def address_shown(address: str) -> str:
    """An address as it may be printed: whatever stands before an @ may be a password, behind a ? a key."""
    scheme, separator, rest = address.rpartition("://")
    return _shown(f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}")


def fetch_from_hub(partial: Partial, *, env: Mapping[str, str], stop: Stop) -> None:
    """Append what is missing.

    Raises: SourceError when the hub does not deliver; MissingExtraError; WeightsError for the disk. What came is kept.
    """
    try:
        import httpx2
    except ImportError:
        raise _missing() from None
    endpoint = hub_endpoint(env)
    if any(env.get(name, "").strip().lower() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise SourceError("The hub was not asked, because HF_HUB_OFFLINE is set; unset it")
    announced = _announced(partial, endpoint, stop)
    shown = address_shown(endpoint)
    _compare(partial, announced, shown)
    failures = 0
    while partial.size < partial.weights.size_bytes:
        before = partial.size
        try:
            _stream(partial, announced.location, shown, stop)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = _shown(f"{type(error).__name__}: {error}")
        else:
            reason = "it ended the answer early"
        failures = 0 if partial.size >= before + _LEAST_BYTES else failures + 1
        if failures >= _RETRIES and partial.size < partial.weights.size_bytes:
            raise SourceError(f"The hub at {shown} does not send on ({reason}); {partial.size:,} bytes are kept")
        if partial.size < partial.weights.size_bytes:
            _pause(failures, stop)


def _announced(partial: Partial, endpoint: str, stop: Stop) -> _Announced:
    """What the hub says of the file."""
    try:
        import httpx2
        from huggingface_hub import hf_hub_url
    except ImportError:
        raise _missing() from None
    url = hf_hub_url(partial.weights.hub_repository, partial.weights.hub_file, endpoint=endpoint)
    try:
        for _ in range(_REDIRECTS):
            response = _head(url, stop)
            if response.status_code >= 400:
                raise _refused(response.status_code, url)
            location = urljoin(url, response.headers.get("location", ""))
            if not response.is_redirect or "x-linked-etag" in response.headers:
                break
            url = location
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        reason = _shown(f"{type(error).__name__}: {error}")
        raise SourceError(f"The hub at {address_shown(endpoint)} cannot be reached ({reason})") from error
    headers = response.headers
    size: str = headers.get("x-linked-size", "" if response.is_redirect else headers.get("content-length", ""))
    etag: str = headers.get("x-linked-etag", headers.get("etag", ""))
    return _Announced(
        location=location,
        is_hub="x-repo-commit" in headers,
        size_bytes=int(size) if _NUMBER.fullmatch(size) else None,
        etag=_shown(etag.removeprefix("W/").strip('"')),
    )


def _head(url: str, stop: Stop) -> httpx2.Response:
    """What is answered about an address. Raises: httpx2's errors."""
    from huggingface_hub import get_session

    def ask(give: Give[httpx2.Response]) -> None:
        # By hand: the hub library's own function asks for more than the file (which tools call it, for one).
        give(get_session().head(url, headers=_HEADERS, timeout=_TIMEOUT_S, follow_redirects=False))

    with closing(watched(ask, stop=stop)) as answers:
        return next(answers)


def _compare(partial: Partial, announced: _Announced, endpoint: str) -> None:
    """Refuse what the hub itself says is another file, or no file of a hub at all."""
    weights = partial.weights
    etag = announced.etag
    if not announced.is_hub:
        raise SourceError(
            f"What answers at {endpoint} is no model hub (a proxy's or a login page, perhaps); nothing was fetched"
        )
    if announced.size_bytes not in (None, weights.size_bytes) or (_SHA256.fullmatch(etag) and etag != weights.sha256):
        raise SourceError(
            f"The hub at {endpoint} has another file under the name {weights.hub_file} "
            f"({announced.size_bytes or 0:,} bytes, {etag[:16]}…) than the pinned one "
            f"({weights.size_bytes:,} bytes, {weights.sha256[:16]}…); it is refused, nothing was fetched"
        )


def _stream(partial: Partial, location: str, endpoint: str, stop: Stop) -> None:
    """One connection's worth of bytes. Raises: httpx2's errors when it breaks."""
    from huggingface_hub import get_session

    weights, start = partial.weights, partial.size
    headers = {**_HEADERS, **({"range": f"bytes={start}-"} if start else {})}

    def read(give: Give[bytes | None]) -> None:
        with get_session().stream("GET", location, headers=headers, timeout=_TIMEOUT_S) as response:
            if response.status_code not in (200, 206):
                raise _refused(response.status_code, location)
            if response.status_code == 206 and not _goes_on(response, start):
                raise SourceError(f"The hub at {endpoint} sends another stretch of the file than was asked for")
            if response.status_code == 200 and start:
                give(None)
            for chunk in response.iter_bytes():
                give(chunk)

    with closing(watched(read, stop=stop)) as chunks:
        for chunk in chunks:
            if chunk is None:  # all of it comes, because the server knows no ranges
                partial.cut(0)
                continue
            if partial.size + len(chunk) > weights.size_bytes:
                partial.cut(0)
                raise SourceError(f"The hub at {endpoint} sends another file than the pinned one; it is refused")
            partial.write(chunk)
            partial.report()


def _goes_on(response: httpx2.Response, start: int) -> bool:
    """Whether an answer begins where the file ends."""
    content_range: str = response.headers.get("content-range", "")
    return content_range.startswith(f"bytes {start}-")


def _pause(failures: int, stop: Stop) -> None:
    """A moment before the next connection, longer when the last ones brought nothing."""
    end = time.monotonic() + 0.2 + failures
    while time.monotonic() < end:
        if stop():
            raise Stopped
        time.sleep(0.1)


def _refused(status: int, url: str) -> SourceError:
    match status:
        case 401 | 403:
            problem = "it is not public any more, or a proxy asks for a login"
        case 404 | 410:
            problem = "the file is not there any more"
        case 429:
            problem = "too many requests; try again later"
        case _:
            problem = "try again later"
    return SourceError(f"The hub answers HTTP {status} for {address_shown(url)}: {problem}")


def _shown(text: str) -> str:
    """A stranger's words, as far as they can be printed."""
    return "".join(sign for sign in text if sign.isprintable())[:500]


def _missing() -> MissingExtraError:
    return MissingExtraError("The hub is asked through huggingface_hub: pip install 'lash-nb[local]'")
