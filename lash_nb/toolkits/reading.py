"""Files below one directory, opened so that nothing outside of it is ever read.

Decided here: a path is resolved, has to lie below the directory, and is then opened step by step without following any
link, so that one that is exchanged meanwhile is refused. Regular files and directories alone; nothing of the kernel's
file systems; nothing whose name says that it is a secret. Standard library, and `trust` for what a secret is called.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ToolError
from ..trust import looks_secret

__all__ = ["listed", "named_like_a_secret", "opened", "resolved", "walked"]

_MOST_ENTRIES = 500
_KERNELS_OWN = ("/proc", "/sys", "/dev")
_SECRET_FILE = re.compile(
    r"\.env(\..*)?|.*\.env|[._]netrc|\.pgpass|\.npmrc|\.pypirc|\.git-credentials|\.htpasswd|\.dockercfg"
    r"|id_(rsa|dsa|ecdsa|ed25519)(\..*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk|gpg|asc)",
    re.I,
)
_SHOWN_ALTHOUGH_HIDDEN = frozenset({".github", ".gitignore", ".gitattributes", ".editorconfig"})
_SECRET_STEP = re.compile(
    r"^secrets?(\.(py|txt|json|ya?ml|toml|ini|cfg))?$|^service[_-]account.*\.json$|^terraform\.tfstate|^id_(rsa|dsa|ecdsa|ed25519)"
    r"|^credentials?(\.|$)|^kernel-.*\.json$|^jpserver-.*\.json$",
    re.I,
)
_SETTINGS = frozenset(
    {"", ".cfg", ".conf", ".env", ".ini", ".json", ".properties", ".toml", ".txt", ".xml", ".yaml", ".yml"}
)
"""Ends of names of files that hold a secret by a telling name (`api_key.txt`); a program (`tokens.py`) does not."""
_SIGNS = re.compile(r"[^A-Za-z0-9]+")


def _is_hidden(step: str) -> bool:
    """Settings of tools, histories and repositories: too many of them hold keys to name them all."""
    return step.startswith(".") and step not in ("", ".", "..") and step not in _SHOWN_ALTHOUGH_HIDDEN


def named_like_a_secret(steps: tuple[str, ...]) -> bool:
    """Whether a file is not to be read, by the names on the way to it."""
    if any(_is_hidden(step) or _SECRET_STEP.search(step) for step in steps):
        return True
    name = steps[-1] if steps else ""
    if _SECRET_FILE.fullmatch(name):
        return True
    stem, end = os.path.splitext(name)
    return end.lower() in _SETTINGS and looks_secret(_SIGNS.sub("_", stem), "")


@contextmanager
def opened(directory: Path, path: str) -> Iterator[int]:
    """A descriptor of a regular file or a directory below that one. Raises ToolError: there is none, or it may not."""
    root, steps = resolved(directory, path)
    if named_like_a_secret(steps):
        raise ToolError(
            f"{path!r} is not read: its name looks like that of a secret. The user can show you what is needed of it",
            kind="permission_denied",
            code="secret",
        )
    descriptor = walked(root, steps, path)
    try:
        _check_kind(os.fstat(descriptor).st_mode, path)
        yield descriptor
    finally:
        os.close(descriptor)


def resolved(directory: Path, path: str) -> tuple[str, tuple[str, ...]]:
    """The directory, and the steps from it to the path, both without links. Raises ToolError: it is not below it."""
    try:
        root = os.path.realpath(directory)
        real = os.path.realpath(os.path.join(root, path), strict=True)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    inside = Path(real).is_relative_to(root)
    if not inside or any(Path(real).is_relative_to(place) for place in _KERNELS_OWN):
        raise ToolError(
            f"{path!r} is outside of the working directory; files below it can be read, others by code in a cell",
            kind="permission_denied",
            code="outside",
        )
    return root, Path(real).relative_to(root).parts


def walked(root: str, steps: tuple[str, ...], path: str) -> int:
    """A descriptor, opened step by step; what has become a link since it was resolved is refused with ToolError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        here = os.open(root, flags | os.O_DIRECTORY)
        for number, step in enumerate(steps):
            try:
                if number == len(steps) - 1:  # opening a device or a pipe already does something
                    _check_kind(os.stat(step, dir_fd=here, follow_symlinks=False).st_mode, path)
                below = os.open(step, flags | (os.O_DIRECTORY if number < len(steps) - 1 else 0), dir_fd=here)
            finally:
                os.close(here)
            here = below
    except OSError as error:
        raise _unreadable(path, error) from None
    return here


def _check_kind(mode: int, path: str) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ToolError(f"{path!r} is neither a file nor a directory", kind="permission_denied", code="not_a_file")


def _unreadable(path: str, error: OSError | ValueError) -> ToolError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    missing = isinstance(error, FileNotFoundError)
    return ToolError(
        f"{path[:200]!r} cannot be read: {why}. read_file('.') lists the working directory",
        kind="invalid_request" if missing or isinstance(error, ValueError) else "permission_denied",
        code="no_such_file" if missing else "unreadable",
    )


def listed(descriptor: int, path: str) -> str:
    """What is in an open directory, a line each: directories first, then files with their sizes."""
    found: list[tuple[bool, str, str]] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name if entry.name.isprintable() else ascii(entry.name)
            if entry.is_symlink():
                found.append((True, name, f"{name} (a link)"))
            elif entry.is_dir(follow_symlinks=False):
                found.append((False, name, f"{name}/"))
            else:
                secret = named_like_a_secret((entry.name,))
                about = "not read: its name looks like that of a secret" if secret else _size(entry)
                found.append((True, name, f"{name} ({about})"))
    lines = [line for *_, line in sorted(found)]
    more = len(lines) - _MOST_ENTRIES
    shown = lines[:_MOST_ENTRIES] + ([f"[… and {more:,} more]"] if more > 0 else [])
    return "\n".join([f"{path}: a directory with {len(lines):,} entries", *shown])


def _size(entry: os.DirEntry[str]) -> str:
    try:
        return f"{entry.stat(follow_symlinks=False).st_size:,} bytes"
    except OSError:  # gone meanwhile
        return "gone"
