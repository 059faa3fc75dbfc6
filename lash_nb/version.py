"""The version, where every storey can read it; hatchling reads it too."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
