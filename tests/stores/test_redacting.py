"""Texts on their way into a store: no secret gets there, whatever piece of the text it stands in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import BlobError
from lash_nb.stores.blobs import BlobStore, MemoryBlobStore
from lash_nb.stores.redacting import RedactingStore
from lash_nb.trust import Redactor

SECRET = "s3cret-hünter-0123456789"
TOKEN = "ghp_" + "a1B2" * 10
REDACTOR = Redactor({"MY_API_KEY": SECRET})


def store(directory: Path) -> RedactingStore:
    return RedactingStore(BlobStore(directory / "blobs"), REDACTOR)


@pytest.mark.parametrize("secret", [SECRET, TOKEN])
def test_a_spilled_text_is_kept_without_its_secret(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "spilled"
    path.write_bytes(f"before {secret} after\n".encode() * 3)
    kept = store(tmp_path)
    ref = kept.adopt(str(path), sha256="0" * 64, media_type="text/plain", label="stdout")
    assert kept.get(ref) == b"before [redacted] after\n" * 3
    assert not path.exists()


def test_a_text_without_a_secret_is_taken_over_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "spilled"
    path.write_bytes(b"sk-short and \xff\xfe no UTF-8\n")
    ref = store(tmp_path).adopt(str(path), sha256="0" * 64, media_type="text/plain")
    assert ref.id == "sha256:" + hashlib.sha256(b"sk-short and \xff\xfe no UTF-8\n").hexdigest()


def test_an_image_is_left_alone(tmp_path: Path) -> None:
    data = b"\x89PNG" + SECRET.encode()
    kept = store(tmp_path)
    assert kept.get(kept.put(data, media_type="image/png")) == data


def test_a_secret_across_two_pieces_of_a_large_file_is_found(tmp_path: Path) -> None:
    size = 4 * 1024 * 1024
    path = tmp_path / "spilled"
    path.write_bytes(b"x" * (size - 10) + SECRET.encode() + b"y" * size)
    kept = store(tmp_path)
    ref = kept.adopt(str(path), sha256="0" * 64, media_type="text/plain")
    assert kept.get(ref) == b"x" * (size - 10) + b"[redacted]" + b"y" * size


@given(st.integers(0, 40_000), st.lists(st.integers(1, 20_000), max_size=6), st.sampled_from([SECRET, TOKEN]))
def test_wherever_a_text_is_cut_on_its_way(before: int, cuts: list[int], secret: str) -> None:
    data = "ä ".encode() * (before // 3) + secret.encode() + b" tail" * 2000
    kept = RedactingStore(MemoryBlobStore(), REDACTOR)
    writer = kept.writer(media_type="text/plain")
    for cut in cuts:
        writer.write(data[:cut])
        data = data[cut:]
    writer.write(data)
    assert kept.get(writer.close()) == "ä ".encode() * (before // 3) + b"[redacted]" + b" tail" * 2000


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text(SECRET)
    os.symlink(tmp_path / "target", tmp_path / "link")
    with pytest.raises(BlobError):
        store(tmp_path).adopt(str(tmp_path / "link"), sha256="0" * 64, media_type="text/plain")
