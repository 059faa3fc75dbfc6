"""What a person decides on while a turn runs: whether a cell may run, whether code may have an effect. Pure records.

Decided here: the modes, what is asked, and how it is answered. Who asks is the host (`lash_nb.approving`); what counts
as an effect is the kernel's business (`kernels.inside.guard`).
"""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import dataclass
from enum import StrEnum

from .wire import BOOLEAN, STRING, U64, enum, omit_empty, omit_none, struct

__all__ = ["APPROVAL", "DECISION", "Approval", "ApprovalMode", "Decision", "EffectKind", "Verdict", "Wish"]


class ApprovalMode(StrEnum):
    """What of the agent's code is asked about before it happens; from the loosest to the strictest."""

    ALL = "all"
    """Nothing is."""
    EFFECTS = "effects"
    """Effects beyond computing are: see `EffectKind`."""
    EVERY = "every"
    """Every cell is, before it runs."""
    PLAN = "plan"
    """No code runs at all: the agent says what it would do."""

    @property
    def strictness(self) -> int:
        """How much it holds back: of two modes the one with the higher number is the stricter."""
        return list(ApprovalMode).index(self)


class EffectKind(StrEnum):
    """What code can do beyond computing; the value is the verb that is shown."""

    WRITE = "write"
    """To a file or directory outside of the working directory and the temporary ones."""
    DELETE = "delete"
    """One there."""
    PROCESS = "start"
    """Another program, an installation for one."""
    CONNECT = "connect to"
    """A host that this session did not connect to yet."""
    CALL = "call"
    """A tool whose policy has a person asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An effect that code is about to have."""

    kind: EffectKind
    target: str
    """An absolute path, a command line, `HOST:PORT`, or `TOOL(ARGUMENTS)`."""
    whose: str = ""
    """Of a call: the MCP server whose tool it is; empty: it is the user's own."""

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" of the MCP server {self.whose}" if self.whose else "")

    @property
    def host(self) -> str:
        """Of a connection: the host, without the port; `[::1]` keeps its brackets."""
        host, colon, port = self.target.rpartition(":")
        return host if colon and port.isdecimal() else self.target

    @property
    def tool(self) -> str:
        """Of a call: the tool's name."""
        return self.target.partition("(")[0]

    @property
    def program(self) -> str | None:
        """What a command starts; None: it is for a shell, and may start anything."""
        try:
            words = shlex.split(self.target)
        except ValueError:
            return None
        return words[0] if words and shlex.join(words) == self.target else None

    @property
    def alike(self) -> str | None:
        """What of its kind is allowed with it by `Decision.alike`, to be read after its verb; None: nothing more."""
        if self.kind is EffectKind.PROCESS:
            return None if self.program is None else f"{self.program} with any other arguments"
        if self.kind is EffectKind.CONNECT:
            return None
        if self.kind is EffectKind.CALL:
            return f"{self.tool} again, whatever the arguments"
        directory = posixpath.dirname(self.target)
        return f"anything else that is directly in {directory}" if directory else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Something that waits for a decision."""

    id: str
    """Unique within its turn."""
    effect_id: int
    """Of the cell that it is about."""
    code: str
    """That cell, whole."""
    language: str = "python"
    wish: Wish | None = None
    """None: whether the cell may run at all; else the cell runs already, and waits with this."""
    call_id: str = ""
    """Of a call that the model makes itself, natively; nothing of its batch has begun."""

    @property
    def held(self) -> bool:
        """Whether nothing has begun of what waits, so that its turn can be left waiting."""
        return self.wish is None or bool(self.call_id)

    @property
    def question(self) -> str:
        """What is asked, as a sentence."""
        if self.wish is not None and self.call_id:
            return f"The agent wants to {self.wish}."
        if self.wish is not None:
            return f"The agent's code wants to {self.wish}."
        cell = "cell" if self.language == "python" else f"{self.language} cell"
        return f"The agent wants to run this {cell}."


class Verdict(StrEnum):
    """How something was decided."""

    APPROVED = "approved"
    EDITED = "edited"
    """The cell runs with other code; of cells only."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to an `Approval`; made by `approve`, `reject` or `edit`."""

    verdict: Verdict
    why: str = ""
    """Of a rejection: what the model is told."""
    code: str | None = None
    """Of an edited cell: what runs instead."""
    alike: bool = False
    """Of an effect: also others of its kind in the same directory, or by the same program, while the turn lasts."""
    by_policy: bool = False
    """Nobody was asked: the mode, or the place, decided."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Verdict(self.verdict))  # "rejected", said as a text, must reject

    @classmethod
    def approve(cls, *, alike: bool = False) -> Decision:
        """It may happen; `alike`: and others like it, too."""
        return cls(verdict=Verdict.APPROVED, alike=alike)

    @classmethod
    def reject(cls, why: str = "") -> Decision:
        """It may not; the model is told why."""
        return cls(verdict=Verdict.REJECTED, why=why)

    @classmethod
    def edit(cls, code: str) -> Decision:
        """The cell may run as `code`."""
        return cls(verdict=Verdict.EDITED, code=code)

    @property
    def allows(self) -> bool:
        """Whether it may happen."""
        return self.verdict is not Verdict.REJECTED


_WISH = struct(Wish, kind=enum(EffectKind), target=STRING, whose=omit_empty(STRING, ""))
APPROVAL = struct(
    Approval,
    id=STRING,
    effect_id=U64,
    code=STRING,
    language=omit_empty(STRING, "python"),
    wish=omit_none(_WISH),
    call_id=omit_empty(STRING, ""),
)

DECISION = struct(
    Decision,
    verdict=enum(Verdict),
    why=omit_empty(STRING, ""),
    code=omit_none(STRING),
    alike=omit_empty(BOOLEAN, False),
    by_policy=omit_empty(BOOLEAN, False),
)
