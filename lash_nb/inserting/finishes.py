"""What becomes of `finish(...)` in code that is to be ordinary cells: nobody stands behind them who takes a value.

Decided here: as the last statement it becomes the expression that it was given, and nothing where the turn went on and
the expression is a mere look; at the end of a branch it becomes `display`. Elsewhere it has to end its cell: a cell
before the others defines it, and the cell catches what it raises. Pure: nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..accepted.lasting import Turned, bound_names
from ..accepted.statements import Statement, indented, joined

__all__ = ["FINISH", "Ended", "Shown", "ended"]

FINISH = """\
# In the cells below, finish(value) shows a value and ends its cell.
class Finished(BaseException):
    pass


def finish(value=None):
    finish.value = value
    display(value)
    raise Finished"""

_ENDS = (ast.For, ast.AsyncFor, ast.While, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Shown:
    """How a cell gives the turn's value."""

    NOT = ""
    LAST = "the value of its last expression"
    DISPLAYED = "displayed"
    CAUGHT = "`finish.value`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A cell's statements without `finish`."""

    parts: tuple[Statement, ...]
    shown: str = Shown.NOT
    caught: bool = False
    """Whether it needs `FINISH` before it."""


def ended(parts: Sequence[Statement], *, last: bool, turned: Turned) -> Ended:
    """The statements of a cell, `last`: of the one that ended its turn."""
    while parts and not parts[-1].nodes:
        parts = parts[:-1]  # a comment on what is not there any more
    named = [node for part in parts for node in _named(part)]
    if not named or any("finish" in bound_names(node) for part in parts for node in part.nodes):
        return Ended(parts=tuple(parts))
    whole = parts[-1].nodes[-1]
    if len(named) == 1 and isinstance(whole, ast.Expr) and _is_call(whole.value):
        return _at_its_end(parts, whole, last=last, turned=turned)
    tails = list(_tails(whole))
    if {id(call.func) for call in tails} == {id(node) for node in named} and not any(c.keywords for c in tails):
        shown = _rewritten(parts[-1], [(call.func, "display") for call in tails])
        return Ended(parts=(*parts[:-1], shown), shown=Shown.DISPLAYED)
    body = indented(joined(parts))
    caught = f"try:\n{body}\nexcept Finished:\n    pass"
    nodes = tuple(
        ast.parse(f"try:\n{indented(chr(10).join(part.python for part in parts))}\nexcept Finished:\n    pass").body
    )
    only = Statement(source=caught, python=caught, nodes=nodes, first=1, last=caught.count("\n") + 1)
    return Ended(parts=(only,), shown=Shown.CAUGHT, caught=True)


def _at_its_end(parts: Sequence[Statement], whole: ast.Expr, *, last: bool, turned: Turned) -> Ended:
    call = whole.value
    assert isinstance(call, ast.Call)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    part = parts[-1]
    if len(given) != 1 or isinstance(given[0], ast.Starred) or (not last and _is_look(given[0], turned)):
        return Ended(parts=(*parts[:-1], *_without_last(part)))
    text = _segment(part, given[0])
    if _needs_brackets(text):
        text = f"({text})"
    return Ended(parts=(*parts[:-1], _rewritten(part, [(whole, text)])), shown=Shown.LAST if last else Shown.NOT)


def _is_look(node: ast.expr, turned: Turned) -> bool:
    lasting = turned.lasting(ast.Expr(value=node))
    return not (lasting.bound or lasting.changed or lasting.outside)


def _needs_brackets(text: str) -> bool:
    """Whether it was an expression only because it stood within brackets."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return True
    return len(body) != 1 or not isinstance(body[0], ast.Expr)


def _without_last(part: Statement) -> tuple[Statement, ...]:
    """A line without the last statement on it; nothing where that was the only one, but for what stands above it."""
    if len(part.nodes) == 1:
        above = "\n".join(part.source.split("\n")[: part.above]).strip("\n")
        return (replace(part, source=above, python=above, nodes=(), above=0),) if above else ()
    kept, gone = part.nodes[-2], part.nodes[-1]
    rewritten = _rewritten(part, [(gone, "")])
    source = rewritten.source.rstrip().removesuffix(";").rstrip()
    return (replace(rewritten, source=source, python=source, nodes=part.nodes[:-1], last=kept.end_lineno or part.last),)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finish"


def _named(part: Statement) -> Iterator[ast.Name]:
    for node in part.nodes:
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and one.id == "finish" and isinstance(one.ctx, ast.Load):
                yield one


def _tails(node: ast.AST) -> Iterator[ast.Call]:
    """The calls of `finish` behind which nothing runs any more."""
    match node:
        case ast.Expr(value=ast.Call() as call) if _is_call(call):
            yield call
        case ast.If(body=body, orelse=otherwise):
            yield from _tails(body[-1])
            if otherwise:
                yield from _tails(otherwise[-1])
        case ast.With(body=body) | ast.AsyncWith(body=body):
            yield from _tails(body[-1])
        case ast.Match(cases=cases):
            for case in cases:
                yield from _tails(case.body[-1])


# ------------------------------------------------------------------------------------------------------------- sources


def _place(part: Statement, line: int, column: int, lines: Sequence[str]) -> int:
    """Where in its text a place of the tree is: columns of trees count bytes."""
    at = line - part.first + part.above
    return sum(len(one) + 1 for one in lines[:at]) + len(lines[at].encode()[:column].decode())


def _span(part: Statement, node: ast.expr | ast.stmt, text: str) -> tuple[int, int]:
    lines = text.split("\n")
    begin = _place(part, node.lineno, node.col_offset, lines)
    return begin, _place(part, node.end_lineno or node.lineno, node.end_col_offset or 0, lines)


def _segment(part: Statement, node: ast.expr) -> str:
    begin, end = _span(part, node, part.python)
    return part.python[begin:end]


def _rewritten(part: Statement, changes: Sequence[tuple[ast.expr | ast.stmt, str]]) -> Statement:
    """With other text in the place of some nodes; its own nodes stay those that it had."""
    text = part.python
    spans = sorted(((_span(part, node, part.python), new) for node, new in changes), reverse=True)
    for (begin, end), new in spans:
        text = text[:begin] + new + text[end:]
    return replace(part, source=text.rstrip("\n"), python=text)
