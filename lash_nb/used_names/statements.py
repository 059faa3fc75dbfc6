"""Which names statements read and bind, and which ways lead on from them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from .expressions import Expressions
from .scopes import Scope, captures, is_quiet_class, lets_through, parameters, surely_iterates
from .ways import Added, Loop, Out

__all__ = ["Statements"]


class Statements(Expressions):
    """Follows statements."""

    def block(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            if self.dead:
                return
            _STATEMENTS[type(node)](self, node) if type(node) in _STATEMENTS else self.any(node)

    def _assign(self, node: ast.Assign) -> None:
        self.expr(node.value)
        for target in node.targets:
            self.store(target, node.value)

    def _aug_assign(self, node: ast.AugAssign) -> None:
        self.expr(node.target)
        self.expr(node.value)
        self.called()
        if isinstance(node.target, ast.Name):
            self.bind(node.target.id)

    def _ann_assign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.expr(node.value)
            self.store(node.target)
        elif not isinstance(node.target, ast.Name):
            self.expr(node.target)
        if self.scope.kind in ("module", "class"):
            self.annotation(node.annotation)

    def annotation(self, node: ast.expr | None) -> None:
        if node is not None and not self.lazy_annotations:
            self.expr(node)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._delete_one(target)

    def _delete_one(self, target: ast.expr) -> None:
        match target:
            case ast.Name(id=name):
                if not self.scope.own(name):
                    self.read(name)
                    self.bind(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._delete_one(part)
            case _:
                self.expr(target)
                self.called()

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.called()
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            self.lazy_annotations |= any(alias.name == "annotations" for alias in node.names)
        for alias in node.names:
            if alias.name != "*":
                self.bind(alias.asname or alias.name.partition(".")[0])

    def _jump(self, node: ast.Return | ast.Raise | ast.Break | ast.Continue) -> None:
        self.any(node)
        self.called()
        if self.loops and isinstance(node, ast.Break):
            self.loops[-1].breaks.append(self.out(self.loops[-1].mark))
        elif self.loops and isinstance(node, ast.Continue):
            self.loops[-1].ends.append(self.out(self.loops[-1].mark))
        self.dead = True

    def _assert(self, node: ast.Assert) -> None:
        mark = len(self.trail)
        self.any(node)
        self.undo(mark)  # Python's -O leaves it out

    def _if(self, node: ast.If) -> None:
        mark, outs = len(self.trail), list[Out]()
        while True:
            true, false = self.condition(node.test)
            if true is not None:
                outs.append(self.way(mark, true, node.body))
            if false is None:
                break
            if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If):
                outs.append(self.way(mark, false, node.orelse))
                break
            for key in false:
                self.add(key)
            node = node.orelse[0]  # a loop, for there may be hundreds of them
        self.undo(mark)
        self.join(outs)

    def way(self, mark: int, added: Added, body: list[ast.stmt], *, again: bool = False) -> Out:
        """A branch, undone; what it has bound since `mark`. `again`: after it, something may be called."""
        here = len(self.trail)
        for key in added:
            self.add(key)
        self.block(body)
        if again:
            self.called()
        out = self.out(mark)
        self.undo(here)
        return out

    def _while(self, node: ast.While) -> None:
        mark = len(self.trail)
        loop = Loop(mark)
        true, false = self.condition(node.test)
        self.loops.append(loop)
        if true is not None:
            self.way(mark, true, node.body, again=True)
        self.loops.pop()
        out = None if false is None else self.way(mark, false, node.orelse)
        self.undo(mark)
        self.join([out, *loop.breaks])

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.expr(node.iter)
        self.called()
        mark = len(self.trail)
        loop = Loop(mark)
        self.loops.append(loop)
        self.store(node.target)
        self.block(node.body)
        self.called()
        loop.ends.append(self.out(mark))
        self.undo(mark)
        self.loops.pop()
        if surely_iterates(node.iter) and self.scope.key_of("range") == "range" and "range" not in self.bound:
            self.join(loop.ends)
        self.block(node.orelse)
        out = self.out(mark)
        self.undo(mark)
        self.join([out, *loop.breaks])

    def _try(self, node: Any) -> None:
        mark = len(self.trail)
        self.block([*node.body, *node.orelse])
        outs = [self.out(mark)]
        for handler in node.handlers:
            self.undo(mark)  # it may have been left before anything was bound
            if handler.type is not None:
                self.expr(handler.type)
            self.called()
            if handler.name:
                self.bind(handler.name)
            self.block(handler.body)
            outs.append(self.out(mark))
        self.undo(mark)
        last = self.way(mark, (), node.finalbody)
        self.join(outs if last is not None else ())
        for key in last or ():
            self.add(key)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        mark: int | None = None
        for item in node.items:
            self.expr(item.context_expr)
            self.called()
            sure = lets_through(item.context_expr)
            if isinstance(item.optional_vars, ast.Name):
                self.bind(item.optional_vars.id)
            mark = len(self.trail) if mark is None and not sure else mark
            if item.optional_vars is not None:
                self.store(item.optional_vars)
        self.block(node.body)
        self.called()
        if mark is not None:
            self.undo(mark)

    def _match(self, node: ast.Match) -> None:
        self.expr(node.subject)
        mark, outs = len(self.trail), list[Out]()
        for case in node.cases:
            caught = captures(case.pattern)
            for value in caught.reads:
                self.expr(value)
            self.called()
            here = len(self.trail)
            for name in caught.names:
                self.bind(name)
            true = self.condition(case.guard)[0] if case.guard is not None else ()
            if true is not None:
                outs.append(self.way(mark, true, case.body))
            self.undo(here)
            if caught.all and case.guard is None:
                break
        else:
            outs.append(self.out(mark))
        self.undo(mark)
        self.join(outs)

    # ------------------------------------------------------------------------------------------------ definitions

    def _function(self, node: Any) -> None:
        for decorator in node.decorator_list:
            self.expr(decorator)
        self.defaults(node.args)
        outer = self._generic(node)
        given = parameters(node.args)
        for parameter in given:
            self.annotation(parameter.annotation)
        self.annotation(node.returns)
        scope = Scope("function", self.scope, body=node.body, given=[each.arg for each in given], walrus=self.walrus)
        self.deferred(scope, lambda: self.block(node.body))
        self.scope = outer
        if node.decorator_list:
            self.called()
        self.bind(node.name)

    def _generic(self, node: Any) -> Scope:
        """Enters the scope of the type parameters, if there are any; the scope from which that was."""
        outer, parameters = self.scope, getattr(node, "type_params", ())
        if parameters:
            self.scope = Scope("function", outer, given=[each.name for each in parameters])
            for part in parameters:
                for value in (getattr(part, "bound", None), getattr(part, "default_value", None)):
                    if value is not None:
                        self._later(value)
        return outer

    def _later(self, value: ast.expr) -> None:
        self.deferred(Scope("function", self.scope), lambda: self.expr(value))

    def _alias(self, node: Any) -> None:
        outer = self._generic(node)
        self._later(node.value)
        self.scope = outer
        self.bind(node.name.id)

    def _class(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.expr(decorator)
        outer = self._generic(node)
        for base in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self.expr(base)
        self.classes += 1
        self.scope = Scope(
            "class", self.scope, body=node.body, number=self.classes, class_name=node.name, walrus=self.walrus
        )
        self.block(node.body)
        self.scope = outer
        if not is_quiet_class(node):
            self.called()
        self.bind(node.name)


_STATEMENTS: dict[type[Any], Callable[[Statements, Any], None]] = {
    ast.Assign: Statements._assign,
    ast.AugAssign: Statements._aug_assign,
    ast.AnnAssign: Statements._ann_assign,
    ast.Delete: Statements._delete,
    ast.Import: Statements._import,
    ast.ImportFrom: Statements._import,
    ast.Return: Statements._jump,
    ast.Raise: Statements._jump,
    ast.Break: Statements._jump,
    ast.Continue: Statements._jump,
    ast.Assert: Statements._assert,
    ast.If: Statements._if,
    ast.While: Statements._while,
    ast.For: Statements._for,
    ast.AsyncFor: Statements._for,
    ast.Try: Statements._try,
    ast.TryStar: Statements._try,
    ast.With: Statements._with,
    ast.AsyncWith: Statements._with,
    ast.Match: Statements._match,
    ast.FunctionDef: Statements._function,
    ast.AsyncFunctionDef: Statements._function,
    ast.ClassDef: Statements._class,
}
if hasattr(ast, "TypeAlias"):
    _STATEMENTS[ast.TypeAlias] = Statements._alias
