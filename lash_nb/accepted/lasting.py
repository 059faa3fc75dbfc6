"""What of a statement lasts: which names it binds, which values it may change in place, and whether it acts outside.

Decided here: what is taken for a mere look. Nothing is known of the values, so methods and functions are known by their
names; what is not known is taken to change what it is called on, and whatever it is given by name (`wary`), or, where
that would keep too much, to change nothing. Functions of the turn itself are looked into. Names that were one value
are taken to stay one. Pure: nothing is run.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from .known_calls import (
    ACTING_METHODS,
    ACTING_MODULES,
    ALIASES,
    CHANGING_METHODS,
    COMPUTING_MODULES,
    LOOKING,
    LOOKING_MAGICS,
    LOOKING_METHODS,
    LOOKING_OF_ACTING,
    OF_ITS_OWN,
    SETTING_MAGICS,
    SETTING_MODULES,
    STORING_METHODS,
)

__all__ = ["Lasting", "Turned", "bound_names"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEEPEST = 4
"""So many functions of the turn that call each other are looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """What stands when a statement has run."""

    bound: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    """Names whose values it may have changed in place."""
    outside: bool = False
    """Whether it may have done something that is no matter of names: a file, a setting, a seed."""
    stays: bool = False
    """Whether something of that may be there when the process is gone; so is taken whatever is not known."""

    def __or__(self, other: Lasting) -> Lasting:
        return Lasting(
            bound=self.bound | other.bound,
            changed=self.changed | other.changed,
            outside=self.outside or other.outside,
            stays=self.stays or other.stays,
        )


_NOTHING = Lasting()
_SETTING = Lasting(outside=True)
_OUTSIDE = Lasting(outside=True, stays=True)


def bound_names(node: ast.AST) -> frozenset[str]:
    """The global names that a statement binds, at the top of a cell."""
    return frozenset(_bound(node))


def _bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            for inner in ast.walk(node):
                if isinstance(inner, ast.Global):
                    yield from inner.names
            return
        case ast.Lambda():
            return
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from (one.target.id for one in ast.walk(node) if isinstance(one, ast.NamedExpr))
            return
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (one.asname or one.name.partition(".")[0] for one in names)
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


@dataclass(slots=True, kw_only=True)
class Turned:
    """What all statements of a turn say of its names: its functions, its modules, and which names are one value."""

    functions: dict[str, ast.AST] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=lambda: dict(ALIASES))
    imported: dict[str, str] = field(default_factory=dict)
    """What was imported from a module, in full."""
    _same: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[ast.stmt]) -> Turned:
        """Read the statements of a turn, in their order."""
        turned = cls()
        for statement in nodes:
            for node in ast.walk(statement):
                turned._learn(node)
        return turned

    def _learn(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                self.functions[name] = node
            case ast.Import(names=names):
                for one in names:
                    self.modules[one.asname or one.name.partition(".")[0]] = (
                        one.name if one.asname else one.name.partition(".")[0]
                    )
            case ast.ImportFrom(names=names, module=module):
                for one in names:
                    self.imported[one.asname or one.name] = f"{module or ''}.{one.name}"
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._join(_roots_stored(target), _roots_held(value))
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                self._join(_roots_stored(target), (*_roots_held(value), *_given_to_looks(value)))
            case ast.Call(func=ast.Attribute(attr=method, value=value), args=args) if method in STORING_METHODS:
                keywords = [one.value for one in node.keywords]
                self._join(_roots_held(value), [root for one in (*args, *keywords) for root in _roots_held(one)])
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                self._join((name,), _roots_held(value))

    def _join(self, targets: Iterable[str], values: Iterable[str]) -> None:
        held = set(values)
        if held:
            names = held.union(targets)
            whole = names.union(*(self._same.get(name, {name}) for name in names))
            self._same.update(dict.fromkeys(whole, whole))

    def same(self, names: Iterable[str]) -> frozenset[str]:
        """These names, and those that may be the same values."""
        return frozenset().union(*(self._same.get(name, {name}) for name in names))

    # -- statements ----------------------------------------------------------------------------------------------------

    def lasting(self, node: ast.stmt, *, wary: bool = True) -> Lasting:
        """What stands when a statement at the top of a cell has run."""
        found = self._of(node, wary=wary, depth=0)
        return replace(found, bound=bound_names(node), changed=self.same(found.changed))

    def done_by_functions(self, node: ast.stmt) -> frozenset[str]:
        """The names whose values the turn's own functions, or a comprehension, may have changed before it failed."""
        found = _NOTHING
        for one in ast.walk(node):
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in self.functions:
                found |= self._call(one, wary=False, depth=0, shown=False)
            elif isinstance(one, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                found |= self._of(one, wary=False, depth=0)
        return self.same(found.changed)

    def _of(self, node: ast.AST, *, wary: bool, depth: int) -> Lasting:
        """`bound` is left empty."""
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            return _NOTHING  # it is not called by that
        found = _NOTHING
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
                found = self._placed(node)
            case ast.AugAssign(target=ast.Name(id=name)):
                found = Lasting(changed=frozenset({name}))
            case ast.Expr(value=ast.Call() as call) | ast.Expr(value=ast.Await(value=ast.Call() as call)):
                found = self._call(call, wary=wary, depth=depth, shown=True)
                node = call
            case ast.Call():
                found = self._call(node, wary=wary, depth=depth, shown=False)
        for child in ast.iter_child_nodes(node):
            found |= self._of(child, wary=wary, depth=depth)
        return found

    def _placed(self, node: ast.Subscript | ast.Attribute) -> Lasting:
        root = _root(node)
        if root in self.modules:
            return _SETTING  # of a library, the environment
        return Lasting(changed=frozenset({root})) if root else _NOTHING

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _call(self, call: ast.Call, *, wary: bool, depth: int, shown: bool) -> Lasting:
        """`shown`: nobody takes what it gives, so it is called for what it does, or for its value to be seen."""
        given = frozenset(
            one.id for one in (*call.args, *(k.value for k in call.keywords)) if isinstance(one, ast.Name)
        )
        match call.func:
            case ast.Name(id=name) if name in self.functions:
                return self._own(self.functions[name], given, wary=wary, depth=depth)
            case ast.Name(id=name) if name in self.imported:
                return self._of_module(self.imported[name], wary=wary, shown=shown)
            case ast.Name(id="open"):
                return _OUTSIDE if _writes(call) else _NOTHING
            case ast.Name(id="next" | "setattr" | "delattr"):
                return Lasting(changed=frozenset(_roots_held(call.args[0]) if call.args else ()))
            case ast.Name(id=name) if name in LOOKING:
                return _NOTHING
            case ast.Name(id="exec" | "eval" | "input"):
                return _OUTSIDE
            case ast.Name(id=name):
                known = hasattr(builtins, name) or name == "get_ipython"
                return Lasting(changed=given, outside=shown, stays=not known) if wary else _NOTHING
            case ast.Attribute(attr=method):
                return self._method(call, method, given, wary=wary, shown=shown)
            case _:
                return Lasting(changed=given, outside=shown, stays=True) if wary else _NOTHING

    def _own(self, definition: ast.AST, given: frozenset[str], *, wary: bool, depth: int) -> Lasting:
        """A function of the turn's, or a class."""
        if depth >= _DEEPEST:
            return Lasting(changed=given, outside=True, stays=True) if wary else _NOTHING
        found = _NOTHING
        body: list[ast.stmt] = getattr(definition, "body", [])
        for statement in body:
            inner: list[ast.stmt] = getattr(statement, "body", []) if isinstance(definition, ast.ClassDef) else []
            for one in (*inner, statement):
                found |= self._of(one, wary=wary, depth=depth + 1)
        parameters = {one.arg for one in ast.walk(definition) if isinstance(one, ast.arg)} - {"self", "cls"}
        declared = {name for one in ast.walk(definition) if isinstance(one, ast.Global) for name in one.names}
        changed = (found.changed - _local_names(definition) - parameters) | declared
        if self.same(found.changed) & parameters:
            changed |= given
        return replace(found, changed=frozenset(changed))

    def _method(self, call: ast.Call, method: str, given: frozenset[str], *, wary: bool, shown: bool) -> Lasting:
        path = _path(call.func)
        if path and path[0] == "get_ipython":
            return _of_magic(call)
        root = _root(call.func)
        if path and path[0] in self.modules:
            return self._of_module(".".join((self.modules[path[0]], *path[1:])), wary=wary, shown=shown)
        mine = frozenset({root} if root else ())
        in_place = any(one.arg == "inplace" and not _is_false(one.value) for one in call.keywords)
        if method in ACTING_METHODS:
            return Lasting(
                changed=frozenset() if method.startswith(("to_", "save")) else mine, outside=True, stays=True
            )
        if method in CHANGING_METHODS or in_place:
            return Lasting(changed=mine)
        if shown and method in ("rename", "replace") and _names_file(call):
            return _OUTSIDE
        if method in LOOKING_METHODS or not wary:
            return _NOTHING
        if method in OF_ITS_OWN:
            return Lasting(changed=mine)
        return Lasting(changed=mine | given, stays=True)

    def _of_module(self, path: str, *, wary: bool, shown: bool) -> Lasting:
        """A function of a module: called for its value it is taken to look, but for those that are known to act."""
        parts = path.split(".")
        if path in LOOKING_OF_ACTING or path.startswith("os.path."):
            return _NOTHING
        if parts[0] in SETTING_MODULES or "random" in parts[:-1]:
            return _SETTING
        if parts[0] in ACTING_MODULES or parts[-1] in ACTING_METHODS:
            return _OUTSIDE
        if path.startswith("matplotlib.pyplot."):
            # What is drawn ends with its cell; what is set does not.
            return _SETTING if parts[2] in ("rc", "rcParams", "rcdefaults", "style", "switch_backend") else _NOTHING
        seen = parts[-1] in LOOKING or parts[-1] in LOOKING_METHODS
        unknown = wary and not seen
        return Lasting(outside=unknown and shown, stays=unknown and parts[0] not in COMPUTING_MODULES)


# ------------------------------------------------------------------------------------------------------- what is named


def _root(node: ast.AST) -> str:
    """The name that an expression begins with; empty where it begins with something else."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _path(node: ast.AST) -> tuple[str, ...]:
    """`a.b.c`, also behind a call as in `get_ipython().system`; empty where it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute | ast.Call):
        if isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id == "get_ipython"):
                return ()
            node = node.func
        else:
            parts.append(node.attr)
            node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()


def _roots_held(node: ast.AST) -> Iterator[str]:
    """The names whose values, or parts of them, an expression gives itself: not what is computed of them."""
    match node:
        case ast.Name(id=name):
            yield name
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Starred(value=value):
            yield from _roots_held(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.BoolOp(values=parts):
            for part in parts:
                yield from _roots_held(part)
        case ast.Dict(values=parts):
            for part in parts:
                yield from _roots_held(part)
        case ast.Call(func=ast.Name(id="dict"), args=parts):
            for part in parts:  # another dict, of the same values
                yield from _roots_held(part)
        case ast.IfExp(body=one, orelse=other):
            yield from _roots_held(one)
            yield from _roots_held(other)


def _given_to_looks(node: ast.AST) -> Iterator[str]:
    """What a loop goes through behind `enumerate(...)`, `zip(...)`, `d.values()`, `d.items()`."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            yield from _roots_held(node.func.value)
        for part in node.args:
            yield from _roots_held(part)


def _roots_stored(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _roots_stored(part)
        case _:
            root = _root(node)
            if root:
                yield root


def _local_names(definition: ast.AST) -> frozenset[str]:
    return frozenset(
        one.id for one in ast.walk(definition) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)
    ) | {"self", "cls"}


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def _writes(call: ast.Call) -> bool:
    """Whether a call of `open` may write."""
    mode: ast.expr | None = call.args[1] if len(call.args) > 1 else None
    mode = next((one.value for one in call.keywords if one.arg == "mode"), mode)
    if mode is None:
        return False
    return not (isinstance(mode, ast.Constant) and isinstance(mode.value, str) and not set(mode.value) & set("wax+"))


def _names_file(call: ast.Call) -> bool:
    """Whether `x.rename(...)` or `x.replace(...)` may be that of a path: the others are given more, or a dict."""
    return len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Dict | ast.Lambda)


def _of_magic(call: ast.Call) -> Lasting:
    words = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
    first = words[0].split(" ")[0] if words else ""
    if first in LOOKING_MAGICS and ">" not in "".join(words):
        return _NOTHING
    magic = isinstance(call.func, ast.Attribute) and call.func.attr == "run_line_magic"
    return _SETTING if magic and first in SETTING_MAGICS else _OUTSIDE
