"""Which names an expression reads and binds, in the order in which Python evaluates its parts."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import strings
from .scopes import Scope, parameters
from .strings import CodeString, Words
from .ways import Out, Ways

__all__ = ["Expressions"]


class Expressions(ABC, Ways):
    """Follows expressions."""

    @abstractmethod
    def block(self, body: Iterable[ast.stmt]) -> None:
        """Follow statements."""

    @abstractmethod
    def run_strings(self, found: Sequence[CodeString | Words]) -> None:
        """Follow what a call makes of its strings."""

    def any(self, node: ast.AST) -> None:
        """A node of which nothing special is known: its parts, in their order."""
        for name in node._fields:
            value = getattr(node, name, None)
            for part in value if isinstance(value, list) else (value,):
                if isinstance(part, ast.stmt):
                    self.block((part,))
                elif isinstance(part, ast.expr):
                    self.expr(part)
                elif isinstance(part, ast.AST) and not isinstance(part, ast.expr_context):
                    self.any(part)
        self.called(node)

    def store(self, target: ast.expr, value: ast.expr | None = None) -> None:
        match target:
            case ast.Name(id=name):
                self.bind(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                if not isinstance(value, ast.Tuple | ast.List) or not all(isinstance(part, ast.Name) for part in parts):
                    self.called()
                for part in parts:
                    self.store(part)
            case ast.Starred(value=part):
                self.store(part)
            case _:
                self.expr(target)
                self.called()

    def expr(self, node: ast.expr) -> None:
        above: list[Any] = []
        kind = type(node)
        while kind in _SPINE:  # chains of calls and sums are long, and are not gone down by recursion
            above.append(node)
            node = getattr(node, _SPINE[kind])
            kind = type(node)
        if kind is ast.Name:
            self.read(node.id)  # type: ignore[attr-defined]
        elif kind is not ast.Constant:
            _EXPRESSIONS.get(kind, Expressions.any)(self, node)
        while above:
            self._above(above.pop())

    def _above(self, node: Any) -> None:
        """What stands to the right of the beginning of a chain."""
        kind = type(node)
        if kind is ast.Call:
            for argument in node.args:
                self.expr(argument)
            for keyword in node.keywords:
                self.expr(keyword.value)
            found = strings.of_call(node)
            if found is not None:
                self.run_strings(found)
        elif kind is ast.BinOp:
            self.expr(node.right)
        elif kind is ast.Subscript:
            self.expr(node.slice)
            self.words(strings.of_subscript(node))
        if self.pending:
            self.called(node)

    def words(self, words: Iterable[str]) -> None:
        """Names that are looked up when it runs: a function's own, if it was given them, else the globals."""
        for word in words:
            if word not in self.scope.given and word not in self.bound:
                self.used.add(word)

    def _lambda(self, node: ast.Lambda) -> None:
        self.defaults(node.args)
        given = [each.arg for each in parameters(node.args)]
        scope = Scope("function", self.scope, body=(node.body,), given=given, walrus=self.walrus)
        self.deferred(scope, lambda: self.expr(node.body))

    def defaults(self, args: ast.arguments) -> None:
        for default in (*args.defaults, *args.kw_defaults):
            if default is not None:
                self.expr(default)

    def condition(self, node: ast.expr) -> tuple[Out, Out]:
        """What more is bound where it is true and where it is false; None where it cannot be."""
        match node:
            case ast.Constant(value=value):
                return ((), None) if value else (None, ())
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                true, false = self.condition(operand)
                return false, true
            case ast.BoolOp():
                return self._bool_op(node)
        self.expr(node)
        self.called()
        return (), ()

    def _bool_op(self, node: ast.BoolOp) -> tuple[Out, Out]:
        mark, lefts, goes_on = len(self.trail), list[Out](), True
        for value in node.values:
            true, false = self.condition(value)
            on, off = (true, false) if isinstance(node.op, ast.And) else (false, true)
            lefts.append(None if off is None else [*self.trail[mark:], *off])
            if on is None:
                goes_on = False
                break
            for key in on:
                self.add(key)
        last = self.trail[mark:] if goes_on else None
        self.undo(mark)
        live = [set(left) for left in lefts if left is not None]
        left = tuple(live[0].intersection(*live[1:])) if live else None
        return (last, left) if isinstance(node.op, ast.And) else (left, last)

    def _either(self, node: ast.BoolOp) -> None:
        self.join(self.condition(node))

    def _if_else(self, node: ast.IfExp) -> None:
        mark, outs = len(self.trail), list[Out]()
        for added, value in zip(self.condition(node.test), (node.body, node.orelse), strict=True):
            if added is not None:
                here = len(self.trail)
                for key in added:
                    self.add(key)
                self.expr(value)
                outs.append(self.trail[mark:])
                self.undo(here)
        self.undo(mark)
        self.join(outs)

    def _compare(self, node: ast.Compare) -> None:
        self.expr(node.left)
        self.expr(node.comparators[0])
        self.words(strings.of_compare(node))
        self.called(node)
        if len(node.comparators) > 1:
            mark = len(self.trail)
            for value in node.comparators[1:]:
                self.expr(value)
                self.called()
            self.undo(mark)

    def _walrus_of(self, node: ast.NamedExpr) -> None:
        self.expr(node.value)
        self.bind(node.target.id)

    def _dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.expr(key)
            self.expr(value)
        self.called(node)

    def _sequence(self, node: ast.List | ast.Tuple) -> None:
        for part in node.elts:
            self.expr(part)

    def _comprehension(self, node: Any) -> None:
        first = node.generators[0].iter
        self.expr(first)
        self.called()
        outer, mark = self.scope, len(self.trail)
        targets = [each.target for each in node.generators]
        scope = Scope("comprehension", outer, body=targets, walrus=self.walrus)
        if isinstance(node, ast.GeneratorExp):
            self.deferred(scope, lambda: self._each(node))
            return
        self.scope = scope
        self._each(node)
        self.scope = outer
        self.undo(mark)  # there may be nothing to go through

    def _each(self, node: Any) -> None:
        for index, generator in enumerate(node.generators):
            if index:
                self.expr(generator.iter)
            self.store(generator.target)
            self.called()
            for test in generator.ifs:
                for key in self.condition(test)[0] or ():
                    self.add(key)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.expr(part)
        self.called()


_SPINE: dict[type[Any], str] = {ast.Attribute: "value", ast.Call: "func", ast.Subscript: "value", ast.BinOp: "left"}
"""Kinds that begin with another expression."""

_EXPRESSIONS: dict[type[Any], Callable[[Expressions, Any], None]] = {
    ast.Lambda: Expressions._lambda,
    ast.BoolOp: Expressions._either,
    ast.IfExp: Expressions._if_else,
    ast.Compare: Expressions._compare,
    ast.NamedExpr: Expressions._walrus_of,
    ast.Dict: Expressions._dict,
    ast.List: Expressions._sequence,
    ast.Tuple: Expressions._sequence,
    ast.ListComp: Expressions._comprehension,
    ast.SetComp: Expressions._comprehension,
    ast.DictComp: Expressions._comprehension,
    ast.GeneratorExp: Expressions._comprehension,
}
