"""The tools that ship: reading what was kept, and files of the working directory and of nowhere else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import ToolError
from lash_nb.machine.attachments import AttachmentRef
from lash_nb.machine.tool_calls import RESERVED_KEY, ToolFailureClass, ToolSucceeded
from lash_nb.stores.blobs import BlobStore, MemoryBlobStore
from lash_nb.toolkits import Tool, ToolPolicy
from lash_nb.toolkits.reading import named_like_a_secret, resolved, walked
from lash_nb.toolkits.shipped import shipped_tools

from .calls import failed, make, value

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Shipped:
    """Both tools, over a directory and a store."""

    def __init__(self, directory: Path, store: Any = None, kept: Sequence[AttachmentRef] = ()) -> None:
        def begin_like(beginning: str) -> list[AttachmentRef]:
            return [ref for ref in kept if ref.id.startswith(beginning)]

        self.store = store
        self.tools = {one.name: one for one in shipped_tools(directory=directory, store=store, kept=begin_like)}

    async def read(self, name: str, **arguments: Any) -> Any:
        return await value(self.tools[name], arguments, store=self.store)

    async def refused(self, name: str, **arguments: Any) -> tuple[str, str, str]:
        failure = failed(await make(self.tools[name], arguments, store=self.store))
        return failure.class_.value, failure.code, failure.message

    async def file(self, path: str, **arguments: Any) -> Any:
        return await self.read("read_file", path=path, **arguments)

    async def no_file(self, path: str, **arguments: Any) -> str:
        return (await self.refused("read_file", path=path, **arguments))[1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with something outside of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.txt").write_text("private")
    inside = tmp_path / "work"
    inside.mkdir()
    (inside / "notes.txt").write_text("one\ntwo\nthree\n")
    (inside / "data").mkdir()
    (inside / "data" / "a.csv").write_text("x,y\n1,2")
    return inside


def test_what_is_told_of_them(tmp_path: Path) -> None:
    tools = Shipped(tmp_path).tools
    assert list(tools) == ["read_output", "read_file"]
    assert tools["read_output"].signature == "(handle: str, start: int = 0, size: int = 20000)"
    assert tools["read_file"].signature == "(path: str, start_line: int = 1, lines: int = 400)"
    for tool in tools.values():
        assert isinstance(tool, Tool)
        assert (tool.source, tool.policy) == ("lash_nb", ToolPolicy(approve="never", safe=True, timeout_s=60))
        schema: Any = tool.input_schema
        assert all("description" in about for about in schema["properties"].values())


# -- outputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
async def test_an_output_is_read_by_its_handle(tmp_path: Path, on_disk: bool) -> None:
    store = BlobStore(tmp_path / "blobs") if on_disk else MemoryBlobStore()
    ref = store.put(b"0123456789\n" * 3, media_type="text/plain")
    shipped = Shipped(tmp_path, store)
    assert await shipped.read("read_output", handle=ref.id) == "0123456789\n" * 3
    more = f"\n[… more follows: read_output({ref.id!r}, start=5)]"
    assert await shipped.read("read_output", handle=ref.id, size=5) == "01234" + more
    assert await shipped.read("read_output", handle=ref.id, start=22) == "0123456789\n"
    assert await shipped.read("read_output", handle=ref.id, start=31, size=2) == "9\n"
    kind, code, _ = await shipped.refused("read_output", handle=ref.id, start=33)
    assert (kind, code) == ("invalid_request", "beyond_the_end")


async def test_an_output_can_be_read_in_pieces_whatever_is_in_it(tmp_path: Path) -> None:
    store = MemoryBlobStore()
    text = "aä€😀" * 50
    ref = store.put(text.encode(), media_type="text/plain")
    shipped = Shipped(tmp_path, store)
    found, start = "", 0
    for _ in range(1000):
        piece = await shipped.read("read_output", handle=ref.id, start=start, size=7)
        shown, note, rest = piece.partition("\n[… more follows: ")
        found += shown
        if not note:
            break
        start = int(rest.partition("start=")[2].rstrip(")]"))
    assert found == text


async def test_a_beginning_of_a_handle_is_enough(tmp_path: Path) -> None:
    store = MemoryBlobStore()
    ref = store.put(b"it", media_type="text/plain")
    shipped = Shipped(tmp_path, store, kept=[ref])
    digits = ref.id.removeprefix("sha256:")
    assert await shipped.read("read_output", handle=ref.id[:15]) == "it"
    assert await shipped.read("read_output", handle=digits[:8]) == "it"
    assert (await shipped.refused("read_output", handle=digits[:7]))[1] == "no_such_output"


async def test_an_output_that_is_not_there(tmp_path: Path) -> None:
    ref = AttachmentRef(id="sha256:" + "ab" * 32, media_type="text/plain", byte_len=1)
    other = AttachmentRef(id="sha256:" + "ab" * 31 + "cd", media_type="text/plain", byte_len=1)
    shipped = Shipped(tmp_path, MemoryBlobStore(), kept=[ref, other])
    for handle, why in [
        ("", "is no handle"),
        ("../../etc/passwd", "begins like"),
        ("sha256:" + "cd" * 32, "is not in this store"),
        ("sha256:" + "../" * 21 + "a", "is no id of a stored blob"),
        ("sha256:cdcdcdcd", "begins like"),
        ("sha256:abababab", "is the beginning of 2 handles"),
        (ref.id + "0", "is no handle"),
    ]:
        kind, code, message = await shipped.refused("read_output", handle=handle)
        assert (kind, code) == ("invalid_request", "no_such_output")
        assert why in message
    kind, code, message = await Shipped(tmp_path).refused("read_output", handle=ref.id)
    assert "kept here" in message


async def test_a_picture_among_the_outputs_comes_as_one(tmp_path: Path) -> None:
    store = MemoryBlobStore()
    ref = store.put(PNG, media_type="application/octet-stream")
    shipped = Shipped(tmp_path, store)
    payload = await shipped.read("read_output", handle=ref.id)
    about = {"id": ref.id, "media_type": "image/png", "byte_len": len(PNG)}
    assert payload == {RESERVED_KEY: "attachment", "source": {"source": "stored", "attachment_ref": about}}


async def test_other_bytes_among_the_outputs_are_told_as_such(tmp_path: Path) -> None:
    store = MemoryBlobStore()
    for data in (b"\0\1\2", b"\xff\xfe\xfd", b"%PDF-1.7\0"):
        ref = store.put(data, media_type="text/plain")
        assert (await Shipped(tmp_path, store).refused("read_output", handle=ref.id))[1] == "binary"


# -- files -------------------------------------------------------------------------------------------------------------


async def test_a_file_is_read(place: Path) -> None:
    shipped = Shipped(place)
    assert await shipped.file("notes.txt") == "one\ntwo\nthree\n"
    assert await shipped.file("./data/../notes.txt") == "one\ntwo\nthree\n"
    assert await shipped.file(str(place / "notes.txt")) == "one\ntwo\nthree\n"
    assert await shipped.file("data/a.csv") == "x,y\n1,2"
    more = "[… more follows: read_file('notes.txt', start_line=3); the file has 14 bytes]"
    assert await shipped.file("notes.txt", start_line=2, lines=1) == "two\n" + more
    assert await shipped.file("notes.txt", start_line=3) == "three\n"
    assert await shipped.no_file("notes.txt", start_line=4) == "beyond_the_end"
    assert await shipped.no_file("notes.txt", start_line=400) == "beyond_the_end"
    assert await shipped.no_file("notes.txt", start_line=0) == "bad_arguments"


async def test_a_directory_is_listed(place: Path) -> None:
    (place / ".env").write_text("KEY=1")
    (place / "odd\nname").write_text("")
    (place / "link").symlink_to("notes.txt")
    shipped = Shipped(place)
    listing = (
        ".: a directory with 5 entries\ndata/\n'odd\\nname' (0 bytes)\n"
        ".env (not read: its name looks like that of a secret)\nlink (a link)\nnotes.txt (14 bytes)"
    )
    assert await shipped.file(".") == listing
    assert await shipped.file("data") == "data: a directory with 1 entries\na.csv (7 bytes)"


async def test_a_long_listing_is_bounded(tmp_path: Path) -> None:
    for number in range(510):
        (tmp_path / f"{number:03}.txt").touch()
    lines = (await Shipped(tmp_path).file(".")).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (502, ".: a directory with 510 entries", "[… and 10 more]")


async def test_text_of_any_kind(tmp_path: Path) -> None:
    shipped = Shipped(tmp_path)
    for data, text in [
        (b"", ""),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("ä€".encode() * 5000, "ä€" * 5000),
        (b"a" * 8191 + "ä".encode() + b"\xff", "a" * 8191 + "ä\ufffd"),
    ]:
        (tmp_path / "it.txt").write_bytes(data)
        assert await shipped.file("it.txt") == text


async def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_bytes(b"x" * 5_000_000)
    text = await Shipped(tmp_path).file("it.json")
    assert text == "x" * 4_000_000 + "\n[… line 1 is cut here; the file has 5,000,000 bytes]"


async def test_a_picture_comes_as_one_and_other_binaries_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(PNG)
    (tmp_path / "big.png").write_bytes(PNG + bytes(6 * 1024 * 1024))
    for name, data in (("a.bin", b"\0\1"), ("b.txt", "ä".encode("latin-1") * 9), ("c.pdf", b"%PDF-1.7 \0")):
        (tmp_path / name).write_bytes(data)
        assert await Shipped(tmp_path).no_file(name) == "binary"
    shipped = Shipped(tmp_path, MemoryBlobStore())
    ref = (await shipped.file("plot.png"))["source"]["attachment_ref"]
    assert (ref["media_type"], ref["byte_len"], ref["label"]) == ("image/png", len(PNG), "plot.png")
    assert await shipped.no_file("big.png") == "picture_too_big"


# -- nothing outside ---------------------------------------------------------------------------------------------------


async def test_nothing_outside_of_the_directory_is_read(place: Path) -> None:
    outside = place.parent / "outside"
    (place / "file_link").symlink_to(outside / "private.txt")
    (place / "directory_link").symlink_to(outside)
    (place / "relative_link").symlink_to("../outside/private.txt")
    (place / "chain").symlink_to("file_link")
    (place / "proc_link").symlink_to("/proc/self/environ")
    (place.parent / "work2").mkdir()
    (place.parent / "work2" / "near.txt").write_text("near")
    shipped = Shipped(place)
    for path in (
        "../outside/private.txt",
        "..",
        "/",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/null",
        "data/../../outside/private.txt",
        "../work2/near.txt",
        str(outside / "private.txt"),
        "file_link",
        "directory_link",
        "directory_link/private.txt",
        "relative_link",
        "chain",
        "proc_link",
    ):
        kind, code, message = await shipped.refused("read_file", path=path)
        assert (kind, code) == ("permission_denied", "outside"), path
        assert "private" not in message.replace(path, "")


async def test_links_within_the_directory_are_followed(place: Path) -> None:
    (place / "link").symlink_to("data/a.csv")
    (place / "all").symlink_to("data")
    shipped = Shipped(place)
    assert await shipped.file("link") == "x,y\n1,2"
    assert await shipped.file("all/a.csv") == "x,y\n1,2"


async def test_a_directory_that_is_a_link_itself(place: Path) -> None:
    (place.parent / "project").symlink_to(place)
    shipped = Shipped(place.parent / "project")
    assert await shipped.file("notes.txt") == "one\ntwo\nthree\n"
    assert await shipped.no_file("../outside/private.txt") == "outside"


async def test_what_is_not_there_or_cannot_be_a_path(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    (place / "dangling").symlink_to("gone")
    shipped = Shipped(place)
    for path in ("missing.txt", "notes.txt/x", "dangling", "loop", "nul\0byte", "x" * 5000, "~/x"):
        kind, code, _ = await shipped.refused("read_file", path=path)
        assert (kind, code) in {
            ("invalid_request", "no_such_file"),
            ("permission_denied", "unreadable"),
            ("invalid_request", "unreadable"),
        }, path


async def test_a_working_directory_that_holds_the_kernels_own_files() -> None:
    shipped = Shipped(Path("/"))
    for path in ("proc/self/environ", "dev/null", "proc", "sys"):
        assert await shipped.no_file(path) == "outside"


async def test_pipes_sockets_and_devices_are_not_opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(place / "pipe")
    monkeypatch.chdir(place)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        shipped = Shipped(place)
        assert await shipped.no_file("pipe") == "not_a_file"
        assert await shipped.no_file("socket") == "not_a_file"


@pytest.mark.parametrize(
    ("path", "exchanged", "target"),
    [
        ("notes.txt", "notes.txt", "outside/private.txt"),
        ("data/a.csv", "data", "outside"),
        ("data/a.csv", "data/a.csv", "outside/private.txt"),
    ],
)
def test_what_becomes_a_link_after_it_was_resolved_is_refused(
    place: Path, path: str, exchanged: str, target: str
) -> None:
    root, steps = resolved(place, path)
    os.close(walked(root, steps, path))
    (place / exchanged).rename(place / "away")
    (place / exchanged).symlink_to(place.parent / target)
    with pytest.raises(ToolError) as refused:
        walked(root, steps, path)
    assert refused.value.kind == "permission_denied"


async def test_a_path_that_is_exchanged_all_the_while_never_leads_outside(place: Path) -> None:
    over = threading.Event()
    (place / "it.txt").write_text("inside")
    (place / "kept").write_text("inside")

    def exchange() -> None:
        while not over.is_set():
            (place / "new").symlink_to(place.parent / "outside" / "private.txt")
            os.replace(place / "new", place / "it.txt")
            os.link(place / "kept", place / "new")
            os.replace(place / "new", place / "it.txt")

    shipped, seen = Shipped(place), set()
    exchanging = threading.Thread(target=exchange)
    exchanging.start()
    try:
        for _ in range(300):
            done = await make(shipped.tools["read_file"], {"path": "it.txt"})
            outcome = done.output.outcome
            seen.add(outcome.payload if isinstance(outcome, ToolSucceeded) else "refused")
    finally:
        over.set()
        exchanging.join()
    assert seen <= {"inside", "refused"}


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.local", "prod.env", "id_rsa", "id_ed25519.pub", ".netrc", "server.pem", "tls.KEY", ".pgpass"),
        *("api_key.txt", "openai-api-key", "credentials.json", "secrets.yaml", ".git-credentials", "db_password.cfg"),
        *(".ssh/config", "home/.aws/config", "auth_token", "service.account.token.json"),
    ],
)
async def test_what_is_called_like_a_secret_is_not_read(place: Path, path: str) -> None:
    assert named_like_a_secret(Path(path).parts)
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_text("hush")
    kind, code, message = await Shipped(place).refused("read_file", path=path)
    assert (kind, code) == (ToolFailureClass.PERMISSION_DENIED, "secret")
    assert "hush" not in message


async def test_a_link_to_a_secret_is_one(place: Path) -> None:
    (place / ".env").write_text("hush")
    (place / "harmless.txt").symlink_to(".env")
    assert await Shipped(place).no_file("harmless.txt") == "secret"


@pytest.mark.parametrize(
    "path", ["keyboard.txt", "tokens.py", "monkey.csv", "environment.yml", "passengers.csv", "src/auth.py", "README"]
)
def test_what_only_sounds_like_one_is_none(path: str) -> None:
    assert not named_like_a_secret(Path(path).parts)
