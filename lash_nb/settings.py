"""What `%config Lash` can set, and `c.Lash.…` in a configuration file."""

from __future__ import annotations

import os
from typing import get_args

from traitlets import Bool, Enum, Float, Integer, Unicode, default, validate
from traitlets.config import Configurable

from .deciding import APPROVE_VARIABLE, allowed_mode, known_mode
from .machine.approvals import ApprovalMode
from .previews import PREVIEWS_VARIABLE, Previews, allowed_previews, known_previews

__all__ = ["Settings"]


class Settings(Configurable):
    """The settings of the magics; each holds from the next turn on."""

    model = Unicode(
        "", help="Which model answers (`openai:…`, `anthropic:…`, `local`, …) when nothing nearer says so."
    ).tag(config=True)
    max_steps = Integer(30, min=1, allow_none=True, help="Model calls that a turn may take; None: no bound.").tag(
        config=True
    )
    max_minutes = Float(30.0, min=0.01, allow_none=True, help="Minutes that a turn may take; None: no bound.").tag(
        config=True
    )
    grammar = Enum(
        ["tags", "fence"],
        default_value="tags",
        help="How the model marks a cell; `fence` for models that insist on ```python.",
    ).tag(config=True)
    protocol = Enum(
        ["auto", "code", "snippet"],
        default_value="auto",
        help="How the model conducts a turn: `code` writes cells until it answers, `snippet` writes one (for small "
        "models), `auto` takes what suits the model.",
    ).tag(config=True)
    state_dir = Unicode(
        "", help="Where images and long outputs are kept; empty: LASH_NB_STATE_DIR, else the user's own directory."
    ).tag(config=True)
    python = Unicode(
        "",
        help="The Python of the agent's kernel: an interpreter's path, or the name of an installed kernel; empty: this "
        "one. Holds from the next session on (`%lash new`).",
    ).tag(config=True)
    previews = Enum(
        get_args(Previews),
        help="What is sent of the values of the variables in the agent's kernel: `schema` nothing but names, types, "
        "shapes and columns, `sample` (the default) some dozen characters of each, `full` up to 2,000. Never more than "
        "LASH_NB_PREVIEWS in the environment allows.",
    ).tag(config=True)
    approve = Enum(
        [mode.value for mode in ApprovalMode],
        default_value=ApprovalMode.EFFECTS.value,
        help="What of the agent's code is asked about before it happens: `effects` (what it does beyond computing), "
        "`every` (each cell), `all` (nothing is), `plan` (no code runs). LASH_NB_APPROVE in the environment is the "
        "loosest that is allowed.",
    ).tag(config=True)
    save_notebook = Bool(
        False, help="Have the frontend save the notebook when a turn has ended, instead of leaving that to you."
    ).tag(config=True)

    @validate("approve")
    def _no_looser_than_allowed(self, proposal: dict[str, str]) -> str:
        wanted = known_mode(proposal["value"])
        allowed = allowed_mode(wanted, env=os.environ)
        if allowed is not wanted:
            print(f"note: approve stays {allowed.value!r}: {APPROVE_VARIABLE} allows nothing looser")
        return allowed.value

    @default("previews")
    def _default_previews(self) -> Previews:
        return allowed_previews(None, env=os.environ)

    @validate("previews")
    def _no_more_than_allowed(self, proposal: dict[str, str]) -> Previews:
        wanted = known_previews(proposal["value"])
        allowed = allowed_previews(wanted, env=os.environ)
        if allowed != wanted:
            print(f"note: previews stay {allowed!r}: {PREVIEWS_VARIABLE} allows no more")
        return allowed
