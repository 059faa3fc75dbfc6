"""What a foreign exception means: kind, whether another try may help, how long to wait, and what the provider said.

What is decided here: failures are told apart by the type of the exception, the HTTP status and the provider's codes,
never by the text of a message; a page of HTML is reduced to its title; what a server says is cut before it is looked
at, and holds nothing that a terminal obeys. Imports `machine`; foreign modules only inside functions.
"""

from __future__ import annotations

import html
import json
import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..machine.llm import LlmTerminalReason, ProviderFailureKind

__all__ = [
    "Verdict",
    "chain",
    "code_of",
    "code_within",
    "gist",
    "is_page",
    "printable",
    "reason_of",
    "retry_after_s",
    "said",
    "verdict_of",
    "verdict_of_code",
    "verdict_of_status",
]

_MOST_READ = 16 * 1024
"""Characters of what a server says that are looked at."""
_MOST_CAUSES = 20
_LARGE_BYTES = 1_000_000
"""A request that is not worth sending again when the connection broke on the way."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of a failure."""

    kind: ProviderFailureKind
    retryable: bool
    reason: LlmTerminalReason = LlmTerminalReason.PROVIDER_ERROR


_OVERFLOW = Verdict(ProviderFailureKind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW)


_STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "authentication_error": 401,
        "billing_error": 402,
        "context_length_exceeded": 413,
        "insufficient_quota": 402,
        "invalid_api_key": 401,
        "overloaded_error": 503,
        "permission_error": 403,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "request_too_large": 413,
        "server_is_overloaded": 503,
        "timeout_error": 408,
        "PERMISSION_DENIED": 403,
        "RESOURCE_EXHAUSTED": 429,
        "UNAUTHENTICATED": 401,
        "UNAVAILABLE": 503,
    }
)
"""The providers' words for failures → the HTTP status that goes with them."""


def verdict_of(error: BaseException, *, status: int | None, sent_bytes: int | None) -> Verdict:
    """By the exception's type, and the status of the answer that had begun, if any.

    `sent_bytes` is the request's size; None while it is still being put into the provider's form.
    """
    import httpx2
    from pydantic_ai import exceptions as foreign

    begun = status is not None and status < 300
    again = not (isinstance(error, foreign.ModelHTTPError) and error.provider_retry_hint is False)
    # Types that the oldest supported version lacks; the status says the same there, in most cases.
    if isinstance(error, getattr(foreign, "ModelAuthenticationError", ())):
        return Verdict(ProviderFailureKind.AUTH, False)
    if any(isinstance(cause, httpx2.TimeoutException) for cause in chain(error)):
        return Verdict(ProviderFailureKind.TIMEOUT, True)
    match error:
        case foreign.ModelContextWindowExceededError():
            return _OVERFLOW
        case foreign.ModelQuotaExceededError():
            return Verdict(ProviderFailureKind.QUOTA, False)
        case foreign.ModelRateLimitError():
            return Verdict(ProviderFailureKind.QUOTA, again)
        case foreign.ModelTimeoutError() | foreign.ModelRequestTimeout() | TimeoutError():
            return Verdict(ProviderFailureKind.TIMEOUT, True)
        case foreign.ModelConnectionError():
            if begun:
                return Verdict(ProviderFailureKind.STREAM, True)
            small = sent_bytes is None or sent_bytes <= _LARGE_BYTES
            return Verdict(ProviderFailureKind.TRANSPORT, small or _never_connected(error))
        case foreign.ModelHTTPError(status_code=code):
            found = verdict_of_status(code)
            return Verdict(found.kind, found.retryable and again, found.reason)
        case foreign.ModelServerError() | foreign.ModelUnavailableError():
            return Verdict(ProviderFailureKind.HTTP, True)
        case foreign.UserError():
            return Verdict(ProviderFailureKind.VALIDATION, False)
    if isinstance(error, getattr(foreign, "ModelRequestRejectedError", ())):
        return Verdict(ProviderFailureKind.VALIDATION, False)
    if status is not None and not begun:  # the refusal's body was not of the provider's form
        return verdict_of_status(status)
    if sent_bytes is None:
        return Verdict(ProviderFailureKind.VALIDATION, False)
    # What has no type of its own breaks while an answer is read: servers send anything.
    return Verdict(ProviderFailureKind.STREAM, True)


def verdict_of_code(code: str | None) -> Verdict:
    """Of an answer with a status of success that is no stream: by the provider's word for the error in it."""
    status = _STATUSES.get(code or "")
    if status is None and code is not None and re.fullmatch(r"[45]\d\d", code):
        status = int(code)
    return Verdict(ProviderFailureKind.STREAM, False) if status is None else verdict_of_status(status)


def verdict_of_status(status: int) -> Verdict:
    """By the HTTP status alone."""
    match status:
        case 401 | 403:
            return Verdict(ProviderFailureKind.AUTH, False)
        case 402:
            return Verdict(ProviderFailureKind.QUOTA, False)
        case 408:
            return Verdict(ProviderFailureKind.TIMEOUT, True)
        case 409 | 425:
            return Verdict(ProviderFailureKind.HTTP, True)
        case 413:  # more than the provider reads
            return _OVERFLOW
        case 429:
            return Verdict(ProviderFailureKind.QUOTA, True)
    if status >= 500:
        return Verdict(ProviderFailureKind.HTTP, True)
    return Verdict(ProviderFailureKind.VALIDATION, False)


def retry_after_s(error: BaseException) -> float | None:
    """How long the provider asks to wait, in seconds: Retry-After as number or date, retry-after-ms, RetryInfo."""
    wait = getattr(error, "retry_after", None)
    if wait is None:
        wait = _fraction(getattr(error, "headers", None) or {}) or _retry_info(getattr(error, "body", None))
    return wait if isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0 else None


def _fraction(headers: Mapping[str, str]) -> float | None:
    """A fraction of a second is not of the standard, and is sent all the same."""
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        return None


def _retry_info(body: object) -> float | None:
    """Google's `retryDelay` ("14.5s") among the details of a refusal."""
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    return None


def code_of(error: BaseException) -> str | None:
    """The provider's own word for the failure, else the HTTP status."""
    status = getattr(error, "status_code", None)
    found = getattr(error, "provider_error_code", None) or getattr(error, "provider_error_type", None)
    found = found or status
    return None if found is None else str(found)


def code_within(body: object) -> str | None:
    """The provider's word for an error, from the body that tells of it; None when it has none that is known."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    words = [str(error[key]) for key in ("code", "type", "status") if isinstance(error.get(key), str | int)]
    known = next((word for word in words if word in _STATUSES), None)
    return known or next((word for word in words if re.fullmatch(r"[45]\d\d", word)), None)


# -- words -----------------------------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and what caused it, down to the first cause."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or cause.__context__  # also where it is suppressed: it says why


def _never_connected(error: BaseException) -> bool:
    import httpx2

    return any(isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout) for cause in chain(error))


def reason_of(error: BaseException) -> str:
    """Why there is no connection, in words: the clients' own exceptions say no more than that there is none."""
    causes = [*chain(error)][::-1]
    for cause in causes:
        match cause:
            case socket.gaierror():
                return f"its name was not found: {cause.strerror}"
            case ConnectionRefusedError():
                return "the connection was refused"
            case ssl.SSLCertVerificationError():
                return f"its certificate is not valid: {cause.verify_message}"
            case ssl.SSLError():
                return f"TLS failed: {getattr(cause, 'reason', None) or cause}"
            case ConnectionError():
                return "the connection broke"
            case OSError(strerror=str(words)):
                return words
    return next((words for cause in causes if (words := str(cause))), "") or type(error).__name__


def printable(text: str, most: int) -> str:
    """One line of text that a terminal shows as it is and UTF-8 can hold, of at most so many characters."""
    text = "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "\ufffd" for sign in text[: 4 * most].strip()
    )
    return text if len(text) <= most else text[: most - 1] + "…"


def said(body: object) -> str:
    """What a refusal's body says, as it is; empty when it says nothing."""
    for _ in range(4):  # {"error": {"message": "…"}}, {"detail": [{"msg": "…"}]}, [{"error": …}] and the like
        if isinstance(body, list) and body:
            body = body[0]
        if not isinstance(body, dict):
            break
        known = [body[key] for key in ("error", "message", "detail", "msg") if key in body]
        if not known:
            break
        body = next((inner for inner in known if inner), "")
    if body is None or body == "" or body == {} or body == []:
        return ""
    if isinstance(body, str):
        return body
    try:
        return json.dumps(body, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError):
        return "something that nobody can read"


def gist(text: str) -> str:
    """The beginning of a text as it is; of a page of HTML its title, else its words."""
    text = text[:_MOST_READ].strip()
    if not is_page(text):
        return text
    # Nothing here may look for an end from every beginning: a page may hold thousands that never end.
    opened = re.search(r"<(title|h1)\b[^<>]*>", text, re.IGNORECASE)
    closed = None if opened is None else re.compile(f"</{opened[1]}", re.IGNORECASE).search(text, opened.end())
    page = _without_code(text) if opened is None or closed is None else text[opened.end() : closed.start()]
    words = html.unescape(re.sub(r"<[^<>]*(?:>|$)", " ", page)).split()
    return " ".join(words) or "a page without words"


def is_page(text: str) -> bool:
    """Whether a text is HTML."""
    return re.match(r"\s*<(!doctype|html|head|body|\?xml)", text[:_MOST_READ], re.IGNORECASE) is not None


def _without_code(page: str) -> str:
    kept, at = "", 0
    while (opened := re.compile(r"<(script|style)\b", re.IGNORECASE).search(page, at)) is not None:
        kept += page[at : opened.start()] + " "
        closed = re.compile(rf"</{opened[1]}\s*>", re.IGNORECASE).search(page, opened.end())
        if closed is None:
            return kept
        at = closed.end()
    return kept + page[at:]
