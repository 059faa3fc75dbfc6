"""How a tool is called, from the signature that its host tells: parsed, and nothing of it run. Standard library only.

Decided here: annotations, and defaults that are no literals, are shown as they are written. What is wrong with a call's
arguments is said with the signature, before the call is made; whether they are of the right types is the host's to say.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["Form", "Written", "parsed"]

MAX_CHARS = 20_000
"""Of a signature; a longer one is not read."""
MAX_SHOWN = 300
NO_DOC = "A tool of the host's, which says no more of it."
BROKEN = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)


class Written:
    """Code that is shown and not run."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def parsed(text: str) -> inspect.Signature | None:
    """`(city: str, days: int = 3) -> list[float]`; None where it is not that."""
    if not text or len(text) > MAX_CHARS:
        return None
    try:
        body = ast.parse(f"def tool{text}: pass").body
        if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
            return None
        returns = body[0].returns
        hint: Any = inspect.Signature.empty if returns is None else Written(ast.unparse(returns))
        return inspect.Signature(parameters_of(body[0].args), return_annotation=hint)
    except BROKEN:
        return None


def parameters_of(found: ast.arguments) -> list[inspect.Parameter]:
    positional: list[tuple[ast.arg, Any]] = [(one, inspect.Parameter.POSITIONAL_ONLY) for one in found.posonlyargs]
    positional += [(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in found.args]
    without = len(positional) - len(found.defaults)
    made = [
        parameter(one, kind, found.defaults[place - without] if place >= without else None)
        for place, (one, kind) in enumerate(positional)
    ]
    if found.vararg is not None:
        made.append(parameter(found.vararg, inspect.Parameter.VAR_POSITIONAL, None))
    for one, default in zip(found.kwonlyargs, found.kw_defaults, strict=True):
        made.append(parameter(one, inspect.Parameter.KEYWORD_ONLY, default))
    if found.kwarg is not None:
        made.append(parameter(found.kwarg, inspect.Parameter.VAR_KEYWORD, None))
    return made


def parameter(found: ast.arg, kind: Any, default: ast.expr | None) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    hint = empty if found.annotation is None else Written(ast.unparse(found.annotation))
    return inspect.Parameter(found.arg, kind, default=empty if default is None else literal(default), annotation=hint)


def literal(default: ast.expr) -> Any:
    try:
        return ast.literal_eval(default)
    except BROKEN:
        return Written(ast.unparse(default))


class Form:
    """What one tool takes, and how that is told."""

    def __init__(self, offer: Mapping[str, Any]) -> None:
        self.name = str(offer["name"])
        self.doc = str(offer.get("doc") or NO_DOC)
        told = offer.get("parameters")
        signature = parsed(str(offer.get("signature") or ""))
        known = signature if signature is not None else plain_signature(told)
        kinds = {name: one.kind for name, one in known.parameters.items()}
        named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.signature = known
        self.positional = tuple(told if told is not None else (name for name, kind in kinds.items() if kind in named))
        """Those that can be given by position, in order."""
        own = {name for name, kind in kinds.items() if kind in (*named, inspect.Parameter.KEYWORD_ONLY)}
        self.names = (*self.positional, *(name for name in kinds if name in own and name not in self.positional))
        self.open = told is None and inspect.Parameter.VAR_KEYWORD in kinds.values()
        """It takes other names, too."""
        empty = inspect.Parameter.empty
        self.required = [n for n in own if known.parameters[n].default is empty] if signature is not None else []

    def __str__(self) -> str:
        text = f"{self.name}{self.signature}"
        return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"

    @property
    def line(self) -> str:
        """In one line: how it is called, and what it does."""
        first, _, rest = self.doc.strip().partition("\n") if self.doc is not NO_DOC else ("", "", "")
        if first[:1] == "[" and first[-1:] == "]" and rest:  # whose words they are
            first = f"{rest.strip().partition(chr(10))[0]} {first}"
        first = first[:MAX_SHOWN]
        return f"{self}: {first}" if first else str(self)

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All of them by name. Raises TypeError: they do not fit."""
        if len(args) > len(self.positional):
            takes = f"at most {len(self.positional)} arguments" if self.positional else "keyword arguments only"
            raise self.wrong(f"takes {takes}; {len(args)} given by position")
        found = dict(zip(self.positional, args, strict=False))
        twice = sorted(found.keys() & kwargs.keys())
        if twice:
            raise self.wrong(f"got {twice[0]!r} twice")
        unknown = [] if self.open else sorted(kwargs.keys() - set(self.names))
        if unknown:
            raise self.wrong(f"has no parameter {unknown[0]!r}; it has: {', '.join(self.names) or 'none'}")
        found |= kwargs
        missing = [name for name in self.names if name in self.required and name not in found]
        if missing:
            raise self.wrong(f"is missing {', '.join(map(repr, missing))}")
        return found

    def wrong(self, problem: str) -> TypeError:
        return TypeError(f"{self.name}() {problem}. It is called as {self}")


def plain_signature(names: Any) -> inspect.Signature:
    """Of names alone; of none that are known: any."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    try:
        if names is not None:
            return inspect.Signature([inspect.Parameter(str(name), kind) for name in names])
    except ValueError:  # one that Python cannot write
        pass
    return inspect.Signature([inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)])
