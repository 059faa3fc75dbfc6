"""Whether a cell did what was asked, judged by its effect in a process of its own, never by its text.

    python -m tests.bench.judge < {"setup": …, "code": …, "value": …, "check": …}

`value` is an expression over the data as it was, or a list of them, each of which would do: the cell gives it as its
last value, prints it, binds it to a name, or changes a variable to it in place.
`check` is an expression over what there is afterwards: the names, `before` (the data
as it was), `axes` (of all open figures), `same(a, b)`, and `columns(name)`: it, of every frame that has it now.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from typing import Any

__all__ = ["judge"]


def same(found: Any, wanted: Any) -> bool:
    """Equal for the eyes of whoever asked: an order of groups, a frame of one column or an array make no difference."""
    import numpy as np
    import pandas as pd

    try:
        if isinstance(wanted, pd.DataFrame):
            return isinstance(found, pd.DataFrame) and found.reset_index(drop=True).equals(
                wanted.reset_index(drop=True)
            )
        if isinstance(wanted, pd.Series):
            if isinstance(found, pd.DataFrame) and found.shape[1] == 1:
                found = found.iloc[:, 0]
            found = pd.Series(found) if isinstance(found, dict) else found
            if not isinstance(found, pd.Series) or len(found) != len(wanted):
                return False
            found, wanted = found.sort_index(), wanted.sort_index()
            if list(map(str, found.index)) != list(map(str, wanted.index)):
                return False
            if wanted.dtype.kind in "fiub":
                return bool(np.allclose(found.to_numpy(float), wanted.to_numpy(float), equal_nan=True))
            return [str(one) for one in found] == [str(one) for one in wanted]
        if isinstance(wanted, np.ndarray):
            return np.shape(found) == wanted.shape and bool(np.allclose(found, wanted))
        if isinstance(wanted, (list, tuple)):
            return list(found) == list(wanted)
        if isinstance(wanted, float):
            return abs(float(found) - wanted) < 1e-6
        return bool(found == wanted)
    except Exception:  # things that cannot be compared are not the same
        return False


def judge(setup: str, code: str, *, value: str | list[str] | None = None, check: str | None = None) -> bool:
    """Run the cell over the data; whether its effect is what was asked. Raises what the cell raises."""
    namespace: dict[str, Any] = {}
    before: dict[str, Any] = {}
    exec(setup, namespace)
    exec(setup, before)
    known = dict(namespace)
    printed, has_value, last = io.StringIO(), False, None
    with contextlib.redirect_stdout(printed):
        for statement in ast.parse(code).body:
            has_value = isinstance(statement, ast.Expr)
            if isinstance(statement, ast.Expr):
                last = eval(compile(ast.Expression(statement.value), "<cell>", "eval"), namespace)
            else:
                exec(compile(ast.Module([statement], []), "<cell>", "exec"), namespace)
    if check is not None:
        return bool(eval(check, {**namespace, **_help(namespace, last, before)}))
    assert value is not None
    candidates = [last] if has_value else []
    candidates += [now for name, now in namespace.items() if name != "__builtins__" and now is not known.get(name)]
    # What was edited in place is the same object still.
    kept = [name for name in known if name in before and name != "__builtins__" and name in namespace]
    candidates += [namespace[name] for name in kept if not same(namespace[name], before[name])]
    told = printed.getvalue().strip()
    wanted = [eval(expression, before) for expression in ([value] if isinstance(value, str) else value)]
    return any(told == str(one).strip() or any(same(found, one) for found in candidates) for one in wanted)


def _help(namespace: dict[str, Any], last: Any, before: dict[str, Any]) -> dict[str, Any]:
    import matplotlib.pyplot as plt

    def columns(name: str) -> list[Any]:
        frames = [last, *namespace.values()]
        return [frame[name] for frame in frames if hasattr(frame, "columns") and name in frame.columns]

    axes = [ax for number in plt.get_fignums() for ax in plt.figure(number).axes]
    return {"axes": axes, "before": before, "columns": columns, "same": same}


def main() -> None:
    told = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            passed, why = judge(told["setup"], told["code"], value=told.get("value"), check=told.get("check")), ""
        except BaseException as error:
            passed, why = False, f"{type(error).__name__}: {error}"
        os.chdir("/")
    print(json.dumps({"pass": passed, "why": why}))


if __name__ == "__main__":
    main()
