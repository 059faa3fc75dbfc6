"""What a call costs, by a table of prices that comes with the package and names its own date and source.

Decided here: a model is priced by the key that its adapter gives (`ModelTraits.priced_as`, `openai/gpt-6-luna`), and
only where the call went to the provider's own address; a dated release (`-2026-10-01`, `-20261001`, `-latest`) costs
what its family does; what the table does not hold has no price, and none is shown. The table is `prices.json`, in US
dollars per million tokens. Imports `machine` only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..machine.activity import CallPrice
from ..machine.llm import LlmUsage

__all__ = ["PriceTable", "call_price", "price_table"]

_RELEASE = re.compile(r"-(?:latest|\d{4}-\d{2}-\d{2}|\d{8})$")
_PER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """The prices, the day they were taken, and where from."""

    as_of: str
    source: str
    models: Mapping[str, Mapping[str, Any]]

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The row of a model, under its own name or its family's."""
        family = _RELEASE.sub("", key)
        return next((self.models[name] for name in (key, family, f"{family}-latest") if name in self.models), None)


@cache
def price_table() -> PriceTable:
    """The table that comes with the package."""
    text = Path(__file__).with_name("prices.json").read_text(encoding="utf-8")
    table = json.loads(text)
    return PriceTable(as_of=table["as_of"], source=table["source"], models=table["models"])


def call_price(key: str, usage: LlmUsage, *, table: PriceTable | None = None) -> CallPrice | None:
    """What one call cost; None when the model has no price, or the call was not counted."""
    if not key or not usage.total:
        return None
    table = table or price_table()
    row = table.find(key)
    if row is None:
        return None
    read = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_write_input_tokens
    above = row.get("above")
    rates = above if above is not None and read > above["tokens"] else row
    # What is not cheaper or dearer for being cached has the price of any input.
    dollars = (
        usage.input_tokens * rates["input"]
        + usage.cache_read_input_tokens * rates.get("cache_read", rates["input"])
        + usage.cache_write_input_tokens * rates.get("cache_write", rates["input"])
        + usage.output_tokens * rates["output"]
    ) / _PER
    return CallPrice(dollars=dollars, as_of=table.as_of)
