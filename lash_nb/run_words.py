"""What `lash-nb run` says around a run: whose wishes are not followed, what of an earlier run is written over, and what
the agents' code was not allowed to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .deciding import known_mode, tightened
from .errors import InputError
from .kernels.settings import KernelSettings, Managed, as_ordered
from .machine.approvals import ApprovalMode
from .run_results import RefusedEffect
from .stores.documents import load_notebook, place_output
from .stores.notebook import interrupted_turn
from .suggestion import suggested_model
from .views.document import visible
from .views.pieces import cut

__all__ = ["say_interrupted", "say_kernel", "say_mode", "say_refused", "say_suggestion"]

_NAMED, _TARGET_CHARS = 5, 200


def say_mode(named: ApprovalMode | str | None) -> None:
    """Where what is asked about is not what was wanted. Raises InputError: the environment's mode is none."""
    told = tightened(None if named is None else known_mode(named), env=os.environ)
    if told:
        print(f"lash-nb: {told}", file=sys.stderr)


def say_kernel(given: Managed) -> None:
    """To what the agent's kernels are held, where that is anything."""
    held = as_ordered(KernelSettings.of(given), os.environ).announced()
    if held:
        print(f"lash-nb: the agent's kernels run {held}", file=sys.stderr)


def say_refused(refused: Sequence[RefusedEffect]) -> None:
    """What nobody was there to allow, and how it is allowed."""
    if not refused:
        return
    turns = {effect.turn for effect in refused}
    named = []
    for effect in refused[:_NAMED]:
        target = cut(visible(" ".join(effect.wish.target.split())), head_chars=_TARGET_CHARS, tail_chars=0)
        number = f" (turn {effect.turn.rpartition('.')[2]})" if len(turns) > 1 else ""
        named.append(f"{effect.wish.kind} {' '.join(target.split())}{number}")
    more = f", and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    were = "1 effect was" if len(refused) == 1 else f"{len(refused)} effects were"
    allowed = tightened(ApprovalMode.ALL, env=os.environ)
    how = f"`--approve all` would not help ({allowed})" if allowed else "`--approve all` allows them"
    print(f"lash-nb: {were} refused: {', '.join(named)}{more}; {how}", file=sys.stderr)


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
