"""What must not be believed or passed on: hashes of stored texts, and secrets taken out of everything that is kept.

Decided here: what looks like a secret, by the name of an environment variable, its value, or the shape of a token;
redaction happens before a record, a model or a log sees a text (design promise 11). Standard library only.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .machine.execution import (
    CellOutput,
    CellResult,
    DisplayOutput,
    ErrorOutput,
    NamespaceSummary,
    ResultOutput,
    StreamOutput,
)
from .machine.llm import LlmCallError, LlmOutputPart, LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart
from .machine.tool_calls import (
    CompletedToolCall,
    FailControl,
    FinishControl,
    PendingToolCall,
    TextReturn,
    ToolCallOutput,
    ToolCallRecord,
    ToolCancelled,
    ToolControl,
    ToolFailed,
    ToolOutcome,
    ToolSucceeded,
)

__all__ = ["Redactor", "looks_secret", "sha256_text", "whole_text"]

_SECRET_WORD = re.compile(
    r"(?:^|_)(?:[A-Z]*KEYS?|[A-Z]*TOKENS?|[A-Z]*SECRETS?|[A-Z]*PASSWORDS?|PASSWD|PASS|PWD|PASSPHRASE|"
    r"CREDENTIALS?|CREDS|AUTH|BEARER|PAT|DSN|COOKIE|JWT|[A-Z]*APIKEY)(?:_|$|\d)",
)
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][\w+.-]*://[^/\s:@]*:([^/\s@]+)@")
_HARMLESS = frozenset({"PWD", "OLDPWD"})
# The published shapes of tokens of the commonest providers; a shape is only listed when it is unmistakable.
_TOKEN = re.compile(
    r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}"
    r"|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{30,})"
)
_TOKEN_BYTES = re.compile(_TOKEN.pattern.encode())
_TOKEN_BEGINNINGS = [
    *(b"sk-", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"AKIA", b"AIza", b"hf_"),
    *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-"),
]
"""One of them is in every such token."""
_TOKEN_BEGUN = re.compile(
    r"\b(?:sk-(?:ant-|proj-)?([A-Za-z0-9_-]{8,})|gh[pousr]_([A-Za-z0-9]{8,})|github_pat_([A-Za-z0-9_]{8,})"
    r"|AKIA([0-9A-Z]{8,})|AIza([0-9A-Za-z_-]{8,})|xox[abprs]-([A-Za-z0-9-]{8,})|hf_([A-Za-z0-9]{8,}))\Z"
)
"""A word that a text was cut in, and what stands in it behind a token's first signs (`sk-learn` is none)."""
_TOKEN_ENDED = re.compile(r"\A[A-Za-z0-9_-]{6,255}(?![A-Za-z0-9_-])")
"""The rest of such a word."""
_MADE_UP = re.compile(r"[0-9]|[A-Z].*[a-z]|[a-z].*[A-Z]")
"""Is in what a machine drew, and seldom in words."""
_CUT = re.compile(r"(['\"]?…|\n\[… [\d,]+ characters \([\d,]+ lines\) left out[^\n]*…\]\n)")
"""Where something was left out: the marks of previews (whose ends are cut), and of outputs (cut on both sides)."""
_LONGEST_TOKEN = 512
_SHORTEST_SECRET = 8
_SHORTEST_PIECE = 6
REDACTED = "[redacted]"


def sha256_text(text: str) -> str:
    """The SHA-256 of a text, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def whole_text(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: it has no UTF-8, and no record could be read again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def looks_secret(name: str, value: str) -> bool:
    """Whether an environment variable is to be kept from code that an agent wrote.

    Rather one too many than one too few; users let a named one through.
    """
    if name in _HARMLESS:
        return False
    return _SECRET_WORD.search(name.upper()) is not None or _PASSWORD_IN_URL.search(value) is not None


class Redactor:
    """Takes secrets out of texts: the values of secret-looking variables, and what has the shape of a token."""

    def __init__(self, env: Mapping[str, str]) -> None:
        values = {
            value for name, value in env.items() if looks_secret(name, value) and not value.startswith(("/", "~"))
        }
        values |= {match[1] for value in env.values() for match in _PASSWORD_IN_URL.finditer(value)}
        # Of many lines (a private key): each of them, because outputs break and escape them elsewhere.
        values |= {line.strip() for value in values if "\n" in value for line in value.splitlines()}
        # Longest first: a secret may be a part of another.
        self._values = sorted((v for v in values if len(v) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, self._values))) if self._values else None
        self._patterns = [(_TOKEN_BYTES, _TOKEN_BEGINNINGS)]
        if self._known is not None:
            kept = [value.encode("utf-8", "surrogateescape") for value in self._values]
            self._patterns.append((re.compile(self._known.pattern.encode("utf-8", "surrogateescape")), kept))

    def text(self, text: str) -> str:
        """The text without secrets, fit to be kept (`whole_text`)."""
        text = whole_text(text)
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _TOKEN.sub(REDACTED, text)

    def cut_text(self, text: str) -> str:
        """`text` of what a kernel may have cut, which knows no secrets: nor is a piece of one left at a cut."""
        pieces = _CUT.split(text)
        made = list(pieces)
        for index in range(0, len(pieces), 2):
            before = pieces[index - 2] if index and pieces[index - 1].startswith("\n") else None
            made[index] = self._piece(pieces[index], before=before, goes_on=index + 1 < len(pieces))
        return "".join(made)

    def _piece(self, text: str, *, before: str | None = None, goes_on: bool = False) -> str:
        """A text that may end with the beginning of a secret, or begin with the end of one (cut off from `before`)."""
        text = whole_text(text)
        start = self._end_of_secret(text, before) if before is not None else 0
        end = len(text) - self._beginning_of_secret(text) if goes_on else len(text)
        if self._known is not None and (start or end < len(text)):
            for match in self._known.finditer(text):  # a whole one that reaches into a piece of another
                start = match.end() if match.start() < start < match.end() else start
                end = match.start() if match.start() < end < match.end() else end
        kept = self.text(text[start:end]) if start < end else ""
        return f"{REDACTED if start else ''}{kept}{REDACTED if end < len(text) else ''}"

    def _beginning_of_secret(self, text: str) -> int:
        """How many characters at the end of a text are one that was cut off."""
        return max(_token_begun(text), *(_overlap(text, value) for value in self._values), 0)

    def _end_of_secret(self, text: str, before: str) -> int:
        """How many characters at the beginning of a text are what was cut off one, maybe at the end of `before`."""
        rest = _TOKEN_ENDED.match(text) if _token_begun(whole_text(before)) else None
        token = len(rest[0]) if rest is not None and _MADE_UP.search(rest[0]) else 0
        return max(token, *(_overlap(value, text) for value in self._values), 0)

    def data(self, data: bytes) -> bytes:
        """The bytes of a text without secrets; what is no UTF-8 stays as it is."""
        if not self.holds_secret(data):
            return data
        text = data.decode("utf-8", "surrogateescape")
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _TOKEN.sub(REDACTED, text).encode("utf-8", "surrogateescape")

    def holds_secret(self, data: bytes) -> bool:
        """Whether the bytes of a text hold a secret."""
        return next(self._found(data), None) is not None

    def boundary(self, data: bytes, end: int) -> int:
        """The last place up to `end` where the bytes can be cut without cutting a secret, or a character."""
        for start, stop in self._found(data) if end > 0 else ():
            if start < end < stop:
                return start
        while 0 < end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        return max(end, 0)

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets stand. Expressions are slow, and most texts hold nothing that even looks like one."""
        for pattern, beginnings in self._patterns:
            if any(beginning in data for beginning in beginnings):
                yield from (match.span() for match in pattern.finditer(data))

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted; what JSON has no number for (NaN) is null, as in a browser."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    def outputs(self, outputs: tuple[CellOutput, ...], *, go_on: bool = False) -> tuple[CellOutput, ...]:
        """A cell's outputs without secrets; binary representations are left as they are.

        `go_on`: the cell still runs, and may have written the beginning of a secret.
        """
        return tuple(self._output(output, go_on) for output in outputs)

    def _output(self, output: CellOutput, go_on: bool) -> CellOutput:
        match output:
            case StreamOutput(omitted_chars=0):
                return replace(output, head=self._piece(output.head, goes_on=go_on), tail=self.text(output.tail))
            case StreamOutput():
                head = self._piece(output.head, goes_on=True)
                return replace(output, head=head, tail=self._piece(output.tail, before=output.head, goes_on=go_on))
            case ErrorOutput():
                return self._error(output)
            case DisplayOutput() | ResultOutput():
                data = {mime: self._representation(mime, item) for mime, item in output.data.items()}
                return replace(output, data=data, metadata=self.value(output.metadata))

    def _representation(self, mime: str, item: Any) -> Any:
        if mime == "text/plain" and isinstance(item, str):
            return self.cut_text(item)
        return item if _is_binary(mime) else self.value(item)

    def _error(self, error: ErrorOutput) -> ErrorOutput:
        lines = tuple(self.cut_text("\n".join(error.traceback)).split("\n")) if error.traceback else ()
        return replace(error, ename=self.text(error.ename), evalue=self.cut_text(error.evalue), traceback=lines)

    def namespace(self, summary: NamespaceSummary) -> NamespaceSummary:
        """The variables of a kernel without the secrets that they hold."""
        return replace(
            summary,
            variables=tuple(
                replace(
                    variable,
                    name=self.text(variable.name),
                    detail=self.cut_text(variable.detail),
                    preview=self.cut_text(variable.preview),
                    columns=tuple((self.cut_text(title), self.cut_text(kind)) for title, kind in variable.columns),
                )
                for variable in summary.variables
            ),
        )

    def response(self, response: LlmResponse) -> LlmResponse:
        """A model's answer without secrets: gateways may quote what they were sent. What its provider signed stays."""
        return replace(
            response,
            full_text=self.text(response.full_text),
            parts=tuple(self._part(part) for part in response.parts),
            terminal_diagnostic=None
            if response.terminal_diagnostic is None
            else self.text(response.terminal_diagnostic),
        )

    def _part(self, part: LlmOutputPart) -> LlmOutputPart:
        match part:
            case ToolCallOutputPart():
                return replace(part, input_json=self.text(part.input_json))
            case TextOutput():
                return replace(part, text=self.text(part.text))
            case ReasoningOutput():
                # Signed as it is: another text would be refused.
                return part if part.replay is not None else replace(part, text=self.text(part.text))

    def failure(self, error: LlmCallError) -> LlmCallError:
        """A failed call without secrets."""
        return replace(
            error,
            message=self.text(error.message),
            raw=None if error.raw is None else self.text(error.raw),
            code=None if error.code is None else self.text(error.code),
            partial_response=None if error.partial_response is None else self.response(error.partial_response),
        )

    def result(self, result: CellResult) -> CellResult:
        """A cell's end without secrets."""
        return replace(
            result,
            outputs=self.outputs(result.outputs),
            error=None if result.error is None else self._error(result.error),
            finish=None if result.finish is None else replace(result.finish, value=self.value(result.finish.value)),
            tool_calls=tuple(self._call(call) for call in result.tool_calls),
        )

    def _call(self, call: ToolCallRecord) -> ToolCallRecord:
        return replace(call, args=self.value(call.args), output=self.output(call.output))

    def call(self, call: PendingToolCall) -> PendingToolCall:
        """A tool call without secrets."""
        return replace(call, args=self.value(call.args))

    def completed(self, call: CompletedToolCall) -> CompletedToolCall:
        """A tool call that ended, as the model is told of it, without secrets."""
        told = tuple(
            replace(part, text=self.text(part.text)) if isinstance(part, TextReturn) else part
            for part in call.model_return.parts
        )
        return replace(
            call,
            args=self.value(call.args),
            output=self.output(call.output),
            model_return=replace(call.model_return, parts=told),
        )

    def output(self, output: ToolCallOutput) -> ToolCallOutput:
        """What a tool call gave, without secrets."""
        return replace(output, outcome=self._outcome(output.outcome), control=self._control(output.control))

    def _control(self, control: ToolControl | None) -> ToolControl | None:
        match control:
            case FinishControl(value=value):
                return FinishControl(value=self.value(value))
            case FailControl(failure=failure):
                told = replace(failure, message=self.text(failure.message), raw=self.value(failure.raw))
                return FailControl(failure=told)
            case _:
                return control

    def _outcome(self, outcome: ToolOutcome) -> ToolOutcome:
        match outcome:
            case ToolSucceeded(payload=value):
                return ToolSucceeded(payload=self.value(value))
            case ToolFailed(payload=failure):
                message, raw = self.text(failure.message), self.value(failure.raw)
                return ToolFailed(payload=replace(failure, message=message, raw=raw))
            case ToolCancelled(payload=cancelled):
                message, raw = self.text(cancelled.message), self.value(cancelled.raw)
                return ToolCancelled(payload=replace(cancelled, message=message, raw=raw))


def _token_begun(text: str) -> int:
    """How many characters at the end of a text are a token, as far as it stands there."""
    found = _TOKEN_BEGUN.search(text[-_LONGEST_TOKEN:])
    if found is None or not (_MADE_UP.search(found[found.lastindex or 0]) or _TOKEN.fullmatch(found[0])):
        return 0
    return len(found[0])


def _overlap(before: str, after: str) -> int:
    """How many characters the end of one text and the beginning of the other share, at most; 0 also for a few."""
    longest = min(len(before), len(after))
    at = before.find(after[:_SHORTEST_PIECE], len(before) - longest) if longest >= _SHORTEST_PIECE else -1
    while at >= 0:
        if after.startswith(before[at:]):
            return len(before) - at
        at = before.find(after[:_SHORTEST_PIECE], at + 1)
    return 0


def _is_binary(mime: str) -> bool:
    """Whether a representation is base64; an image may be text, too (SVG)."""
    return mime.startswith(("image/", "audio/", "video/")) and not mime.endswith("+xml")
