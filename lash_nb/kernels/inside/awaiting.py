"""Whether the value of a call is awaited, told from the code that makes it. Runs in the kernel; standard library only.

Decided here: a call is awaited when what follows it is an `await`, also where a function or lambda on the way does
nothing but return it; and when it is written as an argument of what awaits it (`asyncio.gather(*[f(x) for x in xs])`,
`create_task(f(x))`, …), as far as the source of that code is there. Whatever is not recognised is not awaited. What C
code calls on the way counts as the call that it is part of: in `await g(*map(f, xs))`, `g` gets awaitables.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import opcode
import types
from itertools import islice

__all__ = ["is_awaited"]

MAX_RETURNS = 20
MAX_SOURCES = 64
MAX_CHARS = 2_000_000
SUSPENDED = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
"""What such code returns is not what its caller gets at once."""
NONE = -1
AWAIT, RETURN = opcode.opmap.get("GET_AWAITABLE", NONE), opcode.opmap.get("RETURN_VALUE", NONE)
JUMP, CACHE = opcode.opmap.get("JUMP_FORWARD", NONE), opcode.opmap.get("CACHE", NONE)
BEFORE_CALL, CALL = opcode.opmap.get("PRECALL", NONE), opcode.opmap.get("CALL", NONE)
ALL, FIRST = "gather", frozenset({"as_completed", "create_task", "ensure_future", "shield", "wait_for"})
"""What takes awaitables: in every argument, in the first one."""
OF_ASYNCIO = frozenset({"run", "run_coroutine_threadsafe"})
OF_ANYTHING = frozenset({"create_task", "run_until_complete"})
Span = tuple[int | None, int | None, int | None, int | None]
known: dict[str, tuple[list[str], frozenset[Span]]] = {}


def is_awaited(frame: types.FrameType | None) -> bool:
    """Whether the value of the call that the frame is making goes to an `await`, or to what awaits it."""
    for _ in range(MAX_RETURNS):
        if frame is None:
            return False
        following = after_call(frame)
        if (following == AWAIT and AWAIT != NONE) or is_handed_on(frame):
            return True
        if following != RETURN or frame.f_code.co_flags & SUSPENDED:
            return False
        frame = frame.f_back
    return False


def after_call(frame: types.FrameType) -> int:
    """The operation that takes the value of the call."""
    code, place = frame.f_code.co_code, frame.f_lasti
    if place < 0:
        return NONE
    skipped = {CACHE, CALL} if code[place] == BEFORE_CALL else {CACHE}
    place += 2
    while place + 1 < len(code):
        if code[place] == JUMP:
            place += 2 * code[place + 1]
        elif code[place] not in skipped:
            return code[place]
        place += 2
    return NONE


# -- where it is written -----------------------------------------------------------------------------------------------


def is_handed_on(frame: types.FrameType) -> bool:
    """Whether the call is written as an argument of what takes awaitables."""
    code = frame.f_code
    spans = spans_of(code.co_filename, frame.f_globals)
    if not spans:
        return False
    span: Span | None = next(islice(code.co_positions(), max(0, frame.f_lasti) // 2, None), None)
    if span is None:
        return False
    line, end_line, column, end_column = span
    return (line, column, end_line, end_column) in spans


def spans_of(filename: str, namespace: dict[str, object]) -> frozenset[Span]:
    """Of all calls in a source that are such arguments."""
    try:
        lines = linecache.getlines(filename, namespace)
    except Exception:  # of a loader's
        return frozenset()
    before = known.get(filename)
    if before is not None and before[0] is lines:
        return before[1]
    text, found = "".join(lines), set[Span]()
    if len(text) <= MAX_CHARS and any(word in text for word in (ALL, "asyncio", *FIRST, *OF_ANYTHING)):
        try:
            collect(ast.parse(text), False, found)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            found = set()
    if len(known) >= MAX_SOURCES:
        known.clear()
    known[filename] = (lines, frozenset(found))
    return known[filename][1]


def collect(node: ast.AST, awaited: bool, found: set[Span]) -> None:
    match node:
        case ast.Call():
            if awaited:
                found.add((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset))
            collect(node.func, False, found)
            takes = taken(node.func)
            for place, argument in enumerate(node.args):
                collect(argument, place < takes, found)
            for keyword in node.keywords:
                collect(keyword.value, False, found)
        case ast.List() | ast.Tuple() | ast.Set() | ast.Starred():
            for child in ast.iter_child_nodes(node):
                collect(child, awaited, found)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            collect(node.elt, awaited, found)
            for generator in node.generators:
                collect(generator, False, found)
        case ast.IfExp():
            collect(node.test, False, found)
            collect(node.body, awaited, found)
            collect(node.orelse, awaited, found)
        case _:
            for child in ast.iter_child_nodes(node):
                collect(child, False, found)


def taken(function: ast.expr) -> int:
    """How many arguments of it are awaitables."""
    match function:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name == ALL:
            return 1_000_000
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name in FIRST:
            return 1
        case ast.Attribute(value=ast.Name(id="asyncio"), attr=name) if name in OF_ASYNCIO:
            return 1
        case ast.Attribute(attr=name) if name in OF_ANYTHING:
            return 1
    return 0
