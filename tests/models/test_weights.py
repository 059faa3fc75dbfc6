"""Finding a model's file and judging its bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lash_nb.errors import WeightsError
from lash_nb.models.weights import LOCAL_WEIGHTS, fault_of, find_weights, partial_directory, verify, weights_path

from .made_up import CONTENT, WEIGHTS


def installed(directory: Path, content: bytes = CONTENT) -> Path:
    path = weights_path(WEIGHTS, env={"LASH_NB_CACHE_DIR": str(directory)})
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_pinned_parts_add_up_to_the_file() -> None:
    assert LOCAL_WEIGHTS.size_bytes == 491_400_064
    assert sum(part.size_bytes for part in LOCAL_WEIGHTS.parts) == 491_400_064
    assert [part.distribution[-1] for part in LOCAL_WEIGHTS.parts] == ["1", "2", "3", "4", "5", "6"]
    digests = {part.sha256 for part in LOCAL_WEIGHTS.parts} | {part.wheel_sha256 for part in LOCAL_WEIGHTS.parts}
    assert {len(digest) for digest in digests} == {64}
    assert len(digests) == 12


def test_the_file_is_kept_under_its_hash(tmp_path: Path) -> None:
    path = weights_path(env={"LASH_NB_CACHE_DIR": str(tmp_path)})
    assert path == tmp_path / "models" / "1d9614638d18024d.gguf"


def test_the_users_cache_is_the_default() -> None:
    path = weights_path(env={})
    assert path.is_absolute()
    assert path.parts[-3:] == ("lash_nb", "models", "1d9614638d18024d.gguf")


def test_a_file_in_the_cache_is_found(tmp_path: Path) -> None:
    path = installed(tmp_path)
    found = find_weights({"LASH_NB_CACHE_DIR": str(tmp_path)}, weights=WEIGHTS)
    assert (found.path, found.pinned, found.name) == (path, True, "Made-Up 0.5M")
    verify(path, weights=WEIGHTS)


def test_without_a_file_the_message_says_what_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"`lash-nb model pull` fetches it, .* --source index"):
        find_weights({"LASH_NB_CACHE_DIR": str(tmp_path)}, weights=WEIGHTS)


def test_a_pull_that_was_begun_is_mentioned(tmp_path: Path) -> None:
    env = {"LASH_NB_CACHE_DIR": str(tmp_path)}
    partial_directory(WEIGHTS, env=env).mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"goes on with the pull that was begun"):
        find_weights(env, weights=WEIGHTS)


def test_a_file_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "mine.gguf"
    own.write_bytes(b"GGUF and what the user wants")
    found = find_weights({"LASH_NB_GGUF": str(own), "LASH_NB_CACHE_DIR": str(tmp_path)})
    assert (found.path, found.pinned, found.name) == (own, False, "mine.gguf")


@pytest.mark.parametrize("name", ["absent.gguf", "text.gguf", "."])
def test_a_file_of_ones_own_has_to_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(WeightsError, match=r"LASH_NB_GGUF names .*; correct it, or unset it"):
        find_weights({"LASH_NB_GGUF": str(tmp_path / name)})


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = installed(tmp_path, CONTENT[:300_000] + bytes([CONTENT[300_000] ^ 1]) + CONTENT[300_001:])
    with pytest.raises(WeightsError, match=r"is damaged .*`lash-nb model pull` replaces it") as caught:
        verify(path, weights=WEIGHTS)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_a_wrong_size_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WeightsError, match=rf"has {len(content):,} bytes instead of 550,000"):
        verify(installed(tmp_path, content), weights=WEIGHTS)


def test_a_file_that_went_away_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is not there; .*`lash-nb model pull` replaces it"):
        verify(tmp_path / "gone.gguf", weights=WEIGHTS)


def test_a_link_is_not_the_file_even_where_it_leads_to_the_right_bytes(tmp_path: Path) -> None:
    path = installed(tmp_path)
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    with pytest.raises(WeightsError, match=r"link\.gguf cannot be read \(it is a symbolic link\); it is not used"):
        verify(link, weights=WEIGHTS)


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    assert fault_of(pipe, weights=WEIGHTS) == "cannot be read (it is no regular file)"
    assert fault_of(tmp_path, weights=WEIGHTS) == "cannot be read (it is a directory)"
    with pytest.raises(WeightsError, match=r"LASH_NB_GGUF names .* \(it is no regular file\); correct it, or unset it"):
        find_weights({"LASH_NB_GGUF": str(pipe)})


def test_a_file_of_ones_own_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF and more")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "own.gguf")
    assert find_weights({"LASH_NB_GGUF": str(tmp_path / "link.gguf")}).name == "link.gguf"
