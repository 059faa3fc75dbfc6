"""What a kernel says of its variables, as our record; and what it said last, which it need not say again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import KernelBusyError, KernelError
from ..machine.execution import NamespaceSummary, VariableSummary
from ..previews import Previews

__all__ = ["AskedSummary", "Summaries", "namespace_summary", "without_values"]

_SIZE = re.compile(r"length \d+(?: of [\w …,]+)?|shape \([\d, ]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSummary:
    """A question to a kernel, and the summary that holds where the kernel answers that it does."""

    limit: int
    previews: Previews
    token: str = ""
    """The kernel's name for that summary; "" where there is none."""
    held: NamespaceSummary | None = None

    @property
    def content(self) -> dict[str, object]:
        """Of the request."""
        asked: dict[str, object] = {"limit": self.limit, "previews": self.previews}
        return {**asked, "token": self.token} if self.token else asked


class Summaries:
    """The last summary of a kernel; another life of it knows none of its tokens."""

    def __init__(self) -> None:
        self._last = AskedSummary(limit=0, previews="schema")

    def ask(self, *, limit: int, previews: Previews) -> AskedSummary:
        """The question, with what is still held of the same."""
        last = self._last
        return (
            last if (last.limit, last.previews) == (limit, previews) else AskedSummary(limit=limit, previews=previews)
        )

    def take(self, asked: AskedSummary, reply: Mapping[str, object]) -> NamespaceSummary:
        """The summary that a reply stands for; the next question is for what has changed since.

        Raises:
            KernelBusyError: the kernel could not look. KernelError: it is not of that form.
        """
        if reply.get("status") == "error":  # it has no thread, file or memory left to look with
            raise KernelBusyError(f"the kernel could not look at its variables ({reply.get('evalue')})")
        if asked.held is not None and reply.get("same") == asked.token:
            return asked.held
        summary, token = namespace_summary(reply, previews=asked.previews), reply.get("token")
        if isinstance(token, str):
            self._last = replace(asked, token=token, held=_settled(summary))
        return summary


def _settled(summary: NamespaceSummary) -> NamespaceSummary:
    """The same when it is asked for once more and nothing has changed."""
    variables = tuple(replace(one, changed=False) if one.changed else one for one in summary.variables)
    return replace(summary, variables=variables, removed=())


def namespace_summary(reply: Mapping[str, object], *, previews: Previews) -> NamespaceSummary:
    """The reply to a `lash_ns_request` for such previews, or what a `Describer` gives.

    Raises:
        KernelError: it is not of that form.
    """
    variables, omitted, removed = reply.get("variables"), reply.get("omitted"), reply.get("removed")
    if not (isinstance(variables, list) and isinstance(omitted, int) and isinstance(removed, list)):
        raise KernelError("the kernel described its variables in a form that is not ours")
    summary = NamespaceSummary(
        variables=tuple(
            VariableSummary(
                name=name,
                type=kind,
                detail=detail,
                preview=preview,
                changed=changed,
                columns=tuple((title, dtype) for title, dtype in columns),
            )
            for name, kind, detail, preview, changed, columns in variables
        ),
        omitted=omitted,
        about=reply.get("about") is True,
        removed=tuple(removed),
    )
    # A kernel that an earlier version started knows of no previews, and tells short ones.
    return without_values(summary) if previews == "schema" and reply.get("previews") != "schema" else summary


def without_values(summary: NamespaceSummary) -> NamespaceSummary:
    """The summary without anything that is, or may hold, a part of a value."""

    def size(variable: VariableSummary) -> str:
        found = _SIZE.match(variable.detail)
        return "" if found is None else found.group()

    bare = (replace(variable, preview="", detail=size(variable)) for variable in summary.variables)
    return replace(summary, variables=tuple(bare))
