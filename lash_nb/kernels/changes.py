"""What a kernel's cells changed outside of variables: asked for by a mark, and told in one line.

Decided here: the words. What counts as changed is decided in `inside/changes.py`: files written or removed by Python
code of cells anywhere, by their child processes and C code in the working directory only; the working directory; names
of environment variables; installed packages. It is told as far as it can be: a kernel that does not answer, was started
anew or is of another language tells nothing, and nothing is raised for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .life import Life

__all__ = ["Changes", "WrittenFile", "changes", "changes_text", "mark"]

_WITHIN_S = 2.0
_MOST_NAMED = 3
_MOST_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A file or directory that is new or has another content."""

    path: str
    """Relative to the working directory where it lies below it, else absolute; that of a directory ends with `/`."""
    bytes: int | None = None
    """None for a directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is not as it was at a mark; all empty where nothing is known."""

    written: tuple[WrittenFile, ...] = ()
    removed: tuple[str, ...] = ()
    more: int = 0
    """Files that were written or removed beyond those named; at least so many."""
    cwd: str = ""
    """The working directory, if it is another one."""
    env_set: tuple[str, ...] = ()
    """Names of environment variables that are new or have another value."""
    env_unset: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()
    """`NAME VERSION` of packages that are new or of another version."""
    uninstalled: tuple[str, ...] = ()


async def mark(life: Life, *, within_s: float = _WITHIN_S) -> str:
    """Remember how things are now, and give the word for it; "" where the kernel cannot. It remembers the last few."""
    told = (await _ask(life, "lash_mark_request", {}, within_s)).get("mark")
    return told if isinstance(told, str) else ""


async def changes(life: Life, since: str, *, within_s: float = _WITHIN_S) -> Changes:
    """What changed since the mark `since`, also while a cell runs; nothing where that is not known."""
    if not since:
        return Changes()
    told = (await _ask(life, "lash_changes_request", {"since": since}, within_s)).get("changes")
    if not isinstance(told, Mapping):
        return Changes()
    here = str(told["from"])
    # In a sandbox, what is written elsewhere is written nowhere: it goes with the kernel.
    root = here.rstrip("/") + "/" if life.process.sandboxed else "/"
    return Changes(
        written=tuple(
            WrittenFile(path=_relative(path, here) + ("/" if size is None else ""), bytes=size)
            for path, size in told["written"]
            if path.startswith(root)
        ),
        removed=tuple(_relative(path, here) for path in told["removed"] if path.startswith(root)),
        more=int(told["more"]),
        cwd=_printable(str(told["cwd"])),
        env_set=tuple(map(_printable, told["set"])),
        env_unset=tuple(map(_printable, told["unset"])),
        installed=tuple(_printable(f"{name} {version}") for name, version in told["installed"]),
        uninstalled=tuple(map(_printable, told["uninstalled"])),
    )


async def _ask(life: Life, kind: str, content: Mapping[str, object], within_s: float) -> Mapping[str, Any]:
    if not life.process.has_inside:
        return {}
    request = life.wire.request("control", kind, content)
    await request.done.wait(within_s)
    return request.reply or {}


def _relative(path: str, directory: str) -> str:
    root = directory.rstrip("/") + "/"
    return _printable(path.removeprefix(root))


def _printable(text: str) -> str:
    """On one line, and of characters that can be written anywhere: a name may hold what it likes."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


# -- in words ----------------------------------------------------------------------------------------------------------


def changes_text(found: Changes) -> str:
    """One line for the end of a turn; "" when nothing changed."""
    parts = [
        _files(found),
        f"working directory is now {_short(found.cwd)}" if found.cwd else "",
        _listed("environment", (*found.env_set, *(f"{name} unset" for name in found.env_unset))),
        _listed("installed", found.installed),
        _listed("uninstalled", found.uninstalled),
    ]
    said = "; ".join(part for part in parts if part)
    return f"changed outside of variables: {said}" if said else ""


def _files(found: Changes) -> str:
    written = [_short(one.path) + ("" if one.bytes is None else f" ({_size(one.bytes)})") for one in found.written]
    parts = [_first("wrote", written, found.more if written or not found.removed else 0)]
    parts.append(_first("removed", [_short(path) for path in found.removed], 0 if written else found.more))
    return "; ".join(part for part in parts if part)


def _first(verb: str, names: list[str], more: int) -> str:
    rest = max(0, len(names) - _MOST_NAMED) + more
    named = names[:_MOST_NAMED]
    if not named:
        return f"{verb} {rest:,} files" if rest else ""
    return f"{verb} {', '.join(named)}" + (f" and {rest:,} more" if rest else "")


def _listed(title: str, names: tuple[str, ...]) -> str:
    rest = len(names) - 2 * _MOST_NAMED
    named = ", ".join(map(_short, names[: 2 * _MOST_NAMED]))
    return f"{title}: {named}{f' and {rest:,} more' if rest > 0 else ''}" if names else ""


def _short(text: str) -> str:
    """The end of a long path says more than its beginning."""
    return text if len(text) <= _MOST_CHARS else "…" + text[1 - _MOST_CHARS :]


def _size(count: int) -> str:
    if count < 100_000:
        return f"{count:,} byte{'' if count == 1 else 's'}"
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
