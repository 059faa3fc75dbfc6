"""A turn's code as ordinary cells of the notebook: made (`consolidating`), tried out and offered (`offering`)."""

from __future__ import annotations

__all__: list[str] = []
