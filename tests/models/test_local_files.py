"""Opening a local model by its name: which file it is, and what is no model's file."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lash_nb.errors import InputError, WeightsError
from lash_nb.models._engine import EngineSpec
from lash_nb.models._gguf import trained_context
from lash_nb.models.choice import open_model
from lash_nb.models.local import LocalModel, own_spec, threads


def gguf(path: Path, *entries: bytes) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    return path


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


NAME = entry("general.name", 8, struct.pack("<Q", 4) + b"tiny")
WORDS = entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + struct.pack("<Q", 1) + b"a" + struct.pack("<Q", 0))
SCORES = entry("tokenizer.ggml.scores", 9, struct.pack("<IQff", 6, 2, 0.5, 1.5))


@pytest.mark.parametrize(
    ("entries", "length", "n_ctx"),
    [
        ((NAME, WORDS, SCORES, entry("qwen2.context_length", 4, struct.pack("<I", 32768))), 32768, 16384),
        ((entry("x.context_length", 10, struct.pack("<Q", 2048)),), 2048, 2048),
        ((NAME,), None, 4096),
    ],
)
def test_the_context_of_a_users_file_is_the_trained_one_within_bounds(
    tmp_path: Path, entries: tuple[bytes, ...], length: int | None, n_ctx: int
) -> None:
    path = gguf(tmp_path / "own.gguf", *entries)
    assert trained_context(path) == length
    assert own_spec(path, 3) == EngineSpec(path=path, n_ctx=n_ctx, threads=3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"\(it ends too early\); name another file"),
        (b"GGUF", r"\(it ends too early\); name another file"),
        (b"GGUF\x03\0\0\0\1", r"\(it ends too early\); name another file"),
        (b"PK\x03\x04" + bytes(100), "its first four bytes are not GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "its version is 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "it claims to have 1,152,921,504,606,846,976 entries"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 5), "it ends too early"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**40), "a name of 1,099,511,627,776 bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("a", 77, b""), "an entry of the unknown kind 77"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("a", 9, struct.pack("<IQ", 8, 2**50)),
            "a list of 1,125,899,906,842,624 entries",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("a", 9, struct.pack("<IQ", 9, 1)),
            "a list of 1 entries of the kind 9",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("a", 9, struct.pack("<IQ", 0, 2**63)), "it ends too early"),
    ],
)
def test_what_is_no_gguf_file_is_refused_when_it_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "own.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match=problem):
        open_model("local:own.gguf", base_dir=tmp_path, env={})


def test_one_budget_holds_for_all_lists_of_a_head(tmp_path: Path) -> None:
    """Each list is allowed, and as a hole it costs the one who made the file nothing."""
    path = gguf(tmp_path / "own.gguf")
    with path.open("r+b") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 3))
        for _ in range(3):
            file.write(entry("a", 9, struct.pack("<IQ", 8, 600_000)))
            file.seek(600_000 * 8, 1)
        file.truncate()
    with pytest.raises(WeightsError, match="a list of 600,000 entries"):
        trained_context(path)


def test_a_head_that_is_larger_than_any_is_refused(tmp_path: Path) -> None:
    path = gguf(tmp_path / "own.gguf", entry("a", 9, struct.pack("<IQ", 0, 2**29)))
    with path.open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(WeightsError, match="its head is too large"):
        trained_context(path)


def test_what_is_no_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(WeightsError, match=r"pipe\.gguf: the model cannot be read \(it is no regular file\)"):
        open_model("local:pipe.gguf", base_dir=tmp_path, env={})


def test_a_file_of_the_variable_that_is_cut_off_is_blamed_on_the_variable(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(WeightsError, match=r"\(it ends too early\); correct LASH_NB_GGUF, or unset it$"):
        open_model("local", base_dir=tmp_path, env={"LASH_NB_GGUF": str(tmp_path / "own.gguf")})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.gguf: the model cannot be read \(No such file or directory\)"):
        open_model("local:none.gguf", base_dir=tmp_path, env={})


def test_a_users_file_is_opened_by_its_path(tmp_path: Path) -> None:
    gguf(tmp_path / "own.gguf", NAME)
    model = open_model("local:own.gguf", base_dir=tmp_path, env={})
    assert isinstance(model, LocalModel)
    assert model.name == "local:own.gguf"


def test_without_weights_the_user_is_told_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="lash-nb model pull"):
        open_model("local", base_dir=tmp_path, env={"LASH_NB_CACHE_DIR": str(tmp_path)})


def test_threads_leave_a_core_for_the_kernel() -> None:
    assert threads({}) >= 1
    assert threads({"LASH_NB_THREADS": " 3 "}) == 3


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_is_none(given: str) -> None:
    with pytest.raises(InputError, match="LASH_NB_THREADS"):
        threads({"LASH_NB_THREADS": given})
