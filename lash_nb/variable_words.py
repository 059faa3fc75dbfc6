"""What `%%lash` and `%lash` say of variables: -i, -o, --no-share, --context; push, vars.

Decided here: what is asked for by name and cannot be had is an error before anything happens; names in backticks that
nothing has are results, too. What the model is told of the notebook's cells is told once: with the next request come
those that were run since.
"""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .bridge import shared_loop
from .errors import InputError, LashError
from .machine.shared_words import shared_text
from .magic_options import unquoted
from .sharing import TakesValues
from .wanted import checked_names, names_of, wanted_names

if TYPE_CHECKING:
    from .kernels import Kernel
    from .machine.execution import NamespaceSummary, VariableSummary
    from .sessions import NotebookSessions

__all__ = ["bring_back", "push_word", "value_options", "vars_word"]

CELLS = 20
"""Of the notebook, that a request comes with."""
_CHARS = 8_000


def value_options(given: Any, text: str, sessions: NotebookSessions, *, shell: Any) -> dict[str, Any]:
    """The options of `Session.run` that are about variables, for `%%lash` with the options `given`.

    Raises InputError: a name is none, or there is no such variable; --context is no number of cells.
    """
    if given.context is not None and given.context < 0:
        raise InputError(f"--context {given.context}: it is a number of cells; 0 tells the model of none")
    named = checked_names(names_of(unquoted(given.outputs or "")), what="-o")
    inputs = checked_names(names_of(unquoted(given.inputs or "")), what="-i")
    values = {name: sessions.sharing.value(name) for name in inputs}
    sessions.sharing.look_around()
    wanted = wanted_names(text, known=shell.user_ns)
    return {
        "inputs": values,
        "results": tuple(dict.fromkeys((*named, *wanted))),
        "share": not given.no_share,
        "context": _context(CELLS if given.context is None else given.context, sessions, shell),
    }


def _context(most: int, sessions: NotebookSessions, shell: Any) -> str:
    from .notebook_cells import cells_text, earlier_cells

    cells = earlier_cells(shell, after=sessions.told_cells, most=most, chars=_CHARS)
    sessions.told_cells = shell.execution_count
    if sessions.previews == "schema":  # what a cell printed are values
        cells = tuple(replace(cell, output="") for cell in cells)
    return cells_text(cells) if cells else ""


def push_word(line: str, sessions: NotebookSessions) -> None:
    """`%lash push NAME...`: copies for the agent, now. Raises InputError, KernelError."""
    names = checked_names(names_of(line), what="%lash push")
    if not names:
        raise InputError("which variable? `%lash push NAME...` gives the agent copies of your variables")
    values = {name: sessions.sharing.value(name) for name in names}
    kernel = _kernel(sessions)
    print(shared_text(shared_loop().run(sessions.sharing.push(values, kernel))))


def _kernel(sessions: NotebookSessions) -> Any:
    kernel = shared_loop().run(sessions.session().ready_kernel())
    if not isinstance(kernel, TakesValues):
        raise InputError(f"a {kernel.language} kernel takes no values: write a file for it")
    return kernel


def bring_back(names: tuple[str, ...], over: tuple[str, ...], sessions: NotebookSessions) -> list[str]:
    """Bind the results of a turn in the notebook; what came of each, in a sentence. Blocks.

    Those in `over` take their names whatever stands there; the others only what is free.
    """
    told = []
    for name in names:
        try:
            told.append(sessions.pulled.now(name, wanted=name if name in over else None))
        except LashError as error:
            told.append(f"{name} was not brought over: {error}")
    return told


# -- %lash vars --------------------------------------------------------------------------------------------------------


def vars_word(line: str, sessions: NotebookSessions) -> None:
    """`%lash vars [NAME...] [--hide PATTERN]`: what the model sees, here and there. Raises InputError, KernelError."""
    words = line.split()
    sharing = sessions.sharing
    if "--hide" in words:
        at = words.index("--hide")
        patterns = words[at + 1 :]
        if at or not patterns:
            raise InputError("`%lash vars --hide PATTERN...` hides variables (`secret_*`) from the agent")
        sharing.patterns += [pattern for pattern in map(unquoted, patterns) if pattern not in sharing.patterns]
        print(f"hidden from the agent: {', '.join(sharing.patterns)} (what it was told or sent before stays known)")
        return
    previews = sessions.previews
    mine = sharing.describe(previews=previews)
    kernel = sessions.session().kernel
    theirs = shared_loop().run(_described(kernel, sessions)) if kernel is not None and kernel.alive else None
    print(_listed("yours (a copy goes over when the agent's code uses one)", mine, words))
    print(_listed("the agent's", theirs, words) if theirs is not None else "the agent's kernel does not run yet")
    if sharing.patterns:
        print(f"hidden: {', '.join(sharing.patterns)}")


async def _described(kernel: Kernel, sessions: NotebookSessions) -> NamespaceSummary:
    summary = await kernel.namespace(previews=sessions.previews)
    return sessions.sharing.visible(summary)


def _listed(title: str, summary: NamespaceSummary, names: list[str]) -> str:
    found = [
        variable
        for variable in summary.variables
        if not names or any(fnmatch.fnmatchcase(variable.name, name) for name in names)
    ]
    lines = [f"{title}:"] + [f"  {_line(variable)}" for variable in found]
    if not found:
        lines = [f"{title}: none{' of that name' if names else ''}"]
    if summary.omitted and not names:
        lines.append(f"  … and {summary.omitted:,} more")
    return "\n".join(lines)


def _line(variable: VariableSummary) -> str:
    about = f"{variable.type} {variable.detail}".strip()
    return f"{variable.name}: {about}" + (f" = {variable.preview}" if variable.preview else "")
