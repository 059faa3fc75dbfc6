"""Which installed kernel runs a language, and how it is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lash_nb.errors import UnknownNameError
from lash_nb.kernels.process import KernelProcess
from lash_nb.kernels.specs import find_spec

from .hosts import BASH, environment, execute, talking_to

Installer = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Installs a kernelspec where only this test looks."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def put(name: str, language: str, **more: object) -> Path:
        directory = tmp_path / "kernels" / name
        directory.mkdir(parents=True)
        spec = {"argv": ["run", "{connection_file}"], "display_name": name.title(), "language": language, **more}
        (directory / "kernel.json").write_text(json.dumps(spec))
        return directory

    return put


def test_a_spec_by_its_name(install: Installer) -> None:
    directory = install(
        "quux-2",
        "quux",
        argv=["{prefix}/bin/q", "{resource_dir}/boot.q", "-f{connection_file}", "{other}", "{"],
        env={"Q": "1", "PATH": "/q:${PATH}", "KEPT": "${MISSING}"},
        interrupt_mode="message",
    )
    spec = find_spec("Quux-2")
    assert (spec.name, spec.display_name, spec.language) == ("quux-2", "Quux-2", "quux")
    assert spec.argv == (f"{sys.prefix}/bin/q", f"{directory}/boot.q", "-f{connection_file}", "{other}", "{")
    assert spec.interrupt_mode == "message"
    assert spec.environment({"PATH": "/bin", "Q": "0", "HOME": "/"}) == {
        "PATH": "/q:/bin",
        "Q": "1",
        "HOME": "/",
        "KEPT": "${MISSING}",
    }


def test_defaults_of_a_spec(install: Installer) -> None:
    install("quux", "quux")
    spec = find_spec("quux")
    assert (spec.argv, dict(spec.env), spec.interrupt_mode) == (("run", "{connection_file}"), {}, "signal")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("QUUX", "quuxb"),  # the language; the first by name
        ("corge", "corge"),  # a name goes before a language
        ("Grault", "grault"),  # of several for a language, the one named like it
        ("quuxc", "quuxc"),
    ],
)
def test_which_one_is_taken(install: Installer, wanted: str, found: str) -> None:
    install("quuxc", "Quux")
    install("quuxb", "quux")
    install("a-corge", "corge")
    install("corge", "other")
    install("a-grault", "grault")
    install("grault", "grault")
    assert find_spec(wanted).name == found


@pytest.mark.parametrize("name", ["python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"])
def test_python_is_this_one(install: Installer, name: str) -> None:
    install("snake", "snake", argv=[name, "-m", "snake"])
    assert find_spec("snake").argv == (sys.executable, "-m", "snake")


def test_python_itself_is_there() -> None:
    assert find_spec("python").language == "python"
    assert find_spec("python3").argv[0] == sys.executable


def test_what_is_not_installed(install: Installer) -> None:
    install("quux", "quuxish")
    with pytest.raises(UnknownNameError) as caught:
        find_spec("quuux")
    said = str(caught.value)
    assert "no installed Jupyter kernel is called 'quuux' or runs that language; did you mean 'quux'?" in said
    assert "quux (quuxish)" in said
    assert "python3 (python)" in said
    assert "pip install bash_kernel" in said


def test_no_name_is_no_kernel(install: Installer) -> None:
    install("nameless", "")
    with pytest.raises(UnknownNameError, match="is called ''"):
        find_spec("")


@pytest.mark.parametrize(
    ("spoil", "said"), [('{"argv": ', "is damaged; reinstall it"), ('{"argv": [], "language": "x"}', "has no argv")]
)
def test_a_broken_spec(install: Installer, spoil: str, said: str) -> None:
    (install("quux", "quux") / "kernel.json").write_text(spoil)
    with pytest.raises(UnknownNameError, match=said):
        find_spec("quux")


def test_a_real_one_runs(install: Installer) -> None:
    install("bash-here", "bash", argv=list(BASH), env={"GREETING": "from ${NAME_OF_IT}"})
    spec = find_spec("bash-here")
    process = KernelProcess(
        argv=spec.argv,
        cwd=None,
        env=spec.environment({**environment(), "NAME_OF_IT": "bash"}),
        language=spec.language,
        display_name=spec.display_name,
        has_inside=False,
    )
    try:
        record = json.loads((process.directory / "kernel.json").read_text())
        assert (record["language"], record["display_name"], record["managed"]) == ("bash", "Bash-Here", False)
        with talking_to(process.connection_file) as client:
            assert execute(client, "echo $GREETING") == "from bash"
    finally:
        process.close()
    assert not process.directory.exists()
