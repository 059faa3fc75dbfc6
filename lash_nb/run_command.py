"""`lash-nb run`: its options, how a run is told while it goes on, and what is left of it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import kernel_words
from .errors import InputError, NotebookError
from .machine.approvals import ApprovalMode
from .models import NAME_FORMS

if TYPE_CHECKING:
    from .run_results import CellReport, RunResult
    from .stores.summaries import TurnSummary

__all__ = ["REPLAYS", "add", "execute"]

REPLAYS = ("loose", "strict")
_APPROVE_HELP = (
    "what is asked about first: effects (default: what code does beyond computing), every (cell), all (nothing is), "
    "plan (no code runs); nobody is there to answer, so effects are refused and a cell leaves the run waiting"
)
MODES = [mode.value for mode in ApprovalMode]


def add(commands: Any) -> None:
    """Add `run` to the command line."""
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
    keeps = run.add_argument_group("cells whose code is kept (--keep)")
    asked = keeps.add_mutually_exclusive_group()
    asked.add_argument("--refresh", action="store_true", help="ask the model anew, instead of where the code fails")
    asked.add_argument("--frozen", action="store_true", help="ask no model at all, whatever happens")
    keeps.add_argument(
        "--trust-kept", action="store_true", help="run kept code that IN brings along, and that you did not keep"
    )
    run.add_argument("--approve", choices=MODES, help=_APPROVE_HELP)
    kernel_words.add(run)
    run.add_argument("--cell-seconds", metavar="N", type=float, help="how long a cell of the agent's may run")
    run.add_argument("--results", metavar="FILE", type=Path, help="write the turns as JSON: id, text, code, value")
    run.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")


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
    result = execute(
        options.notebook,
        options.out,
        parameters=parameters,
        model=options.model,
        record=True if options.record == "" else options.record,
        replay=options.replay,
        approve=options.approve,
        cell_seconds=options.cell_seconds,
        kept="refresh" if options.refresh else "frozen" if options.frozen else None,
        trust_kept=options.trust_kept,
        **kernel,
    )
    if options.results is not None:
        _write_json(options.results, [_turn(turn) for turn in result.turns])
    if options.json:
        print(json.dumps(_summary(result), ensure_ascii=False))
    return result.exit_code


def execute(notebook: Path, out: Path | None, **options: Any) -> RunResult:
    """Run a notebook, told on stderr. Raises InputError: nothing was run."""
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


class _Progress:
    """One line a cell: its beginning when it starts, the rest when it has ended."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._begun = 0

    def __call__(self, report: CellReport) -> None:
        from .run_results import CellState

        line = ""
        if self._begun != report.number:
            label = report.label if len(report.label) <= 60 else report.label[:59] + "…"
            line = f"[{report.number}/{report.total}] {label}: "
            self._begun = report.number
        if report.state is not CellState.RUNNING:
            steps = f", {report.steps} step{'s' if report.steps != 1 else ''}" if report.steps else ""
            kept = f", kept code {report.kept}" if report.kept else ""
            line += f"{report.state}{kept}{steps}\n"
        self._stream.write(line)
        self._stream.flush()


def _turn(turn: TurnSummary) -> dict[str, Any]:
    from .machine.outcomes import TurnStopReason

    told = {"id": turn.id, "text": turn.text, "code": list(turn.code), "value": turn.value}
    if turn.outcome is None:
        told["stop"] = "interrupted"
    elif turn.stop is not None:
        told["stop"] = turn.stop.value if isinstance(turn.stop, TurnStopReason) else "error"
    return told


def _summary(result: RunResult) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "exit_code": result.exit_code,
        "error": result.error or None,
        "out": str(result.out),
        "cells": [{"cell": cell.label, "state": cell.state.value, "steps": cell.steps} for cell in result.cells],
        "turns": [
            {**_turn(turn), "request": turn.request, "steps": turn.steps, "kept": turn.kept, "dollars": turn.dollars}
            for turn in result.turns
        ],
        "refused": [
            {"turn": effect.turn, "kind": effect.wish.kind.value, "target": effect.wish.target}
            for effect in result.refused
        ],
        "usage": {name: getattr(result.usage, name) for name in result.usage.__dataclass_fields__},
    }


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
