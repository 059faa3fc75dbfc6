"""What a `%%lash` cell asks for: its options, and who answers.

Decided here: what is wrong with an option, and that nobody answers, is said before a session is ended for `--new`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .checks import checked_expressions
from .errors import InputError, UnknownModelError
from .keep_words import KeptRequest
from .live import CellRequest, CellTurn, InCell, cell_id
from .magic_options import unquoted
from .models import Model
from .models.choice import ModelChoice
from .typed import answer_type
from .variable_words import value_options
from .wanted import names_of

if TYPE_CHECKING:
    pass

__all__ = ["RequestWords"]


class RequestWords:
    """Makes turns of cells; `begin_anew` ends the session, for `--new`."""

    def __init__(self, here: InCell, *, begin_anew: Callable[[], None]) -> None:
        self._here, self._begin_anew = here, begin_anew
        self._sessions = here.sessions

    def turn(self, given: Any, text: str) -> CellTurn:
        """The turn of a cell with those options and that text. Raises InputError."""
        sessions = self._sessions
        options = self._options(given, text)
        kept = self._kept(given, text) if given.keep else None
        model, choice = self._answering(given, kept)
        if given.new:
            self._begin_anew()
        if given.sandbox:
            sessions.want_sandbox()
        if choice is not None:
            if not given.quiet:
                self._here.announce(choice)
            sessions.conducted = choice
        if not given.quiet:
            self._say_what_is_left()
        options |= value_options(given, text, sessions, shell=self._here.shell)
        request = CellRequest(
            text=text.strip("\n"),
            model=model,
            options=options if kept is None else kept.options(options),
            quiet=given.quiet,
            live=self._here.live,
            raises=not given.no_raise,
        )
        return CellTurn(request, sessions, on_shown=self._here.on_shown)

    def _kept(self, given: Any, text: str) -> KeptRequest:
        return KeptRequest(
            text,
            self._sessions,
            shell=self._here.shell,
            cell=cell_id(),
            refresh=given.refresh,
            results=names_of(unquoted(given.outputs or "")),
            wanted=unquoted(given.type or ""),
        )

    def _options(self, given: Any, text: str) -> dict[str, Any]:
        """For `Session.run`, without what is about variables. Raises InputError."""
        if not text.strip():
            raise InputError("the request is empty: write what you want under `%%lash`, or after `%lash ask`")
        if given.max_steps is not None and given.max_steps < 1:
            raise InputError(f"--max-steps {given.max_steps}: a turn takes at least one model call")
        if given.refresh and not given.keep:
            raise InputError("--refresh asks anew for what is kept: it goes with --keep")
        mode = self._sessions.mode(given.approve and unquoted(given.approve))
        checks = checked_expressions([unquoted(check) for check in given.check or ()])
        options: dict[str, Any] = {"max_steps": given.max_steps, "approve": mode, "check": checks}
        if given.type:
            options |= answer_type(unquoted(given.type), self._evaluated)
        return options

    def _evaluated(self, expression: str) -> Any:
        try:
            return eval(expression, self._here.shell.user_global_ns, self._here.shell.user_ns)
        except Exception as error:
            raise InputError(f"-t {expression}: {type(error).__name__}: {error}") from error

    def _answering(self, given: Any, kept: KeptRequest | None) -> tuple[Model, ModelChoice | None]:
        """Who answers, and as what it was chosen. Raises InputError: nobody can."""
        sessions, named = self._sessions, given.model and unquoted(given.model)
        answers = None if kept is None else kept.model(lambda: sessions.open(sessions.choose(named).name))
        if answers is not None:
            return answers, None
        try:
            choice = sessions.choose(named)
        except UnknownModelError as error:
            if kept is not None and kept.refused:
                raise UnknownModelError(
                    f"{error}; or agree to the code that the notebook brings along (`--trust-kept`)"
                ) from None
            raise
        return sessions.open(choice.name), choice

    def _say_what_is_left(self) -> None:
        session = self._sessions.current
        if session is not None and session.interrupted:
            print(f"turn {session.next_number}, which was interrupted, is ended as it stands")
