"""What `lash-nb run` says before it runs: whose wishes are not followed, and what of an earlier run is written over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import InputError
from .stores.documents import load_notebook, place_output
from .stores.notebook import interrupted_turn
from .suggestion import suggested_model

__all__ = ["say_interrupted", "say_suggestion"]


def say_suggestion(notebook: Path, *, model: str | None, replay: str | None) -> None:
    """A model that the notebook's author would like is not taken unasked, and whoever runs it is told."""
    name = suggested_model(notebook)
    if name and not model and not replay and not name.startswith("replay:"):
        from .models.choice import suggestion

        told = suggestion(name, os.environ).replace("%lash model ", "-m ")
        print(f"lash-nb: {told}", file=sys.stderr)


def say_interrupted(notebook: Path, out: Path | None) -> None:
    """A turn that the run before left in OUT is written over; in its journal it is still there."""
    try:
        written = place_output(notebook, out)
        left = interrupted_turn(load_notebook(written).metadata) if written.is_file() else None
    except InputError:
        return  # the run says what is wrong
    if left is not None:
        goes_on = f"`lash-nb resume {left[0]} --state-dir {written.with_suffix('.lash')}` goes on with it"
        print(f"lash-nb: {written} held an interrupted turn of an earlier run; {goes_on}", file=sys.stderr)
