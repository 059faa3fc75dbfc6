"""What goes back to the `input()` of a cell."""

from __future__ import annotations

import logging

from . import InputRequest, OnInput

__all__ = ["answer"]

_log = logging.getLogger(__name__)

_END_OF_FILE = "\x04"
"""What ipykernel takes for the end of input."""


def answer(request: InputRequest, on_input: OnInput | None) -> str:
    """The answer of whoever can give one, which may block; else, and when that fails, the end of the file."""
    try:
        value = on_input(request) if on_input is not None else _END_OF_FILE
        if not isinstance(value, str):
            raise TypeError(f"on_input must return a str, not {type(value).__name__}")
    except EOFError:
        return _END_OF_FILE
    except Exception:  # the cell must not wait for ever
        _log.exception("whoever answers input() failed; the cell is told that there is no answer")
        return _END_OF_FILE
    return value
