"""What is said of the variables that went over to the managed kernel: to the reader of a turn, to the model. Pure."""

from __future__ import annotations

from .activity import SharedVariable, VariablesShared

__all__ = ["bytes_text", "shared_text", "told_of_shared"]

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def bytes_text(count: int) -> str:
    """A number of bytes for people: "812 bytes", "2.4 KB", "14 MB"; a KB has 1,000."""
    amount, unit = float(count), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    digits = 1 if unit and amount < 9.95 else 0
    return f"{amount:.{digits}f} {_UNITS[unit]}"


def shared_text(activity: VariablesShared) -> str:
    """One line: what went over, under which name the agent's own is now, and what could not go and why.

    Imports are not worth a word: they hold nothing. Empty when there is nothing to say.
    """
    told = [_named(variable) for variable in activity.shared if not variable.module]
    parts = [f"shared: {', '.join(told)}"] if told else []
    parts += [
        f"you and the agent both changed {variable.name}: yours is {variable.name} now, the agent's {variable.before}"
        for variable in activity.shared
        if variable.before
    ]
    parts += [f"not shared: {refused.name} ({refused.why})" for refused in activity.refused]
    return "; ".join(parts)


def _named(variable: SharedVariable) -> str:
    return f"{variable.name} ({bytes_text(variable.bytes)})" if variable.bytes >= 1000 else variable.name


def told_of_shared(activity: VariablesShared) -> str:
    """The same for the model, with its next step; empty when nothing went over."""
    named = [variable.name for variable in activity.shared if not variable.module]
    parts = [f"Copied from the user's notebook into your kernel: {', '.join(named)}."] if named else []
    parts += [
        f"The user changed {variable.name} since you had it, and so did you: {variable.name} is the user's now, yours "
        f"is {variable.before}."
        for variable in activity.shared
        if variable.before
    ]
    parts += [
        f"{refused.name} of the user's notebook could not be copied: {refused.why}." for refused in activity.refused
    ]
    return "\n".join(parts)
