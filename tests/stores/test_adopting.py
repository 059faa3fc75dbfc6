"""Files that others wrote, taken over by a store; and parts of what is in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lash_nb.errors import BlobError
from lash_nb.machine.attachments import AdoptingStore, AttachmentRef
from lash_nb.stores.blobs import BlobStore, MemoryBlobStore

TEXT = b"0123456789" * 1000
SHA = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AdoptingStore:
    return BlobStore(tmp_path / "blobs") if request.param == "disk" else MemoryBlobStore()


def file_in(directory: Path, data: bytes = TEXT) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "file"
    path.write_bytes(data)
    return str(path)


def test_a_file_is_moved_in_and_named_by_its_own_hash(store: AdoptingStore, tmp_path: Path) -> None:
    path = file_in(Path(store.staging or tmp_path))
    ref = store.adopt(path, sha256="0" * 64, media_type="text/plain", label="stdout")
    assert ref == AttachmentRef(id=f"sha256:{SHA}", media_type="text/plain", byte_len=10_000, label="stdout")
    assert store.get(ref) == TEXT
    assert not os.path.exists(path)


def test_from_another_file_system_it_is_copied(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        elsewhere = tmp_path / "elsewhere"  # then only a rename is tested
    directory = elsewhere / f"lash-nb-test-{os.getpid()}"
    store = BlobStore(tmp_path / "blobs")
    try:
        ref = store.adopt(file_in(directory), sha256=SHA, media_type="text/plain")
        assert store.get(ref) == TEXT
        assert not os.listdir(directory)
    finally:
        directory.rmdir()


def test_what_was_taken_over_before_is_found_by_its_hash(store: AdoptingStore, tmp_path: Path) -> None:
    path = file_in(tmp_path)
    first = store.adopt(path, sha256=SHA, media_type="text/plain")
    assert store.adopt(path, sha256=SHA, media_type="text/plain") == first
    with pytest.raises(BlobError, match="gone"):
        store.adopt(path, sha256="1" * 64, media_type="text/plain")


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_only_plain_files_are_taken(store: AdoptingStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    match kind:
        case "link":
            path.symlink_to(file_in(tmp_path))
        case "directory":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(BlobError):
        store.adopt(str(path), sha256=SHA, media_type="text/plain")
    assert os.path.lexists(path)


def test_parts(store: AdoptingStore) -> None:
    ref = store.put(TEXT, media_type="text/plain")
    assert store.part(ref, start=5, size=10) == b"5678901234"
    assert store.part(ref, start=9_995, size=100) == b"56789"
    assert store.part(ref, start=20_000, size=1) == b""
    unknown = AttachmentRef(id="sha256:" + "2" * 64, media_type="", byte_len=0)
    with pytest.raises(BlobError):
        store.part(unknown, start=0, size=1)
    with pytest.raises(BlobError):
        store.part(AttachmentRef(id="../../etc/passwd", media_type="", byte_len=0), start=0, size=1)
