"""Options of the `lash-nb` command that say how the agent's kernel is made: which Python, the sandbox, its bounds."""

from __future__ import annotations

import argparse

from .kernels.resources import ResourceLimits, memory_size
from .kernels.settings import Managed

__all__ = ["add", "given"]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_argument_group("the agent's kernel")
    group.add_argument("--python", metavar="PATH", default="", help="its Python, or the name of an installed kernel")
    group.add_argument(
        "--sandbox",
        action="store_true",
        help="no network, files are read-only but for the working directory (Linux, needs bubblewrap)",
    )
    group.add_argument(
        "--sandbox-read",
        metavar="PATH",
        action="append",
        default=[],
        help="what the sandbox shows, read-only, though it lies in a home, in /mnt or the like; repeatable",
    )
    group.add_argument(
        "--pass-env",
        metavar="NAME",
        action="append",
        default=[],
        help="a variable of the environment that it gets though it looks like a secret; repeatable",
    )
    group.add_argument("--memory", metavar="SIZE", help="how much memory it may use: 512M, 4G")
    group.add_argument("--cpus", metavar="N", type=float, help="how many processors it may keep busy")
    group.add_argument("--processes", metavar="N", type=int, help="how many processes and threads it may have")
    group.add_argument("--open-files", metavar="N", type=int, help="how many files each process of it may have open")


def given(options: argparse.Namespace) -> Managed:
    """What the command line says of it. Raises InputError: a bound is none."""
    return Managed(
        python=options.python,
        sandbox=options.sandbox,
        sandbox_read=tuple(options.sandbox_read),
        pass_env=tuple(options.pass_env),
        resources=ResourceLimits(
            memory_bytes=memory_size(options.memory) if options.memory is not None else None,
            cpus=options.cpus,
            open_files=options.open_files,
            processes=options.processes,
        ),
    )
