"""What a kernel says of its variables, as our record."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import KernelError
from ..machine.execution import NamespaceSummary, VariableSummary

__all__ = ["namespace_summary"]


def namespace_summary(reply: Mapping[str, object]) -> NamespaceSummary:
    """The reply to a `lash_ns_request`.

    Raises:
        KernelError: it is not of that form.
    """
    variables, omitted, removed = reply.get("variables"), reply.get("omitted"), reply.get("removed")
    if not (isinstance(variables, list) and isinstance(omitted, int) and isinstance(removed, list)):
        raise KernelError("the kernel described its variables in a form that is not ours")
    return NamespaceSummary(
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
