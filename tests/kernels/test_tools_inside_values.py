"""What tools give and take in a kernel beside plain JSON: attachments; and how many calls a cell can make."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.inner_calls import InnerCalls
from lash_nb.kernels.inside.tool_values import ToolAttachment, loaded, referenced
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, DisplayOutput, ResultOutput
from lash_nb.machine.tool_calls import TOOL_VALUE, PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.machine.wire import Json
from lash_nb.stores.blobs import BlobStore

from .suite import fresh, texts

KEY = "$lash_tool_value"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def kernel(store: BlobStore) -> Iterator[ManagedKernel]:
    kernel = ManagedKernel(store=store)
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


def stored(ref_id: str, size: int, media_type: str, **more: Json) -> dict[str, Json]:
    ref: dict[str, Json] = {"id": ref_id, "media_type": media_type, "byte_len": size, **more}
    return {KEY: "attachment", "source": {"source": "stored", "attachment_ref": ref}}


class Host:
    """Has a tool that gives `value`, and one that takes one argument."""

    def __init__(self, value: Json = None) -> None:
        self.value = value
        self.taken: list[Json] = []
        offers = (ToolOffer(name="get", parameters=()), ToolOffer(name="take", signature="(value)"))
        self.tools = CellTools(offers=offers, on_call=self.answer)

    async def answer(self, call: PendingToolCall) -> ToolCallOutput:
        if call.tool_name == "take":
            assert isinstance(call.args, dict)
            self.taken.append(call.args["value"])
        return ToolCallOutput(outcome=ToolSucceeded(payload=self.value))


async def ok(kernel: ManagedKernel, code: str, host: Host) -> CellResult:
    result = await kernel.run(fresh(), code, tools=host.tools)
    assert result.outcome is CellOutcome.OK, result
    return result


# -------------------------------------------------------------------------------------------------------- attachments


async def test_an_image_is_shown_as_one(kernel: ManagedKernel, store: BlobStore) -> None:
    ref = store.put(PNG, media_type="image/png")
    host = Host(stored(ref.id, len(PNG), "image/png"))
    shown = f"<attachment image/png, {len(PNG)} bytes>"
    for code in ("await tools.get()", "tools.get()"):
        (output,) = (await ok(kernel, code, host)).outputs
        assert isinstance(output, ResultOutput)
        assert output.data == {"text/plain": shown, "image/png": base64.b64encode(PNG).decode()}
    (output,) = (await ok(kernel, "display(tools.get())", host)).outputs
    assert isinstance(output, DisplayOutput)
    assert set(output.data) == {"text/plain", "image/png"}
    assert texts(await ok(kernel, "print(tools.get())", host)) == [f"{shown}\n"]


async def test_its_bytes_are_fetched_once_and_stay(kernel: ManagedKernel, store: BlobStore) -> None:
    data = bytes(range(256)) * 10_000
    ref = store.put(data, media_type="application/pdf", label="report.pdf")
    host = Host({"files": [stored(ref.id, len(data), "application/pdf", label="report.pdf")], "n": 1})
    code = "found = tools.get()\nfile = found['files'][0]\nprint(found)\nprint(file.media_type, file.size, file.label)"
    result = await ok(kernel, code, host)
    assert texts(result) == [
        "{'files': [<attachment application/pdf, 2,560,000 bytes, report.pdf>], 'n': 1}\n"
        "application/pdf 2560000 report.pdf\n"
    ]
    code = "print(file.data == bytes(range(256)) * 10_000, read_output(file.handle, 200, 3), bytes(file)[:2])"
    result = await ok(kernel, code, Host())
    assert texts(result) == ["True b'\\xc8\\xc9\\xca' b'\\x00\\x01'\n"]
    assert result.tool_calls == ()
    store.path(ref.id.removeprefix("sha256:")).unlink()
    assert texts(await ok(kernel, "print(len(file.data))", Host())) == ["2560000\n"]


async def test_bytes_that_are_damaged(kernel: ManagedKernel, store: BlobStore) -> None:
    ref = store.put(b"whole", media_type="image/png")
    path = store.path(ref.id.removeprefix("sha256:"))
    path.chmod(0o600)
    path.write_bytes(b"other")
    result = await kernel.run(fresh(), "tools.get().data", tools=Host(stored(ref.id, 5, "image/png")).tools)
    assert result.error is not None
    assert result.error.evalue == "the bytes of <attachment image/png, 5 bytes> are damaged where the host keeps them"


async def test_bytes_that_are_gone(kernel: ManagedKernel) -> None:
    host = Host(stored("sha256:" + "0" * 64, 10, "image/png"))
    result = await kernel.run(fresh(), "tools.get().data", tools=host.tools)
    assert result.error is not None
    assert result.error.ename == "ToolError"
    (output,) = (await ok(kernel, "tools.get()", host)).outputs
    assert isinstance(output, ResultOutput)
    assert list(output.data) == ["text/plain"]
    assert str(output.data["text/plain"]).startswith("<attachment image/png, 10 bytes> (read_output:")


async def test_another_tool_is_given_the_reference(kernel: ManagedKernel, store: BlobStore) -> None:
    ref = store.put(PNG, media_type="image/png")
    host = Host(stored(ref.id, len(PNG), "image/png"))
    code = (
        "image = tools.get()\ntools.take(image)\nawait tools.take(value={'images': [image, (image, 1)]})\nimage.data;"
    )
    await ok(kernel, code, host)
    reference = stored(ref.id, len(PNG), "image/png")
    assert host.taken == [reference, {"images": [reference, [reference, 1]]}]
    for taken in host.taken:
        assert TOOL_VALUE.decode(taken) == taken


async def test_what_lies_elsewhere_is_not_fetched(kernel: ManagedKernel) -> None:
    url: Json = {"source": "external_url", "media_type": "image/png", "url": "https://example.org/a.png"}
    host = Host({KEY: "attachment", "source": url})
    result = await ok(kernel, "x = tools.get()\nprint(x.url, x.size)\nx", host)
    assert texts(result) == ["https://example.org/a.png None\n", "<attachment image/png, https://example.org/a.png>"]
    refused = await kernel.run(fresh(), "x.data", tools=host.tools)
    assert refused.error is not None
    assert refused.error.evalue == (
        "<attachment image/png, https://example.org/a.png> is not kept by the host, "
        "so its bytes cannot be had from there"
    )


async def test_nothing_that_could_run_in_a_page_is_shown(kernel: ManagedKernel, store: BlobStore) -> None:
    for media_type in ("text/html", "image/svg+xml", "application/javascript"):
        ref = store.put(b"<script>1</script>", media_type=media_type)
        (output,) = (await ok(kernel, "tools.get()", Host(stored(ref.id, 18, media_type)))).outputs
        assert isinstance(output, ResultOutput)
        assert list(output.data) == ["text/plain"]


async def test_an_attachment_is_a_variable_like_others(kernel: ManagedKernel) -> None:
    source: Json = {"source": "inline", "media_type": "text/plain", "bytes": [104, 105]}
    host = Host({KEY: "attachment", "source": source})
    code = (
        "import copy, pickle\nkept = copy.deepcopy([tools.get()])[0]\nprint(kept.data, kept.size)\npickle.dumps(kept)"
    )
    result = await kernel.run(fresh(), code, tools=host.tools)
    assert texts(result) == ["b'hi' 2\n"]
    assert result.error is not None
    assert result.error.evalue == "an attachment of a tool stays in this kernel; take its bytes: .data"
    found = {one.name: one for one in (await kernel.namespace()).variables}["kept"]
    assert (found.type, found.preview) == ("ToolAttachment", "<attachment text/plain, 2 bytes>")


async def test_a_dict_that_looks_like_one_is_a_dict(kernel: ManagedKernel) -> None:
    host = Host({KEY: "object", "entries": {KEY: "attachment", "x": [1]}})
    assert texts(await ok(kernel, "print(tools.get())", host)) == [f"{{'{KEY}': 'attachment', 'x': [1]}}\n"]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", KEY]), inner, max_size=3),
    max_leaves=10,
)


def escaped(value: Any) -> Any:
    """As a tool value writes plain JSON."""
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if not isinstance(value, dict):
        return value
    entries = {key: escaped(item) for key, item in value.items()}
    return {KEY: "object", "entries": entries} if KEY in entries else entries


@given(JSONS)
def test_plain_json_arrives_as_it_was(value: Any) -> None:
    written = TOOL_VALUE.encode(escaped(value))
    assert loaded(json.dumps(written), str.encode) == value
    assert referenced(value) == value


def test_an_attachment_comes_and_goes_as_the_same_reference() -> None:
    reference = stored("elsewhere:1", 3, "image/png", label="l")
    value = loaded(json.dumps([reference, 1]), lambda handle: b"png")
    assert isinstance(value[0], ToolAttachment)
    assert value[0].data == b"png"
    assert referenced(value) == [reference, 1]


# ------------------------------------------------------------------------------------------------------------- bounds


async def test_a_cell_that_calls_without_end_is_stopped(kernel: ManagedKernel) -> None:
    # Ten thousand are shortened to five: what is tested is that there is an end, and that the next cell starts anew.
    bound = "vars(tools)['_calls'].require.__globals__['MAX_CALLS']"
    code = (
        f"kept = {bound}; {bound} = 5\nsaid = []\n"
        "for n in range(8):\n"
        "    try: (await tools.get()) if n % 2 else tools.get()\n"
        "    except ToolError as error: said.append((error.kind, error.code))\n"
        "print(said)\ntools.get()"
    )
    host = Host(1)
    result = await kernel.run(fresh(), code, tools=host.tools)
    assert texts(result) == [f"{[('resource_limit', 'too_many_calls')] * 3}\n"]
    assert result.error is not None
    assert "go on in another cell" in result.error.evalue
    assert len(result.tool_calls) == 5
    assert texts(await ok(kernel, f"print(tools.get()); {bound} = kept; print(kept)", host)) == ["1\n10000\n"]


class ScriptedWire:
    """A kernel that knows every call as taken, and keeps what it is told, up to `expected` answers."""

    def __init__(self, *, expected: int) -> None:
        self.expected = expected
        self.told: list[Mapping[str, object]] = []
        self.all_told = asyncio.Event()

    def tell(self, msg_type: str, content: Mapping[str, object]) -> None:
        self.told.append(content)
        if len(self.told) == self.expected:
            self.all_told.set()

    def request(
        self,
        channel: Literal["control"],
        msg_type: str,
        content: Mapping[str, object],
        *,
        then: Callable[[Mapping[str, object]], None],
    ) -> object:
        then({"taken": True})
        return None


async def test_a_kernel_that_does_not_count_is_turned_away() -> None:
    host, wire = Host(1), ScriptedWire(expected=10_020)
    calls = InnerCalls(wire, tools=host.tools)
    for number in range(1, 10_021):
        calls.arrived({"id": f"c{number}", "name": "get", "args": "{}"})
    await asyncio.wait_for(wire.all_told.wait(), 60)
    await calls.close()
    refused = [content["error"] for content in wire.told if "error" in content]
    assert len(refused) == 20
    assert refused[0] == {
        "message": "get() was not called: this cell has made 10,000 calls, and none makes more; go on in another cell",
        "kind": "resource_limit",
        "code": "too_many_calls",
    }
    assert len(calls.records()) == 10_000


async def test_values_are_bounded_together() -> None:
    host, wire = Host("x" * 7_999_998), ScriptedWire(expected=0)
    calls = InnerCalls(wire, tools=host.tools)
    for number in range(1, 36):
        wire.all_told.clear()
        wire.expected = number
        calls.arrived({"id": f"c{number}", "name": "get", "args": "{}"})
        await asyncio.wait_for(wire.all_told.wait(), 60)
    await calls.close()
    assert ["error" in content for content in wire.told] == [False] * 33 + [True] * 2
    assert wire.told[-1]["error"] == {
        "message": "get() was not called: this cell has been given 264,000,000 characters of values, "
        "over 256,000,000; go on in another cell",
        "kind": "resource_limit",
        "code": "values_too_long",
    }
    assert len(calls.records()) == 33
