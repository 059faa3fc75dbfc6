"""`%lash` and `%%lash`: the grammar, and what `%load_ext lash_nb` adds to IPython and takes away again.

Decided here: what each word does, which words and options are not built yet, and that what goes wrong is shown as one
sentence. A word that is not known is never guessed at. Light to import, since `%load_ext` waits for it: session, kernel
and providers are loaded in the background, or when they are needed.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class

from .asking import can_ask
from .deciding import known_mode
from .errors import InputError, UnknownNameError
from .failed_cells import SeenCells
from .magic_options import OPTIONS_NOT_BUILT, as_magic, is_edit, unquoted
from .models.choice import ModelChoice
from .previews import known_previews
from .rewrite import Rewriter
from .run_settings import RunSettings, notebook_file
from .sessions import NotebookSessions
from .settings import Settings
from .shown_errors import one_sentence, say_where_it_is
from .shutdown import ShutdownHook
from .version import __version__

if TYPE_CHECKING:
    from .live import CellTurn, InCell
    from .session import Limits
    from .stores.clicks import Spot, Tell
    from .turns import Turn

__all__ = ["Lash", "load", "unload"]

NAME = "Lash"
WORDS_NOT_BUILT = (
    "diff", "goto", "kernel", "redo", "undo",
)  # fmt: skip
_LOOKING_S = 0.05
"""How long `%load_ext` looks for an earlier session."""
_WHERE_REQUESTS_GO = "requests go under `%%lash` or `%lash ask`"


@magics_class
class Lash(Magics, Settings):
    """The magics, and what they keep between cells."""

    def __init__(self, shell: Any, *, env: Mapping[str, str]) -> None:
        super().__init__(shell)
        self._shell = shell
        self.sessions = NotebookSessions(
            run=RunSettings.from_env(env),
            file=notebook_file(shell.user_ns, env),
            configured=lambda: self.model,
            limits=self._limits,
            state_dir=lambda: os.path.expanduser(self.state_dir) or None,
            grammar=lambda: "fence" if self.grammar == "fence" else "tags",
            protocol=lambda: None if self.protocol == "auto" else str(self.protocol),
            saves=lambda: self.save_notebook,
            previews=lambda: known_previews(self.previews),
            approve=lambda: known_mode(self.approve),
            namespace=lambda: shell.user_ns,
            hidden=lambda: shell.user_ns_hidden,
            kernels=self.kernel_settings,
            servers=lambda: self.mcp_servers,
        )
        self.sessions.on_insert = self._insert_clicked
        self._announced: ModelChoice | None = None
        self._suggestion = self.sessions.suggestion
        self._shown: list[Turn] = []
        self._cells = SeenCells(shell)
        kernel = getattr(shell, "kernel", None)
        self._hook = ShutdownHook(kernel, self.sessions.end_now) if hasattr(kernel, "do_shutdown") else None

    @as_magic
    def lash(self, line: str, cell: str | None = None) -> Any:
        """Ask an agent that writes and runs code in a kernel of its own.

        `%%lash [options]`, the request below it. The value of the cell is a Turn (text, code, outputs, value).

        `%lash` is followed by one word, or nothing:

            (nothing)      the state of the session, and where copies of it are
            ask TEXT       a request in one line
            say TEXT       something for the turn that runs, at its next pause
            answer yes     to what waits for you; or no [WHY], or edit
            fix [TEXT]     correct the cell that failed last, or by TEXT the one that ran last; [N] names one
                           (--check EXPR: what has to hold then)
            insert [TURN]  the agent's code as cells below, tried out first
            approve [MODE] what of the agent's code is asked about: effects, every, all, plan
            vars [NAME...] what the agent sees of your variables and of its own (--hide PATTERN, --show PATTERN)
            push NAME...   a copy of your variable for the agent, now
            pull NAME...   a copy of the agent's variable (--as X: under another name)
            tools [NAME]   what it may call beside code (add NAME..., remove NAME..., mcp NAME COMMAND...)
            model          which model answers and why, and which others could
            model NAME     another model from now on
            model test     one small request: what works (stream, tools, images, usage)
            model pull     fetch the small model that runs on this machine (says what, and asks)
            new            a new session: empty history, fresh kernel
            history [N]    the turns so far, or all of turn N; of another session: its id, or SESSION.N
            resume         go on with this notebook's earlier session: shows what is outstanding, and asks
            resume SESSION the same with another one (--yes, --no: your answer; --follow: only look on)
            usage [N]      tokens so far and their price, or those of each call of turn N

        Settings are %config Lash. The options of %%lash are:
        """
        with one_sentence():
            self.sessions.tools.main.check_outside()
            if cell is None:
                return self._command(line)
            return self._blocked(self._edited(cell) if is_edit(line) else self._turn(line, cell))

    async def await_cell(self, line: str, text: str) -> Turn | None:
        """What `%%lash` becomes where IPython awaits."""
        with one_sentence():
            turn = self._edited(text) if is_edit(line) else self._turn(line, text)
            return None if turn is None else await turn.wait()

    async def await_word(self, line: str) -> Turn | None:
        """What a `%lash answer`, `fix` or `resume` becomes there."""
        with one_sentence():
            word, _, rest = line.partition(" ")
            words = {"answer": self._answered, "fix": self._fixing, "resume": self._resumed}
            turn = words[word](rest.strip())
            return None if turn is None else await turn.wait()

    # -- a request -----------------------------------------------------------------------------------------------------

    def _turn(self, line: str, text: str) -> CellTurn:
        from .request_words import RequestWords

        return RequestWords(self._here, begin_anew=self._begin_anew).turn(self._parse(line), text)

    @property
    def _here(self) -> InCell:
        from .live import InCell

        return InCell(
            sessions=self.sessions,
            shell=self._shell,
            live=not self._captured,
            announce=self._announce_news,
            on_shown=self._shown.append,
        )

    def _parse(self, line: str) -> Any:
        for token in line.split():
            option = token.partition("=")[0]
            if option in OPTIONS_NOT_BUILT:
                raise InputError(f"{option} is not built yet")
        magic: Any = self.lash
        try:
            return magic.parser.parse_argstring(line)
        except UsageError as error:
            message = str(error)
        except ValueError as error:  # of shlex
            message = f"{str(error).lower()} (a quotation mark that is opened is closed)"
        quote = "; a value with blanks stands in quotes" if "unrecognized" in message else ""
        raise InputError(f"`%%lash {line}`: {message}{quote}; the request goes below that line (help is `%lash?`)")

    @property
    def _captured(self) -> bool:
        """Under `%%capture`, where an update is one more output."""
        from IPython.core.displaypub import CapturingDisplayPublisher

        return isinstance(self._shell.display_pub, CapturingDisplayPublisher)

    def _limits(self) -> Limits:
        from .session import Limits

        run = self.sessions.run if hasattr(self, "sessions") else None
        seconds = self.cell_seconds if run is None or run.cell_seconds is None else run.cell_seconds
        return Limits(max_steps=self.max_steps, max_minutes=self.max_minutes, cell_seconds=seconds)

    def _announce_news(self, choice: ModelChoice) -> None:
        if choice != self._announced:
            self._announce(choice)

    def _announce(self, choice: ModelChoice) -> None:
        whose = self.sessions.provenance(choice)
        print(choice.announcement + (f"; {whose}" if whose else ""))
        held = self.sessions.kernel_settings.announced()
        if held:
            print(f"the agent's kernel runs {held}")
        self._announced = choice
        self._suggest()

    def _suggest(self) -> None:
        """Once: what the notebook's author would like, which is not what you chose."""
        note, self._suggestion = self._suggestion, ""
        if note:
            print(f"note: {note}")

    # -- the words of %lash --------------------------------------------------------------------------------------------

    def _command(self, line: str) -> Any:
        word, _, rest = line.strip().partition(" ")
        commands: dict[str, Callable[[str], Any]] = {
            "": self._status,
            "answer": lambda words: self._blocked(self._answered(words)),
            "approve": lambda which: self._turn_words.approve_word(which, self.sessions),
            "ask": lambda text: self._turn("", text).block(),
            "fix": lambda words: self._blocked(self._fixing(words)),
            "history": self._history,
            "insert": self._insert,
            "model": self._model,
            "new": self._new,
            "pull": lambda line: self._turn_words.pull_word(line, self.sessions.pulled),
            "resume": lambda line: self._blocked(self._resumed(line)),
            "push": lambda line: self._variable_words.push_word(line, self.sessions),
            "say": lambda text: self._turn_words.say_word(text, self.sessions),
            "tools": self._tools,
            "usage": self._usage,
            "vars": lambda line: self._variable_words.vars_word(line, self.sessions),
        }
        if word in commands:
            return commands[word](rest.strip())
        if word in WORDS_NOT_BUILT:
            raise InputError(f"`%lash {word}` is not built yet")
        if word.startswith("-"):
            raise UnknownNameError(f"`%lash {word}`: options go on `%%lash`, with the request below; help is `%lash?`")
        known = [name for name in commands if name]
        near = difflib.get_close_matches(word, known, n=1)
        guess = f"did you mean `%lash {near[0]}`? " if near else ""
        raise UnknownNameError(f"there is no `%lash {word}`; {guess}{_WHERE_REQUESTS_GO} (help is `%lash?`)")

    def _status(self, rest: str) -> None:
        from .reports import status_text

        print(status_text(self.sessions))

    def _model(self, line: str) -> None:
        from .model_words import model_word

        if not model_word(line, self.sessions, announce=self._announce):
            self._pick_model(unquoted(line))

    def _pick_model(self, name: str) -> None:
        choice = self.sessions.pick(name)
        if self.sessions.ordered:
            print(f"{name} is kept for later: {self.sessions.ordered} of this run decides.")
        if choice != self._announced or not self.sessions.ordered:
            self._announce(choice)
        self.sessions.warm_up()

    def _new(self, rest: str) -> None:
        before = self.sessions.current
        self._begin_anew()
        out = before is not None and before.kernel_settings.sandbox and not self.sessions.kernel_settings.sandbox
        left = ", not in a sandbox (`%%lash --sandbox` makes it one)" if out else ""
        print(f"session {self.sessions.label}: empty history, fresh kernel{left}")
        with contextlib.suppress(InputError):  # no model yet: the next request says so
            self._announce(self.sessions.choose())
            self.sessions.warm_up()

    def _begin_anew(self) -> None:
        self.sessions.renew()
        self._announced = None

    def _history(self, which: str) -> None:
        from .resume_magic import history_word

        history_word(which, self.sessions)

    @property
    def _turn_words(self) -> Any:
        return import_module(".turn_words", __package__)

    @property
    def _variable_words(self) -> Any:
        return import_module(".variable_words", __package__)

    def _answered(self, words: str) -> CellTurn | None:
        choice = self._turn_words.answer_word(words, self.sessions, shell=self._shell)
        return None if choice is None else self._gone_on(choice)

    def _edited(self, code: str) -> CellTurn | None:
        choice = self._turn_words.edited(code, self.sessions)
        return None if choice is None else self._gone_on(choice)

    def _gone_on(self, choice: ModelChoice) -> CellTurn:
        """The turn that was left waiting, in this cell."""
        from .live import CellRequest, CellTurn

        self._announce_news(choice)
        self.sessions.conducted = choice
        request = CellRequest(text=None, model=self.sessions.open(choice.name), live=not self._captured)
        return CellTurn(request, self.sessions, on_shown=self._shown.append)

    def _fixing(self, words: str) -> CellTurn:
        from .fix_words import fix_turn

        return fix_turn(words, self._here, cells=self._cells)

    def _insert(self, line: str) -> None:
        from .insert_words import insert_word

        insert_word(line, self.sessions, shell=self._shell)

    def _insert_clicked(self, turn: int, session: str, done: Tell, *, spot: Spot) -> bool:
        from .insert_words import insert_soon

        return insert_soon(turn, session, self.sessions, done, spot=spot)

    def _blocked(self, turn: CellTurn | None) -> Turn | None:
        return None if turn is None else turn.block()

    def _resumed(self, line: str) -> CellTurn | None:
        from .resume_magic import ResumeWord

        return ResumeWord(self._here)(line)

    def _tools(self, line: str) -> None:
        from .tool_words import tools_word

        tools_word(line, self.sessions)

    def _usage(self, which: str) -> None:
        from .reports import usage_text

        print(usage_text(self.sessions.current, which))

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def after_cell(self, result: object) -> None:
        """`post_run_cell`: what the cell has drawn is drawn again when another one shows it."""
        for turn in self._shown:
            turn.shown = False
        self._shown.clear()
        self._cells.after_cell(result)
        self.sessions.tell()
        say_where_it_is(result, self.sessions.current)

    def close(self) -> None:
        """End what runs for this notebook; also when the process exits."""
        if self._hook is not None:
            self._hook.remove()
        self.sessions.close()

    def greet(self) -> None:
        """The one line that loading prints."""
        try:
            self._announced = self.sessions.choose()
            about = self._announced.announcement
        except InputError as error:
            about = str(error).partition(". ")[0]  # the rest is the suggestion, which has a line of its own
        print(f"lash_nb {__version__}: {about}. Help: %lash?")
        self._suggest()
        if self.sessions.run is None:
            said = self.sessions.past.sentence(within_s=_LOOKING_S, attended=can_ask(self._shell))
            if said:
                print(said)
        self.sessions.copying.load()
        if self._announced is not None:
            self.sessions.warm_up()


# ---------------------------------------------------------------------------------------------------------- IPython


def load(shell: Any) -> None:
    """Register magics, transformer and hooks; says which model answers. A second time nothing happens."""
    if NAME in shell.magics_manager.registry:
        return
    with one_sentence():
        lash = Lash(shell, env=os.environ)
    shell.register_magics(lash)
    shell.input_transformers_cleanup.append(Rewriter(shell))
    shell.events.register("post_run_cell", lash.after_cell)
    atexit.register(lash.close)
    lash.greet()


def unload(shell: Any) -> None:
    """Undo all that, and end the session."""
    lash = shell.magics_manager.registry.pop(NAME, None)
    if lash is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("lash", None)
    transformers = shell.input_transformers_cleanup
    transformers[:] = [one for one in transformers if not isinstance(one, Rewriter)]
    with contextlib.suppress(ValueError):
        shell.configurables.remove(lash)
    shell.events.unregister("post_run_cell", lash.after_cell)
    atexit.unregister(lash.close)
    lash.close()
