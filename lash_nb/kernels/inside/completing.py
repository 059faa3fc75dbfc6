"""Completion of the tools: their names after `tools.`, and the names of what they take. Runs in the kernel.

IPython completes what a namespace holds; `tools` is in none, because it lies beside the builtins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

MAX_CHARS = 4_000
"""Of the text before the cursor that is looked at."""
ATTRIBUTE = re.compile(r"\btools\.(\w*)$")
CALLED = re.compile(r"\btools\.(\w+)(?:\.aio)?\s*$")
GIVEN = re.compile(r"(?<![\w.])(\w+)\s*=(?!=)")
STRING = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
OPENING, CLOSING = "([{", ")]}"


def open_call(text: str) -> tuple[str, str] | None:
    """The tool whose call the cursor is in, and the arguments so far; None: in no call of one."""
    text = STRING.sub("''", text[-MAX_CHARS:])
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        if text[place] in CLOSING:
            depth += 1
        elif text[place] in OPENING:
            depth -= 1
            if depth < 0:
                called = CALLED.search(text[:place]) if text[place] == "(" else None
                return (called[1], text[place + 1 :]) if called is not None else None
    return None


def completions(token: str, before: str, names: Iterable[str], taken: Callable[[str], Iterable[str]]) -> list[str]:
    """What can stand in the place of the token, which ends where the cursor is; `before` is all text up to there."""
    attribute = ATTRIBUTE.search(before)
    if attribute is not None:
        start = token[: len(token) - len(attribute[1])]
        return [start + name for name in names if name.startswith(attribute[1])]
    call = open_call(before)
    if call is None or not re.fullmatch(r"\w*", token) or re.search(r"=\s*\w*$", call[1]):
        return []
    given = GIVEN.findall(call[1])
    return [f"{name}=" for name in taken(call[0]) if name.startswith(token) and name not in given]


def install(shell: Any, inside: Any) -> None:
    """One more matcher; the feature test is that there are such with a context."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    calls = inside.calls

    def taken(name: str) -> tuple[str, ...]:
        form = calls.form(name)
        return form.names if form is not None else ()

    def lash_nb_tools(context: Any) -> dict[str, Any]:
        lines = context.full_text.split("\n")[: context.cursor_line]
        before = "\n".join([*lines, context.text_until_cursor])
        found = completions(context.token, before, sorted(calls.offers), taken)
        kind = "param" if found and found[0].endswith("=") else "function"
        return {"completions": [SimpleCompletion(text, type=kind) for text in found], "ordered": True}

    shell.Completer.custom_matchers.append(context_matcher()(lash_nb_tools))
