"""What the describer of variables says of one value, for the tests that try to make it stumble."""

from __future__ import annotations

from typing import Any

from lash_nb.kernels.inside.describer import Describer

__all__ = ["described"]


def described(value: Any, previews: str = "sample", describer: Describer | None = None) -> list[Any]:
    """Name, type, detail, preview, changed, columns of one variable."""
    [variable] = (describer or Describer()).summary({"x": value}, {}, 10, previews)["variables"]
    found: list[Any] = variable
    return found
