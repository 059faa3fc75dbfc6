"""The rules of the house, as far as a test can hold them: layers, names, sizes, registries, import costs.

Style is ruff's, types are mypy's (`make check`); the layers themselves are in pyproject.toml.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from lash_nb.kernels.inside import PARTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lash_nb"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
TOO_LONG: dict[str, str] = {}
"""`path` or `path:function` → since when, and why it cannot be shorter. Keep it empty."""

CATCH_ALLS = {"base", "common", "core", "helpers", "misc", "types", "util", "utils"}
"""Names that say nothing about what is decided in a file."""

EXTENSION_POINTS = ("kernels", "models", "protocols", "stores", "toolkits", "views")

PURE = ("machine", "protocols", "kernels/outputs.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_public(path: Path) -> bool:
    steps = path.relative_to(PACKAGE).with_suffix("").parts
    return not any(step.startswith("_") and step != "__init__" for step in steps)


INSIDE = [path for path in (PACKAGE / "kernels" / "inside").glob("*.py") if path.name != "__init__.py"]
"""Sent as source into a kernel whose Python need not have lash_nb: nothing imports them."""

PUBLIC = [path for path in SOURCES if is_public(path) and path not in INSIDE]


def config() -> dict[str, dict[str, dict[str, object]]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def contract(identifier: str) -> dict[str, list[str]]:
    contracts = config()["tool"]["importlinter"]["contracts"]
    assert isinstance(contracts, list)
    found: dict[str, list[str]] = next((c for c in contracts if c["id"] == identifier), {})
    return found


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_decides(path: Path) -> None:
    assert ast.get_docstring(parsed(path)), f"{relative(path)} has no docstring"


def test_no_file_is_named_after_nothing() -> None:
    steps = {step for path in SOURCES for step in path.relative_to(ROOT).with_suffix("").parts}
    assert not steps & CATCH_ALLS


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=relative)
def test_nothing_is_too_long(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lengths = {relative(path): (len(source.splitlines()), MAX_MODULE_LINES)}
    for function in functions(ast.parse(source)):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        lengths[f"{relative(path)}:{function.name}"] = (lines, MAX_FUNCTION_LINES)
    too_long = {name: lines for name, (lines, most) in lengths.items() if lines > most and name not in TOO_LONG}
    assert not too_long


def test_exceptions_to_the_sizes_are_still_there() -> None:
    for name in TOO_LONG:
        path, _, function = name.partition(":")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not function or function in {f.name for f in functions(ast.parse(source))}, name


# ------------------------------------------------------------------------------------------------------ names


def sort_key(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order that ruff (RUF022) keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", PUBLIC, ids=relative)
def test_public_modules_say_what_is_public(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    names = getattr(module, "__all__", None)
    assert names is not None, f"{module.__name__} has no __all__"
    assert list(names) == sorted(set(names), key=sort_key)
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing, f"{module.__name__}.__all__ lists what is not there: {missing}"


# ------------------------------------------------------------------------------------------------- registries

REFERENCE = re.compile(r"[\w.]+:[A-Za-z_]\w*")


def references(module: ModuleType) -> dict[str, str]:
    """The `module:attribute` strings in the registries of a package: mappings of its `__init__`."""
    registries = {name: value for name, value in vars(module).items() if isinstance(value, Mapping)}
    return {
        f"{registry}[{name!r}]": entry
        for registry, entries in registries.items()
        if not registry.startswith("__")
        for name, entry in entries.items()
        if isinstance(entry, str) and REFERENCE.fullmatch(entry)
    }


def extension_points() -> list[str]:
    return [name for name in EXTENSION_POINTS if (PACKAGE / name / "__init__.py").exists()]


@pytest.mark.parametrize("package", extension_points())
def test_registries_resolve(package: str) -> None:
    for place, reference in references(importlib.import_module(f"lash_nb.{package}")).items():
        module, _, attribute = reference.partition(":")
        assert hasattr(importlib.import_module(module, f"lash_nb.{package}"), attribute), f"{place} = {reference!r}"


@pytest.mark.parametrize("package", ["kernels", "models"])
def test_these_packages_have_a_registry(package: str) -> None:
    assert references(importlib.import_module(f"lash_nb.{package}"))


@pytest.mark.parametrize("package", extension_points())
def test_implementations_are_listed_in_the_contracts(package: str) -> None:
    """One that is missing in `tool.importlinter` could import its siblings, and nobody would notice."""
    registered = references(importlib.import_module(f"lash_nb.{package}")).values()
    implementations = {reference.partition(":")[0] for reference in registered}
    if len(implementations) > 1:
        assert implementations <= set(contract(package).get("modules", []))


# ----------------------------------------------------------------------------------------------------- layers


def test_layers_hold() -> None:
    run_python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")


def pure_modules() -> list[Path]:
    places = [PACKAGE / place for place in PURE]
    return [path for path in SOURCES if any(path == place or place in path.parents for place in places)]


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level names that a module imports from outside the package, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", pure_modules(), ids=relative)
def test_the_pure_half_imports_no_third_party(path: Path) -> None:
    """The contract in pyproject.toml has to name what it forbids; this holds for what nobody thought of."""
    names = set(imported(parsed(path)))
    assert names <= sys.stdlib_module_names
    assert not names & set(contract("pure")["forbidden_modules"])


@pytest.mark.parametrize("path", INSIDE, ids=relative)
def test_what_is_sent_into_a_kernel_finds_its_imports_there(path: Path) -> None:
    tree = parsed(path)
    # an ipykernel never comes without jupyter_client, tornado and zmq
    there = {"IPython", "ipykernel", "jupyter_client", "tornado", "zmq", *sys.stdlib_module_names}
    assert set(imported(tree)) <= there
    siblings = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert siblings <= set(PARTS)


def test_importing_the_machine_loads_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import lash_nb.machine\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names - {'lash_nb'}))"
    )
    assert run_python(code).split() == []


def test_importing_the_package_is_cheap() -> None:
    heavy = [
        "IPython",
        "ipykernel",
        "ipywidgets",
        "jupyter_client",
        "nbclient",
        "openai",
        "pydantic_ai",
        "zmq",
    ]
    assert run_python(f"import sys, lash_nb; print(*[n for n in {heavy!r} if n in sys.modules])").split() == []


# ------------------------------------------------------------------------------------------------------ tests


def forbidden_in_tests(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip"}:
            yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            origin = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if any("mock" in f"{origin}.{alias.name}" for alias in node.names):
                yield f"line {node.lineno}: mock"


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_tests_neither_skip_nor_mock(path: Path) -> None:
    assert list(forbidden_in_tests(parsed(path))) == []


def test_every_directory_of_tests_is_a_package() -> None:
    """Else two files of one name (contract.py) are one module to pytest and mypy."""
    assert not [relative(path) for path in TESTS if not (path.parent / "__init__.py").exists()]


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=relative)
def test_nothing_is_left_to_do(path: Path) -> None:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    assert not [c.start[0] for c in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", c.string)]
