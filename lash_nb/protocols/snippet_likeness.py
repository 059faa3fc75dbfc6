"""How much a request resembles a worked example: words evened out, live names replaced by what they are.

Decided here: likeness is shared words, rare ones weigh more; an example about another kind of thing counts for little.
Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..machine.execution import NamespaceSummary
from .snippet_examples import Example

__all__ = ["EXAMPLE_KINDS", "live_kinds", "most_alike", "terms_of", "word_forms"]

_SAME = {
    "average": "mean", "avg": "mean", "maximum": "max", "highest": "max", "largest": "max", "biggest": "max",
    "greatest": "max", "most": "max", "top": "max", "best": "max", "dearest": "max", "oldest": "max",
    "longest": "max", "hottest": "max", "minimum": "min", "lowest": "min", "smallest": "min", "least": "min",
    "fewest": "min", "cheapest": "min", "youngest": "min", "shortest": "min", "coldest": "min", "worst": "min",
    "total": "sum", "order": "sort", "sorted": "sort", "ordered": "sort", "rank": "sort", "count": "many",
    "number": "many", "often": "many", "times": "multiply", "occur": "many", "occurs": "many", "each": "per",
    "every": "per", "by": "per", "group": "per", "different": "distinct", "unique": "distinct",
    "chart": "plot", "graph": "plot", "draw": "plot", "diagram": "plot", "percentage": "percent",
    "share": "percent", "proportion": "percent", "null": "missing", "nan": "missing", "empty": "missing",
    "save": "write", "store": "write", "export": "write", "load": "read", "open": "read", "import": "read",
    "greater": "above", "more": "above", "over": "above", "exceeds": "above", "after": "above", "less": "below",
    "under": "below", "smaller": "below", "fewer": "below", "before": "below", "upper": "case", "lower": "case",
    "capital": "case", "capitalised": "case", "capitalized": "case", "uppercase": "case", "lowercase": "case",
    "character": "letter", "length": "letter", "digit": "number", "descending": "down", "ascending": "up",
    "without": "drop",
    "remove": "drop", "delete": "drop", "contain": "contain", "begin": "start", "whose": "where",
    "against": "versus", "vs": "versus", "backward": "reverse", "reversed": "reverse", "transposed": "transpose",
    "merge": "join", "joined": "join", "combine": "join", "shape": "size", "dimension": "size", "squared": "power",
    "square": "power", "cube": "power", "position": "index", "weekday": "day", "kind": "type",
    "record": "row", "entry": "row", "line": "row", "odd": "even", "multiplied": "multiply", "product": "multiply",
    "ratio": "divide", "divided": "divide", "divisible": "divide", "multiple": "divide", "added": "plus",
    "bigger": "above", "larger": "above", "higher": "above", "longer": "above", "older": "above",
    "shorter": "below", "younger": "below", "cheaper": "below", "latest": "max", "newest": "max", "earliest": "min",
    "since": "above", "until": "below", "replace": "fill", "set": "fill", "impute": "fill",
    "turnover": "revenue", "string": "text", "bottom": "min", "including": "contain", "new": "add",
    "january": "month", "february": "month", "march": "month", "april": "month", "june": "month", "july": "month",
    "august": "month", "september": "month", "october": "month", "november": "month", "december": "month",
}  # fmt: skip
_STOP_WORDS = frozenset(
    (
        *("a", "all", "an", "and", "are", "as", "at", "be", "do", "does", "for", "from", "give", "has", "have", "how"),
        *("i", "in", "is", "it", "me", "of", "on", "one", "please", "print", "s", "show", "that", "the"),
        *("them", "then", "there", "this", "to", "was", "what", "which", "who", "with", "you"),
    )
)
EXAMPLE_KINDS = {
    "sales": "Frame", "shops": "Frame", "nums": "List", "names": "List", "groups": "List", "s": "Text",
    "ages": "Dict", "grid": "Array", "t": "Array", "z": "Array", "region": "Label", "item": "Label",
    "units": "Number", "cost": "Number", "day": "Date",
}  # fmt: skip
"""What stands for the names of the examples; live names are replaced alike, so that `longest of words` finds
`longest name in names`."""
_KIND_OF_TYPE = {"list": "List", "tuple": "List", "set": "List", "str": "Text", "dict": "Dict", "ndarray": "Array"}
_OTHER_KIND = 0.35
"""What an example is worth that is about another kind of thing."""


def most_alike(asked: str, namespace: NamespaceSummary | None, bank: Sequence[Example], count: int) -> list[Example]:
    """The examples most like a request, the most alike last, next to the request."""
    kinds = live_kinds(namespace or NamespaceSummary())
    wanted = terms_of(asked, kinds)
    terms = [terms_of(example.request, EXAMPLE_KINDS) for example in bank]
    weight = {term: math.log((1 + len(bank)) / (1 + sum(term in other for other in terms))) for term in wanted}
    things = _things(wanted)
    scored = []
    for index, have in enumerate(terms):
        # fsum: the order of a set differs from process to process, and a redelivered request must not.
        shared = math.fsum(weight[term] for term in wanted & have if term[:1].islower())
        if not shared:
            continue
        alike = not things or not _things(have) or bool(things & _things(have))
        score = (shared + 0.3 * len(wanted & have)) / math.sqrt(len(have) + 2) * (1 if alike else _OTHER_KIND)
        scored.append((score, -index))
    best = sorted(scored, reverse=True)[:count]
    return [bank[-index] for _, index in reversed(best)]


def live_kinds(live: NamespaceSummary) -> dict[str, str]:
    """What stands for the live names and columns in a request."""
    kinds = {
        word: _kind_of_column(dtype)
        for variable in live.variables
        for title, dtype in variable.columns
        for word in _WORDS.findall(title.lower())
    }
    for variable in live.variables:
        kind = "Frame" if variable.columns else _KIND_OF_TYPE.get(variable.type)
        if kind is not None:
            kinds[variable.name.lower()] = kind
    return kinds


def _kind_of_column(dtype: str) -> str:
    if dtype.lower().startswith(("int", "uint", "float")):
        return "Number"
    return "Date" if dtype.startswith("datetime") else "Label"


_WORDS = re.compile(r"\w+")
_OF_A_FRAME = frozenset({"Date", "Label", "Number"})
_REWORDED = (
    (re.compile(r"\b(many|of) times\b"), r"\1 often"),
    (re.compile(r"\bat least\b"), "above"),
    (re.compile(r"\bat most\b"), "below"),
    (re.compile(r"(?<=\w)\s*\*\s*(?=\w)"), " multiply "),
    (re.compile(r"(?<=\w) ?/ ?(?=\w)"), " divide "),
    (re.compile(r"(?<=\w) ?\+ ?(?=\w)"), " plus "),
    (re.compile(r"(?<=\w) - (?=\w)"), " minus "),
    (re.compile(r">=?"), " above "),
    (re.compile(r"<=?"), " below "),
    (re.compile(r"%"), " percent "),
)


def _things(terms: set[str]) -> set[str]:
    """The kinds among the terms; a column is of a frame."""
    return {"Frame" if term in _OF_A_FRAME else term for term in terms if term[:1].isupper()}


def terms_of(text: str, kinds: dict[str, str]) -> set[str]:
    """What counts of a text; `kinds` says what its names stand for."""
    text = text.lower()
    for words, plain in _REWORDED:
        text = words.sub(plain, text)
    return {term for word in _WORDS.findall(text) if (term := _term(word, kinds))}


def _term(word: str, kinds: dict[str, str]) -> str:
    single = _singular(word)
    for form in (word, single):
        if form in kinds:
            return kinds[form]
    if word.isdigit():
        return "some year" if len(word) == 4 and word[:2] in ("19", "20") else "some number"
    if word in _STOP_WORDS:
        return ""
    return _SAME.get(word) or _SAME.get(single) or single


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def word_forms(text: str) -> set[str]:
    """The words of a text, as they stand and in the singular."""
    return {form for word in _WORDS.findall(text.lower()) for form in (word, _singular(word))}
