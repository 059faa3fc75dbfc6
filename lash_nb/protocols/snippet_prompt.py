"""What a small model is shown: the live variables and columns, worked examples over them, the request.

Decided here: what goes in. Small models follow a pattern better than words about it, so the words are few. First the
live variables, cut to those that matter to the request; then examples: the same few, which are read once as long as
the variables stay, and those most like the request. All speak of live names, because a small
model copies the names that it sees; of columns that the request does not name, because it is to write the answer
itself. The request is last. All of it fits 2,048 tokens, whatever the kernel holds. Names come from the user's data:
they are put on one line and cannot end it; values are not told. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.execution import NamespaceSummary, VariableSummary
from .snippet_examples import ALWAYS, EXAMPLES, Example
from .snippet_likeness import EXAMPLE_KINDS, live_kinds, most_alike, terms_of, word_forms

__all__ = ["MAX_REQUEST_BYTES", "STOPS", "SYSTEM", "RequestRoom", "SnippetPrompt", "request_room", "snippet_prompt"]

SYSTEM = "You write Python for a Jupyter notebook. Reply with exactly one line of Python code, no explanation."
"""The system prompt of a session."""

STOPS = ("\n# request", "\n# variables")
"""Where a model that does not end its turn goes astray; a blank line is seen by the stream's reader."""

MAX_VARIABLES = 16
MAX_COLUMNS = 14
MAX_REQUEST_BYTES = 1_000
MAX_EXAMPLE_BYTES = 300
MAX_TOKENS = 2_000
"""Of the whole prompt, without what a chat's form takes for the system prompt and the request."""
_TOKENS_OF_A_MESSAGE = 6
MAX_LINE_BYTES = 760
MAX_NAME_BYTES = 36
SIMILAR = 5
"""Fewer do worse, and each costs 0.2 s (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetPrompt:
    """What a small model is told of a request, one line each."""

    variables: str
    examples: tuple[Example, ...]
    """The constant ones first, the one most like the request last."""
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRoom:
    """How long a request is, and how long it may be; `unit` is what both count."""

    size: int
    limit: int
    unit: str

    @property
    def fits(self) -> bool:
        return self.size <= self.limit


def request_room(request: str) -> RequestRoom:
    """The room that a request needs; measured in bytes, for a token may be as little as one."""
    text = " ".join(_printable(request).split())
    size = len(text.encode("utf-8", "replace"))
    return RequestRoom(size=size, limit=MAX_REQUEST_BYTES, unit="characters" if text.isascii() else "bytes")


def snippet_prompt(
    request: str, namespace: NamespaceSummary | None, *, similar: int = SIMILAR, bank: Sequence[Example] = EXAMPLES
) -> SnippetPrompt:
    """The variables, the examples and the request, bounded; `similar` examples of the bank are chosen for it."""
    asked = _one_line(request, MAX_REQUEST_BYTES)
    live = namespace or NamespaceSummary()
    first = _first_frame(live)
    meant = _meant_frame(asked, live) or first
    told = [_over(example, live, first, "") for example in ALWAYS]
    # Of those like it some cannot be told over the live frame: others take their places.
    alike = (_over(example, live, meant, asked) for example in most_alike(asked, namespace, bank, 3 * similar))
    told += [example for example in alike if example is not None][-similar:] if similar else []
    variables = _described(asked, namespace)
    examples = [
        Example(request=_one_line(example.request, MAX_EXAMPLE_BYTES), code=example.code)
        for example in told
        if example is not None
    ]
    room = MAX_TOKENS - _tokens(SYSTEM) - _tokens(variables) - _tokens(asked)
    return SnippetPrompt(variables=variables, examples=_that_fit(examples, room), request=asked)


def _that_fit(examples: Sequence[Example], room: int) -> tuple[Example, ...]:
    """The last of the examples, which are most like the request, as many as there is room for: all, as a rule."""
    for start, example in reversed(tuple(enumerate(examples))):
        room -= _tokens(example.request) + _tokens(example.code) + 2 * _TOKENS_OF_A_MESSAGE
        if room < 0:
            return tuple(examples[start + 1 :])
    return tuple(examples)


def _tokens(text: str) -> int:
    """No fewer than a text has: names need not be words, and of what is not ASCII a token may be one byte."""
    letters = sum(letter.isascii() and letter.isalpha() for letter in text)
    return len(text.encode("utf-8", "replace")) - letters * 3 // 10


_WORDS = re.compile(r"\w+")


# -- examples over live names ----------------------------------------------------------------------------------------

_NUMBERS, _TEXTS, _DATES = ("units", "cost"), ("region", "item"), ("day",)
_FRAME = "sales"
_COLUMN_NAMES = frozenset({*_NUMBERS, *_TEXTS, *_DATES})


def _frames(live: NamespaceSummary) -> list[VariableSummary]:
    return [variable for variable in live.variables if variable.columns and _can_be_told(variable.name)]


def _can_be_told(name: str) -> bool:
    """Whether an example may be about a variable of that name."""
    return name.isidentifier() and name == _one_line(name, MAX_NAME_BYTES)


def _first_frame(live: NamespaceSummary) -> VariableSummary | None:
    return next(iter(_frames(live)), None)


def _meant_frame(asked: str, live: NamespaceSummary) -> VariableSummary | None:
    """The frame that a request is about: named in it, or of the columns that it names."""
    words = word_forms(asked)
    best, most = None, 0
    for frame in _frames(live):
        named = 10 * (frame.name.lower() in words)
        score = named + sum(_mentions(words, title) for title, _ in frame.columns)
        if score > most:
            best, most = frame, score
    return best


def _mentions(words: set[str], title: str) -> bool:
    """Whether a column is named by the words of a request."""
    return bool(words & word_forms(title))


def _over(example: Example, live: NamespaceSummary, frame: VariableSummary | None, asked: str) -> Example | None:
    """An example told of live variables; with other names than the request's, as far as there are any.

    None when the live frame has no such columns. What no live variable can stand for stays made up.
    """
    words = word_forms(asked)
    used = set(_WORDS.findall(example.code)) | set(_WORDS.findall(example.request))
    if _FRAME in used:
        names = {} if frame is None or "shops" in used else _columns_for(used, frame, words)
    else:
        kinds = live_kinds(live)
        told_alike = terms_of(asked, kinds) == terms_of(example.request, EXAMPLE_KINDS)
        names = _variables_for(used, live, asked, others_only=told_alike)
    if names is None:
        return None

    def in_code(match: re.Match[str]) -> str:
        name = names.get(match[0], match[0])
        return name if match[0] not in _COLUMN_NAMES else repr(name)[1:-1].replace('"', '\\"')

    return Example(
        request=_WORDS.sub(lambda match: names.get(match[0], match[0]), example.request),
        code=_WORDS.sub(in_code, example.code),
    )


def _columns_for(used: set[str], frame: VariableSummary, words: set[str]) -> dict[str, str] | None:
    names = {_FRAME: frame.name, "sale": frame.name}
    for made_up, kinds in ((_NUMBERS, ("int", "float")), (_TEXTS, ("str", "category")), (_DATES, ("datetime",))):
        fitting = [
            title for title, kind in _columns(frame) if kind in kinds and title == _one_line(title, MAX_NAME_BYTES)
        ]
        fitting.sort(key=lambda title: _mentions(words, title))
        wanted = [name for name in made_up if name in used or f"{name}s" in used]
        if len(fitting) < len(wanted):
            return None
        for name, title in zip(wanted, fitting, strict=False):
            names[name] = names[f"{name}s"] = title
    return names


_MADE_UP = {
    "nums": ("list of int", "list of float", "tuple of int", "tuple of float"),
    "names": ("list of str", "tuple of str"),
    "groups": ("list of list",),
    "s": ("str",),
    "ages": ("dict of str to int", "dict of str to float"),
    "grid": ("2d",),
    "t": ("1d",),
    "z": ("1d",),
}


def _variables_for(used: set[str], live: NamespaceSummary, asked: str, *, others_only: bool) -> dict[str, str]:
    """Live variables of the same kinds, those that the request does not name first, or alone."""
    names: dict[str, str] = {}
    for made_up, kinds in _MADE_UP.items():
        if made_up not in used:
            continue
        fitting = [
            variable.name
            for variable in live.variables
            if _can_be_told(variable.name) and variable.name not in names.values() and _kind(variable) in kinds
        ]
        fitting.sort(key=lambda name: _named(name, asked))
        if fitting and not (others_only and _named(fitting[0], asked)):
            names[made_up] = fitting[0]
    return names


def _kind(variable: VariableSummary) -> str:
    if variable.type == "ndarray":
        return "2d" if "x" in _plain_kind(variable, "ndarray") else "1d"
    return _plain_kind(variable, variable.type)


def _named(name: str, asked: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", asked) is not None


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _one_line(text: str, limit: int) -> str:
    """Text that cannot end its line: any kind of white space is one blank, and nothing unprintable is left."""
    plain = " ".join(_printable(text).split())
    data = plain.encode("utf-8", "replace")
    return plain if len(data) <= limit else data[: limit - 3].decode("utf-8", "ignore") + "…"


# -- variables -------------------------------------------------------------------------------------------------------

_ALIASES = ("pd", "np", "plt", "sns")


def _described(asked: str, namespace: NamespaceSummary | None) -> str:
    if namespace is None:
        return "unknown; pd, np, plt are imported"
    words = word_forms(asked)
    data = [variable for variable in namespace.variables if variable.type not in ("module", "class")]
    ranked = sorted(data, key=lambda variable: -_weight(variable, asked, words))[:MAX_VARIABLES]
    chosen = [variable for variable in data if variable in ranked]
    out: list[tuple[str, str]] = []
    length = 0
    for variable in sorted(chosen, key=lambda variable: ranked.index(variable)):
        text = _variable(variable, words)
        length += len(text.encode("utf-8", "replace")) + 2
        if length > MAX_LINE_BYTES and out:
            break
        out.append((variable.name, text))
    order = [variable.name for variable in data]
    out.sort(key=lambda pair: order.index(pair[0]))
    modules = [name for name in _ALIASES if name in ("pd", "np", "plt") or _has(namespace, name)]
    return "; ".join([*(text for _, text in out), f"{', '.join(modules)} are imported"])


def _has(namespace: NamespaceSummary, name: str) -> bool:
    return any(variable.name == name for variable in namespace.variables)


def _weight(variable: VariableSummary, asked: str, words: set[str]) -> int:
    """How much a variable matters to a request: named in it, of a named column, changed lately."""
    named = _named(variable.name, asked)
    columns = sum(_mentions(words, title) for title, _ in variable.columns)
    return 100 * named + 10 * min(columns, 5) + 2 * variable.changed + (variable.type == "DataFrame")


def _variable(variable: VariableSummary, words: set[str]) -> str:
    name, kind = _one_line(variable.name, MAX_NAME_BYTES), _one_line(variable.type, MAX_NAME_BYTES)
    columns = _columns(variable)
    if columns:
        first = [pair for pair in columns if _mentions(words, pair[0])]
        first = sorted(first, key=lambda pair: pair[0].lower() not in words)[:MAX_COLUMNS]
        kept = [pair for pair in columns if pair in first]
        kept += [pair for pair in columns if pair not in first][: MAX_COLUMNS - len(kept)]
        kept.sort(key=columns.index)
        shown = ", ".join(f"{_column_name(title)} {kind}".rstrip() for title, kind in kept)
        more = ", …" if len(kept) < len(columns) else ""
        return f"{name}: {kind}[{shown}{more}]"
    return f"{name}: {_plain_kind(variable, kind)}"


def _column_name(title: str) -> str:
    text = _one_line(title, MAX_NAME_BYTES)
    return text if re.fullmatch(r"\w+", text) else repr(text)


_DTYPES = (
    ("datetime", "datetime"),
    ("timedelta", "timedelta"),
    ("int", "int"),
    ("uint", "int"),
    ("float", "float"),
    ("bool", "bool"),
    ("category", "category"),
    ("object", "str"),
    ("str", "str"),
)


def _columns(variable: VariableSummary) -> list[tuple[str, str]]:
    """Names and plain types of a frame's columns."""
    return [(title, _plain_dtype(dtype)) for title, dtype in variable.columns]


def _plain_dtype(dtype: str) -> str:
    known = (plain for start, plain in _DTYPES if dtype.lower().startswith(start))
    return next(known, _one_line(dtype, MAX_NAME_BYTES))


_ITEM = re.compile(r"[\[({]\s*('|\"|-?\d+\.\d|-?\d|True|False|\[|\(|\{)")
_ITEMS = {"'": "str", '"': "str", "[": "list", "(": "tuple", "{": "dict"}


def _plain_kind(variable: VariableSummary, kind: str) -> str:
    """What a value without columns is, in the words of the examples: `list of int`, `ndarray 3x4`."""
    shape = re.match(r"shape \(([\d, ]+)\)", variable.detail)
    if shape is not None:
        sizes = [size.strip() for size in shape.group(1).split(",") if size.strip()]
        return f"{kind} {'x'.join(sizes)}" if len(sizes) > 1 else kind
    if kind == "function":
        return f"function{_one_line(variable.detail, 60)}"
    item = _ITEM.match(variable.preview)
    if item is None or kind not in ("list", "tuple", "set", "dict"):
        return kind
    first = item.group(1)
    of = _ITEMS.get(first) or ("bool" if first in ("True", "False") else "float" if "." in first else "int")
    if kind == "dict":
        value = re.match(r"\{[^:]+: ('|\"|-?\d+\.\d|-?\d|\[|\{|\()", variable.preview)
        if value is None:
            return f"dict of {of}"
        start = value.group(1)
        return f"dict of {of} to {_ITEMS.get(start) or ('float' if '.' in start else 'int')}"
    return f"{kind} of {of}"
