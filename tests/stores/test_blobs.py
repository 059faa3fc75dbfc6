"""Blob stores: the contract on both, and what the one on disk promises about files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lash_nb.errors import BlobError
from lash_nb.machine.attachments import AttachmentRef, AttachmentStore
from lash_nb.stores.blobs import BlobStore, MemoryBlobStore

HELLO = "sha256:" + hashlib.sha256(b"hello").hexdigest()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AttachmentStore:
    return BlobStore(tmp_path / "blobs") if request.param == "disk" else MemoryBlobStore()


def test_what_is_put_can_be_got(store: AttachmentStore) -> None:
    ref = store.put(b"hello", media_type="text/plain", label="greeting")
    assert ref == AttachmentRef(id=HELLO, media_type="text/plain", byte_len=5, label="greeting")
    assert store.get(ref) == b"hello"


def test_a_writer_gives_what_put_gives(store: AttachmentStore) -> None:
    writer = store.writer(media_type="text/plain")
    for chunk in (b"he", b"", b"llo"):
        writer.write(chunk)
    ref = writer.close()
    assert (ref.id, ref.byte_len) == (HELLO, 5)
    assert store.get(ref) == b"hello"
    with pytest.raises(BlobError):
        writer.close()


def test_what_is_discarded_is_not_there(store: AttachmentStore) -> None:
    writer = store.writer(media_type="text/plain")
    writer.write(b"hello")
    writer.discard()
    with pytest.raises(BlobError):
        store.get(AttachmentRef(id=HELLO, media_type="text/plain", byte_len=5))


@pytest.mark.parametrize("name", [HELLO, "sha256:../../etc/passwd", "other", ""])
def test_what_is_missing_or_no_blob_is_a_clear_error(store: AttachmentStore, name: str) -> None:
    with pytest.raises(BlobError):
        store.get(AttachmentRef(id=name, media_type="text/plain", byte_len=5))


def test_files_are_private_and_found_by_their_hash(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "state" / "blobs")
    store.put(b"hello", media_type="text/plain")
    store.put(b"hello", media_type="text/plain")
    (path,) = [path for path in store.directory.rglob("*") if path.is_file()]
    digest = HELLO.removeprefix("sha256:")
    assert path == store.directory / digest[:2] / digest[2:4] / digest
    assert path.stat().st_mode & 0o777 == 0o600
    assert {d.stat().st_mode & 0o777 for d in [tmp_path / "state", store.directory, *path.parents[:2]]} == {0o700}


def test_damage_is_noticed_and_putting_again_repairs_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    ref = store.put(b"hello", media_type="text/plain")
    store.path(ref.id.removeprefix("sha256:")).write_bytes(b"hellO")
    with pytest.raises(BlobError, match="damaged"):
        store.get(ref)
    store.put(b"hello", media_type="text/plain")
    assert store.get(ref) == b"hello"


def test_an_abandoned_writer_leaves_no_file(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    writer = store.writer(media_type="text/plain")
    writer.write(b"hello")
    del writer
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlobError, match="nothing can be stored"):
        BlobStore(tmp_path / "file" / "blobs").put(b"x", media_type="text/plain")
