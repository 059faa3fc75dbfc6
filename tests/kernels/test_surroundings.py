"""What a kernel takes over from the process of the notebook: what there is to take, and a real kernel that takes it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from cycler import cycler
from matplotlib_inline.config import InlineBackend

from lash_nb.kernels.changes import Changes
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.surroundings import Surroundings, surroundings_of
from lash_nb.machine.execution import CellOutcome, StreamOutput

from .contract_guard import Deciding, rejected
from .suite import fresh, until_begun

SITE = sysconfig.get_paths()["purelib"]
STDLIB = sysconfig.get_paths()["stdlib"]

# ------------------------------------------------------------------------------------------------ what is there to take


def test_what_the_notebook_added_to_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/from/environment")
    hook = "__editable__.thing-1.finder.__path_hook__"
    path = ["/first", "src", STDLIB, f"{STDLIB}/lib-dynload", "", "/before/packages", "/first"]
    path += [SITE, f"{SITE}/IPython/extensions", "/from/environment", hook, "/after", "../lib"]
    monkeypatch.setattr(sys, "path", path)
    found = surroundings_of()
    assert found.front == ("/first", str(tmp_path / "src"), "/before/packages")
    assert found.back == ("/after", str(tmp_path.parent / "lib"))
    assert found.cwd == str(tmp_path)


def test_a_fresh_interpreter_has_added_nothing(tmp_path: Path) -> None:
    code = "from lash_nb.kernels.surroundings import surroundings_of as s; print(s())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"Surroundings(front=(), back=(), cwd={str(tmp_path)!r}, options={{}})\n"


def test_options_that_are_not_the_defaults() -> None:
    cycle = cycler(color=["red", "blue"])
    settings: Any = {
        "figure.dpi": 150,
        "axes.prop_cycle": cycle,
        "lines.solid_capstyle": "round",
        "font.family": ["serif"],
    }
    options = ["display.max_rows", 7, "display.float_format", "{:,.1f}".format, "display.precision", 3]
    before = set(sys.modules)
    with matplotlib.rc_context(settings), pd.option_context(*options), np.printoptions(precision=2, formatter=None):
        found = surroundings_of()
    assert set(sys.modules) == before
    told = {name: found.options["matplotlib"].get(name) for name in settings}
    assert told == {
        "figure.dpi": 150.0,
        "axes.prop_cycle": "cycler('color', ['red', 'blue'])",
        "lines.solid_capstyle": "round",
        "font.family": ["serif"],
    }
    assert "backend" not in found.options["matplotlib"]
    assert found.options["pandas"] == {
        "display.max_rows": 7,
        "display.float_format": {"$format": "{:,.1f}"},
        "display.precision": 3,
    }
    assert found.options["numpy"] == {"precision": 2}


def test_what_is_code_does_not_go() -> None:
    with pd.option_context("display.float_format", lambda number: f"{number:.1f}", "display.max_rows", 7):
        assert surroundings_of().options["pandas"] == {"display.max_rows": 7}


def test_the_inline_backend_of_the_notebook() -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # traitlets, of how its own class is written
            InlineBackend.instance().figure_formats = {"svg", "retina"}
        assert surroundings_of().options["matplotlib_inline"] == {"figure_formats": ["retina", "svg"]}
    finally:
        InlineBackend.clear_instance()
    assert "matplotlib_inline" not in surroundings_of().options


def test_what_is_not_imported_is_not_looked_at() -> None:
    with pd.option_context("display.max_rows", 7):
        assert surroundings_of({}).options == {}


# ---------------------------------------------------------------------------------------------- taken over by a kernel


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[ManagedKernel]:
    (tmp_path / "start").mkdir()
    async with ManagedKernel(cwd=tmp_path / "start") as kernel:
        assert kernel.missing_features == ()
        yield kernel


async def said(kernel: ManagedKernel, code: str) -> str:
    """What a cell prints that ends well."""
    result = await asyncio.wait_for(kernel.run(fresh(), code), 60)
    assert result.outcome is CellOutcome.OK, result
    return "".join(output.head for output in result.outputs if isinstance(output, StreamOutput)).strip()


OPTIONS = Surroundings(
    options={
        "matplotlib": {"figure.dpi": 150.0, "axes.prop_cycle": "cycler('color', ['r'])", "no.such.setting": 1},
        "matplotlib_inline": {"figure_formats": ["svg"]},
        "numpy": {"precision": 2, "no_such_option": 3, "linewidth": 60},
        "pandas": {
            "display.max_rows": 7,
            "display.no_such_option": 1,
            "display.precision": "no number",
            "display.float_format": {"$format": "{:.1f}"},
            "plotting.backend": "not_installed",
        },
    }
)
SHOW = """
import sys
if 'numpy' in sys.modules: print('numpy', np.get_printoptions()['precision'], np.get_printoptions()['linewidth'])
if 'pandas' in sys.modules: print('pandas', pd.options.display.max_rows, pd.options.display.precision, f(pd), pb(pd))
if 'matplotlib' in sys.modules: print('matplotlib', m.rcParams['figure.dpi'], len(m.rcParams['axes.prop_cycle']))
"""
SHORT = """
def f(pd): return pd.options.display.float_format and pd.options.display.float_format(1.25)
def pb(pd): return pd.options.plotting.backend
"""
TAKEN = "numpy 2 60\npandas 7 6 1.2 not_installed\nmatplotlib 150.0 1"
FRESH = "numpy 8 75\npandas 60 6 None matplotlib\nmatplotlib 100.0 10"
IMPORT = "import matplotlib as m, pandas as pd, numpy as np\n"


async def test_the_cell_that_imports_has_the_options(kernel: ManagedKernel) -> None:
    await kernel.take_over_surroundings(OPTIONS)
    loaded = "import sys; print(*sorted({'pandas', 'numpy', 'matplotlib', 'matplotlib_inline'} & set(sys.modules)))"
    assert await said(kernel, loaded) == ""
    assert await said(kernel, SHORT + IMPORT + SHOW) == TAKEN
    shown = await kernel.run(fresh(), "import matplotlib.pyplot as plt; plt.plot([1])")
    assert "image/svg+xml" in getattr(shown.outputs[-1], "data", {})


DIFFERING = "sorted((k, repr(v)) for k, v in m.rcParams.items() if k != 'backend' and v != m.rcParamsDefault[k])"


@pytest.mark.parametrize("style", ["ggplot", "dark_background", "seaborn-v0_8", "Solarize_Light2"])
async def test_a_whole_style_goes_over(kernel: ManagedKernel, style: str) -> None:
    with matplotlib.style.context(style):
        expected = eval(DIFFERING, {"m": matplotlib})
        await kernel.take_over_surroundings(surroundings_of({"matplotlib": matplotlib}))
    assert len(expected) > 10
    assert await said(kernel, f"import matplotlib as m; print({DIFFERING})") == str(expected)


async def test_nothing_of_it_is_left_in_the_import_system(kernel: ManagedKernel) -> None:
    before = await said(kernel, "import sys; print(sys.meta_path)")
    await kernel.take_over_surroundings(OPTIONS)
    spec = "import importlib.util as u; s = u.find_spec('pandas'); print(s.name, s.loader.is_package('pandas'))"
    assert await said(kernel, spec) == "pandas True"
    assert await said(kernel, f"{IMPORT}print(sys.meta_path)") == before
    assert await said(kernel, "print('exec_module' in vars(pd.__loader__), pd.__spec__.loader is pd.__loader__)") == (
        "False True"
    )


async def test_what_is_imported_already_has_them_at_once_and_gives_them_back(kernel: ManagedKernel) -> None:
    assert await said(kernel, SHORT + IMPORT + SHOW) == FRESH
    await kernel.take_over_surroundings(OPTIONS)
    assert await said(kernel, SHOW) == TAKEN
    thread = "import threading; t = threading.Thread(target=lambda: print(np.get_printoptions()['precision']))"
    assert await said(kernel, f"{thread}; t.start(); t.join()") == "2"
    await kernel.take_over_surroundings(Surroundings())
    assert await said(kernel, SHOW) == FRESH


async def test_what_the_agent_has_set_stays(kernel: ManagedKernel) -> None:
    await said(kernel, "import pandas as pd")
    await kernel.take_over_surroundings(Surroundings(options={"pandas": {"display.max_rows": 7}}))
    await said(kernel, "pd.options.display.max_rows = 9")
    both = {"display.max_rows": 7, "display.precision": 3}
    await kernel.take_over_surroundings(Surroundings(options={"pandas": both}))
    assert await said(kernel, "print(pd.options.display.max_rows, pd.options.display.precision)") == "9 3"
    await kernel.take_over_surroundings(Surroundings())
    assert await said(kernel, "print(pd.options.display.max_rows, pd.options.display.precision)") == "9 6"
    await kernel.take_over_surroundings(Surroundings(options={"pandas": {"display.max_rows": 8}}))
    assert await said(kernel, "print(pd.options.display.max_rows)") == "8"


async def test_an_import_that_fails_first(kernel: ManagedKernel, tmp_path: Path) -> None:
    await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "start"), options=OPTIONS.options))
    (tmp_path / "start" / "pandas.py").write_text("raise ImportError('first')")
    await said(kernel, "import sys; sys.path.insert(0, '')")
    failed = await kernel.run(fresh(), "import pandas")
    assert failed.error is not None
    assert failed.error.evalue == "first"
    assert "lash_nb" not in "\n".join(failed.error.traceback)
    (tmp_path / "start" / "pandas.py").unlink()
    assert await said(kernel, "import pandas as pd; print(pd.options.display.max_rows)") == "7"


HOSTILE = {
    "import": "open('OUT/import', 'w')",
    "get": "def get_option(name): open('OUT/get', 'w')",
    "set": "def get_option(name): pass\ndef set_option(name, value): open('OUT/set', 'w')",
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_what_a_guarded_cell_does_by_way_of_ours_is_asked_about(
    kernel: ManagedKernel, tmp_path: Path, outside: Path, what: str
) -> None:
    """A module of its own, called like a library, whose code runs when options are set."""
    (tmp_path / "start" / "pandas.py").write_text(HOSTILE[what].replace("OUT", str(outside)))
    await kernel.take_over_surroundings(Surroundings(options={"pandas": {"display.max_rows": 7}}))
    host = Deciding(default=rejected("no"))
    code = "import sys; sys.path.insert(0, '')\ntry: import pandas\nexcept PermissionError: pass"
    await asyncio.wait_for(kernel.run(fresh(), code, guard=host.guard()), 60)
    assert [str(wish) for wish in host.wishes] == [f"write {outside}/{what}"]
    await kernel.take_over_surroundings(Surroundings(options={"pandas": {"display.max_rows": 8}}))
    assert os.listdir(outside) == []
    assert await said(kernel, "print('lives')") == "lives"


async def test_entries_of_the_path(kernel: ManagedKernel, tmp_path: Path) -> None:
    for name in ("front", "back", "late"):
        (tmp_path / name).mkdir()
    (tmp_path / "front" / "json.py").write_text("where = 'front'")
    (tmp_path / "back" / "only_back.py").write_text("where = 'back'")
    await said(kernel, "import sys; before = list(sys.path); sys.modules.pop('json', None)")
    front, back = str(tmp_path / "front"), str(tmp_path / "back")
    await kernel.take_over_surroundings(Surroundings(front=(front,), back=(back, SITE)))
    assert await said(kernel, "import json, only_back; print(json.where, only_back.where)") == "front back"
    assert await said(kernel, f"print(sys.path == [{front!r}, *before, {back!r}])") == "True"
    await said(kernel, "sys.path.append('/of/the/agent')")
    await kernel.take_over_surroundings(Surroundings(front=(str(tmp_path / "late"),)))
    left = f"print(sys.path == [{str(tmp_path / 'late')!r}, *before, '/of/the/agent'])"
    assert await said(kernel, left) == "True"


async def test_the_directory_until_the_agent_goes_elsewhere(kernel: ManagedKernel, tmp_path: Path) -> None:
    for name in ("one", "two", "own"):
        (tmp_path / name).mkdir()
    where = "import os; print(os.path.basename(os.getcwd()))"
    await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "one")))
    assert await said(kernel, where) == "one"
    await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "gone")))
    assert await said(kernel, where) == "one"
    await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "two")))
    assert await said(kernel, where) == "two"
    await said(kernel, f"os.chdir({str(tmp_path / 'own')!r})")
    await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "one")))
    assert await said(kernel, where) == "own"


async def test_a_running_cell_is_not_moved(kernel: ManagedKernel, tmp_path: Path) -> None:
    moved = Surroundings(cwd=str(tmp_path))
    task = await until_begun(kernel, "import os, time; print('begun', flush=True); time.sleep(60)")
    await kernel.take_over_surroundings(moved)
    await kernel.interrupt()
    await task
    where = "import os; print(os.path.basename(os.getcwd()))"
    assert await said(kernel, where) == "start"
    await kernel.take_over_surroundings(moved)
    assert await said(kernel, where) == tmp_path.name


async def test_while_a_library_is_being_imported(kernel: ManagedKernel, tmp_path: Path) -> None:
    """Its options cannot be set yet, and its import was not waited for: the next call sets them."""
    (tmp_path / "start" / "pandas.py").write_text(
        "import time; print('begun', flush=True); time.sleep(2)\nheld = {'display.max_rows': 60}\n"
        "get_option = held.__getitem__; set_option = held.__setitem__"
    )
    await said(kernel, "import sys; sys.path.insert(0, '')")
    task = await until_begun(kernel, "import pandas")
    only = Surroundings(options={"pandas": {"display.max_rows": 7}})
    await kernel.take_over_surroundings(only)
    await task
    await kernel.take_over_surroundings(only)
    assert await said(kernel, "print(pandas.held)") == "{'display.max_rows': 7}"


async def test_a_kernel_of_another_language_takes_nothing_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / "kernels" / "bash"
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    (directory / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Bash", "language": "bash"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    async with ManagedKernel(kernelspec="bash") as bash:
        await bash.take_over_surroundings(OPTIONS)
        assert await bash.differences({"numpy": "1.0"}) == ()
        since = await bash.mark()
        assert (since, await bash.changes(since)) == ("", Changes())


async def test_a_kernel_that_died_takes_nothing_over(kernel: ManagedKernel) -> None:
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    await kernel.take_over_surroundings(OPTIONS)
    assert await kernel.mark() == ""
    await kernel.restart()
    await kernel.take_over_surroundings(OPTIONS)
    assert await said(kernel, "import pandas; print(pandas.options.display.max_rows)") == "7"
