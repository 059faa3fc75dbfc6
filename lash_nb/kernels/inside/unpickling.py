"""How values that came from another process are made again; used on both sides, in the kernel as source.

Decided here: functions of the other side's cells get the namespace of this side's cells as their globals. A class that
is known here already (it came before, or went from here and comes back) is taken as it is, unless it is the class
itself that was sent anew. What cannot be made is said as a `problem`: which package is missing or another version.
What is known by its name in `__main__` alone is not taken for what has that name here.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
import types
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .pickling import LIVE_MARK
from .reducing import LIVE, NotSentError

__all__ = ["CODE_FORM", "CannotBeMadeError", "Unpickler", "problem_of", "version_of"]

CODE_FORM = importlib.util.MAGIC_NUMBER.hex()
"""Code of another form must not run here: it would crash the interpreter."""
PRIVATE = "cloudpickle.cloudpickle"
MAX_CHARS = 500

Problem = dict[str, Any]


class CannotBeMadeError(Exception):
    """`problem` says why."""

    def __init__(self, **problem: Any) -> None:
        super().__init__(problem)
        self.problem: Problem = problem


def version_of(module: str) -> str:
    """Of the package that a module belongs to, where it says; else ""."""
    found = getattr(sys.modules.get(module.partition(".")[0]), "__version__", "")
    return found if isinstance(found, str) else ""


def problem_of(error: BaseException) -> Problem:
    """What is told of a value that could not be made."""
    if isinstance(error, CannotBeMadeError):
        return error.problem
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        package, _, name = error.name.rpartition(".")
        if package.partition(".")[0] in sys.modules:  # it is there, without this part
            return {"kind": "version", "module": package, "name": name, "version": version_of(package)}
        return {"kind": "package", "module": error.name}
    if isinstance(error, NotSentError):
        return {"kind": "error", "message": str(error)}
    try:
        message = str(error)
    except BaseException:
        message = ""
    return {"kind": "error", "message": f"{type(error).__name__}: {message}"[:MAX_CHARS]}


class Unpickler(pickle.Unpickler):
    """Reads one stream of `file` (it has `read` and `readline`).

    `live` is the namespace that functions of the other side's cells use. `renewed` are cloudpickle's ids of classes
    that are given the state they come with, though they are known here. `code_form` is the sender's `CODE_FORM`.
    """

    def __init__(
        self,
        file: Any,
        *,
        buffers: Sequence[Any],
        live: dict[str, Any],
        renewed: Collection[str] = (),
        code_form: str = CODE_FORM,
    ) -> None:
        super().__init__(file, buffers=buffers)
        self.live, self.renewed, self.code_form = live, renewed, code_form
        self.as_they_are: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        if module == LIVE:
            raise CannotBeMadeError(
                kind="error", message=f"{name} is known by its name alone, and another one may have it here"
            )
        if (module, name) == (PRIVATE, "_make_function"):
            self.check_code()  # also where there is no cloudpickle: to have it would not help
        try:
            found = super().find_class(module, name)
        except AttributeError:
            raise CannotBeMadeError(kind="version", module=module, name=name, version=version_of(module)) from None
        if module == PRIVATE:
            made = self.own_way(name, found)
            return found if made is None else made
        if found is types.CodeType:
            self.check_code()
        return found

    def check_code(self) -> None:
        if self.code_form != CODE_FORM:
            raise CannotBeMadeError(kind="code")

    def own_way(self, name: str, theirs: Any) -> Any:
        """What is done in the place of a function of cloudpickle's, if it has the form that is known."""
        ours: dict[str, Callable[[Any], Any]] = {
            "_builtin_type": self.builtin_type,
            "_make_function": self.function,
            "_function_setstate": self.state_of_function,
            "_make_skeleton_class": self.class_,
            "_make_skeleton_enum": self.class_,
            "_class_setstate": self.state_of_class,
        }
        return ours[name](theirs) if name in ours else None

    def builtin_type(self, theirs: Any) -> Any:
        def builtin_type(name: str) -> Any:
            if name == "CodeType":
                self.check_code()
            return theirs(name)

        return builtin_type

    def function(self, theirs: Any) -> Any:
        def function(code: Any, namespace: dict[str, Any], *rest: Any) -> Any:
            if LIVE_MARK in namespace:
                return types.FunctionType(code, self.live, *rest)
            return theirs(code, namespace, *rest)

        return function

    def state_of_function(self, theirs: Any) -> Any:
        """As theirs does, but nothing of the live namespace is set."""

        def set_state(function: Any, state: Any) -> None:
            if function.__globals__ is not self.live:
                theirs(function, state)
                return
            attributes, slots = state
            function.__dict__.update(attributes)
            for mine, cell in zip(function.__closure__ or (), slots.get("__closure__") or (), strict=True):
                try:
                    mine.cell_contents = cell.cell_contents
                except ValueError:  # it is empty
                    continue
            for name, value in slots.items():
                if name not in ("__globals__", "__closure__", "_cloudpickle_submodules"):
                    setattr(function, name, value)

        return set_state

    def class_(self, theirs: Any) -> Any:
        code = theirs.__code__
        names = code.co_varnames[: code.co_argcount]
        known = getattr(sys.modules[PRIVATE], "_DYNAMIC_CLASS_TRACKER_BY_ID", None)
        if known is None or "class_tracker_id" not in names:
            return theirs
        place = names.index("class_tracker_id")

        def class_(*args: Any) -> Any:
            tracked = args[place]
            found = known.get(tracked) if tracked is not None else None
            if found is None:
                return theirs(*args)
            if tracked not in self.renewed:
                self.as_they_are.append(found)
            return found

        return class_

    def state_of_class(self, theirs: Any) -> Any:
        def set_state(class_: Any, state: Any) -> Any:
            if any(class_ is one for one in self.as_they_are):
                return class_
            return theirs(class_, state)

        return set_state
