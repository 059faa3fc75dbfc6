"""A host of `tests.faults.kill`: begins the session, or goes on with it, and leaves its transcript when it got through.

All of it runs in a forked process of its own. What a transcript holds: everything of a turn that does not depend on
time, and the conversation that the next turn would see. `requests` holds every text that the model was shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from lash_nb import ScriptedModel, Session, Turn
from lash_nb.from_notebook import session_of_notebook
from lash_nb.machine.events import CodeBlockCompleted, CodeBlockStarted, InjectedTurnInputAccepted, TurnActivity
from lash_nb.machine.llm import LlmRequest, LlmResponse, LlmTerminalReason, LlmUsage, TextOutput
from lash_nb.models import CallContext, ModelTraits, OnDelta
from lash_nb.stores.documents import Output
from lash_nb.stores.journal import read_records, session_directory
from lash_nb.stores.session_files import sessions_in
from tests.faults.kill_plan import SAID, SAID_AFTER, SCRIPT, TURNS, register, session_tools
from tests.faults.kill_points import Points, instrument

__all__ = ["NOTEBOOK", "SESSION", "STATE", "drive", "records_of"]

SESSION = "killed"
STATE = "state"
NOTEBOOK = "session.ipynb"


def records_of(directory: Path) -> list[dict[str, Any]]:
    """The records of the session's journal; none where there is none that has begun."""
    state = directory / STATE
    return list(read_records(session_directory(state, SESSION))) if SESSION in sessions_in(state) else []


def _reply(text: str, turn: int, step: int) -> LlmResponse:
    return LlmResponse(
        full_text=text,
        parts=(TextOutput(text=text),),
        usage=LlmUsage(input_tokens=100 * turn + step, output_tokens=step),
        terminal_reason=LlmTerminalReason.STOP,
    )


class _Model(ScriptedModel):
    """The plan's, which keeps what it is asked."""

    def __init__(self, points: Points) -> None:
        super().__init__(
            {turn: [_reply(text, turn, step) for step, text in enumerate(steps, 1)] for turn, steps in SCRIPT.items()},
            chunk_size=1000,
        )
        self._points = points
        self._log = os.open(points.directory / "requests", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        return ModelTraits(protocol=TURNS[turn - 1].protocol)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        self._points.reached(f"model {context.step} before")
        asked = {"turn": context.turn, "step": context.step, "request": dataclasses.asdict(request)}
        os.write(self._log, json.dumps(asked, default=str).encode() + b"\n")
        response = await super().complete(request, context=context, on_delta=on_delta)
        self._points.reached(f"model {context.step} after")
        return response


class _User:
    """Says something when a certain cell has ended, unless it was said and is kept, and keeps what is delivered."""

    def __init__(self, session: Session, *, said: bool) -> None:
        self._session = session
        self._said = said
        self._cells: dict[int, str] = {}
        self.delivered: list[str] = []

    def __call__(self, activity: TurnActivity) -> None:
        match activity:
            case CodeBlockStarted(effect_id=effect_id, code=code):
                self._cells[effect_id] = code
            case CodeBlockCompleted(effect_id=effect_id) if f"'{SAID_AFTER}'" in self._cells.get(effect_id, ""):
                if not self._said:
                    self._said = True
                    self._session.say(SAID)
            case InjectedTurnInputAccepted(inputs=inputs):
                self.delivered += [given.message.content for given in inputs]
            case _:
                pass


def _was_said(directory: Path) -> bool:
    """Whether the text is kept: in the journal, or in the messages of the notebook where that is all there is."""
    records = records_of(directory)
    if records:
        return any(record["k"] == "said" for record in records) or SAID in json.dumps(records)
    path = directory / NOTEBOOK
    if not path.exists():
        return False
    session = session_of_notebook(path)
    turns = [*session.turns, *([session.running] if session.running is not None else [])]
    return SAID in session.said.values() or any(SAID in repr(turn.checkpoint) for turn in turns)


def _keeper(path: Path) -> Callable[[dict[str, Any], bool], None]:
    def keep(block: dict[str, Any], final: bool) -> None:
        notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
        notebook.metadata["lash_nb"] = block
        Output(path).save(notebook)

    return keep


def _session(directory: Path, points: Points, *, notebook: bool) -> Session:
    """Goes on with what there is; else a new one."""
    path, state = directory / NOTEBOOK, directory / STATE
    options: dict[str, Any] = {
        "tools": session_tools(points),
        "base_dir": directory,
        "state_dir": state,
        "on_block": _keeper(path) if notebook else None,
    }
    model = _Model(points)
    if SESSION in sessions_in(state):
        return Session.resume(SESSION, model=model, **options)
    if path.exists():
        return Session.resume(path, model=model, **options)
    return Session(model, session_id=SESSION, **options)


def drive(directory: Path, *, at: str = "", nth: int = 0, with_kernels: bool = False, notebook: bool = False) -> None:
    """The whole of what is left of the plan, with a point at which this process is killed."""
    os.environ["XDG_RUNTIME_DIR"] = os.environ["TMPDIR"] = str(directory)
    tempfile.tempdir = None
    os.chdir(directory)
    register()
    points = Points(directory, at=at, nth=nth, with_kernels=with_kernels)
    instrument(points)
    said = _was_said(directory)
    session = _session(directory, points, notebook=notebook)
    user = _User(session, said=said)
    outstanding = session.outstanding_sync()
    if outstanding is not None:
        points.turn = outstanding.turn
        session.resume_turn_sync(on_activity=user, raise_on_failure=False)
    for number in range(len(session.turns) + 1, len(TURNS) + 1):
        points.turn = number
        asks = TURNS[number - 1]
        session.run_sync(asks.text, schema=asks.schema, on_activity=user, raise_on_failure=False)
    transcript = json.dumps(_transcript(session), default=str)
    session.close()
    (directory / "transcript.new").write_text(transcript)
    os.replace(directory / "transcript.new", directory / "transcript.json")


def _transcript(session: Session) -> dict[str, Any]:
    conversation = session._conversation
    return {
        "turns": [_told(turn) for turn in session.turns],
        "messages": [dataclasses.asdict(message) for message in conversation.messages],
        "events": [dataclasses.asdict(record) for record in conversation.events],
    }


def _told(turn: Turn) -> dict[str, Any]:
    picture = turn.picture
    return {
        "request": turn.request,
        "status": turn.status,
        "text": turn.text,
        "value": turn.value,
        "code": turn.code,
        "outputs": turn.outputs,
        "usage": dataclasses.asdict(turn.usage),
        "cells": [
            {
                "code": step.code,
                "outcome": str(step.outcome),
                "detail": step.detail,
                "prose": step.prose,
                # Those that are made at once are told to begin in any order.
                "calls": sorted(
                    (dataclasses.asdict(call) for call in step.tool_calls), key=lambda call: call["call_id"]
                ),
            }
            for step in picture.steps
        ],
        "errors": picture.errors,
        "said": [note.text for note in picture.notes if note.kind == "said"],
        "notes": [note.text for note in picture.notes if note.kind != "said"],
    }
