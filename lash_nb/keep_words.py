"""`%%lash --keep`: who answers a cell whose code is kept, and what is said of code that was kept elsewhere.

Decided here: code that a notebook brings along is shown and asked about where somebody is there, and agreed to with
`--trust-kept` where nobody is; without that it does not run, and a model is asked as if there were none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .asking import can_ask, interruptible
from .bridge import shared_loop
from .errors import KernelError
from .kept_answers import REPAIR, KeptModel
from .sharing import TakesValues
from .stores.kept import KeptCode
from .trust import Redactor
from .views.document import visible

if TYPE_CHECKING:
    from .models import Model
    from .sessions import NotebookSessions

__all__ = ["KeptRequest"]


class KeptRequest:
    """One cell with `--keep`."""

    def __init__(
        self,
        text: str,
        sessions: NotebookSessions,
        *,
        shell: Any,
        cell: str | None,
        refresh: bool,
        results: Sequence[str] = (),
        wanted: str = "",
    ) -> None:
        """`refresh`: the code that is there is not taken, but replaced. `results` and `wanted`, the type, belong to
        what is asked for: the same words with others ask for something else.
        """
        self._sessions, self._shell, self._cell = sessions, shell, cell
        more = (f"\n[-o {' '.join(results)}]" if results else "") + (f"\n[-t {wanted}]" if wanted else "")
        self._request = Redactor(os.environ).text(text.strip("\n") + more)
        self._refresh = refresh or (sessions.run is not None and sessions.run.kept == "refresh")
        self.refused = False
        """Whether there is code that may not run."""
        self._before = self._found()
        self.code = None if self._refresh else self._before
        self._model: KeptModel | None = None

    def _found(self) -> KeptCode | None:
        """What answers. Raises JournalError: what was agreed to cannot be recorded."""
        keeping = self._sessions.keeping
        found = keeping.find(self._request, cell=self._cell)
        foreign = found.foreign
        if foreign is None or self._refresh:
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
        if code.answer:
            print(f"and says of it, where its outputs are as they were: {visible(code.answer)}\n")
        answer = ""
        with suppress(EOFError, OSError), interruptible():  # no terminal, or the end of its input: that is no yes
            answer = input("Run it, now and whenever this cell runs? yes, no: ")
        return answer.strip().casefold() in ("y", "yes")

    def model(self, choose: Callable[[], Model]) -> KeptModel | None:
        """Who answers; None: nothing is kept, and `choose` says who does."""
        if self.code is None:
            return None
        self._model = KeptModel(self.code, behind=choose, grammar=self._sessions.grammar)
        return self._model

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `Session.run`, with what this adds to them."""
        typed = "output_type" in options or "schema" in options  # then the first result is the value, no variable
        results = options.get("results", ())[typed:]
        session, model = self._sessions.session(), self._model
        conclude = self._sessions.keeping.concluding(
            session=session.id,
            cell=self._cell,
            before=self._before,
            request=self._request,
            needed=(*results, *options.get("maybe", ())),
            results=results,
            checked=bool(options.get("check")),
            asked=lambda: model is None or model.handed_over,
            refresh=self._refresh,
        )
        given = {**options, "conclude": conclude}
        if self.code is None:
            return given
        self._begin_afresh("\n".join(self.code.cells))
        bound = options.get("max_steps") or session.limits.max_steps
        steps = None if bound is None else bound + len(self.code.cells) + 1  # it bounds what a model is asked
        return {**given, "max_steps": steps, "context": f"{REPAIR}\n\n{options.get('context', '')}".strip()}

    def _begin_afresh(self, code: str) -> None:
        """The code begins with your variables as they are, and not with what a run before has made of its copies."""
        kernel = self._sessions.session().kernel
        if kernel is not None and kernel.alive and isinstance(kernel, TakesValues):
            with suppress(KernelError):  # else the turn says what is wrong with the kernel
                shared_loop().run(self._sessions.sharing.anew(code, kernel))
