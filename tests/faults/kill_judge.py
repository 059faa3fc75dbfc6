"""What of a killed and resumed session is lost or doubled, judged by the file `runs` and by the transcripts.

A session that kept its kernel must leave the transcript of an undisturbed one, and must have asked its model nothing
else; all that may differ is said in `_masked`. One that lost its kernel must say so: see `judge_without_kernel`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lash_nb.machine.execution import NamespaceSummary
from lash_nb.recorded import SessionFold
from tests.faults.kill_host import SESSION, records_of
from tests.faults.kill_plan import CELLS, TOOLS, TOOLS_OF_TURN, TURNS

__all__ = ["Death", "Verdict", "death_of", "judge", "judge_without_kernel"]

KEPT = re.compile(r"(?<= cut here\. )[^\]]*")
"""Where the whole of a text that was cut is; of one whose file went with the state directory other words are said."""
UNKNOWN = ("is not known, and it was not made again", "it may have been carried out")
"""What is said of a tool call that nobody knows the outcome of."""
LOST_CELL = "Whether this cell ran is not known"
LOST_NAMES = "Lost with the old one"


@dataclass(slots=True)
class Verdict:
    """What is wrong with one session."""

    lost: int = 0
    doubled: int = 0
    unknown_said: int = 0
    problems: list[str] = field(default_factory=list)

    def loses(self, problem: str) -> None:
        self.lost += 1
        self.problems.append(problem)

    def doubles(self, problem: str) -> None:
        self.doubled += 1
        self.problems.append(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """What was recorded when a host was killed."""

    unknown: frozenset[str]
    """Tools whose call was begun and has no recorded end."""
    near: frozenset[str]
    """Tools of the turn that ran; without the journal nobody knows more."""
    known: NamespaceSummary
    requests: int
    """How often the model had been asked by then."""
    over: bool
    """Whether all turns had ended."""


def death_of(directory: Path) -> Death:
    """Read what the journal says now. It is read only."""
    fold = SessionFold(SESSION)
    names: dict[tuple[Any, Any, Any], str] = {}
    for record in records_of(directory):
        fold.take(record)
        if record["k"] == "call":
            names[record["turn"], record["effect"], record["call"]] = record.get("name", record["call"])
        elif record["k"] == "called":
            names.pop((record["turn"], record["effect"], record["call"]), None)
    running = fold.session.running
    outstanding = (running.number, running.effect) if running is not None else None
    return Death(
        unknown=frozenset(name for (turn, effect, _), name in names.items() if (turn, effect) == outstanding),
        near=frozenset(TOOLS_OF_TURN.get(running.number, ()) if running is not None else ()),
        known=fold.session.known,
        requests=len(requests_of(directory)),
        over=running is None and len(fold.session.turns) == len(TURNS),
    )


def requests_of(directory: Path) -> list[dict[str, Any]]:
    path = directory / "requests"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _transcript(directory: Path) -> dict[str, Any] | None:
    path = directory / "transcript.json"
    return json.loads(path.read_text()) if path.exists() else None


def _runs(directory: Path) -> Counter[str]:
    return Counter((directory / "runs").read_text().splitlines())


# ------------------------------------------------------------------------------------------------ with the same kernel


def judge(directory: Path, undisturbed: Path, deaths: Sequence[Death], *, notebook: bool) -> Verdict:
    """A session that kept its kernel, beside an undisturbed one; `notebook`: it lost its journal at each death."""
    verdict = Verdict()
    _once(_runs(directory), verdict)
    transcript, wanted = _transcript(directory), _transcript(undisturbed)
    assert wanted is not None
    if transcript is None:
        verdict.loses("there is no transcript: the session did not get through")
        return verdict
    excused: set[str] = set().union(*(death.near if notebook else death.unknown for death in deaths))
    unknown = _unknown(transcript)
    verdict.unknown_said += len(unknown & excused)
    unknown &= excused
    runs = _runs(directory)
    for name in (*(f"cell {name}" for name in CELLS), *(f"tool {name}" for name in set(TOOLS) - unknown)):
        if not runs[name]:
            verdict.loses(f"{name} never ran")
    for problem in _differences(_shown(transcript, notebook), _shown(wanted, notebook), unknown):
        verdict.loses(problem)
    if not verdict.problems:  # else they follow from what differs
        asked, usual = requests_of(directory), requests_of(undisturbed)
        for problem in _asked_otherwise(asked, usual, unknown, notebook=notebook):
            verdict.loses(problem)
    return verdict


def _once(runs: Mapping[str, int], verdict: Verdict) -> None:
    for name, count in runs.items():
        if count > 1:
            verdict.doubles(f"{name} ran {count} times")


def _unknown(transcript: Mapping[str, Any]) -> set[str]:
    """The tools of which it is said that nobody knows what they did."""
    return {name for name in TOOLS if any(words in _gave(transcript, name) for words in UNKNOWN)}


def _gave(transcript: Mapping[str, Any], tool: str) -> str:
    """What the model was told that a tool gave; empty when it was not. The code that prints it is no such thing."""
    texts = [part["content"] for message in transcript["messages"] for part in message["parts"]]
    found = [match[0] for text in texts if "print(f" not in text for match in re.finditer(_given(tool), text)]
    return " ".join(found)


def _given(tool: str) -> str:
    """What a tool gave, as the plan prints it."""
    return rf"\[{tool}=(?:\[[^\]]*\]|[^\]])*\]"


def _shown(transcript: Mapping[str, Any], notebook: bool) -> dict[str, Any]:
    """Without what is said of kernels; outputs as such, tool calls and details are not in a notebook's checkpoints."""
    turns = []
    for turn in transcript["turns"]:
        left_out = ("notes", "outputs", "cells", "said") if notebook else ("notes",)
        turns.append({name: value for name, value in turn.items() if name not in left_out})
    shown = {**transcript, "turns": turns}
    return _without_kept(shown) if notebook else shown


def _without_kept(value: Any) -> Any:
    match value:
        case str():
            return re.sub(r"\([\d,]+ chars, ", "(", KEPT.sub("", value))
        case dict():
            return {name: _without_kept(item) for name, item in value.items() if name != "output_chars"}
        case list():
            return [_without_kept(item) for item in value]
    return value


def _masked(value: Any, unknown: Iterable[str]) -> Any:
    """Without what those tools gave, and how long the texts are in which it stands."""
    match value:
        case str():
            for name in unknown:
                value = re.sub(_given(name), f"[{name}]", value)
            return re.sub(r"\([\d,]+ chars, ", "(", value) if unknown else value
        case {"name": str(name), "call_id": _} if name in unknown:
            return {"call": name}
        case dict():
            left_out = {"output_chars"} if unknown else set()
            return {name: _masked(item, unknown) for name, item in value.items() if name not in left_out}
        case list():
            return [_masked(item, unknown) for item in value]
    return value


def _differences(found: Any, wanted: Any, unknown: Iterable[str]) -> list[str]:
    problems: list[str] = []
    _compare(_masked(found, unknown), _masked(wanted, unknown), "", problems)
    return problems[:2]


def _compare(found: Any, wanted: Any, place: str, problems: list[str]) -> None:
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        for name in found:
            _compare(found[name], wanted[name], f"{place}.{name}", problems)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            _compare(one, other, f"{place}[{index}]", problems)
    elif found != wanted:
        problems.append(f"{place.lstrip('.')} is {_short(found)}, not {_short(wanted)}")


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 300 else f"{text[:150]} … {text[-150:]}"


def _asked_otherwise(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]], unknown: Iterable[str], *, notebook: bool
) -> list[str]:
    """Requests that an undisturbed session does not make; one that is made again may mark other variables as new."""
    problems: list[str] = []
    usual = {(asked["turn"], asked["step"]): asked["request"] for asked in wanted}
    for asked in found:
        step = asked["turn"], asked["step"]
        if step not in usual:
            problems.append(f"the model was asked for step {step[1]} of turn {step[0]}")
        else:
            one, other = _unmarked(asked["request"]), _unmarked(usual[step])
            if notebook:
                one, other = _without_kept(one), _without_kept(other)
            differences = _differences(one, other, unknown)
            problems += [f"request {step[0]}.{step[1]}: {problem}" for problem in differences]
    return problems[:2]


def _unmarked(value: Any) -> Any:
    match value:
        case str():
            return re.sub(r"(?m)^\* (?=\w+: )", "  ", value)
        case dict():
            return {name: _unmarked(item) for name, item in value.items()}
        case list():
            return [_unmarked(item) for item in value]
    return value


# -------------------------------------------------------------------------------------------------- without the kernel


def judge_without_kernel(directory: Path, deaths: Sequence[Death]) -> Verdict:
    """A session whose kernel was killed with it: nothing twice, each loss said to the model and to the user."""
    verdict, runs = Verdict(), _runs(directory)
    _once(runs, verdict)
    transcript = _transcript(directory)
    if transcript is None:
        verdict.loses("there is no transcript: the session did not get through")
        return verdict
    turns = transcript["turns"]
    verdict.problems += [f"turn {number} is {turn['status']}: {turn['text']}" for number, turn in _unfinished(turns)]
    verdict.lost += len(verdict.problems) - verdict.doubled
    told = json.dumps(transcript["messages"], ensure_ascii=False)
    steps = [step for turn in turns for step in turn["cells"] if step["code"]]
    for name in CELLS:
        _cell_said(name, [step for step in steps if f"'cell {name}'" in step["code"]], runs, verdict)
    lost = sum(step["outcome"] == "lost" for step in steps)
    if told.count(LOST_CELL) < lost:
        verdict.loses(f"{lost} cells are lost, and the model is told of {told.count(LOST_CELL)}")
    cells_lost = any(step["outcome"] == "lost" and "'cell 2.1'" in step["code"] for step in steps)
    unknown = _unknown(transcript)
    verdict.unknown_said += len(unknown)
    for name in TOOLS:
        given = _gave(transcript, name)
        if not given and not (name in ("add", "double") and cells_lost):
            verdict.loses(f"nothing is said of what tool {name} gave")
        if given and not runs[f"tool {name}"] and name not in unknown:
            verdict.loses(f"tool {name} gave something and never ran")
    requests = requests_of(directory)
    for death in deaths:
        later = requests[death.requests :]
        _names_said(death, turns, json.dumps(later, ensure_ascii=False) if later else "", verdict)
    return verdict


def _unfinished(turns: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    nothing = {"status": "missing", "text": ""}
    missing = [(number, nothing) for number in range(len(turns) + 1, len(TURNS) + 1)]
    return [(number, turn) for number, turn in enumerate(turns, 1) if turn["status"] != "done"] + missing


def _cell_said(name: str, steps: Sequence[Mapping[str, Any]], runs: Mapping[str, int], verdict: Verdict) -> None:
    """A cell ran once, or it is said that it did not, or that nobody knows."""
    if len(steps) != 1:
        verdict.loses(f"cell {name} stands {len(steps)} times in the transcript")
        return
    (step,) = steps
    if step["outcome"] in ("ok", "error") and not runs.get(f"cell {name}"):
        verdict.loses(f"cell {name} never ran, and is said to have ended as {step['outcome']}")
    elif step["outcome"] == "lost" and LOST_CELL not in step["detail"]:
        verdict.loses(f"cell {name} is lost; its detail is {step['detail']!r}")
    elif step["outcome"] not in ("ok", "error", "lost") and "was not run" not in step["detail"]:
        verdict.loses(f"cell {name} ended as {step['outcome']}: {step['detail']!r}")


def _names_said(death: Death, turns: Sequence[Mapping[str, Any]], asked_later: str, verdict: Verdict) -> None:
    """The variables that the kernel was known to hold: the model is told with what it is asked next."""
    names = [variable.name for variable in death.known.variables]
    if not names or death.over:
        return
    listed = f"{LOST_NAMES}: {', '.join(names)}"
    if asked_later and listed not in asked_later:
        verdict.loses(f"the model is not told: {listed}")
    shown = [*(note for turn in turns for note in turn["notes"])]
    shown += [step["detail"] for turn in turns for step in turn["cells"]]
    if not any(listed in note for note in shown):
        verdict.loses(f"the user is not told: {listed}")
