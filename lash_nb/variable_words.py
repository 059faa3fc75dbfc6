"""What `%%lash` and `%lash` say of variables: -i, -o, --no-share, --context; push, vars.

Decided here: what is asked for by name and cannot be had is an error before anything happens; names in backticks that
nothing has are results, too. What the model is told of the notebook's cells is told once: with the next request come
those that were run since.
"""

from __future__ import annotations

import copy
import fnmatch
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .bridge import shared_loop
from .errors import InputError, LashError
from .machine.shared_words import shared_text
from .magic_options import unquoted
from .sharing import TakesValues
from .trust import Redactor
from .wanted import checked_names, names_of, wanted_names

if TYPE_CHECKING:
    from .kernels import Kernel
    from .machine.execution import NamespaceSummary, VariableSummary
    from .sessions import NotebookSessions
    from .turns import Turn

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
    for name in named:
        if not sessions.sharing.is_ours(name):
            raise InputError(f"-o: {name} is IPython's own")
    inputs = checked_names(names_of(unquoted(given.inputs or "")), what="-i")
    values = {name: sessions.sharing.value(name) for name in inputs}
    sessions.sharing.look_around()
    columns = {title for variable in sessions.sharing.describe().variables for title, _ in variable.columns}
    maybe = wanted_names(text, known={*shell.user_ns, *columns, *named} - sessions.pulled.names())
    return {
        "inputs": values,
        "results": named,
        "maybe": maybe,
        "share": not given.no_share,
        "context": _context(CELLS if given.context is None else given.context, sessions, shell),
    }


def _context(most: int, sessions: NotebookSessions, shell: Any) -> str:
    from .notebook_cells import cells_text, earlier_cells

    redactor = Redactor(os.environ)
    cells = earlier_cells(shell, after=sessions.told_cells, most=most, chars=_CHARS, clean=redactor.text)
    history = getattr(shell, "history_manager", None)
    # The number of this cell; IPython's own counter may be one ahead of it.
    sessions.told_cells = len(history.input_hist_raw) - 1 if history is not None else 0
    cells = tuple(cell for cell in cells if not sessions.sharing.names_hidden(cell.source))
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


def bring_back(turn: Turn, sessions: NotebookSessions) -> list[str]:
    """Bind the results of a turn in the notebook; what came of each, in a sentence. Blocks.

    Of a turn that had to give a value, the first one that was asked for by name is that value. The others that were
    asked for take their name, whatever stands there, when the turn has to do with them; the rest only what is free, and
    of those that there are none of nothing is said.
    """
    told = []
    code = set(re.findall(r"\w+", "\n".join(turn.code)))
    kernel: Any = sessions.session().kernel
    results = turn.results
    if turn.typed and results:
        told.append(_value_bound(turn, results[0], sessions))
        results = results[1:]
    for name in (*results, *turn.maybe):
        asked = name in results
        try:
            if name in sessions.sharing.names() and (name not in code or _untouched(name, kernel)):
                told.append(f"{name} stays as it is: the agent did not change it")
                continue
            told.append(sessions.pulled.data(name, over=asked))
        except LashError as error:
            if asked or name in {variable.name for variable in turn.picture.variables}:
                told.append(f"{name} was not brought over: {error}")
    return told


def _value_bound(turn: Turn, name: str, sessions: NotebookSessions) -> str:
    from .machine.outcomes import FinalValue, Finished
    from .typed_tables import columns_of, table_frame

    if not isinstance(turn.outcome, Finished) or not isinstance(turn.outcome.finish, FinalValue):
        return f"{name} was not bound: the turn ended without a value"
    sessions.sharing.bound(name)
    value = turn.value
    columns = columns_of(turn.schema)
    frame = table_frame(value, columns) if columns is not None else None
    if frame is not None:
        rows, width = frame.shape
        return sessions.pulled.given(name, frame, what=f"the turn's value (DataFrame, {rows:,} × {width})")
    size = f" of {len(value):,}" if type(value) in (list, dict) else ""
    # What is changed under the name stays apart from the turn.
    value = copy.deepcopy(value) if size else value
    return sessions.pulled.given(name, value, what=f"the turn's value ({type(value).__name__}{size})")


def _untouched(name: str, kernel: Any) -> bool:
    held = shared_loop().run(kernel.held([name])) if isinstance(kernel, TakesValues) else {}
    return name in held and held[name].untouched


# -- %lash vars --------------------------------------------------------------------------------------------------------


def vars_word(line: str, sessions: NotebookSessions) -> None:
    """`%lash vars [NAME...]`: what the model sees; `--hide`, `--show PATTERN...`. Raises KernelError."""
    words = line.split()
    sharing = sessions.sharing
    if words and words[0] in ("--hide", "--show"):
        patterns = [unquoted(word) for word in words[1:]]
        kept = [pattern for pattern in sharing.patterns if pattern not in patterns]
        sharing.patterns[:] = kept if words[0] == "--show" else [*kept, *patterns]
        print(f"hidden from the agent: {', '.join(sharing.patterns) or 'nothing'}; what it was told before, it knows")
        return
    previews = sessions.previews
    redactor = Redactor(os.environ)
    mine = redactor.namespace(sharing.describe(previews=previews))
    kernel = sessions.session().kernel
    theirs = shared_loop().run(_described(kernel, sessions)) if kernel is not None and kernel.alive else None
    print(_listed("yours (a copy goes over when the agent's code uses one)", mine, words))
    print(_listed("the agent's", theirs, words) if theirs is not None else "the agent's kernel does not run yet")
    if sharing.patterns:
        print(f"hidden: {', '.join(sharing.patterns)}")


async def _described(kernel: Kernel, sessions: NotebookSessions) -> NamespaceSummary:
    summary = await kernel.namespace(previews=sessions.previews)
    return Redactor(os.environ).namespace(sessions.sharing.visible(summary))


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
