"""Where everything of lash_nb that outlives a process is kept, unless somebody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_state_dir"]


def default_state_dir() -> Path:
    """`LASH_NB_STATE_DIR`, else the user's own state directory: nothing is committed or shared by accident."""
    named = os.environ.get("LASH_NB_STATE_DIR")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("lash_nb"))
