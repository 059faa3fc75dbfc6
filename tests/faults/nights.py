"""A notebook of kept code, run every night on other data: `python -m tests.faults.nights --nights 30 --json`.

`lash-nb run` is started once a night on a notebook with three `%%lash --keep` cells. The numbers change every night;
two columns are renamed in the course of time, amounts get a unit (which only a check notices), and once a file is
missing. The model (`nights_model`) counts its calls; what the notebook prints is compared with what is computed here,
from the numbers alone.

The last line is one JSON object: `nights`, `breaks` (nights on which the data broke code that is kept), `model_calls`,
those of them in the first night (`model_calls_first`) and those in a night, or of a turn, that nothing had broken
(`model_calls_elsewhere`), `repairs_kept` (told in a turn's output), `checks_held` (turns that say that all of theirs
hold; there are three a night), `wrong` (nights whose values are not those).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.line_notebooks import read, texts, write
from tests.own_places import own_place

from .nights_model import CHECKS, REQUESTS, NightsModel

__all__ = ["BREAKS", "Breaks", "Nights", "Order", "orders_of", "run"]

_MARK = "LASH_NB_NIGHTS"
_LONGEST_S = 120.0
"""For one night; it takes a few seconds."""
_REGIONS = ("north", "south", "west")
_SHOWN = """\
import json
rows = [[row.region, round(row.amount, 2), round(float(row.target), 2)] for row in by_region.itertuples()]
print("RESULT", json.dumps({"orders": len(orders), "total": round(total, 2), "rows": rows}))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaks:
    """From which night on the data is otherwise, counted from 1; 0: never."""

    value: int = 0
    """The column `amount` is called `value`."""
    missing: int = 0
    """There is no targets.csv, on that night alone."""
    area: int = 0
    """The column `region` is called `area`."""
    unit: int = 0
    """Amounts are written as `12.5 EUR`."""

    def of(self, night: int) -> str:
        """The turn that breaks on that night; empty: none."""
        if night == self.missing:
            return "table"
        return "load" if night in (self.value, self.area, self.unit) else ""


BREAKS = Breaks(value=6, missing=12, area=17, unit=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A row of a night's data."""

    region: str
    amount: float | None


def orders_of(night: int) -> list[Order]:
    """The rows of a night."""
    return [
        Order(
            region=_REGIONS[(night + at) % 3],
            amount=None if (at + night) % 7 == 3 else round(10 + night * 1.25 + at * 0.5, 2),
        )
        for at in range(12 + night % 5)
    ]


@dataclass(slots=True, kw_only=True)
class Nights:
    """What came of them."""

    nights: int = 0
    breaks: int = 0
    model_calls: int = 0
    model_calls_first: int = 0
    model_calls_elsewhere: int = 0
    repairs_kept: int = 0
    checks_held: int = 0
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    """What was not as it should be."""

    def as_json(self) -> dict[str, int]:
        """Without the words."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "told"}


def run(place: Path, *, nights: int, breaks: Breaks = BREAKS) -> Nights:
    """All nights, one after the other, in a directory of their own."""
    found = Nights(nights=nights)
    notebook = write(place, "%load_ext lash_nb", *map(_asking, REQUESTS), _SHOWN, name="nightly.ipynb")
    with NightsModel() as model:
        for night in range(1, nights + 1):
            _put_data(place, night, breaks)
            before, out = len(model.asked), place / f"night-{night}.ipynb"
            done = _lash_nb("run", notebook, out, "-m", model.name, place=place)
            calls = model.asked[before:]
            broken = breaks.of(night)
            found.breaks += bool(broken)
            found.model_calls += len(calls)
            if night == 1:
                found.model_calls_first += len(calls)
            elsewhere = [call for call in calls if night > 1 and call.turn != broken]
            found.model_calls_elsewhere += len(elsewhere)
            found.told += [f"night {night}: asked in vain: {call}" for call in elsewhere]
            if not out.is_file():
                raise RuntimeError(f"nothing was run: {done.stderr.strip()}")
            if done.returncode:
                found.told.append(f"night {night}: {done.stderr.strip()[-2_000:]}")
            _look(out, night, breaks, found)
    return found


def _asking(turn: str) -> str:
    options = [f'--check "{check}"' for check in CHECKS[turn]]
    options += {"load": ["-o orders"], "total": ["-t float", "-o total"], "table": ["-o by_region"]}[turn]
    return f"%%lash --keep {' '.join(options)}\n{REQUESTS[turn]}"


def _lash_nb(*arguments: str | Path, place: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LASH_NB_STATE_DIR": str(place / "state"), "OPENAI_API_KEY": "test"}
    command = [sys.executable, "-m", "lash_nb.cli", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=_LONGEST_S, check=False)


def _put_data(place: Path, night: int, breaks: Breaks) -> None:
    def since(first: int) -> bool:
        return bool(first) and night >= first

    unit = " EUR" if since(breaks.unit) else ""
    lines = [f"{'area' if since(breaks.area) else 'region'},{'value' if since(breaks.value) else 'amount'},note"]
    for order in orders_of(night):
        lines.append(f"{order.region},{'' if order.amount is None else f'{order.amount}{unit}'},n{night}")
    (place / "orders.csv").write_text("\n".join(lines) + "\n")
    targets = place / "targets.csv"
    targets.unlink(missing_ok=True)
    if night != breaks.missing:
        rows = [f"{region},{target}" for region, target in _targets(night).items()]
        targets.write_text("\n".join(["region,target", *rows]) + "\n")


def _targets(night: int) -> dict[str, float]:
    return {"north": 20.0 + night, "west": 40.0}


def _expected(night: int, breaks: Breaks) -> dict[str, Any]:
    kept = [order for order in orders_of(night) if order.amount is not None]
    targets = {} if night == breaks.missing else _targets(night)
    rows = []
    for region in sorted({order.region for order in kept}):
        amount = sum(order.amount or 0 for order in kept if order.region == region)
        rows.append([region, round(amount, 2), targets.get(region, 0.0)])
    return {"orders": len(kept), "total": round(sum(order.amount or 0 for order in kept), 2), "rows": rows}


def _look(out: Path, night: int, breaks: Breaks, found: Nights) -> None:
    """What the executed notebook says."""
    cells = [cell for cell in read(out).cells if cell.cell_type == "code"]
    asked = [_shown(cell) for cell in cells[1:4]]
    found.repairs_kept += sum("the kept code was repaired" in text for text in asked)
    held = sum(len(re.findall(r"checks? held", text)) for text in asked)
    found.checks_held += held
    if held != len(asked):
        found.told.append(f"night {night}: checks of {held} turns held; {asked}")
    said = texts(out)[-1]
    given = json.loads(said.partition("RESULT")[2]) if "RESULT" in said else None
    expected = _expected(night, breaks)
    if given != expected:
        found.wrong += 1
        found.told.append(f"night {night}: {given}, not {expected}")


def _shown(cell: Any) -> str:
    return "\n".join(str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.nights", description=__doc__)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="nothing on stdout but the last line")
    options = parser.parse_args(arguments)
    with own_place("lash-nb-nights-", _MARK) as place:
        found = run(place, nights=options.nights)
    for line in found.told:
        print(line, file=sys.stderr)
    print(json.dumps(found.as_json()))
    return int(bool(found.told))


if __name__ == "__main__":
    sys.exit(_main())
