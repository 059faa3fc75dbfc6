"""Signatures of functions: their annotations as types, and how they are written for people.

Decided here: where the names in annotations are looked up (the function's module, and what it closes over), and that
what cannot be found is told with the parameter. A signature is written without modules, and parses as Python.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from ..errors import InputError

__all__ = ["is_async", "parameter_hints", "plain_function", "readable_signature", "return_hint"]

_MOST_CHARS = 1_000
_MOST_DEFAULT_CHARS = 60
_PREFIX = re.compile(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|\b(?:[A-Za-z_]\w*\.|<locals>\.)+(?=[A-Za-z_])")
"""A string, which stays; or the modules before a name, which go."""


def plain_function(function: Callable[..., Any]) -> Any:
    """What holds the code: of a partial, a bound method, a wrapper, a class, an object that can be called."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function) or isinstance(function, (staticmethod, classmethod)):
            function = function.__func__
        elif (wrapped := _unwrapped(function)) is not function:
            function = wrapped
        elif isinstance(function, type):
            made_by = inspect.getattr_static(function, "__init__")
            return made_by if made_by is not object.__init__ else function.__new__
        elif (call := _call_of(function)) is not None:
            function = call
        else:
            return function


def _unwrapped(function: Callable[..., Any]) -> Any:
    try:
        return inspect.unwrap(function)
    except ValueError:  # it wraps itself
        return function


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives something to be awaited."""
    if isinstance(function, functools.partial):
        return is_async(function.func)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_call_of(function))


def _call_of(function: Callable[..., Any]) -> Any:
    """The function that is called when an object is; None for functions and classes."""
    if inspect.isroutine(function) or isinstance(function, type):
        return None
    found = inspect.getattr_static(type(function), "__call__", None)
    return found if inspect.isroutine(found) else None


def parameter_hints(name: str, function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """The type of each parameter; Any for one without annotation.

    Raises:
        InputError: an annotation names what cannot be found.
    """
    hints: dict[str, Any] = {}
    for parameter in parameters:
        try:
            hints[parameter.name] = _hint(function, parameter.annotation)
        except Exception as error:  # it is evaluated
            why = f"{type(error).__name__}: {error}"[:_MOST_CHARS]
            raise InputError(
                f"the tool {name!r}: the annotation {str(parameter.annotation)[:_MOST_CHARS]!r} of its parameter "
                f"{parameter.name!r} cannot be resolved ({why}); define what it names beside the function"
            ) from None
    return hints


def return_hint(function: Callable[..., Any]) -> Any:
    """The type that a function is said to give; Any when that is not said, or cannot be resolved."""
    try:
        return _hint(function, inspect.signature(function).return_annotation)
    except Exception:  # it is evaluated
        return Any


def _hint(function: Callable[..., Any], annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    source = plain_function(function)
    code, cells = getattr(source, "__code__", None), getattr(source, "__closure__", None) or ()
    closed: dict[str, Any] = {}
    for variable, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            closed[variable] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for one in getattr(source, "__type_params__", ()):
        closed[one.__name__] = one

    def carrier() -> None:
        """Holds the one annotation: then what fails is known by its parameter."""

    carrier.__annotations__ = {"it": annotation}
    known = getattr(source, "__globals__", {})
    return get_type_hints(carrier, globalns=known, localns=closed, include_extras=True)["it"]


# -- for people --------------------------------------------------------------------------------------------------------


_ARRIVES = {
    **dict.fromkeys(("DataFrame", "LazyFrame"), "list[dict]"),
    **dict.fromkeys(("Series", "Index", "ndarray"), "list"),
    **dict.fromkeys(("Figure", "Axes", "Attachment", "bytes"), "ToolAttachment"),
}
"""What a value is that arrives as something else, by the name of its type."""


def readable_signature(function: Callable[..., Any], hints: Mapping[str, Any]) -> str:
    """`(city: str, days: int = 3) -> list[float]`; without annotations when those cannot be written as Python."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    gives = return_hint(function) if signature.return_annotation is not inspect.Signature.empty else Any
    said = "" if gives is Any else f" -> {_ARRIVES.get(getattr(gives, '__name__', ''), '') or _written(gives)}"
    annotated = "(" + ", ".join(_parts(parameters, hints)) + ")" + said
    if len(annotated) <= _MOST_CHARS and _parses(annotated):
        return annotated
    plain = "(" + ", ".join(_parts(parameters, {})) + ")"
    return plain if len(plain) <= _MOST_CHARS and _parses(plain) else "(**arguments)"


def _parts(parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> list[str]:
    parts: list[str] = []
    positional = [one for one in parameters if one.kind is one.POSITIONAL_ONLY]
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        hint = hints.get(one.name, Any)
        text = f"{'**' if one.kind is one.VAR_KEYWORD else ''}{one.name}"
        text += "" if hint is Any else f": {_written(hint)}"
        if one.default is not one.empty:
            text += f" = {_default(one.default)}" if hint is not Any else f"={_default(one.default)}"
        parts.append(text)
        if positional and one is positional[-1]:
            parts.append("/")
    return parts


def _default(value: Any) -> str:
    """As Python writes it, where it is a literal."""
    if type(value).__module__.startswith("pydantic") and hasattr(value, "get_default"):
        value = value.get_default(call_default_factory=False)
    try:
        text = repr(value)
        ast.literal_eval(text)
    except Exception:  # a repr is the value's own code
        return "..."
    return text if len(text) <= _MOST_DEFAULT_CHARS else "..."


def _written(hint: Any) -> str:
    def carrier() -> None:
        """For typing, which takes `Annotated` apart wherever it stands."""

    carrier.__annotations__ = {"it": hint}
    try:
        plain = get_type_hints(carrier)["it"]
    except Exception:  # a type of its own kind
        plain = hint
    plain = None if plain is type(None) else plain
    return _PREFIX.sub(lambda match: match[1] or "", inspect.formatannotation(plain))


def _parses(signature: str) -> bool:
    try:
        ast.parse(f"def f{signature}: ...")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
