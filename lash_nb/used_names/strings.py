"""What calls make of their strings: code, magics, shell commands, and names that are looked up by their text.

Decided here: which calls are known. They are known by the names they are called by, for nothing is run. In `exec`,
`eval` and `compile` a string is Python, in magics that time or capture code it is a cell; in `df.query("x > @limit")`
the names behind `@` count, in SQL those behind `from` and `join`, in shell commands and the arguments of magics
`{expression}` and `$name`, in the latter also whole words.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LONG", "CodeString", "Words", "of_call", "of_compare", "of_subscript", "parsed"]

LONG = 8_000
"""Characters of a cell that IPython makes Python of in no time."""

_FILE = "<lash_nb.used_names>"
_IPYTHON_LINE = re.compile(r"([ \t]*)(?:%[^\W\d]|[!?,;/]|[^\n#]*=\s*[%!]|[^\n#]*\?\s*$)")
_QUIET = ("ignore", None, Warning, re.compile(re.escape(_FILE)), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeString:
    """A string that is run; `cell`: it may have IPython's syntax."""

    code: str
    cell: bool = False
    here: bool = False
    """Whether it runs in the place of the call, with its names."""
    binds: bool = False
    """Whether what it binds stays bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Names that are looked up by their text."""

    words: tuple[str, ...]


_Found = CodeString | Words


def parsed(code: str, *, cell: bool) -> ast.Module | None:
    """The code as Python, after IPython has made Python of it if it has to; None when that is not possible.

    Raises:
        RecursionError: it is nested too deeply.
    """
    tree = _plain(code)
    if tree is None and cell and len(code) > LONG and not code.lstrip().startswith("%%"):
        tree = _plain("".join(_by_lines(code)))
    return tree if tree is not None or not cell else _plain(_python(code))


def _by_lines(code: str) -> Iterator[str]:
    """What looks like a magic is made Python by itself: IPython reads the cell again for each, which takes seconds."""
    taken: list[str] = []
    for line in code.splitlines(keepends=True):
        taken.append(line)
        if line.endswith("\\\n") and _IPYTHON_LINE.match(taken[0]):
            continue
        whole = "".join(taken)
        found = _IPYTHON_LINE.match(whole)
        yield found[1] + _python(whole[found.end(1) :]) if found is not None else whole
        taken.clear()
    yield "".join(taken)


def _python(code: str) -> str:
    from IPython.core import inputtransformer2  # takes a while, and most cells are plain Python

    transformer: Any = inputtransformer2
    try:
        return str(transformer.TransformerManager().transform_cell(code))
    except RecursionError:
        raise
    except Exception:  # what IPython cannot make Python of, it will not run
        return code


def _plain(code: str) -> ast.Module | None:
    if _QUIET not in warnings.filters:
        # A "\d" of somebody else is no news. Not `catch_warnings`: that is all threads' business.
        warnings.filterwarnings("ignore", category=Warning, module=_QUIET[3].pattern)
    try:
        return ast.parse(code, _FILE)
    except (SyntaxError, ValueError, MemoryError):
        return None


# ------------------------------------------------------------------------------------------------------------ Python

_RUN = frozenset({"compile", "eval", "exec"})
_RUN_BY = {
    "builtins": _RUN,
    "ne": frozenset({"evaluate"}),
    "numexpr": frozenset({"evaluate"}),
    "pandas": frozenset({"eval"}),
    "pd": frozenset({"eval"}),
    "timeit": frozenset({"Timer", "repeat", "timeit"}),
}
_NAMESPACES = frozenset({"globals", "locals", "vars"})
_LOOK_UP = frozenset({"__contains__", "__getitem__", "get", "pop", "setdefault"})
_EVALUATE = frozenset({"eval", "query"})
_SQL = frozenset({"execute", "query", "sql"})
_IPYTHON = frozenset({"getoutput", "magic", "run_cell", "run_cell_magic", "run_line_magic", "system", "run_cell_async"})
_OF_INTEREST = _RUN | _LOOK_UP | _EVALUATE | _SQL | _IPYTHON | frozenset().union(*_RUN_BY.values())

_IDENTIFIER = r"[^\W\d]\w*"
_WORD = re.compile(_IDENTIFIER)
_AT = re.compile(rf"@({_IDENTIFIER})")
_FROM = re.compile(rf"\b(?:from|join)\s+[\"`]?({_IDENTIFIER})", re.IGNORECASE)


def of_call(node: ast.Call) -> Sequence[_Found] | None:
    """What this call makes of its strings."""
    func = node.func
    name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
    if name not in _OF_INTEREST:
        return None
    if isinstance(func, ast.Attribute):
        return [*_of_method(func, node)]
    if name in _RUN:
        return [*_run(node)]
    return [Words(words=tuple(_FROM.findall(text))) for text in _texts(node)] if name in _SQL else None


def _of_method(func: ast.Attribute, node: ast.Call) -> Iterator[_Found]:
    name, of = func.attr, func.value.id if isinstance(func.value, ast.Name) else ""
    if name in _RUN_BY.get(of, ()):
        yield from _run(node)
    elif name in _IPYTHON:
        if name not in ("getoutput", "system") or _is_ipython(func.value):
            yield from _of_ipython(name, node)
    elif name in _LOOK_UP and _is_namespace(func.value):
        yield Words(words=tuple(_key(node.args[0]) if node.args else ()))
    for text in _texts(node):
        if name in _EVALUATE:
            yield Words(words=tuple(_AT.findall(text)))
        if name in _SQL:
            yield Words(words=tuple(_FROM.findall(text)))


def _run(node: ast.Call) -> Iterator[_Found]:
    whole = [value for value in _arguments(node) if isinstance(value, ast.Constant)]
    for value in whole:
        if isinstance(value.value, str | bytes):
            text = value.value if isinstance(value.value, str) else value.value.decode("utf-8", "replace")
            yield CodeString(code=text.strip())
    for text in _texts(node, but=whole):
        yield Words(words=tuple(_WORD.findall(text)))


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _texts(node: ast.Call, *, but: Iterable[ast.expr] = ()) -> Iterator[str]:
    """All pieces of text in the arguments, those of sums and f-strings too."""
    left_out = {id(value) for value in but}
    for argument in _arguments(node):
        if id(argument) not in left_out:
            for part in ast.walk(argument):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def of_subscript(node: ast.Subscript) -> tuple[str, ...]:
    """The name that `globals()["name"]` reads."""
    return tuple(_key(node.slice)) if isinstance(node.ctx, ast.Load | ast.Del) and _is_namespace(node.value) else ()


def of_compare(node: ast.Compare) -> tuple[str, ...]:
    """The name that `"name" in globals()` asks for."""
    return tuple(_key(node.left)) if _is_namespace(node.comparators[0]) else ()


def _key(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _is_namespace(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]):
            return name in _NAMESPACES or name == "dir"
        case ast.Attribute(attr="keys") | ast.Call(func=ast.Attribute(attr="keys")):
            inner = node.func if isinstance(node, ast.Call) else node
            return isinstance(inner, ast.Attribute) and _is_namespace(inner.value)
    return isinstance(node, ast.Attribute) and node.attr == "user_ns"


# ----------------------------------------------------------------------------------------------------------- IPython

_CODE = frozenset({"capture", "debug", "lprun", "memit", "mprun", "prun", "px", "snakeviz", "time", "timeit"})
"""Magics whose text is code of this kernel."""
_OTHER_LANGUAGES = frozenset({"!", "HTML", "R", "SVG", "bash", "cmd", "cython", "file", "html", "javascript", "js"}) | {
    *("latex", "markdown", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh", "svg", "sx"),
    *("system", "writefile"),
}
_NO_NAMES = frozenset(
    {"autoreload", "cd", "conda", "config", "env", "load_ext", "ls", "mamba", "matplotlib", "pip"}
) | {
    *("pylab", "reload_ext", "uv"),
}
"""Line magics whose words are no variables."""

_BRACES = re.compile(r"\{([^{}]+)\}")
_DOLLAR = re.compile(rf"\$({_IDENTIFIER})")
_OPTIONS = re.compile(r"\s*(?:--?[\w-]+(?:=\S*)?\s+(?:\d+\s+)?)*")
_NAME_AND_MORE = re.compile(rf"({_IDENTIFIER})(?:\.{_IDENTIFIER})*[?]*")
_MOST_VALUES = 4
"""So many words before the code of a magic may be values of its options."""


def _is_ipython(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="get_ipython")) | ast.Name(id="ip" | "ipython" | "shell"):
            return True
    return False


def _of_ipython(name: str, node: ast.Call) -> Iterator[_Found]:
    texts = [value.value for value in node.args if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    if len(texts) != len(node.args) or not texts:
        yield from (Words(words=tuple(_WORD.findall(text))) for text in _texts(node))
    elif name in ("getoutput", "system"):
        yield from _expanded(texts[0])
    elif name in ("run_cell", "run_cell_async"):
        yield CodeString(code=texts[0], cell=True)
    elif name == "magic":
        magic, _, line = texts[0].lstrip("%").partition(" ")
        yield from _of_line(magic, line)
    elif name == "run_line_magic":
        yield from _of_line(texts[0], " ".join(texts[1:2]))
    elif len(texts) == 3:
        yield from _of_cell(*texts)


def _expanded(text: str) -> Iterator[_Found]:
    """`{expression}` and `$name`, as IPython expands them."""
    for expression in _BRACES.findall(text):
        value = expression
        for _ in range(_MOST_VALUES):  # a format or a conversion may stand behind it
            if _plain(value.strip()) is not None or not re.search("[:!]", value):
                break
            value = value[: max(value.rfind(":"), value.rfind("!"))]
        yield CodeString(code=value.strip())
    yield Words(words=tuple(_DOLLAR.findall(text)))


def _of_line(magic: str, line: str) -> Iterator[_Found]:
    if magic in _CODE:
        options = _OPTIONS.match(line + " ")
        end = options.end() if options is not None else 0
        yield from _behind_options(line[end:], binds=magic == "time" and "--no-raise" not in line[:end])
        return
    yield from _expanded(line)
    if magic not in _NO_NAMES:
        yield Words(words=tuple(_whole_words(line)))


def _behind_options(code: str, *, binds: bool) -> Iterator[_Found]:
    rest = code
    for _ in range(_MOST_VALUES):
        if not rest.strip() or parsed(rest, cell=True) is not None:
            break
        word, _, rest = rest.lstrip().partition(" ")
        yield Words(words=tuple(_whole_words(word)))
    else:
        rest = code  # no end of it parses: its words count
    yield CodeString(code=rest, cell=True, here=True, binds=binds)


def _of_cell(magic: str, line: str, body: str) -> Iterator[_Found]:
    if magic in _CODE:
        if magic == "timeit":
            options = _OPTIONS.match(line + " ")
            setup = line[options.end() if options is not None else 0 :]
            yield CodeString(code=f"{setup}\n{body}", cell=True, here=True)
        else:
            yield CodeString(code=body, cell=True, here=True)
        return
    yield from _expanded(line)
    yield Words(words=tuple(_whole_words(line)))
    if "sql" in magic.lower():
        yield Words(words=tuple(_FROM.findall(body)))
    elif magic not in _OTHER_LANGUAGES and parsed(body, cell=True) is not None:
        yield CodeString(code=body, cell=True, here=True)


def _whole_words(line: str) -> Iterator[str]:
    for word in re.split(r"[\s,]+", line):
        found = _NAME_AND_MORE.fullmatch(word)
        if found is not None:
            yield found[1]
