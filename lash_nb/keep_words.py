"""`%%lash --keep`: who answers a cell whose code is kept, and what is said of code that was kept elsewhere.

Decided here: code that a notebook brings along is shown and asked about where somebody is there, and agreed to with
`--trust-kept` where nobody is; without that it does not run, and a model is asked as if there were none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .asking import can_ask
from .kept_answers import REPAIR, KeptModel
from .stores.kept import KeptCode
from .trust import Redactor
from .views.document import visible

if TYPE_CHECKING:
    from .models import Model
    from .sessions import NotebookSessions

__all__ = ["KeptRequest"]


class KeptRequest:
    """One cell with `--keep`."""

    def __init__(self, text: str, sessions: NotebookSessions, *, shell: Any, cell: str | None, refresh: bool) -> None:
        """`refresh`: the code that is there is not taken, and replaced."""
        self._sessions, self._shell, self._cell = sessions, shell, cell
        self._request = Redactor(os.environ).text(text.strip("\n"))
        refresh = refresh or (sessions.run is not None and sessions.run.kept == "refresh")
        self.refused = False
        """Whether there is code that may not run."""
        self.code = None if refresh else self._found()

    def _found(self) -> KeptCode | None:
        """What answers. Raises JournalError: what was agreed to cannot be recorded."""
        keeping = self._sessions.keeping
        found = keeping.find(self._request, cell=self._cell)
        foreign = found.foreign
        if foreign is None:
            return found.known
        if self._agreed(foreign, instead=found.known is not None):
            keeping.agree(foreign)
            return foreign
        self.refused = True
        return found.known

    def _agreed(self, code: KeptCode, *, instead: bool) -> bool:
        """Whether code that came with the notebook is to run."""
        run = self._sessions.run
        if run is not None and run.trust_kept:
            return True
        of = f"kept on {code.date} " if code.date else ""
        newer = ", newer than yours" if instead else ""
        told = f"the notebook brings code along for this cell, {of}by somebody else or elsewhere{newer}"
        if run is not None or not can_ask(self._shell):
            how = "`lash-nb run --trust-kept` runs it" if run is not None else "nobody can be asked whether it may run"
            print(f"note: {told}; it is not run ({how})")
            return False
        print(f"{told}:\n")
        print("\n\n".join(visible(cell.rstrip("\n")) for cell in code.cells), end="\n\n")
        answer = input("Run it, now and whenever this cell runs? yes, no: ")
        return answer.strip().casefold() in ("y", "yes")

    def model(self, choose: Callable[[], Model]) -> KeptModel | None:
        """Who answers; None: nothing is kept, and `choose` says who does."""
        if self.code is None:
            return None
        return KeptModel(self.code, behind=choose, grammar=self._sessions.grammar)

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `Session.run`, with what this adds to them."""
        typed = "output_type" in options or "schema" in options  # then the first result is the value, no variable
        needed = (*options.get("results", ())[typed:], *options.get("maybe", ()))
        conclude = self._sessions.keeping.concluding(
            session=self._sessions.session().id,
            cell=self._cell,
            before=self.code,
            needed=needed,
            checked=bool(options.get("check")),
        )
        context = options.get("context", "")
        if self.code is not None:
            context = f"{REPAIR}\n\n{context}".strip()
        return {**options, "context": context, "conclude": conclude}
