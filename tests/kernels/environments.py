"""Virtual environments for kernels of another Python."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["Environment"]

_SITE = sysconfig.get_paths()["purelib"]


class Environment:
    """A virtual environment that sees what is installed here, and what is put into it."""

    def __init__(self, place: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        self.python = str(place / "bin" / "python")
        (self.packages,) = place.glob("lib/python*/site-packages")

    def see_ours(self) -> None:
        (self.packages / "ours.pth").write_text(_SITE)

    def pretend(self, name: str, version: str) -> None:
        directory = self.packages / f"{name}-{version}.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
