"""How many one-line requests the local model answers rightly, through `%%lash --model local` in a real notebook kernel.

    python -m tests.bench.local [--json] [--requests FILE] [--show]

Every request gets a session of its own, whose managed kernel is given the data by a scripted turn first. What the turn
ran is judged by its effect (`tests.bench.judge`); a value has to be shown, too. The file of requests has the form of
`local_requests.json`; that one holds the 30 of the evaluation, `local_held_back.json` 30 that the prompt was not made
for. Needs the extra `local` and `lash-nb model pull`.
Last line: `pass`, `of`, `seconds_median` (of the whole cell, the first one's load of the model included).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..notebook_kernel import NotebookKernel, notebook_kernel

__all__ = ["Answered", "ask_all"]

REQUESTS = Path(__file__).with_name("local_requests.json")
ROOT = Path(__file__).resolve().parents[2]
_JUDGE_S = 60.0

_ASK = """\
import json as _json, time as _time
_began = _time.perf_counter()
_turn = get_ipython().run_cell_magic("lash", "--model local --no-raise", {request!r})
print("ANSWERED " + _json.dumps({{
    "seconds": _time.perf_counter() - _began, "ok": _turn.ok, "text": _turn.text,
    "code": list(_turn.code), "shown": len(_turn.outputs),
}}))
"""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What became of one request."""

    request: str
    code: str
    attempts: int
    seconds: float
    passed: bool
    why: str


def ask_all(document: dict[str, Any], *, home: Path) -> list[Answered]:
    """Ask every request of the document; `home` is the notebook's directory."""
    data = document["setup"]
    setups = {name: "\n".join(lines) for name, lines in (data if isinstance(data, dict) else {"data": data}).items()}
    for name, setup in setups.items():
        reply = f"The data.\n<lash-cell>\n{setup}\n</lash-cell>"
        (home / f"{name}.json").write_text(json.dumps({"turns": {"1": [reply, "It is there."]}}))
    answers = []
    with notebook_kernel(home) as notebook:
        notebook.run("%load_ext lash_nb")
        for wanted in document["requests"]:
            notebook.run("%lash new")
            name = wanted.get("data", "data")
            prepared = notebook.run(f"%%lash -m scripted:{name}.json -q\nLoad the data.")
            if prepared.error:
                raise SystemExit(f"the data could not be loaded: {prepared.error}")
            answers.append(_ask(notebook, wanted, setups[name]))
    return answers


def _ask(notebook: NotebookKernel, wanted: dict[str, Any], setup: str) -> Answered:
    request = wanted["request"]
    cell = notebook.run(_ASK.format(request=request))
    lines = [line for line in cell.text.splitlines() if line.startswith("ANSWERED ")]
    if not lines:
        raise SystemExit(f"{request!r} was not answered: {cell.error or cell.text}")
    told = json.loads(lines[-1].removeprefix("ANSWERED "))
    code = told["code"][-1] if told["code"] else ""
    passed, why = False, told["text"]
    if told["ok"]:
        passed, why = _judged(setup, code, wanted)
        if passed and "value" in wanted and not told["shown"]:
            passed, why = False, "nothing was shown"
    return Answered(
        request=request, code=code, attempts=len(told["code"]), seconds=told["seconds"], passed=passed, why=why
    )


def _judged(setup: str, code: str, wanted: dict[str, Any]) -> tuple[bool, str]:
    told = json.dumps({**wanted, "setup": setup, "code": code})
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.judge"]
    done = subprocess.run(command, input=told, cwd=ROOT, capture_output=True, text=True, timeout=_JUDGE_S, check=False)
    if done.returncode:
        return False, done.stderr.strip().splitlines()[-1]
    verdict = json.loads(done.stdout.splitlines()[-1])
    return bool(verdict["pass"]), str(verdict["why"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--requests", type=Path, default=REQUESTS, help="another file of requests")
    parser.add_argument("--show", action="store_true", help="print each request and what was run")
    options = parser.parse_args()
    document = json.loads(options.requests.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        answers = ask_all(document, home=Path(directory))
    for one in answers if options.show or not options.json else ():
        print(
            f"{'pass ' if one.passed else 'WRONG'} {one.seconds:5.1f} s  {one.request}\n        {one.code!r} {one.why}"
        )
    passed = sum(one.passed for one in answers)
    median = statistics.median(one.seconds for one in answers)
    print(json.dumps({"pass": passed, "of": len(answers), "seconds_median": round(median, 2)}))


if __name__ == "__main__":
    main()
