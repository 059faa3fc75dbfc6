"""The snippet protocol's cell: from a small model's raw text to the code that is run.

Decided here: what of a reply is code (`read_cell`), and what is put around it (`finished_cell`): an import for a
well-known name that the kernel does not have, the value as last expression where the model only assigned it, and
`finish(…)` around it where the turn must end with a value. The model's own lines stay as it wrote them; the user sees
all of it. What is no Python never gets past `read_cell`. Pure: code is parsed, never run.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Mapping

from ..machine.execution import NamespaceSummary
from ..machine.wire import Json

__all__ = ["MAX_CODE_CHARS", "MAX_CODE_LINES", "copied_from", "finished_cell", "finishes", "parsed", "read_cell"]

MAX_CODE_CHARS = 1_200
MAX_CODE_LINES = 24
"""More is no answer to a small request: such a model has lost its way."""

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*[\w{}.+-]*[ \t]*$")
_PROMPT = re.compile(r"^(?:>>> ?|\.\.\. ?|In ?\[\d*\]: ?)")
_NEXT_REQUEST = re.compile(r"^\s*#+\s*(?:request|variables)\b", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(?:python|py|code|answer)\s*:?\s*$", re.IGNORECASE)

_IMPORTS = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "sns": "import seaborn as sns",
    "Counter": "from collections import Counter",
    "Path": "from pathlib import Path",
    "date": "from datetime import date",
    "defaultdict": "from collections import defaultdict",
    "timedelta": "from datetime import timedelta",
} | {
    name: f"import {name}"
    for name in (
        *("collections", "csv", "functools", "glob", "io", "itertools", "json", "math", "operator", "os", "random"),
        *("re", "shutil", "statistics", "string", "sys", "textwrap", "time"),
    )
}
_UNMISTAKABLE = frozenset({"np", "pd", "plt", "sns"})
_OF_DATETIME = frozenset({"MAXYEAR", "UTC", "date", "datetime", "time", "timedelta", "timezone"})
_BUILT_IN = frozenset(dir(builtins)) | {"display", "exit", "finish", "get_ipython", "quit"}
_PLOT_ROOTS = frozenset({"plt", "sns"})
_PLOT_METHODS = frozenset({"bar", "barh", "boxplot", "hist", "pie", "plot", "scatter"})
_IN_PLACE = frozenset({"append", "clear", "extend", "insert", "remove", "reverse", "sort", "update"})
_FRAMES = frozenset({"DataFrame", "GeoDataFrame"})
_CHANGE_A_FRAME = frozenset({"insert", "pop", "update"})


# -- out of the reply ------------------------------------------------------------------------------------------------


def parsed(code: str) -> ast.Module | None:
    """The program, or None when it is no Python, or nothing but comments."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's "\d" is no news for the user
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if tree.body else None


def read_cell(text: str) -> str | None:
    """The code in a reply; None when there is none that parses.

    Fences, prompts (`>>>`), labels and prose around the code are dropped, and whatever comes after a following
    request that the model made up.
    """
    lines = _bare_lines(text.replace("\r\n", "\n").replace("\r", "\n"))
    for candidate in _candidates(lines):
        code = "\n".join(candidate).strip("\n")
        if code.strip() and len(code) <= MAX_CODE_CHARS and len(candidate) <= MAX_CODE_LINES and parsed(code):
            return code
    return None


def _bare_lines(text: str) -> list[str]:
    lines = text.split("\n")
    opening = next((index for index, line in enumerate(lines) if _FENCE.match(line)), None)
    if opening is not None:
        after = lines[opening + 1 :]
        closing = next((index for index, line in enumerate(after) if _FENCE.match(line)), len(after))
        # A fence that only closes: the model was asked to go on within one.
        lines = after[:closing] if any(line.strip() for line in after[:closing]) else lines[:opening]
    end = next((index for index, line in enumerate(lines) if _NEXT_REQUEST.match(line) and any(lines[:index])), None)
    lines = [line for line in lines[:end] if not _NEXT_REQUEST.match(line)]
    if any(line.startswith(">>>") for line in lines):
        lines = [line for line in lines if _PROMPT.match(line)]
    lines = [_PROMPT.sub("", line).rstrip() for line in lines]
    while lines and (not lines[0].strip() or _LABEL.match(lines[0])):
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    ticks = len(lines) == 1 and lines[0].strip().startswith("`") and lines[0].strip().endswith("`")
    lines = [lines[0].strip().strip("`")] if ticks else lines
    # A model that continues a text may begin with the blank before its first word.
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[indent:] for line in lines]


def _candidates(lines: list[str]) -> Iterator[list[str]]:
    """What may be the code, the likeliest first: all, all without prose before it, and of these the longest start."""
    starts = [0, *(index for index in range(1, len(lines)) if _begins_code(lines[index]))]
    for start in starts:
        yield lines[start:]
    for start in starts:
        for end in range(len(lines) - 1, start, -1):
            yield lines[start:end]
    if lines and lines[0][:1] in " \t":
        yield [lines[0].strip()]


def _begins_code(line: str) -> bool:
    return bool(line.strip()) and line[:1] not in " \t"


# -- into the kernel -------------------------------------------------------------------------------------------------


def finished_cell(
    code: str, namespace: NamespaceSummary | None, *, value_required: bool = False, schema: Json = None
) -> str:
    """The code as it is run, from code that `read_cell` gave: imports above it, its value shown or finished with."""
    tree = parsed(code)
    if tree is None:
        return code
    try:
        return _finished(code, tree, namespace, value_required=value_required, schema=schema)
    except RecursionError:  # a model that repeats itself writes trees that cannot be written out again
        return code


def _finished(
    code: str, tree: ast.Module, namespace: NamespaceSummary | None, *, value_required: bool, schema: Json
) -> str:
    if namespace is not None:
        code = _with_frames(code, tree, namespace)
        tree = parsed(code) or tree
    body = _with_finish(code, tree, schema) if value_required else _with_value(code, tree, namespace)
    imports = _imports(tree, namespace)
    if value_required and namespace is not None and any(variable.name == "finish" for variable in namespace.variables):
        imports.append("del finish  # a variable of that name hides what ends the turn")
    return "\n".join([*imports, body])


def finishes(code: str) -> bool:
    """Whether a program calls `finish`, as far as its text tells."""
    tree = parsed(code)
    return tree is not None and any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finish"
        for node in ast.walk(tree)
    )


def _imports(tree: ast.Module, namespace: NamespaceSummary | None) -> list[str]:
    known = {variable.name for variable in namespace.variables} if namespace is not None else set()
    wanted = _free_names(tree) - known
    if namespace is not None and namespace.omitted:
        wanted &= _UNMISTAKABLE  # any other may be a variable that the summary left out
    out = []
    for name in sorted(wanted):
        if name == "datetime":
            attributes = {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
            }
            out.append("import datetime" if attributes & _OF_DATETIME else "from datetime import datetime")
        elif name in _IMPORTS:
            out.append(_IMPORTS[name])
    return out


def _free_names(tree: ast.Module) -> set[str]:
    """Names that the program reads and nowhere binds (as far as it matters for imports)."""
    loaded, bound = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                loaded.add(name)
            case ast.Name(id=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.partition(".")[0])
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                bound.add(name)
            case ast.ClassDef(name=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)):
                bound.add(name)
    return loaded - bound - _BUILT_IN


def _with_frames(code: str, tree: ast.Module, namespace: NamespaceSummary) -> str:
    """The program, a column that stands there like a variable written as the frame's: `cost` as `df["cost"]`.

    Only where the name is nothing else, and where one frame alone has such a column.
    """
    if namespace.omitted:  # the name may be a variable that the summary left out
        return code
    known = {variable.name for variable in namespace.variables}
    owners: dict[str, set[str]] = {}
    for variable in namespace.variables:
        for title, _ in variable.columns:
            owners.setdefault(title, set()).add(variable.name)
    meant = {name for name in _free_names(tree) - known - set(_IMPORTS) if len(owners.get(name, ())) == 1}
    # Before Python 3.12 what stands within an f-string has no place of its own, and quotes would end it.
    quoted = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for inner in ast.walk(node)}
    places = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in meant and node.end_col_offset and id(node) not in quoted
    ]
    lines = [line.encode() for line in code.split("\n")]
    for node in sorted(places, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        [owner] = owners[node.id]
        line = lines[node.lineno - 1]
        new = f'{owner}["{node.id}"]'.encode()
        lines[node.lineno - 1] = line[: node.col_offset] + new + line[node.end_col_offset :]
    written = b"\n".join(lines).decode()
    return code if parsed(written) is None else written


def _with_value(code: str, tree: ast.Module, namespace: NamespaceSummary | None) -> str:
    """The program, with the value of its last statement shown when it shows nothing by itself."""
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        if _draws(last.value):
            return code if code.rstrip().endswith(";") else code.rstrip() + ";"  # no `[<Line2D …>]` above the figure
        target = _changed_in_place(last.value)
        return code if target is None else f"{code}\n{_shown(target, namespace)}"
    targets = _targets(last)
    if not targets:
        return code
    shown = [_shown(target, namespace) for target in targets]
    return f"{code}\n{', '.join(dict.fromkeys(shown))}"


def _targets(statement: ast.stmt) -> list[ast.expr]:
    match statement:
        case ast.Assign(targets=[*targets]):
            target = targets[0]
        case ast.AugAssign(target=target):
            pass
        case ast.AnnAssign(target=target, value=ast.expr()):
            pass
        case _:
            return []
    return list(target.elts) if isinstance(target, (ast.Tuple, ast.List)) else [target]


def _shown(target: ast.expr, namespace: NamespaceSummary | None) -> str:
    """The expression that shows what was assigned to: a name itself; of a part of something, the whole thing."""
    root = _root(target)
    if root is None:
        return ast.unparse(target)
    kinds: Mapping[str, str] = (
        {variable.name: variable.type for variable in namespace.variables} if namespace is not None else {}
    )
    whole = not isinstance(target, ast.Name)
    return f"{root}.head()" if whole and kinds.get(root) in _FRAMES else root


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Call, ast.Starred, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _draws(value: ast.expr) -> bool:
    """Whether an expression is a plot, as far as its text tells."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return False
    if _root(value) in _PLOT_ROOTS:
        return True
    owner = value.func.value
    return value.func.attr in _PLOT_METHODS or (isinstance(owner, ast.Attribute) and owner.attr == "plot")


def _changed_in_place(value: ast.expr) -> ast.expr | None:
    """What an expression without a value changed: `xs.sort()`, `df.drop(…, inplace=True)`."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return None
    in_place = any(
        word.arg == "inplace" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in value.keywords
    )
    plain = isinstance(value.func.value, ast.Name) and value.func.attr in _IN_PLACE
    if not (in_place or plain) or _root(value.func.value) is None:
        return None
    # The whole of a frame: its first rows would not show what became of the others.
    return ast.Name(id=_root(value.func.value) or "", ctx=ast.Load())


def copied_from(code: str, namespace: NamespaceSummary | None) -> str | None:
    """The frame that a cell gave a changed copy of, or of a column of it; None when it is not sure that it did.

    Sure is a cell of one expression over a live frame, without an assignment and without a method that changes it.
    """
    tree = parsed(code)
    frames = {variable.name for variable in namespace.variables if variable.columns} if namespace is not None else set()
    body = [one for one in tree.body if not isinstance(one, (ast.Import, ast.ImportFrom))] if tree is not None else []
    if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Call):
        return None
    calls = [node for node in ast.walk(body[0]) if isinstance(node, ast.Call)]
    methods = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    in_place = any(word.arg == "inplace" for call in calls for word in call.keywords)
    name = _root(body[0].value)
    return name if name in frames and not in_place and methods.isdisjoint(_CHANGE_A_FRAME) else None


# -- a value that is required ----------------------------------------------------------------------------------------

_TO_ARRAY = '{0} if hasattr({0}, "columns") else {0}.tolist() if hasattr({0}, "tolist") else list({0})'
"""A table gives its rows by itself; a Series with labels would give an object."""
_TO_OBJECT = '{0}.to_dict() if hasattr({0}, "to_dict") else {0}'
_RESULT = "_result"


def _with_finish(code: str, tree: ast.Module, schema: Json) -> str:
    """The program, its last value given to `finish`; as it is when it has none, or finishes by itself."""
    if finishes(code):
        return code
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        texts = [ast.unparse(target) for target in _targets(last)]
        value = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
        return f"{code}\n{_finish(value, schema)}" if texts else code
    changed = _changed_in_place(last.value)
    if changed is not None:
        return f"{code}\n{_finish(ast.unparse(changed), schema)}"
    value = ast.get_source_segment(code, last.value) or ast.unparse(last.value)
    printed = last.value
    if (
        isinstance(printed, ast.Call)
        and isinstance(printed.func, ast.Name)
        and printed.func.id == "print"
        and len(printed.args) == 1
    ):
        value = ast.get_source_segment(code, printed.args[0]) or ast.unparse(printed.args[0])
    before = code.split("\n")[: last.lineno - 1]
    # A statement before it on the same line keeps its place.
    head = code.split("\n")[last.lineno - 1].encode()[: last.col_offset].decode().rstrip("; \t")
    return "\n".join([*before, *([head] if head else []), _finish(value, schema)])


def _finish(value: str, schema: Json) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    form = {"array": _TO_ARRAY, "object": _TO_OBJECT}.get(kind if isinstance(kind, str) else "")
    if form is None:
        return f"finish({value})"
    return f"{_RESULT} = {value}\nfinish({form.format(_RESULT)})"
