"""Sessions whose kernels are in the sandbox: what their turns can do, what the model is told, what stays so."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb import ManagedKernel, ResourceLimits, ScriptedModel, Session, Sharing
from lash_nb.errors import InputError, KernelAttachError
from lash_nb.kernels.settings import KernelSettings
from lash_nb.kernels.spares import drop_spare
from lash_nb.languages import managed_kernel
from lash_nb.machine.execution import StreamOutput
from lash_nb.machine.llm import TextBlock
from lash_nb.stores.blobs import MemoryBlobStore
from tests.conversations import cell

v4: Any = nbformat.v4
TRIES = """
import os, socket, subprocess
said = [subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip()]
for attempt in (
    lambda: open("/etc/lash", "w"),
    lambda: open(os.path.expanduser("~/.ssh/id")),
    lambda: socket.create_connection(("192.0.2.1", 80), 2),
):
    try:
        attempt()
        said.append("did it")
    except OSError as error:
        said.append(error.strerror)
open("made.txt", "w").write("mine")
print(*said, os.environ.get("LASH_TEST_TOKEN"), os.environ.get("LASH_TEST_API_KEY"), sep=" / ")
"""


def started(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return started(tmp_path / "work")


def session(directory: Path, *replies: str, **options: Any) -> Session:
    given: dict[str, Any] = {"base_dir": directory, "state_dir": directory.parent / "state", "sandbox": True, **options}
    return Session(ScriptedModel(list(replies)), **given)


def stdout_of(outputs: Iterable[Any]) -> str:
    """Of a turn (as nbformat has it), or of a cell."""
    found = []
    for output in outputs:
        if isinstance(output, StreamOutput):
            found.append(output.head)
        elif isinstance(output, dict) and output.get("name") == "stdout":
            found.append(output["text"])
    return "".join(found)


def system_prompt(model: ScriptedModel) -> str:
    blocks = model.requests[0].messages[0].blocks
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))


async def test_a_turn_in_the_sandbox(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_TEST_TOKEN", "tok-1234567890abcdef")
    monkeypatch.setenv("LASH_TEST_API_KEY", "key-1234567890abcdef")
    async with session(directory, cell(TRIES), "Done.", pass_env=["LASH_TEST_TOKEN"]) as one:
        turn = await one.run("Try.")
    # Nothing was asked: that programs may be started, say, is nobody's business in there.
    told = stdout_of(turn.outputs).strip().split(" / ")
    assert told[:4] == ["child", "Read-only file system", "No such file or directory", "Network is unreachable"]
    assert told[4] not in ("None", "tok-1234567890abcdef")  # it is there, and is taken out of what is kept
    assert told[5] == "None"
    assert (directory / "made.txt").read_text() == "mine"
    assert "lash" not in os.listdir("/etc")


async def test_the_model_is_told_of_the_sandbox_and_of_its_bounds(directory: Path) -> None:
    limits = ResourceLimits(memory_bytes=1 << 30, processes=100)
    model = ScriptedModel(["Hello."])
    async with session(directory, resources=limits) as one:
        await one.set_model(model)
        await one.run("Hello?")
    told = system_prompt(model)
    assert "runs in a sandbox: there is no network" in told
    assert "may use 1 GB of memory, 100 processes and threads at most" in told


async def test_variables_go_there_and_plain_data_comes_back(directory: Path) -> None:
    namespace = {"table": {"a": [1, 2, 3]}}
    code = "total = sum(table['a'])\nclass Own: pass\nown = Own()"
    options: dict[str, Any] = {"sharing": Sharing(namespace)}
    async with session(directory, cell(code), "It is `total`.", **options) as one:
        await one.run("Sum up table as `total`.", maybe=["total"])
        kernel: Any = one.kernel
        assert await kernel.value("total") == 6
        with pytest.raises(Exception, match="more than plain data"):
            await kernel.value("own")


async def test_a_kernel_of_another_language_is_in_it_too(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "bash"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Bash", "language": "bash"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    settings = KernelSettings(sandbox=True)
    kernel = managed_kernel("bash", cwd=directory, store=MemoryBlobStore(), on_input=None, settings=settings)
    outside = directory.parent / "outside.txt"
    await kernel.start()
    try:
        await kernel.run("", f"echo x > {outside}")
        result = await kernel.run("", f"echo inside > here.txt; ls {directory.parent}")
    finally:
        await kernel.shutdown()
    assert not outside.exists()
    assert (directory / "here.txt").read_text() == "inside\n"
    assert stdout_of(result.outputs).split() == ["outside.txt", "work"]  # in a /tmp of its own


async def test_what_is_hidden_can_be_shown(directory: Path) -> None:
    data = started(directory.parent / "data")
    (data / "table.csv").write_text("a,b\n")
    code = f"print(open({str(data / 'table.csv')!r}).read())\nopen({str(data / 'other')!r}, 'w')"
    async with session(directory, cell(code), "Done.", sandbox_read=[str(data)]) as one:
        turn = await one.run("Look.")
    assert stdout_of(turn.outputs) == "a,b\n\n"
    assert [path.name for path in data.iterdir()] == ["table.csv"]


async def test_its_state_is_not_to_be_seen_from_inside(directory: Path) -> None:
    state = directory / "state"
    code = f"import os\nprint(os.listdir({str(state)!r}))\nopen({str(state / 'x')!r}, 'w')"
    async with session(directory, cell(code), "Done.", state_dir=state) as one:
        turn = await one.run("Look.")
    assert stdout_of(turn.outputs).startswith("[")
    assert "sessions" not in stdout_of(turn.outputs)
    assert not (state / "x").exists()


async def test_a_session_that_goes_on_is_in_it_again(directory: Path) -> None:
    async with session(directory, cell("x = 1"), "Done.", resources=ResourceLimits(processes=99)) as one:
        await one.run("Begin.")
    model = ScriptedModel([cell(TRIES), "Done."])
    again = Session.resume(one.id, model=model, state_dir=directory.parent / "state", base_dir=directory)
    async with again:
        assert again.kernel_settings.sandbox
        assert again.kernel_settings.resources.processes == 99
        turn = await again.run("Try.")
    assert "Read-only file system" in stdout_of(turn.outputs)


@pytest.mark.parametrize(
    "given",
    [
        {"resources": ResourceLimits(memory_bytes=1 << 30)},
        {"pass_env": ["LASH_TEST_TOKEN"]},
        {"spare": True},
        {"sandbox": False},
    ],
    ids=["resources", "pass_env", "spare", "sandbox"],
)
async def test_nothing_that_is_given_takes_it_out(directory: Path, given: dict[str, Any]) -> None:
    async with session(directory, cell("x = 1"), "Done.") as one:
        await one.run("Begin.")
    for reply in (given, {}):  # what is recorded then is not looser, either
        model = ScriptedModel([cell(TRIES), "Done."])
        again = Session.resume(one.id, model=model, state_dir=directory.parent / "state", base_dir=directory, **reply)
        async with again:
            turn = await again.run("Try.")
        assert "Read-only file system" in stdout_of(turn.outputs)
    drop_spare()


async def test_a_notebook_alone_says_that_it_was_in_it(directory: Path) -> None:
    path = notebook(directory / "in.ipynb", "%%lash --sandbox\nTry.", replies={"1": [cell("x = 1"), "Done."]})
    done = await asyncio.to_thread(run, str(path))
    assert done.returncode == 0, done.stderr
    model = ScriptedModel([cell(TRIES), "Done."])
    elsewhere = directory.parent / "elsewhere"
    again = Session.resume(directory / "in.out.ipynb", model=model, state_dir=elsewhere, base_dir=directory)
    async with again:
        turn = await again.run("Try.")
    assert "Read-only file system" in stdout_of(turn.outputs)


async def test_its_bounds_hold_one_by_one(directory: Path) -> None:
    async with session(directory, cell("x = 1"), "Done.", resources=ResourceLimits(memory_bytes=1 << 30)) as one:
        await one.run("Begin.")
    state = directory.parent / "state"
    given = ResourceLimits(open_files=200)
    again = Session.resume(one.id, model=ScriptedModel([]), state_dir=state, base_dir=directory, resources=given)
    async with again:
        assert again.kernel_settings.resources == ResourceLimits(memory_bytes=1 << 30, open_files=200)


def test_a_kernel_that_is_given_is_in_it_or_is_refused(directory: Path) -> None:
    with pytest.raises(InputError, match="a kernel that was given to the session is not in the sandbox"):
        session(directory, kernel=ManagedKernel(cwd=directory))
    session(directory, kernel=ManagedKernel(cwd=directory, sandbox=True)).close()


async def test_the_environment_may_order_it_later(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with session(directory, "Hello.", sandbox=False) as one:
        monkeypatch.setenv("LASH_NB_SANDBOX", "1")
        with pytest.raises(InputError, match="LASH_NB_SANDBOX orders the sandbox, and this session began outside"):
            await one.run("Hello?")


async def test_its_state_may_be_at_a_relative_place(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    async with session(directory, cell(TRIES), "Done.", state_dir="state") as one:
        turn = await one.run("Try.")
    assert "Read-only file system" in stdout_of(turn.outputs)


async def test_a_kernel_outside_is_not_taken_over_into_it(directory: Path) -> None:
    async with ManagedKernel(cwd=directory) as kernel:
        await kernel.run("", "x = 1")
        code = (
            "import asyncio, sys\nfrom lash_nb import ManagedKernel\n"
            "async def main():\n"
            "    try: await ManagedKernel.attach(sys.argv[1], sandbox=True)\n"
            "    except Exception as error: print(type(error).__name__, error)\n"
            "asyncio.run(main())"
        )
        file = kernel.connection_file
        await kernel.leave()
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"{KernelAttachError.__name__} the kernel is not in a sandbox")
        attached = await ManagedKernel.attach(str(file))  # it was left as it was
        await attached.shutdown()


async def test_the_environment_orders_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_SANDBOX", "1")
    async with session(directory, cell(TRIES), "Done.", sandbox=False) as one:
        turn = await one.run("Try.")
    assert "Read-only file system" in stdout_of(turn.outputs)


def test_a_home_directory_cannot_be_opened_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="put the notebook into a directory of its own"):
        session(tmp_path)


# -- notebooks ---------------------------------------------------------------------------------------------------------


def notebook(path: Path, *cells: str, replies: dict[str, list[str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    (path.parent / "script.json").write_text(json.dumps({"turns": replies}))
    first = "%load_ext lash_nb\n%lash model scripted:script.json"
    nb = v4.new_notebook(cells=[v4.new_code_cell(source) for source in (first, *cells)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(v4.writes(nb))
    return path


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lash_nb.cli", "run", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=120, check=False
    )


def outputs(path: Path) -> list[str]:
    nb: Any = v4.reads(path.read_text())
    return [
        "".join(str(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in cell.outputs)
        for cell in nb.cells
    ]


@pytest.mark.timeout(180)
def test_a_run_in_the_sandbox(directory: Path) -> None:
    path = notebook(directory / "in.ipynb", "%%lash\nTry.", "%lash", replies={"1": [cell(TRIES), "Done."]})
    done = run(
        str(path),
        "--sandbox",
        "--memory",
        "1G",
        "--pass-env",
        "LASH_TEST_TOKEN",
        LASH_TEST_TOKEN="tok-1234567890abcdef",
    )
    assert done.returncode == 0, done.stderr
    assert "refused" not in done.stderr
    _, turn, status = outputs(directory / "in.out.ipynb")
    assert "child / Read-only file system / No such file or directory / Network is unreachable" in turn
    assert "tok-1234567890abcdef" not in turn  # it was passed, and is taken out of what is kept
    assert "kernel: python, alive, in a sandbox, at most 1 GB of memory" in status


@pytest.mark.timeout(180)
def test_a_cell_asks_for_it(directory: Path) -> None:
    replies = {"1": [cell(TRIES), "Done."], "2": [cell(TRIES), "Done."]}
    cells = ["%%lash --sandbox\nTry.", "%%lash\nAgain."]
    path = notebook(directory / "in.ipynb", *cells, replies=replies)
    done = run(str(path))
    assert done.returncode == 0, done.stderr
    _, first, second = outputs(directory / "in.out.ipynb")
    assert "Read-only file system" in first
    assert "Read-only file system" in second


@pytest.mark.timeout(180)
def test_a_cell_cannot_ask_for_it_when_code_has_run_outside(directory: Path) -> None:
    replies = {"1": [cell("x = 1"), "Done."], "2": [cell("x"), "Done."]}
    path = notebook(directory / "in.ipynb", "%%lash\nBegin.", "%%lash --sandbox\nGo on.", replies=replies)
    done = run(str(path))
    assert done.returncode == 2
    assert "`--new` beside it, or `%lash new`, begins a session that is" in done.stderr


def test_the_journal_says_that_it_was_in_the_sandbox(directory: Path) -> None:
    with session(directory, "Hello.") as one:
        one.run_sync("Hello?")
    found = Session.resume(one.id, model=ScriptedModel([]), state_dir=directory.parent / "state", base_dir=directory)
    asyncio.run(found.aclose())
    assert found.kernel_settings.sandbox
