"""The guard in a real kernel: which code asks, what for, and what becomes of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult

from .contract_guard import Deciding, rejected
from .suite import fresh, texts

REFUSED = rejected("not there")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def kernel(work: Path) -> Iterator[ManagedKernel]:
    kernel = ManagedKernel(cwd=work)
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


async def run(kernel: ManagedKernel, code: str, host: Deciding, *free: str) -> CellResult:
    return await asyncio.wait_for(kernel.run(fresh(), code, guard=host.guard(*free)), 60)


async def wishes(kernel: ManagedKernel, code: str, outside: Path) -> list[str]:
    """What a cell that ends well asks for, with `OUT` for the directory outside."""
    host = Deciding()
    result = await run(kernel, code.replace("OUT", str(outside)), host)
    assert result.outcome is CellOutcome.OK, result
    return [str(wish).replace(str(outside), "OUT") for wish in host.wishes]


FREE = {
    "in the working directory": "open('a', 'w').close(); import os; os.makedirs('d/e'); os.remove('a')",
    "elsewhere for a moment": "import os; os.chdir('/'); os.chdir(START); open(START + '/b', 'w').close()",
    "temporary files": "import tempfile; tempfile.NamedTemporaryFile().close(); tempfile.mkdtemp()",
    "devices": "open('/dev/null', 'w').close(); import os; os.fdopen(1, 'w', closefd=False)",
    "reading": "import os\nfor _ in range(1000): open(os.__file__).close()",
    "a plot": "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.savefig('plot.png')",
    "numpy": "import numpy as np; np.save('x.npy', [1])",
    "pandas": "import pandas as pd; pd.DataFrame({'a': [1]}).to_csv('a.csv')",
    "look-ups": "import platform, ctypes.util; platform.processor(); ctypes.util.find_library('c')",
    "workers": "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: assert p.map(abs, [-1]) == [1]",
    "its own server": """
import asyncio
async def serve(reader, writer): writer.close()
server = await asyncio.start_server(serve, '127.0.0.1', 0)
reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
await reader.read(); writer.close(); server.close()""",
    "descriptors": """
import os, pickle, pathlib
fd = os.open('.', os.O_RDONLY)
os.close(os.open('g', os.O_CREAT | os.O_RDWR, 0o600, dir_fd=fd)); os.mkfifo('p', dir_fd=fd); os.close(fd)
assert {os.open, os.mkfifo} <= os.supports_dir_fd and pickle.loads(pickle.dumps(os.open)) is os.open
assert (pathlib.Path('g').stat().st_mode & 0o777, pathlib.Path('p').is_fifo()) == (0o600, True)""",
    "what it leaves in memory": "import sqlite3; sqlite3.connect(':memory:').close()",
}


@pytest.mark.parametrize("code", FREE.values(), ids=FREE.keys())
async def test_computing_asks_nothing(kernel: ManagedKernel, work: Path, outside: Path, code: str) -> None:
    assert await wishes(kernel, f"START = {str(work)!r}\n{code}", outside) == []


ASKED = {
    "open('OUT/a', 'w').write('x')": ["write OUT/a"],
    "open('OUT/a', 'a').close(); open('OUT/a', 'r+').close()": ["write OUT/a"],
    "import os; os.close(os.open('OUT/a', os.O_CREAT | os.O_RDWR))": ["write OUT/a"],
    "import os; d = os.open('OUT', os.O_RDONLY); os.close(os.open('a', os.O_CREAT | os.O_RDWR, dir_fd=d))": [
        "write OUT/a"
    ],
    "import os; os.mkfifo('OUT/p'); os.remove('OUT/p')": ["write OUT/p", "delete OUT/p"],
    "import pathlib; pathlib.Path('OUT/a').write_text('x'); pathlib.Path('OUT/a').unlink()": [
        "write OUT/a",
        "delete OUT/a",
    ],
    "import shutil; open('f', 'w').close(); shutil.copy('f', 'OUT/f'); shutil.move('OUT/f', 'g')": ["write OUT/f"],
    "import os, shutil; os.makedirs('OUT/d/e'); open('OUT/d/e/f', 'w').close(); shutil.rmtree('OUT/d')": [
        "write OUT/d",
        "delete OUT/d",
    ],
    "import os; os.symlink('OUT', 'link'); open('link/a', 'w').close(); os.remove('link')": ["write OUT/a"],
    "import os; os.chdir('OUT'); open('a', 'w').close(); os.chdir(START)": ["write OUT/a"],
    "import pandas as pd; pd.DataFrame({'a': [1]}).to_csv('OUT/a.csv')": ["write OUT/a.csv"],
    "import sqlite3; sqlite3.connect('OUT/a.db').close()": ["write OUT/a.db"],
    "import subprocess; subprocess.run('exit 0', shell=True)": ["start exit 0"],
    "import os; os.system('true'); os.spawnlp(os.P_WAIT, 'true', 'true', 'x')": ["start true", "start true x"],
    "!echo 1": ["start echo 1"],
    "x = !echo 2": ["start echo 2"],
    "%pip --version": ["start python -m pip --version"],
    "import asyncio; await (await asyncio.create_subprocess_exec('echo', '3')).wait()": ["start echo 3"],
    "import threading; t = threading.Thread(target=open, args=('OUT/t', 'w')); t.start(); t.join()": ["write OUT/t"],
    "import asyncio; (await asyncio.to_thread(open, 'OUT/u', 'w')).close()": ["write OUT/u"],
}


@pytest.mark.parametrize(("code", "wanted"), ASKED.items(), ids=range(len(ASKED)))
async def test_what_is_asked_about(
    kernel: ManagedKernel,
    work: Path,
    outside: Path,
    code: str,
    wanted: list[str],
) -> None:
    if not code.startswith(("!", "%", "x =")):
        code = f"START = {str(work)!r}\n{code}"
    assert await wishes(kernel, code, outside) == wanted


async def test_a_server_that_is_not_its_own(kernel: ManagedKernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        host = Deciding()
        code = f"import socket\nfor _ in range(2): socket.create_connection(('localhost', {port})).close()"
        assert (await run(kernel, code, host)).outcome is CellOutcome.OK
        assert [str(wish) for wish in host.wishes] == [f"connect to 127.0.0.1:{port}"]
        code = f"import asyncio; (await asyncio.open_connection('127.0.0.1', {port}))[1].close()"
        assert (await run(kernel, code, host)).outcome is CellOutcome.OK
        assert len(host.wishes) == 2


async def test_a_name_is_asked_about_before_it_is_looked_up(kernel: ManagedKernel) -> None:
    host = Deciding(default=REFUSED)
    code = (
        "import urllib.request\ntry: urllib.request.urlopen('http://secret.invalid/x')\nexcept OSError as e: print(e)"
    )
    result = await run(kernel, code, host)
    said = "<urlopen error the user did not allow this code to connect to secret.invalid:80: not there>\n"
    assert (texts(result), [wish.target for wish in host.wishes]) == ([said], ["secret.invalid:80"])


async def test_a_refusal_can_be_handled_and_is_not_asked_about_again(kernel: ManagedKernel, outside: Path) -> None:
    host = Deciding(default=REFUSED)
    code = f"""
for _ in range(3):
    try: open({str(outside / "a")!r}, 'w')
    except PermissionError as error: told = str(error)
print(told)
"""
    said = f"the user did not allow this code to write {outside / 'a'}: not there\n"
    assert texts(await run(kernel, code, host)) == [said]
    assert len(host.wishes) == 1
    assert not (outside / "a").exists()


async def test_the_traceback_is_the_codes_own(kernel: ManagedKernel, outside: Path) -> None:
    result = await run(kernel, f"def f():\n    open({str(outside / 'a')!r}, 'w')\nf()", Deciding(REFUSED))
    assert result.error is not None
    traceback = "\n".join(result.error.traceback)
    assert "in f()" in traceback
    assert "lash_nb>" not in traceback
    assert "guard" not in traceback
    assert "During handling" not in traceback


async def test_a_refused_command_says_so_once(kernel: ManagedKernel) -> None:
    host = Deciding(default=REFUSED)
    result = await run(kernel, "!rm -r x", host)
    assert result.error is not None
    assert result.error.evalue == "the user did not allow this code to start rm -r x: not there"
    assert len(host.wishes) == 1


async def test_other_places_can_be_free(kernel: ManagedKernel, outside: Path) -> None:
    host = Deciding()
    await run(kernel, f"open({str(outside / 'a')!r}, 'w').close()", host, str(outside))
    assert host.wishes == []
    assert (outside / "a").exists()


async def test_threads_that_want_the_same_share_an_answer(kernel: ManagedKernel, outside: Path) -> None:
    host = Deciding(waits_s=0.2)
    code = f"""
import threading
def write(n): open(f'{outside}/{{n % 2}}', 'w').close()
threads = [threading.Thread(target=write, args=(n,)) for n in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert (await run(kernel, code, host)).outcome is CellOutcome.OK
    assert sorted(wish.target for wish in host.wishes) == [f"{outside}/0", f"{outside}/1"]


async def test_what_outlives_its_cell_cannot_ask(kernel: ManagedKernel, outside: Path) -> None:
    host = Deciding()
    code = f"""
import asyncio, threading
go, said = threading.Event(), []
def write():
    go.wait()
    try: open({str(outside / "a")!r}, 'w')
    except PermissionError as error: said.append(str(error))
thread = threading.Thread(target=write); thread.start()
"""
    await run(kernel, code, host)
    expected = f"nobody can be asked whether this code may write {outside / 'a'}: its cell has ended; "
    for guard in (host.guard(), None):
        result = await kernel.run(fresh(), "go.set(); thread.join(); print(said[0])", guard=guard)
        assert texts(result)[0].startswith(expected)
    assert host.wishes == []


async def test_a_forked_process_cannot_ask(kernel: ManagedKernel, outside: Path) -> None:
    host = Deciding()
    code = f"""
import os
reader, writer = os.pipe()
if os.fork() == 0:
    try: open({str(outside / "a")!r}, 'w')
    except PermissionError as error: os.write(writer, str(error).encode())
    os._exit(0)
os.wait(); print(os.read(reader, 1000).decode())
"""
    (said,) = texts(await run(kernel, code, host))
    assert "it runs in a process that was forked from the kernel" in said
    assert host.wishes == []


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio; task = asyncio.ensure_future(asyncio.create_subprocess_exec('true')); await task",
        "import asyncio; await asyncio.create_subprocess_exec('true')",
        "import asyncio, subprocess; await asyncio.to_thread(subprocess.run, ['true'])",
        "import asyncio, os\nasyncio.get_running_loop().call_soon(os.system, 'true'); await asyncio.sleep(60)",
        "import threading, os; t = threading.Thread(target=os.system, args=('true',)); t.start(); t.join()",
    ],
)
async def test_an_interrupt_ends_every_waiting(kernel: ManagedKernel, code: str) -> None:
    host = Deciding(waits_s=60)
    task = asyncio.ensure_future(run(kernel, code, host))
    await asyncio.wait_for(host.asked.wait(), 20)
    assert await kernel.interrupt()
    assert (await task).outcome is CellOutcome.INTERRUPTED
    await asyncio.wait_for(host.cancelled.wait(), 20)
    assert texts(await kernel.run(fresh(), "1 + 1")) == ["2"]


async def test_what_is_spilled_of_an_output_is_not_asked_about(outside: Path) -> None:
    from lash_nb.stores.blobs import BlobStore

    host = Deciding()
    async with ManagedKernel(store=BlobStore(outside / "blobs")) as kernel:
        result = await run(kernel, "for n in range(20_000): print(n)", host)
    assert result.outcome is CellOutcome.OK
    assert host.wishes == []
    assert result.outputs[0].spilled is not None  # type: ignore[union-attr]
