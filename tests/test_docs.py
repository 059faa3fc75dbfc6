"""The documents say what is so: their Python runs, their commands exist, their generated parts are current.

`python -m tests.test_docs` (`make docs`) writes the generated parts anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "notebooks/data/README.md")

BEGIN = "<!-- state-diagram:begin -->"
END = "<!-- state-diagram:end -->"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def python_blocks() -> list[tuple[str, str]]:
    """(place, code) of every fenced block of Python."""
    found = []
    for name in DOCUMENTS:
        text = read(name)
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found.append((f"{name}:{text.count(chr(10), 0, match.start()) + 1}", match[1]))
    return found


@pytest.mark.parametrize("code", [pytest.param(code, id=place) for place, code in python_blocks()])
def test_python_in_the_documents_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """Each block is a program of its own; what it prints is what its `#>` comments say."""
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"^\s*#> (.*)$", code, re.MULTILINE)


def test_readme_shows_python() -> None:
    assert any(place.startswith("README.md") for place, _ in python_blocks())


def test_what_readme_shows_is_what_the_quickstart_gives(tmp_path: Path) -> None:
    """Shortened where it says "…", and without blank lines; the request is that of the notebook."""
    readme = read("README.md")
    shutil.copytree(ROOT / "notebooks", tmp_path / "n")
    command = [sys.executable, "-m", "lash_nb.cli", "run", str(tmp_path / "n/01_quickstart.ipynb")]
    subprocess.run(command, check=True, capture_output=True)
    cells = json.loads((tmp_path / "n/01_quickstart.out.ipynb").read_text())["cells"]
    cell = next(cell for cell in cells if "".join(cell["source"]).startswith("%%lash"))
    assert indent("".join(cell["source"]), " " * 4) in readme
    given = "".join(cell["outputs"][-1]["data"]["text/plain"])
    sample = readme.partition("```text\n")[2].partition("```")[0]
    rest = iter(line.rstrip() for line in given.splitlines())
    for line in (line.strip("…").rstrip() for line in sample.splitlines() if line.strip() != "…"):
        assert any(found.startswith(line) for found in rest), line


def command_help(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lash_nb.cli", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_is_in_the_readme() -> None:
    listed = re.search(r"\{([\w,-]+)\}", command_help())
    assert listed, "`lash-nb --help` lists no commands"
    missing = [command for command in listed[1].split(",") if f"lash-nb {command}" not in read("README.md")]
    assert not missing


def test_every_option_of_run_is_in_the_readme() -> None:
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", command_help("run"))) - {"--help"}
    assert not {option for option in options if option not in read("README.md")}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(name))
    local = [target for target in targets if "://" not in target]
    assert not [target for target in local if not ((ROOT / name).parent / target).exists()]


def test_files_named_in_contributing_exist() -> None:
    """`path/like/this.py` in code quotes; capitals stand for a name of the reader's choice."""
    quoted = re.findall(r"`((?:lash_nb|tests|notebooks|\.ci)/[\w./]*)`", read("CONTRIBUTING.md"))
    places = [place for place in quoted if not re.search(r"[A-Z]{3}", place)]
    assert places
    assert not [place for place in places if not (ROOT / place).exists()]


def test_the_glossary_is_short() -> None:
    glossary = read("CONTRIBUTING.md").partition("## Words")[2]
    entries = re.findall(r"^\| \*\*", glossary, re.MULTILINE)
    assert 0 < len(entries) <= 30


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    assert re.search(r"^## Unreleased$", read("CHANGELOG.md"), re.MULTILINE)


def test_the_version_is_written_once_and_the_same() -> None:
    import lash_nb

    project = tomllib.loads(read("pyproject.toml"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"] == {"path": "lash_nb/version.py"}
    assert f'__version__ = "{lash_nb.__version__}"' in read("lash_nb/version.py")


def test_the_data_is_what_its_description_says() -> None:
    text = read("notebooks/data/README.md")
    data = (ROOT / "notebooks/data/clock_changes.csv").read_bytes()
    assert hashlib.sha256(data).hexdigest() in text
    assert f"{len(data):,} bytes" in text
    header, *rows = data.decode("utf-8").splitlines()
    assert f"{len(rows)} rows" in text
    assert not [column for column in header.split(",") if f"`{column}`" not in text]


def with_diagram(text: str) -> str:
    """The document with the state diagram of the code in its place."""
    from lash_nb.machine.diagram import state_diagram

    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"CONTRIBUTING.md has no {BEGIN}"
    assert end, f"CONTRIBUTING.md has no {END}"
    return f"{before}{begin}\n```mermaid\n{state_diagram().strip()}\n```\n{end}{after}"


def test_the_state_diagram_is_that_of_the_code() -> None:
    assert with_diagram(read("CONTRIBUTING.md")) == read("CONTRIBUTING.md"), "run `make docs`"


if __name__ == "__main__":
    (ROOT / "CONTRIBUTING.md").write_text(with_diagram(read("CONTRIBUTING.md")), encoding="utf-8")
