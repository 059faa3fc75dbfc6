"""Whose a name is: its function's own, closed over, a class's or global; and what a piece of code tells of itself."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "Captures",
    "Kind",
    "Scope",
    "captures",
    "is_plain",
    "is_quiet_class",
    "lets_through",
    "parameters",
    "surely_iterates",
]

Kind: TypeAlias = Literal["module", "class", "function", "comprehension"]

_UNKNOWN = ""
_OPEN = frozenset({"open", "ZipFile", "TemporaryDirectory", "NamedTemporaryFile", "ThreadPoolExecutor"}) | frozenset(
    {"ProcessPoolExecutor", "catch_warnings", "option_context", "errstate", "localcontext"}
)
"""Managers of these names let exceptions through."""


class Scope:
    """One block of names. `given` are those that it has from the start: parameters, targets of a comprehension."""

    __slots__ = ("_globals", "_keys", "_locals", "_lost", "_parent", "_private", "given", "kind", "prefix")

    def __init__(
        self,
        kind: Kind,
        parent: Scope | None = None,
        *,
        body: Iterable[ast.AST] = (),
        given: Iterable[str] = (),
        walrus: bool = False,
        class_name: str = "",
        number: int = 0,
    ) -> None:
        """`walrus`: whether expressions may bind. `number` is another one for each class."""
        self.kind, self._parent = kind, parent
        self.given = frozenset(given)
        self.prefix = f"{number}." if kind == "class" else ""
        self._private: str = class_name.lstrip("_") or (parent._private if parent is not None else "")
        found = _Bindings(walrus)
        if kind != "module":
            found.look(body)
        self._globals = found.global_names
        self._locals = (found.names | self.given) - found.global_names - found.nonlocal_names
        self._lost = found.lost
        if kind == "comprehension":
            self.given = frozenset(self._locals)
        self._keys: dict[str, str | None] = {}

    def key_of(self, name: str) -> str | None:
        """The global that is read by this name here, if it is one, or may be."""
        found = self._keys.get(name, _UNKNOWN)
        if found == _UNKNOWN:
            found = self._keys[name] = self._global_of(name)
        return found

    def _global_of(self, name: str) -> str | None:
        scope: Scope | None = self
        while scope is not None and scope.kind != "module":
            if scope.kind != "class" or scope is self:
                if name in scope._globals:
                    break
                if scope.kind != "class" and name in scope._locals:
                    return None
            scope = scope._parent
        return self._mangled(name)

    def bound_key(self, name: str) -> str | None:
        """What is bound by this name here: a global, `prefix` and the name in a class, nothing that is told of."""
        scope = self
        while scope.kind == "comprehension" and scope._parent is not None:
            if name in scope._locals:
                return None
            scope = scope._parent  # where a walrus binds
        if scope.kind == "module" or name in scope._globals:
            return scope._mangled(name)
        if scope.kind == "class" and name in scope._locals and name not in scope._lost:
            return scope.prefix + name
        return None

    def own(self, name: str) -> bool:
        """Whether it is one that this block binds for itself."""
        return name in self._locals

    def _mangled(self, name: str) -> str:
        private = self._private and name.startswith("__") and not name.endswith("__")
        return f"_{self._private}{name}" if private else name


class _Bindings:
    """The names that a block binds, as Python's compiler finds them."""

    def __init__(self, walrus: bool) -> None:
        self.names: set[str] = set()
        self.lost: set[str] = set()
        """Those that a class may lose again, so that a global shows through."""
        self.global_names: set[str] = set()
        self.nonlocal_names: set[str] = set()
        self._walrus = walrus

    def look(self, body: Iterable[ast.AST]) -> None:
        stack: list[Any] = list(body)
        while stack:
            node = stack.pop()
            kind = type(node)
            if kind is ast.Name:
                if type(node.ctx) is not ast.Load:
                    self.names.add(node.id)
                    if type(node.ctx) is ast.Del:
                        self.lost.add(node.id)
            elif kind in _SPECIAL:
                stack += _SPECIAL[kind](self, node)
            elif kind not in _WITHOUT:
                for field in node._fields if self._walrus else _PLACES.intersection(node._fields):
                    value = getattr(node, field)
                    if isinstance(value, list):
                        stack += value
                    elif isinstance(value, ast.stmt | ast.expr | ast.pattern):
                        stack.append(value)

    def _define(self, node: Any) -> list[Any]:
        self.names.add(node.name)
        return self._around(node)

    def _import(self, node: Any) -> list[Any]:
        self.names.update(each.asname or each.name.partition(".")[0] for each in node.names)
        return []

    def _declare(self, node: Any) -> list[Any]:
        (self.global_names if isinstance(node, ast.Global) else self.nonlocal_names).update(node.names)
        return []

    def _catch(self, node: Any) -> list[Any]:
        name = getattr(node, _NAMED[type(node)])
        if name:
            self.names.add(name)
            self.lost.add(name)
        match node:
            case ast.ExceptHandler(type=raised, body=body):
                return [*body, raised] if raised is not None else body
            case ast.MatchAs(pattern=inner):
                return [inner] if inner is not None else []
        return list(getattr(node, "patterns", ()))

    def _starred(self, node: ast.Starred) -> list[Any]:
        return [node.value]

    def _alias(self, node: Any) -> list[Any]:
        return [node.name]

    def _around(self, node: Any) -> list[Any]:
        """What of a definition is evaluated outside of it."""
        if not self._walrus:
            return []
        args = getattr(node, "args", None)
        parts = [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())]
        parts += [keyword.value for keyword in getattr(node, "keywords", ())]
        if args is not None:
            parts += [part for part in (*args.defaults, *args.kw_defaults) if part is not None]
            parts += [each.annotation for each in parameters(args) if each.annotation is not None]
        return parts

    def _of_comprehension(self, node: Any) -> list[Any]:
        if not self._walrus:
            return []
        parts = [part for each in node.generators for part in (each.iter, *each.ifs)]
        return parts + ([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])


_WITHOUT: frozenset[type[Any]] = frozenset({ast.Constant, str, type(None)})
_NAMED: dict[type[Any], str] = {
    ast.ExceptHandler: "name",
    ast.MatchAs: "name",
    ast.MatchStar: "name",
    ast.MatchMapping: "rest",
}
_SPECIAL: dict[type[Any], Callable[[_Bindings, Any], list[Any]]] = {
    ast.FunctionDef: _Bindings._define,
    ast.AsyncFunctionDef: _Bindings._define,
    ast.ClassDef: _Bindings._define,
    ast.Lambda: _Bindings._around,
    ast.Import: _Bindings._import,
    ast.ImportFrom: _Bindings._import,
    ast.Global: _Bindings._declare,
    ast.Nonlocal: _Bindings._declare,
    ast.ListComp: _Bindings._of_comprehension,
    ast.SetComp: _Bindings._of_comprehension,
    ast.DictComp: _Bindings._of_comprehension,
    ast.GeneratorExp: _Bindings._of_comprehension,
    ast.Starred: _Bindings._starred,
    **dict.fromkeys(_NAMED, _Bindings._catch),
}
if hasattr(ast, "TypeAlias"):
    _SPECIAL[ast.TypeAlias] = _Bindings._alias
_PLACES = frozenset({"body", "orelse", "finalbody", "handlers", "cases", "items", "target", "targets"}) | frozenset(
    {"optional_vars", "elts", "pattern", "patterns", "kwd_patterns"}
)
"""Where names can be bound that are not bound by `:=`."""


def parameters(args: ast.arguments) -> list[ast.arg]:
    """All parameters of a function."""
    rest = [each for each in (args.vararg, args.kwarg) if each is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *rest]


def is_plain(node: ast.AST) -> bool:
    """Whether to evaluate it calls nothing of anybody's: constants, and what is made of them."""
    match node:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=operand):
            return is_plain(operand)
        case ast.BinOp(left=left, right=right):
            return is_plain(left) and is_plain(right)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) | ast.JoinedStr(values=parts):
            return all(map(is_plain, parts))
        case ast.Dict(keys=keys, values=_):
            return all(key is not None and is_plain(key) for key in keys)
        case ast.Expr(value=value):
            return is_plain(value)
        case ast.Assign(targets=targets, value=value):
            return all(isinstance(target, ast.Name) for target in targets) and is_plain(value)
        case ast.AnnAssign(target=ast.Name(), value=value, annotation=ast.Name()):
            return value is None or is_plain(value)
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return not decorators
    return isinstance(node, ast.Pass | ast.Global | ast.Nonlocal | ast.Lambda)


def is_quiet_class(node: ast.ClassDef) -> bool:
    """Whether to make the class calls nothing of anybody's."""
    return not (node.bases or node.keywords or node.decorator_list) and all(map(is_plain, node.body))


def surely_iterates(node: ast.expr) -> bool:
    """Whether a loop over it runs once at least; `range` is taken for Python's own."""
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return not all(isinstance(part, ast.Starred) for part in parts)
        case ast.Constant(value=value):
            return bool(value) and isinstance(value, str | bytes)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(stop))], keywords=[]):
            return stop > 0
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(start)), ast.Constant(value=int(stop))]):
            return not node.keywords and stop > start
    return False


def lets_through(node: ast.expr) -> bool:
    """Whether the manager that this makes is known to swallow no exception; told by the name that is called."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _OPEN
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Captures:
    """What a pattern reads and what it binds; `all`: it always matches."""

    reads: tuple[ast.expr, ...]
    names: tuple[str, ...]
    all: bool


def captures(pattern: ast.pattern) -> Captures:
    """What a pattern of `match` does."""
    reads: list[ast.expr] = []
    names: list[str] = []
    stack: list[Any] = [pattern]
    while stack:
        node = stack.pop()
        match node:
            case ast.MatchValue(value=value):
                reads.append(value)
            case ast.MatchClass(cls=cls):
                reads.append(cls)
                stack += [*node.patterns, *node.kwd_patterns]
            case ast.MatchMapping():
                reads += node.keys
                stack += node.patterns
            case ast.MatchAs(pattern=inner):
                stack += [inner] if inner is not None else []
            case ast.MatchSequence(patterns=parts) | ast.MatchOr(patterns=parts):
                stack += parts
        name = getattr(node, _NAMED.get(type(node), ""), None)
        if name:
            names.append(name)
    return Captures(reads=tuple(reads), names=tuple(names), all=_always(pattern))


def _always(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=inner):
            return inner is not None and _always(inner)
        case ast.MatchOr(patterns=parts):
            return any(map(_always, parts))
    return False
