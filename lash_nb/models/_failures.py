"""What a foreign exception means: kind, whether another try may help, how long to wait, and what the provider said.

What is decided here: failures are told apart by the type of the exception and the HTTP status, never by the text of
a message; a page of HTML is reduced to its title. Imports `machine`; pydantic_ai only inside functions.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..machine.llm import LlmTerminalReason, ProviderFailureKind

__all__ = ["Verdict", "code_of", "gist", "retry_after_s", "said", "verdict_of", "verdict_of_status"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of a failure."""

    kind: ProviderFailureKind
    retryable: bool
    reason: LlmTerminalReason = LlmTerminalReason.PROVIDER_ERROR


_OVERFLOW = Verdict(ProviderFailureKind.VALIDATION, False, LlmTerminalReason.CONTEXT_OVERFLOW)


def verdict_of(error: BaseException, *, status: int | None, sent: bool) -> Verdict:
    """By the exception's type, and the status of the answer that had begun, if any.

    `sent` is false while the request is still being put into the provider's form.
    """
    from pydantic_ai import exceptions as foreign

    begun = status is not None and status < 300
    again = not (isinstance(error, foreign.ModelHTTPError) and error.provider_retry_hint is False)
    # Types that the oldest supported version lacks; the status says the same there, in most cases.
    if isinstance(error, getattr(foreign, "ModelAuthenticationError", ())):
        return Verdict(ProviderFailureKind.AUTH, False)
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
            return Verdict(ProviderFailureKind.STREAM if begun else ProviderFailureKind.TRANSPORT, True)
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
    if not sent:
        return Verdict(ProviderFailureKind.VALIDATION, False)
    # What has no type of its own breaks while an answer is read: servers send anything.
    return Verdict(ProviderFailureKind.STREAM, True)


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


def said(body: object) -> str:
    """What a refusal's body says, in a line or two; empty when it says nothing."""
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
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    return gist(text)


def gist(text: str) -> str:
    """Text as it is; of a page of HTML its title, else its words."""
    if not re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.IGNORECASE):
        return text.strip()
    title = re.search(r"<(title|h1)\b[^>]*>(.*?)</\1", text, re.IGNORECASE | re.DOTALL)
    if title is not None:
        page = title[2]
    else:
        page = re.sub(r"<(script|style)\b.*?</\1\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    words = html.unescape(re.sub(r"<[^>]*>", " ", page)).split()
    return " ".join(words) or "a page without words"
