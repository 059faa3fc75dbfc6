"""A request as it stands in a record: what a turn is gone on with, beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .errors import DecodeError
from .machine.approvals import ApprovalMode
from .machine.wire import Json

__all__ = ["Asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it was made: what a turn is gone on with, beside its checkpoint."""

    text: str
    model: str
    protocol: str
    grammar: Literal["tags", "fence"] = "tags"
    schema: Json = None
    """What the turn's value must be; None: it may end with words."""
    typed: bool = False
    """Whether there is a schema (`None` is none, `True` is one)."""
    max_steps: int | None = None
    time_limit_s: float | None = None
    cell_limit_s: float | None = None
    instructions: str = ""
    share: bool = True
    """Whether it sees and uses the notebook's variables."""
    results: list[str] = field(default_factory=list)
    """Variables that it is to leave for the notebook."""
    maybe: list[str] = field(default_factory=list)
    """Names under which it may leave some."""
    approve: str = "effects"
    """How it was conducted (`ApprovalMode`). Whoever goes on with it may be stricter, and is looser only if told so."""
    sandbox: bool = False
    afresh: bool = False
    """Whether its cells worked on new copies each, so that nothing of them stays."""
    checks: list[str] = field(default_factory=list)
    """Expressions that must hold before it may end."""

    def to_json(self) -> dict[str, Json]:
        """As it stands in a record."""
        written = asdict(self)
        return {name: value for name, value in written.items() if (name, value) not in _LEFT_OUT}

    @classmethod
    def from_json(cls, value: object) -> Asked:
        """Read a record's. Raises DecodeError."""
        if not isinstance(value, Mapping):
            raise DecodeError("expected an object", path="asked")
        known: dict[str, Any] = {name: value[name] for name in cls.__slots__ if name in value}
        for name in ("text", "model", "protocol"):
            if not isinstance(known.get(name), str):
                raise DecodeError("expected a string", path=f"asked.{name}")
        for name, kinds in _ASKED_KINDS.items():
            if name in known and (not isinstance(known[name], kinds) or isinstance(known[name], bool)):
                raise DecodeError("is not of its type", path=f"asked.{name}")
        if known.get("approve", "effects") not in list(ApprovalMode):
            raise DecodeError("is no way to approve", path="asked.approve")
        if known.get("grammar", "tags") not in ("tags", "fence"):
            raise DecodeError("is no grammar", path="asked.grammar")
        for name in ("results", "maybe", "checks"):
            if not all(isinstance(one, str) for one in known.get(name, [])):
                raise DecodeError("expected texts", path=f"asked.{name}")
        flags = {name: known.get(name) is True for name in ("typed", "afresh")}
        flags["share"] = known.get("share") is not False
        return cls(**{**known, **flags, "sandbox": known.get("sandbox", False) is not False})


_LEFT_OUT: tuple[tuple[str, Json], ...] = (
    ("share", True), ("results", []), ("maybe", []), ("sandbox", False), ("afresh", False), ("checks", []),
)  # fmt: skip
"""What is not written, because it is so in nearly all requests."""
_NUMBER = (int, float, type(None))
_ASKED_KINDS: dict[str, tuple[type, ...]] = {
    "max_steps": (int, type(None)),
    "time_limit_s": _NUMBER,
    "cell_limit_s": _NUMBER,
    "instructions": (str,),
    "results": (list,),
    "maybe": (list,),
    "checks": (list,),
}
