"""What `%config Lash` can set, and `c.Lash.…` in a configuration file."""

from __future__ import annotations

import os
from typing import Any, get_args

from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, Unicode, default, validate
from traitlets.config import Configurable

from .deciding import APPROVE_VARIABLE, allowed_mode, known_mode
from .errors import InputError
from .kernels.resources import ResourceLimits, memory_size
from .kernels.settings import KernelSettings
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
        ["auto", "code", "snippet", "tools"],
        default_value="auto",
        help="How the model conducts a turn: `code` writes cells until it answers, `snippet` writes one (for small "
        "models), `tools` calls tools, and runs cells by one of them; `auto` takes what suits the model.",
    ).tag(config=True)
    state_dir = Unicode(
        "", help="Where images and long outputs are kept; empty: LASH_NB_STATE_DIR, else the user's own directory."
    ).tag(config=True)
    python = Unicode(
        "",
        help="The Python of the agent's kernel: an interpreter's path, or the name of an installed kernel; empty: this "
        "one. Holds from the next session on (`%lash new`).",
    ).tag(config=True)
    sandbox = Bool(
        False,
        help="Run the agent's kernels in a sandbox (Linux, bubblewrap): no network, files are read-only but for the "
        "working directory. LASH_NB_SANDBOX=1 in the environment orders it. Holds from the next session on.",
    ).tag(config=True)
    sandbox_read = List(
        Unicode(),
        help="Directories that the sandbox shows, read-only, though they lie in a home, in /mnt or the like.",
    ).tag(config=True)
    pass_env = List(
        Unicode(),
        help="Names of environment variables that the agent's kernels get though they look like secrets. Holds from "
        "the next session on.",
    ).tag(config=True)
    memory = Unicode(
        "",
        help="How much memory each of the agent's kernels may use (`2G`, `512M`); empty: no bound. Holds from the next "
        "session on, as the other bounds do.",
    ).tag(config=True)
    cpus = Float(None, min=0.1, allow_none=True, help="How many processors it may keep busy; None: no bound.").tag(
        config=True
    )
    processes = Integer(
        None,
        min=32,
        allow_none=True,
        help="How many processes and threads it may have; None: no bound (512 in a sandbox).",
    ).tag(config=True)
    open_files = Integer(
        None,
        min=64,
        allow_none=True,
        help="How many files each of its processes may have open; None: the system's bound.",
    ).tag(config=True)
    cell_seconds = Float(
        None,
        min=0.1,
        allow_none=True,
        help="Seconds that a cell of the agent's may run before it is interrupted; None: no bound.",
    ).tag(config=True)
    spare = Bool(
        False, help="Keep a second kernel ready, so that a new session or a restart takes milliseconds (some 60 MB)."
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
    mcp_servers = Dict(
        help="MCP servers whose tools the agent may use, by name, in the form that all clients of such servers have: "
        '`{"files": {"command": "npx", "args": ["…"], "env": {"TOKEN": "${TOKEN}"}}, "web": {"url": "https://…"}}`. '
        "Needs lash-nb[mcp]. `%lash tools mcp` adds one for this notebook.",
    ).tag(config=True)
    save_notebook = Bool(
        False, help="Have the frontend save the notebook when a turn has ended, instead of leaving that to you."
    ).tag(config=True)

    def kernel_settings(self) -> KernelSettings:
        """How the next session makes its kernels."""
        limits = ResourceLimits(
            memory_bytes=memory_size(self.memory) if self.memory else None,
            cpus=self.cpus,
            open_files=self.open_files,
            processes=self.processes,
        )
        return KernelSettings(
            python=os.path.expanduser(self.python),
            sandbox=self.sandbox,
            sandbox_read=tuple(os.path.abspath(os.path.expanduser(path)) for path in self.sandbox_read),
            pass_env=tuple(self.pass_env),
            resources=limits,
            spare=self.spare,
        )

    @validate("memory")
    def _memory_that_is_one(self, proposal: dict[str, str]) -> str:
        if proposal["value"]:
            try:
                ResourceLimits(memory_bytes=memory_size(proposal["value"]))
            except InputError as error:
                raise TraitError(str(error)) from error
        return proposal["value"]

    @validate("mcp_servers")
    def _servers_that_can_be_made(self, proposal: dict[str, dict[str, Any]]) -> dict[str, Any]:
        servers = proposal["value"]
        if list(servers) == ["mcpServers"]:  # as it stands in the files of other clients
            servers = servers["mcpServers"]
        if servers:
            from .toolkits.mcp_settings import settings_of

            try:
                for name, settings in servers.items():
                    settings_of(name, settings)
            except InputError as error:
                raise TraitError(str(error)) from error
        return servers

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
