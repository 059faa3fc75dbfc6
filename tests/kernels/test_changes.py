"""What cells change outside of variables, as a real kernel tells it, and the line that is made of it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.kernels.changes import Changes, WrittenFile, changes_text
from lash_nb.kernels.inside.changes import PACKAGE, listing
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.surroundings import Surroundings
from lash_nb.machine.execution import CellOutcome, CellResult

from .contract_guard import Deciding, rejected
from .suite import fresh, until_begun


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def kernel(work: Path) -> Iterator[ManagedKernel]:
    kernel = ManagedKernel(cwd=work)
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


async def run(kernel: ManagedKernel, code: str) -> CellResult:
    result = await asyncio.wait_for(kernel.run(fresh(), code), 60)
    assert result.outcome is CellOutcome.OK, result
    return result


async def told(kernel: ManagedKernel, code: str, before: str = "") -> Changes:
    if before:
        await run(kernel, before)
    since = await kernel.mark()
    await run(kernel, code)
    return await kernel.changes(since)


def files(found: Changes) -> tuple[list[str], list[str]]:
    """Paths that were written, and those that were removed."""
    return sorted(one.path for one in found.written), sorted(found.removed)


EMPTY = (
    "import os, shutil\nfor name in os.listdir('.'): shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)"
)
# name: (what was there, what the cell does, what was written, what was removed)
CASES = {
    "a new file": ("", "open('a.csv', 'w').write('x');", ["a.csv"], []),
    "a file with other content": ("open('a', 'w').write('x');", "open('a', 'a').write('y');", ["a"], []),
    "reading": ("open('a', 'w').write('x');", "open('a').read(); open('a', 'rb').close()", [], []),
    "opened and not written": ("open('a', 'w').write('x');", "open('a', 'r+').close()", [], []),
    "opened in vain": ("", "try: open('no/such/directory', 'w')\nexcept OSError: pass", [], []),
    "made and removed": ("", "open('a', 'w').close(); os.remove('a')", [], []),
    "a file that was there": ("open('a', 'w').close()", "os.remove('a')", [], ["a"]),
    "renamed": ("open('a', 'w').close()", "os.rename('a', 'b')", ["b"], ["a"]),
    "put in its place": (
        "open('a', 'w').close()",
        "open('a.tmp', 'w').write('new'); os.replace('a.tmp', 'a')",
        ["a"],
        [],
    ),
    "a directory": ("", "os.makedirs('d/e')", ["d/e/"], []),
    "files in a new directory": ("", "os.makedirs('d/e'); open('d/e/f', 'w').close()", ["d/e/f"], []),
    "a tree that goes": (
        "os.makedirs('d/e')\nfor n in range(300): open(f'd/e/{n}', 'w').close()",
        "shutil.rmtree('d')",
        [],
        ["d"],
    ),
    "a tree that comes again": (
        "os.makedirs('d'); open('d/a', 'w').close()",
        "shutil.rmtree('d'); os.makedirs('d'); open('d/a', 'w').write('x');",
        ["d/a"],
        [],
    ),
    "by a descriptor": (
        "os.mkdir('d'); open('d/a', 'w').close()",
        "fd = os.open('d', os.O_RDONLY); os.remove('a', dir_fd=fd); os.close(fd)",
        [],
        ["d/a"],
    ),
    "through a link": ("open('a', 'w').close(); os.symlink('a', 'l')", "open('l', 'w').write('x');", ["a"], []),
    "a link": ("", "os.symlink('nowhere', 'l')", ["l"], []),
    "by a thread": (
        "",
        "import threading; t = threading.Thread(target=open, args=('t', 'w')); t.start(); t.join()",
        ["t"],
        [],
    ),
    "by a task": ("", "import asyncio; (await asyncio.to_thread(open, 'u', 'w')).close()", ["u"], []),
    "elsewhere in between": ("os.mkdir('d')", "os.chdir('d'); open('a', 'w').close(); os.chdir('..')", ["d/a"], []),
    "a database": (
        "",
        "import sqlite3; c = sqlite3.connect('a.db'); c.execute('create table t (x)'); c.close()",
        ["a.db"],
        [],
    ),
    "pandas": ("", "import pandas as pd; pd.DataFrame({'a': [1]}).to_csv('a.csv')", ["a.csv"], []),
    "a plot": ("", "import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('p.png'); plt.close()", ["p.png"], []),
    "a notebook": ("", "open('n.ipynb', 'w').close()", ["n.ipynb"], []),
    "a module and its bytecode": (
        "import sys; sys.path.insert(0, '')",
        "open('mod_e.py', 'w').write('x = 1')\nimport mod_e",
        ["mod_e.py"],
        [],
    ),
    "temporary files": (
        "",
        "import tempfile; tempfile.mkdtemp(); open(tempfile.mkstemp()[1], 'w').write('x');",
        [],
        [],
    ),
    "caches": ("", "os.makedirs('.ipynb_checkpoints'); open('.ipynb_checkpoints/a', 'w').close()", [], []),
    "devices": ("", "open('/dev/null', 'w').write('x');", [], []),
    "by a child process": ("", "!echo x > child.txt", ["child.txt"], []),
    "moved by a child process": ("open('a', 'w').close()", "!mv a b", ["b"], ["a"]),
    "by a forked worker": (
        "",
        "import multiprocessing as m\nwith m.get_context('fork').Pool(1) as p: p.map(os.mkdir, ['forked'])",
        ["forked/"],
        [],
    ),
}


@pytest.mark.parametrize(("before", "code", "written", "removed"), CASES.values(), ids=CASES.keys())
async def test_files(kernel: ManagedKernel, before: str, code: str, written: list[str], removed: list[str]) -> None:
    found = await told(kernel, code, f"{EMPTY}\n{before}")
    assert files(found) == (written, removed)
    assert (found.cwd, found.env_set, found.installed, found.more) == ("", (), (), 0)


async def test_files_elsewhere_and_sizes(kernel: ManagedKernel, outside: Path) -> None:
    code = f"open({str(outside / 'a')!r}, 'w').write('x' * 1234); open('b', 'wb').write(bytes(5));"
    found = await told(kernel, code, EMPTY)
    assert found.written == (WrittenFile(path=str(outside / "a"), bytes=1234), WrittenFile(path="b", bytes=5))


async def test_what_others_change_meanwhile_is_not_the_cells(kernel: ManagedKernel, work: Path) -> None:
    await run(kernel, EMPTY)
    since = await kernel.mark()
    await asyncio.sleep(0.1)
    (work / "by_somebody").write_text("x")
    await asyncio.sleep(0.1)
    await run(kernel, "import time; time.sleep(0.1)")
    assert await kernel.changes(since) == Changes()


async def test_what_frontends_write_beside_a_running_cell_is_not_the_cells(kernel: ManagedKernel, work: Path) -> None:
    await run(kernel, EMPTY)
    since = await kernel.mark()
    task = await until_begun(kernel, "import time; print('begun', flush=True); time.sleep(0.2)")
    for name in ("n.ipynb", ".n.ipynb.swp", "backup~"):
        (work / name).write_text("x")
    (work / "n.lash").mkdir()
    (work / "n.lash" / "journal").write_text("x")
    await task
    assert await kernel.changes(since) == Changes()


async def test_guarded_cells_too_and_what_is_refused_did_not_happen(kernel: ManagedKernel, outside: Path) -> None:
    await run(kernel, EMPTY)
    since = await kernel.mark()
    code = f"open('a', 'w').close()\ntry: open({str(outside / 'b')!r}, 'w')\nexcept PermissionError: pass"
    host = Deciding(default=rejected("no"))
    await asyncio.wait_for(kernel.run(fresh(), code, guard=host.guard()), 60)
    assert len(host.wishes) == 1
    assert files(await kernel.changes(since)) == (["a"], [])


async def test_many_files_are_counted(kernel: ManagedKernel) -> None:
    code = "os.mkdir('m')\nfor n in range(2500): open(f'm/{n}', 'w').close(); open(f'm/{n}', 'w').close()"
    found = await told(kernel, code, EMPTY)
    assert len(found.written) == 200
    # The directory counts among the 2,000 that are looked after, and is not told beside what lies in it.
    assert found.more == 1999 - 200 + 501
    await run(kernel, EMPTY)


async def test_each_mark_has_its_own_and_the_last_are_known(kernel: ManagedKernel) -> None:
    await run(kernel, EMPTY)
    first = await kernel.mark()
    await run(kernel, "open('a', 'w').close()")
    second = await kernel.mark()
    await run(kernel, "open('b', 'w').close()")
    assert files(await kernel.changes(first)) == (["a", "b"], [])
    assert files(await kernel.changes(second)) == (["b"], [])
    assert files(await kernel.changes(second)) == (["b"], [])
    for _ in range(3):
        await kernel.mark()
    assert files(await kernel.changes(second)) == (["b"], [])
    assert await kernel.changes(first) == Changes()
    assert await kernel.changes("never given") == Changes()
    assert await kernel.changes("") == Changes()


async def test_also_while_a_cell_runs(kernel: ManagedKernel) -> None:
    await run(kernel, EMPTY)
    since = await kernel.mark()
    code = "open('a', 'w').close(); print('begun', flush=True)\nwhile True: pass"
    task = await until_begun(kernel, code)
    assert files(await kernel.changes(since)) == (["a"], [])
    await kernel.interrupt()
    await task


async def test_the_directory(kernel: ManagedKernel, work: Path) -> None:
    found = await told(kernel, "os.mkdir('d'); os.chdir('d')", EMPTY)
    assert found == Changes(written=(WrittenFile(path="d/"),), cwd=str(work / "d"))
    found = await told(kernel, "os.chdir('..')")
    assert found == Changes(cwd=str(work))


async def test_a_directory_that_was_given_is_not_the_cells_doing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with ManagedKernel(cwd=tmp_path) as kernel:
        since = await kernel.mark()
        await kernel.take_over_surroundings(Surroundings(cwd=str(tmp_path / "other")))
        await run(kernel, "open('a', 'w').close()")
        assert await kernel.changes(since) == Changes(written=(WrittenFile(path="a", bytes=0),))


async def test_names_of_variables_of_the_environment(kernel: ManagedKernel) -> None:
    before = "os.environ['KEPT'] = 'k'; os.environ['CHANGED'] = '1'; os.environ['GONE'] = 'secret-1'"
    code = "os.environ.update(CHANGED='2', API_URL='secret-2', KEPT='k'); del os.environ['GONE']"
    found = await told(kernel, code, f"{EMPTY}\n{before}")
    assert found == Changes(env_set=("API_URL", "CHANGED"), env_unset=("GONE",))
    assert "secret" not in repr(found)


async def test_packages(kernel: ManagedKernel, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    make = "def make(name): os.makedirs(os.path.join(SITE, name))"
    there = f"import sys; SITE = {str(site)!r}\n{make}\nmake('old_one-1.0.dist-info'); make('gone-2.0.dist-info')"
    code = (
        "make('Polars-1.9.0.dist-info'); shutil.rmtree(os.path.join(SITE, 'gone-2.0.dist-info'))\n"
        "os.rename(os.path.join(SITE, 'old_one-1.0.dist-info'), os.path.join(SITE, 'old_one-1.1.dist-info'))"
    )
    found = await told(kernel, code, f"{EMPTY}\n{there}\nsys.path.append(SITE)")
    assert (found.installed, found.uninstalled) == (("old-one 1.1", "polars 1.9.0"), ("gone",))


async def test_importing_and_showing_changes_nothing(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path) as kernel:
        code = (
            "import pandas as pd, matplotlib.pyplot as plt, platform\n"
            "display(pd.DataFrame({'a': [1]})); plt.plot([1]); plt.show(); platform.processor(); print('x' * 200_000)\n"
            "!true"
        )
        assert await told(kernel, code) == Changes()


async def test_names_that_are_no_text_do_no_harm(kernel: ManagedKernel) -> None:
    await run(kernel, EMPTY)
    found = await told(kernel, r"open(b'a\xff', 'w').close(); open('b\nc', 'w').close()")
    assert len(found.written) == 2
    assert all(one.path.isprintable() for one in found.written)
    assert "\n" not in changes_text(found)
    await run(kernel, EMPTY)


async def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    async with ManagedKernel(cwd=tmp_path / "here") as kernel:
        since = await kernel.mark()
        await run(kernel, "import os; os.rmdir(os.getcwd())")
        assert (await kernel.changes(since)).removed == (str(tmp_path / "here"),)
        assert await kernel.mark() == ""


async def test_a_mark_outlives_its_host(tmp_path: Path) -> None:
    left = ManagedKernel(cwd=tmp_path)
    await left.start()
    since = await left.mark()
    await run(left, "open('a', 'w').close()")
    assert left.connection_file is not None
    file = left.connection_file
    await left.leave()
    assert await left.changes(since) == Changes()
    kernel = await ManagedKernel.attach(file, cwd=tmp_path)
    try:
        assert files(await kernel.changes(since)) == (["a"], [])
        await kernel.restart()
        await kernel.mark()
        await run(kernel, "open('b', 'w').close()")
        assert await kernel.changes(since) == Changes()
    finally:
        await kernel.shutdown()


# ------------------------------------------------------------------------------------------------------------ bounds


def test_a_listing_is_bounded(tmp_path: Path) -> None:
    for name in ("a", "b", "d/c", "d/e/f", "d/e/g/too_deep", ".git/objects", "x.ipynb"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    found = listing(str(tmp_path))
    assert found is not None
    assert {os.path.relpath(path, tmp_path) for path in found} == {"a", "b", "d", "d/c", "d/e", "d/e/f", "d/e/g"}
    assert listing(str(tmp_path), most=7) == found
    assert listing(str(tmp_path), most=6) is None
    assert listing(str(tmp_path), within_s=0.0) is None


async def test_temporary_directories_themselves_are_no_place_to_look(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tempfile.gettempdir()) as kernel:
        found = await told(kernel, f"open('lash-nb-test-{os.getpid()}', 'w').close()")
        assert found == Changes()
        await run(kernel, f"import os; os.remove('lash-nb-test-{os.getpid()}')")


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("polars-1.9.0.dist-info", ("polars", "1.9.0")),
        ("ruamel.yaml-0.18.6.dist-info", ("ruamel.yaml", "0.18.6")),
        ("scikit_learn-1.5.dist-info", ("scikit_learn", "1.5")),
        ("old-2.0-py3.11.egg-info", ("old", "2.0")),
        ("~andas-2.0.dist-info", None),
        ("polars", None),
    ],
)
def test_names_of_packages(name: str, parsed: tuple[str, str] | None) -> None:
    found = PACKAGE.match(name)
    assert (None if found is None else (found["name"], found["version"])) == parsed


# ------------------------------------------------------------------------------------------------------------- words


def written(*names: str) -> tuple[WrittenFile, ...]:
    return tuple(WrittenFile(path=name, bytes=0) for name in names)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Changes(), ""),
        (
            Changes(written=(WrittenFile(path="out/clean.csv", bytes=1_234_567),)),
            "changed outside of variables: wrote out/clean.csv (1.2 MB)",
        ),
        (
            Changes(written=written("a", "b", "c", "d"), more=2),
            "changed outside of variables: wrote a (0 bytes), b (0 bytes), c (0 bytes) and 3 more",
        ),
        (
            Changes(written=(WrittenFile(path="d/"), WrittenFile(path="a", bytes=1)), removed=("b",)),
            "changed outside of variables: wrote d/, a (1 byte); removed b",
        ),
        (Changes(removed=("a", "b", "c", "d"), more=5), "changed outside of variables: removed a, b, c and 6 more"),
        (
            Changes(cwd="/srv/data", env_set=("API_URL",), env_unset=("OLD",), installed=("polars 1.9",)),
            "changed outside of variables: working directory is now /srv/data; environment: API_URL, OLD unset; "
            "installed: polars 1.9",
        ),
        (
            Changes(uninstalled=("a", "b"), installed=tuple("123456789")),
            "changed outside of variables: installed: 1, 2, 3, 4, 5, 6 and 3 more; uninstalled: a, b",
        ),
        (
            Changes(written=(WrittenFile(path="x" * 200 + "/end.csv", bytes=2_500_000_000),)),
            f"changed outside of variables: wrote …{'x' * 111}/end.csv (2.5 GB)",
        ),
    ],
)
def test_one_line(found: Changes, text: str) -> None:
    assert changes_text(found) == text
