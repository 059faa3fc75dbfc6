"""Every exception of lash_nb, under one root; the bottom storey, imports nothing of the package.

LashError
├── InputError                  what the user gave cannot be used (exit code 2); nothing was changed
│   ├── DecodeError             a stored or received value is not of the wire form; names the field
│   ├── UnknownModelError       no model of that name
│   ├── MissingKeyError         a provider needs a key that is not in the environment
│   ├── MissingExtraError       an optional dependency is not installed; names the install command
│   ├── CassetteError           a cassette cannot be read, or holds another question
│   ├── WeightsError            a local model's file is missing, damaged, or cannot be fetched
│   ├── NotebookError           a notebook cannot be read or written
│   │   └── CorruptCheckpointError  what it carries of a turn is damaged
│   └── UnknownNameError        a registry, a magic or a command has no such name
├── ProtocolViolation           the host broke a rule of the machine (a bug in the caller)
│   └── DriverContractError     a protocol driver returned actions that break the contract
├── KernelError                 the managed kernel
│   ├── KernelStartError        it did not come up
│   ├── KernelAttachError       a running kernel cannot be taken over
│   ├── KernelDiedError         its process ended
│   ├── KernelBusyError         it does not answer within the bound
│   └── ValueNotSentError       a variable of it cannot be brought here
├── BlobError                   stored bytes are missing or damaged, or cannot be written
├── JournalError                a session's journal cannot be written or read
│   ├── JournalInUseError       another process writes it; says which
│   └── CorruptJournalError     it is damaged, and not merely cut off at its end
├── CheckFailedError            a check of a turn does not hold, and the model does not put it right
├── KeptCodeError               code that was kept failed, and there is no model to repair it
├── ToolError                   a tool call failed; a tool raises it to say how
├── ModelCallError              a model call failed; `.error` is the typed record
├── ApprovalNeeded              a turn waits for a decision, and nobody is there; `.approval` says on what
├── TurnFailed                  a turn ended without an answer; `.turn` is what there is of it
└── SessionClosedError          the session was closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .machine.approvals import Approval
    from .machine.llm import LlmCallError

__all__ = [
    "ApprovalNeeded",
    "BlobError",
    "CassetteError",
    "CheckFailedError",
    "CorruptCheckpointError",
    "CorruptJournalError",
    "DecodeError",
    "DriverContractError",
    "InputError",
    "JournalError",
    "JournalInUseError",
    "KeptCodeError",
    "KernelAttachError",
    "KernelBusyError",
    "KernelDiedError",
    "KernelError",
    "KernelStartError",
    "LashError",
    "MissingExtraError",
    "MissingKeyError",
    "ModelCallError",
    "NotebookError",
    "ProtocolViolation",
    "SessionClosedError",
    "ToolError",
    "TurnFailed",
    "UnknownModelError",
    "UnknownNameError",
    "ValueNotSentError",
    "WeightsError",
]


class LashError(Exception):
    """The root: `except LashError` catches whatever lash_nb raises on purpose."""


class InputError(LashError):
    """What was given cannot be used; nothing was changed. The command line exits with 2."""


class DecodeError(InputError, ValueError):
    """A value is not of the wire form.

    `path` names the field from the root (`state.WaitingLlm.request.messages[3].role`), `problem` what is wrong there.
    """

    def __init__(self, problem: str, *, path: str = "") -> None:
        self.problem = problem
        self.path = path
        super().__init__(problem, path)

    def __str__(self) -> str:
        return f"{self.path or 'value'}: {self.problem}"

    def under(self, step: str) -> DecodeError:
        """The same error, seen from one level further up: `step` is a field name or `[index]`."""
        if not self.path:
            path = step
        elif self.path.startswith("["):
            path = step + self.path
        else:
            path = f"{step}.{self.path}"
        return type(self)(self.problem, path=path)


class UnknownModelError(InputError):
    """No model of that name; the message lists what can be written."""


class MissingKeyError(InputError):
    """A provider needs a key; the message names the environment variable."""


class MissingExtraError(InputError):
    """An optional dependency is not installed; the message holds the install command."""


class CassetteError(InputError):
    """A cassette cannot be read, or holds the answer to another question."""


class WeightsError(InputError):
    """A local model's file is missing, damaged, or cannot be fetched; what was fetched so far is kept."""


class NotebookError(InputError):
    """A notebook (or what it carries) cannot be read or written."""


class CorruptCheckpointError(NotebookError):
    """A copy of a turn is damaged: its hash, its encoding or its JSON is not what was written."""


class UnknownNameError(InputError):
    """A registry, magic or command has no such name; the message suggests the nearest one."""


class ProtocolViolation(LashError):
    """The host broke a rule of the turn machine: a bug in the caller, the machine's state is unchanged."""


class DriverContractError(ProtocolViolation):
    """A protocol driver's callback returned actions that break the contract; the turn cannot go on."""


class KernelError(LashError):
    """The managed kernel failed."""


class KernelStartError(KernelError):
    """The kernel did not come up; nothing of it is left."""


class KernelAttachError(KernelError):
    """A running kernel cannot be taken over: its files are not private, it is another one, or someone has it."""


class KernelDiedError(KernelError):
    """The kernel's process ended; its variables are gone."""


class KernelBusyError(KernelError):
    """The kernel did not answer within the bound; it may still be running."""


class ValueNotSentError(KernelError):
    """A variable of the kernel cannot be brought here: there is none, or it cannot be pickled; nothing was changed."""


class BlobError(LashError):
    """Stored bytes are missing or damaged, or cannot be written; names the blob or the directory."""


class JournalError(LashError):
    """A session's journal cannot be written or read; names the file. What was recorded before stays as it was."""


class JournalInUseError(JournalError):
    """Another process writes this session's journal.

    `owner` is what that process said of itself (`pid`, `host`, `since`, …).
    """

    def __init__(self, message: str, *, owner: Mapping[str, object] | None = None) -> None:
        self.owner: Mapping[str, object] = owner or {}
        super().__init__(message)


class CorruptJournalError(JournalError):
    """A journal is damaged in its midst: records after the damage are whole. Nothing was changed."""


class CheckFailedError(LashError):
    """What had to hold at the end of a turn does not; the turn has failed by it."""


class KeptCodeError(LashError):
    """Code that was kept failed, and no model may or can repair it; the turn has failed by it."""


class ToolError(LashError):
    """A tool call failed. Whoever makes the call is told `message`, `kind` and `code`; the turn goes on.

    `kind` is one of invalid_request, unavailable, permission_denied, timeout, execution, external, resource_limit,
    internal; `passing` says that the same call may work later.
    """

    def __init__(self, message: str, *, kind: str = "execution", code: str = "", passing: bool = False) -> None:
        self.message = message
        self.kind = kind
        self.code = code
        self.passing = passing
        super().__init__(message)


class ModelCallError(LashError):
    """A model call failed; `error` is the typed record that the turn machine takes.

    `retry_after_s` is how long the provider asks to wait before the next try (its Retry-After), in seconds.
    """

    def __init__(self, error: LlmCallError, *, retry_after_s: float | None = None) -> None:
        self.error = error
        self.retry_after_s = retry_after_s
        super().__init__(error.message)


_MOST_SHOWN_CHARS = 500


def _shown(text: str) -> str:
    """A text of the model's as a terminal may get it: without what it would obey, and not all of a long one."""
    text = text if len(text) <= _MOST_SHOWN_CHARS else f"{text[:_MOST_SHOWN_CHARS]} …"
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


class ApprovalNeeded(LashError):
    """A turn waits for a decision, and nobody is there to make it. The turn has not ended: it is recorded as it stands.

    `approval` is what waits. `Session.decide` answers it, `Session.resume_turn` goes on. The command line exits with 4.
    """

    def __init__(self, approval: Approval) -> None:
        self.approval = approval
        super().__init__(
            f"{_shown(approval.question)} Nobody has decided, so the turn waits, and nothing is lost: "
            f"`%lash answer yes|{'no [WHY]|edit' if approval.wish is None else 'all|no [WHY]'}` decides"
        )


class TurnFailed(LashError):
    """A turn ended without an answer; `turn` holds what there is of it (already recorded)."""

    def __init__(self, message: str, *, turn: object | None = None) -> None:
        self.turn = turn
        super().__init__(message)


class SessionClosedError(LashError):
    """The session was closed; make a new one."""
