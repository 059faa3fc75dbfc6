"""The real engine on the real weights: answers, streams, stops, stays private and quiet, gives its memory back.

Needs the extra `local`, and in TEST_WEIGHTS the path of the pinned file (`lash-nb model pull` says where it is); run
with `pytest -m local`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lash_nb.errors import ModelCallError, WeightsError
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.execution import NamespaceSummary, VariableSummary
from lash_nb.machine.llm import LlmMessage, LlmRequest, LlmRole, LlmTerminalReason, TextBlock
from lash_nb.machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from lash_nb.machine.projector import Projection
from lash_nb.models import Delta, Sampling
from lash_nb.models._engine import EnginePool, EngineSpec, XllamaEngine
from lash_nb.models.choice import open_model
from lash_nb.models.local import LocalModel
from lash_nb.models.weights import LOCAL_WEIGHTS, weights_path
from lash_nb.protocols.snippet import SnippetProtocol
from lash_nb.protocols.snippet_cells import read_cell
from lash_nb.protocols.snippet_prompt import STOPS

from ..models.cases import Listener, context, request, streamed

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]

MEBI = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def spec() -> EngineSpec:
    return EngineSpec(path=_weights(), n_ctx=4096, threads=1)


def _weights() -> Path:
    """The tests' clean environment knows of no cache: the weights are named by a variable that it leaves alone."""
    return Path(os.environ["TEST_WEIGHTS"])


@pytest.fixture
async def model(spec: EngineSpec) -> AsyncIterator[LocalModel]:
    model = LocalModel(spec)
    yield model
    await model.aclose()


def raw(text: str) -> LlmRequest:
    return request(messages=(LlmMessage(role=LlmRole.ASSISTANT, blocks=(TextBlock(text=text),)),))


def told(text: str, namespace: NamespaceSummary) -> LlmRequest:
    """The request that the snippet protocol makes."""
    protocol = SnippetProtocol(turn_id="t1")
    protocol.set_volatile((), namespace=namespace)
    part = Part(id="u.p0", kind=PartKind.TEXT, content=text)
    config = TurnMachineConfig(
        driver=protocol.driver,
        projector=protocol.projector,
        protocol=protocol.turn_protocol,
        model="local",
        system_prompt=protocol.system_prompt,
    )
    asked = (Message(id="u", role=MessageRole.USER, parts=(part,)),)
    return protocol.projector.project(
        Projection(config=config, messages=AppendOnly(asked), turn_causes=(), protocol_iteration=0, use_tools=False)
    )


COUNTING = raw("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,")


async def test_a_request_becomes_code(model: LocalModel) -> None:
    columns = (("height", "float64"), ("kind", "object"))
    live = NamespaceSummary(variables=(VariableSummary(name="trees", type="DataFrame", columns=columns),))
    asked = told("mean height in trees", live)
    listener = Listener()
    sampling = Sampling(temperature=0.0, stop=STOPS)
    answer = await model.complete(asked, context=context(sampling=sampling), on_delta=listener)
    assert read_cell(answer.full_text.split("\n\n")[0]) in ('trees["height"].mean()', "trees['height'].mean()")
    assert streamed(listener.deltas)["text"] == answer.full_text
    assert answer.usage.input_tokens > 100
    assert answer.usage.output_tokens > 3


async def test_a_load_that_nobody_waits_for_any_more_serves_the_next_call(spec: EngineSpec) -> None:
    pool = EnginePool()
    model = LocalModel(spec, pool=pool)
    model.warm_up()
    task = asyncio.create_task(model.complete(COUNTING, context=context()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await model.complete(COUNTING, context=context(sampling=Sampling(temperature=0.0, stop=("17",))))
    assert answer.full_text.startswith(" 15, 16")
    await model.aclose()


async def test_the_largest_prompt_fits(model: LocalModel) -> None:
    """Names of digits are the worst case: a token for each."""
    columns = tuple((f"{number:034}", "float64") for number in range(100))
    many = tuple(
        VariableSummary(name=f"t{number:03}" + "0" * 30, type="DataFrame", columns=columns) for number in range(200)
    )
    asked = told("0123456789" * 100, NamespaceSummary(variables=many))
    answer = await model.complete(asked, context=context(), on_delta=lambda delta: True)
    assert 1_000 < answer.usage.input_tokens + answer.usage.cache_read_input_tokens <= 2_048


async def test_a_prompt_that_is_known_is_not_read_again(model: LocalModel) -> None:
    sampling = Sampling(temperature=0.0, stop=("20",))
    first = await model.complete(COUNTING, context=context(sampling=sampling))
    again = await model.complete(COUNTING, context=context(sampling=sampling))
    assert again.full_text == first.full_text
    assert first.full_text.startswith(" 15, 16, 17")
    assert "20" not in first.full_text
    assert first.terminal_reason is LlmTerminalReason.STOP
    assert again.usage.cache_read_input_tokens > again.usage.input_tokens


async def test_a_seed_draws_the_same_again_and_another_one_something_else(model: LocalModel) -> None:
    async def drawn(seed: int) -> str:
        sampling = Sampling(temperature=1.5, seed=seed, stop=("\n",))
        return (await model.complete(raw("My favourite animal is the"), context=context(sampling=sampling))).full_text

    assert await drawn(1) == await drawn(1)
    assert len({await drawn(seed) for seed in range(1, 5)}) > 1


async def test_a_chat_is_answered(model: LocalModel) -> None:
    answer = await model.complete(
        request("Say: für ½", system="You repeat."), context=context(sampling=Sampling(temperature=0.0))
    )
    assert "für" in answer.full_text


async def test_enough_and_cancel_stop_the_engine(model: LocalModel) -> None:
    listener = Listener(lambda text: "17" in text)
    answer = await model.complete(COUNTING, context=context(sampling=Sampling(temperature=0.0)), on_delta=listener)
    assert answer.full_text.endswith("17")
    assert answer.usage.output_tokens > 0
    begun = asyncio.Event()

    def on_delta(delta: Delta) -> bool:
        begun.set()
        return False

    task = asyncio.create_task(model.complete(COUNTING, context=context(), on_delta=on_delta))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_long_prompt_can_be_cancelled_while_it_is_read(model: LocalModel) -> None:
    task = asyncio.create_task(model.complete(raw("word " * 3500), context=context()))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Had the prompt been read to its end, this would have to wait for it.
    answer = await asyncio.wait_for(model.complete(COUNTING, context=context(sampling=Sampling(stop=(",",)))), 20)
    assert answer.full_text


async def test_a_prompt_beyond_the_context_is_a_typed_failure(model: LocalModel) -> None:
    with pytest.raises(ModelCallError) as caught:
        await model.complete(raw("word " * 6000), context=context())
    assert caught.value.error.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW


# -- private and quiet -------------------------------------------------------------------------------------------------


def listening() -> set[str]:
    """Addresses that this process listens on over TCP."""
    mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_is_open(fd)}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                found.add(fields[1])
    return found


def fd_is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_nothing_listens_on_the_network(spec: EngineSpec) -> None:
    before = listening()
    engine = XllamaEngine(spec)
    try:
        assert listening() == before
        assert engine.address.startswith("unix://")
        assert not Path(engine.address.removeprefix("unix://")).parent.exists()
    finally:
        engine.close()


def test_without_a_socket_the_port_needs_its_key(spec: EngineSpec, tmp_path: Path) -> None:
    """A name too long for a socket: the engine falls back to the loopback address."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[2]\n"
        "import urllib.error, urllib.request\n"
        "from pathlib import Path\n"
        "from lash_nb.models._engine import EngineSpec, XllamaEngine\n"
        "engine = XllamaEngine(EngineSpec(path=Path(sys.argv[1]), n_ctx=512, threads=1))\n"
        "for path in ('/v1/models', '/props', '/slots', '/completion'):\n"
        "    data = b'{}' if path == '/completion' else None\n"
        "    try:\n"
        "        print(urllib.request.urlopen(engine.address + path, data=data).status)\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(error.code)\n"
        "engine.close()\n"
    )
    done = run(code, str(spec.path), str(deep))
    assert done.stdout.split() == ["401"] * 4


def test_nothing_is_printed(spec: EngineSpec) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from lash_nb.models._engine import EngineSpec, XllamaEngine\n"
        "engine = XllamaEngine(EngineSpec(path=Path(sys.argv[1]), n_ctx=512, threads=1))\n"
        "engine.stream({'prompt': 'a', 'max_tokens': 2}, lambda chunk: False)\n"
        "engine.close()\n"
    )
    done = run(code, str(spec.path))
    assert (done.stdout, done.stderr) == ("", "")


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done


# -- life --------------------------------------------------------------------------------------------------------------


def anonymous_memory() -> int:
    """Bytes of this process that are no file's; the model's file itself is mapped, and not counted."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


async def test_the_memory_is_given_back(spec: EngineSpec) -> None:
    async def use() -> int:
        model = LocalModel(spec)
        await model.complete(COUNTING, context=context(sampling=Sampling(stop=("16",))))
        held = anonymous_memory()
        await model.aclose()
        return held

    await use()
    before = anonymous_memory()
    held = await use()
    assert held - before > 50 * MEBI
    assert anonymous_memory() - before < 20 * MEBI


async def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(4000))
    model = LocalModel(EngineSpec(path=tmp_path / "x.gguf", n_ctx=512, threads=1), pool=EnginePool())
    with pytest.raises(WeightsError, match="could not be loaded"):
        await model.complete(COUNTING, context=context())
    await model.aclose()


async def test_the_pinned_file_is_checked_and_opened_by_name(tmp_path: Path) -> None:
    env = {"LASH_NB_CACHE_DIR": str(tmp_path)}
    # The directory may be a link, the file in it may not.
    weights_path(LOCAL_WEIGHTS, env=env).parent.symlink_to(_weights().parent)
    model = open_model("local", base_dir=tmp_path, env=env)
    answer = await model.complete(COUNTING, context=context(sampling=Sampling(temperature=0.0, stop=("16",))))
    assert answer.full_text.startswith(" 15")
    await model.aclose()


async def test_a_forked_child_has_an_engine_of_its_own(model: LocalModel) -> None:
    await model.complete(COUNTING, context=context(sampling=Sampling(stop=("16",))))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answer = asyncio.new_event_loop().run_until_complete(
                model.complete(COUNTING, context=context(sampling=Sampling(temperature=0.0, stop=("16",))))
            )
            status = 0 if answer.full_text.startswith(" 15") else 2
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
