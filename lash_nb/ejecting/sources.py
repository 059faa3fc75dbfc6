"""What the sources of cells say, for `lash-nb eject`: which lines are ours, what is asked, which names are used.

Decided here: a cell is read as IPython reads it, and never run. What cannot be parsed uses no names that we know of.
"""

from __future__ import annotations

import ast
import io
import re
import symtable
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..wanted import names_of as names_in

__all__ = ["Asking", "Names", "asks_person", "finishes_last", "names_of", "plain_python", "read_cell", "uses_us"]

_MAGIC = re.compile(r"%%[^\W\d]\w*\b.*")
_OF_PYTHON = re.compile(r"%%(?:capture|prun|time|timeit)\b")
"""Below these, a cell is read as any other."""
_CELL = re.compile(r"%%lash(?:[ \t]+(?P<options>.*))?")
_OPTION = re.compile(
    r"(?<!\S)(?:(?P<type>--t\w*(?:=|[ \t]+)|-t=?[ \t]*)|(?P<names>--o\w*(?:=|[ \t]+)|-o=?[ \t]*))"
    r"(?P<given>'[^']*'|\"[^\"]*\"|\S+)"
)
_LINE = re.compile(
    r"(?P<indent>[ \t]*)(?:(?P<target>[^\W\d]\w*)[ \t]*=[ \t]*)?"
    r"(?:%lash\b[ \t]*(?P<word>\S*)[ \t]*(?P<rest>.*)|%(?:re|un)?(?:load_)?ext[ \t]+lash_nb\b.*|%config[ \t]+Lash\b.*)"
)
_WHY = "lash_nb is not here"
_STOP = 'raise NotImplementedError("this request cannot be made plain")'
_OTHERWISE = re.compile(r"(?<![\w.-])(?:lash[_-]nb\b|lash(?=\s|$))")
"""What names us in what is given to a function of IPython or of Python's import."""
_BY_NAME = frozenset(
    {"run_line_magic", "run_cell_magic", "magic", "load_extension", "reload_extension", "system", "getoutput"}
    | {"import_module", "__import__"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a cell of the user asks, and what is left of it without us."""

    requests: tuple[str, ...] = ()
    rest: str = ""
    """Its source without what is ours; empty when nothing but comments is left."""
    ours: bool = False
    """Whether anything of it was ours."""
    targets: tuple[str | None, ...] = ()
    """To which name each turn is assigned."""
    nested: bool = False
    """Whether a request stands within other code, which says whether and how often it is asked."""
    resumes: int = 0
    """How many turns it may show that were asked elsewhere."""
    fixes: bool = False
    """Whether one of them is that of a `%lash fix`."""
    resume_target: str | None = None
    """To which name that turn is assigned."""
    words: int = 0
    """How many lines of it are words of `%lash` that ask nothing."""
    wanted: str = ""
    """What its `-t` says."""
    names: tuple[str, ...] = ()
    """Those of its `-o`."""
    comments: tuple[str, ...] = ()
    """Where nothing but comments is left of a cell: those, and its words as such."""

    @property
    def rest_resumed(self) -> str:
        """`rest`, where the turn that it may show is assigned already."""
        line = rf"(?m)^{self.resume_target} = None  (?=# {self.resume_target}[ \t]*=[ \t]*%lash[ \t]+(?:resume|fix)\b)"
        return re.sub(line, "", self.rest) if self.resume_target else self.rest

    def place_kept(self, *, resumed: bool) -> str:
        """What stands where a cell was of which nothing else is left; empty when it had none of these words.

        `resumed`: a turn stands for its `%lash resume` or `%lash fix`.
        """
        kept = [line for line in self.comments if not (resumed and _shows_a_turn(line.split()[1:3]))]
        return "\n".join(kept) if any(line.endswith(f"({_WHY})") for line in kept) else ""


def read_cell(source: str) -> Asking:
    """A cell's source, read as the magics would take it."""
    lines = source.split("\n")
    for at, line in enumerate(lines):
        stripped = line.strip()
        if (cell := _CELL.fullmatch(stripped)) is not None:
            request = "\n".join(lines[at + 1 :]).strip("\n")
            wanted, names = _options(cell["options"] or "")
            return Asking(requests=(request,), ours=True, targets=(None,), wanted=wanted, names=names)
        if _MAGIC.fullmatch(stripped) and not _OF_PYTHON.match(stripped):
            return Asking(rest=source)
        if stripped and not stripped.startswith("#") and not _MAGIC.fullmatch(stripped):
            break
    return _read_lines(lines)


def _options(line: str) -> tuple[str, tuple[str, ...]]:
    """What `-t` and `-o` say on the line of a `%%lash`."""
    wanted, names = "", ""
    for found in _OPTION.finditer(line):
        given = found["given"]
        given = given[1:-1] if given[0] in "'\"" else given
        wanted, names = (given, names) if found["type"] else (wanted, given)
    return wanted, names_in(names)


def _shows_a_turn(words: list[str]) -> bool:
    return words in (["%lash", "resume"], ["%lash", "fix"])


def _read_lines(lines: list[str]) -> Asking:
    found = {at: match for at, line in enumerate(lines) if (match := _LINE.fullmatch(line)) is not None}
    for at in _within_strings(lines, found):
        found.pop(at, None)
    requests: list[str] = []
    targets: list[str | None] = []
    nested = False
    margin = _margin(lines)
    rest = list(lines)
    for at, match in found.items():
        target = match["target"]
        instead = f"{target} = None" if target else "pass" if match["indent"] else ""
        if match["word"] == "ask":
            requests.append(match["rest"].strip())
            targets.append(target)
            within = len(match["indent"]) > len(margin)
            nested = nested or within
            # Elsewhere it is assigned where the turn stands.
            instead = _STOP if within else "pass" if match["indent"] else ""
        rest[at] = f"{match['indent']}{instead}{'  ' if instead else ''}# {lines[at].strip()} ({_WHY})"
    code = [
        line for at, line in enumerate(lines) if at not in found and line.strip() and not line.lstrip().startswith("#")
    ]
    words = [at for at, match in found.items() if match["word"] not in (None, "ask")]
    comments = [f"# {lines[at].strip()} ({_WHY})" if at in words else line for at, line in enumerate(lines)]
    assigned = any(match["target"] and match["word"] != "ask" for match in found.values())
    resumes = [match["target"] for match in found.values() if _shows_a_turn(["%lash", match["word"] or ""])]
    return Asking(
        requests=tuple(requests),
        rest="\n".join(rest) if code or assigned else "",
        ours=bool(found),
        targets=tuple(targets),
        nested=nested,
        resumes=len(resumes),
        fixes=any(match["word"] == "fix" for match in found.values()),
        resume_target=resumes[-1] if resumes else None,
        words=len(words),
        comments=tuple(line for at, line in enumerate(comments) if line.strip() and (at in words or at not in found)),
    )


def _margin(lines: list[str]) -> str:
    """The indentation of the whole cell, which IPython takes away: that of its first line."""
    first = next((line for line in lines if line.strip() and not _OF_PYTHON.match(line.strip())), "")
    return first[: len(first) - len(first.lstrip())]


def _within_strings(lines: list[str], found: Iterable[int]) -> list[int]:
    """Which of these lines only look like ours, within a text of several lines."""
    ours = set(found)
    masked = [
        f"{line[: len(line) - len(line.lstrip())]}pass" if at in ours or line.lstrip()[:1] in ("%", "!") else line
        for at, line in enumerate(lines)
    ]
    inside: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(masked)).readline):
            if token.start[0] < token.end[0] and token.type not in (tokenize.NEWLINE, tokenize.NL):
                inside += [at for at in ours if token.start[0] <= at < token.end[0]]
    except (tokenize.TokenError, SyntaxError):
        pass  # what cannot be read to its end is judged by what could be
    return inside


# --------------------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The global names of some cells."""

    assigned: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    imported: frozenset[tuple[str, str]] = frozenset()
    """Name, and what is imported under it."""
    attributes: frozenset[str] = frozenset()
    """Names behind a dot."""

    def __or__(self, other: Names) -> Names:
        return Names(
            assigned=self.assigned | other.assigned,
            used=self.used | other.used,
            imported=self.imported | other.imported,
            attributes=self.attributes | other.attributes,
        )


def plain_python(source: str) -> str:
    """The cell as Python, magics and all."""
    from IPython.core import inputtransformer2

    transformer: Any = inputtransformer2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a "\d" of somebody else is no news
            return str(transformer.TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source


def _tree(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(plain_python(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=4096)
def names_of(source: str) -> Names:
    """Which global names a cell assigns and uses."""
    tree = _tree(source)
    if tree is None:
        return Names()
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home = f"{'.' * node.level}{node.module or ''}:" if isinstance(node, ast.ImportFrom) else ""
            imported |= {(one.asname or one.name.partition(".")[0], f"{home}{one.name}") for one in node.names}
    assigned: set[str] = set()
    used: set[str] = set()
    try:
        _collect(symtable.symtable(plain_python(source), "cell", "exec"), assigned, used, top=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # `await` at the top of a cell is IPython's own
        assigned = {name for name, _ in imported}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else assigned).add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                assigned.add(node.name)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return Names(
        assigned=frozenset(assigned),
        used=frozenset(used),
        imported=frozenset(imported),
        attributes=frozenset(attributes),
    )


def _collect(table: symtable.SymbolTable, assigned: set[str], used: set[str], *, top: bool) -> None:
    for symbol in table.get_symbols():
        if top or symbol.is_global():
            if symbol.is_assigned() or symbol.is_imported() or (top and symbol.is_namespace()):
                assigned.add(symbol.get_name())
            if symbol.is_referenced():
                used.add(symbol.get_name())
    for child in table.get_children():
        _collect(child, assigned, used, top=False)


def uses_us(source: str) -> bool:
    """Whether a cell has something of lash_nb by other means than our magics at the beginning of a line."""
    lines = source.split("\n")
    while lines and (not lines[0].strip() or _OF_PYTHON.match(lines[0].strip())):
        lines = lines[1:]
    tree = _tree("\n".join(lines))
    return tree is not None and any(_is_ours(node) for node in ast.walk(tree))


def _is_ours(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(one.name.partition(".")[0] == "lash_nb" for one in names)
        case ast.ImportFrom(module=str() as module, level=0):
            return module.partition(".")[0] == "lash_nb"
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _BY_NAME:
            # Below a cell magic stands text for whoever reads it.
            given = node.args[:2] if name == "run_cell_magic" else node.args
            texts = [*given, *(one.value for one in node.keywords)]
            return any(
                isinstance(one, ast.Constant) and isinstance(one.value, str) and _OTHERWISE.search(one.value)
                for one in texts
            )
        case _:
            return False


def asks_person(source: str) -> bool:
    """Whether a cell asks whoever runs it: `input()`, or `getpass()` from wherever."""
    tree = _tree(source)
    if tree is None:
        return False
    names = names_of(source)
    if "input" in names.used - names.assigned or "getpass:getpass" in {what for _, what in names.imported}:
        return True
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(
        (isinstance(one, ast.Name) and one.id == "getpass" and "getpass" not in names.assigned)
        or (isinstance(one, ast.Attribute) and one.attr == "getpass")
        for one in called
    )


def finishes_last(source: str) -> bool:
    """Whether the one call of `finish` in it is its last statement: then nothing is left to be ended."""
    tree = _tree(source)
    if tree is None or not tree.body:
        return False
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finish"
    ]
    last = tree.body[-1]
    named = sum(isinstance(node, ast.Name) and node.id == "finish" for node in ast.walk(tree))
    return named == len(calls) == 1 and isinstance(last, ast.Expr) and last.value is calls[0]
