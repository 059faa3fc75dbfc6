"""What a kernel says of its variables, as our record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..errors import KernelError
from ..machine.execution import NamespaceSummary, VariableSummary
from ..previews import Previews

__all__ = ["namespace_summary", "without_values"]

_SIZE = re.compile(r"length \d+|shape \([\d, ]*\)")


def namespace_summary(reply: Mapping[str, object], *, previews: Previews) -> NamespaceSummary:
    """The reply to a `lash_ns_request` for such previews.

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
