"""Makes `lash_nb/models/prices.json` anew from the price list of genai-prices (`make prices`).

Taken: chat models of the three providers whose price is one number, or one up to a size of the request and another
above it. Left out: what is deprecated, what is not for chat, and what is priced in any other way.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[2] / "lash_nb" / "models" / "prices.json"

PROVIDERS = ("anthropic", "google", "openai")
NOT_FOR_CHAT = (
    "audio", "babbage", "codex", "computer-use", "curie", "davinci", "embedding", "ft:", "image", "instruct", "live",
    "nano-banana", "omni", "realtime", "search", "transcribe", "tts",
)  # fmt: skip
RATES = {
    "input": "input_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
}


def number(value: Any) -> int | float:
    found = float(value)
    return int(found) if found.is_integer() else found


def row(prices: Any) -> dict[str, Any] | None:
    """The rates of one model; None when they cannot be told in the table's form."""
    from genai_prices.types import TieredPrices

    found: dict[str, Any] = {}
    above: dict[str, Any] = {}
    for ours, theirs in RATES.items():
        value = getattr(prices, theirs, None)
        if value is None:
            continue
        if not isinstance(value, TieredPrices):
            found[ours] = number(value)
            continue
        if len(value.tiers) != 1 or above.get("tokens", value.tiers[0].start) != value.tiers[0].start:
            return None
        found[ours] = number(value.base)
        above |= {"tokens": value.tiers[0].start, ours: number(value.tiers[0].price)}
    if not {"input", "output"} <= set(found):
        return None
    return {**found, "above": {"tokens": above["tokens"], **found, **above}} if above else found


def rows() -> dict[str, dict[str, Any]]:
    """Key → rates, sorted."""
    from genai_prices.data_snapshot import get_snapshot

    found: dict[str, dict[str, Any]] = {}
    for provider in get_snapshot().providers:
        for model in provider.models if provider.id in PROVIDERS else ():
            other_vendor = provider.id == "google" and not model.id.startswith("gem")
            if model.deprecated or other_vendor or model.id == "ada" or any(word in model.id for word in NOT_FOR_CHAT):
                continue
            rates = row(model.get_prices(datetime.now(UTC), None))
            if rates is not None:
                found[f"{provider.id}/{model.id}"] = rates
    return dict(sorted(found.items()))


def table(models: dict[str, dict[str, Any]], *, as_of: str) -> str:
    """The file's text, a model a line."""
    head = {
        "as_of": as_of,
        "source": f"genai-prices {version('genai-prices')}",
        "unit": "USD per million tokens; above: when a call sends more tokens than that",
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(f"  {json.dumps(key)}: {json.dumps(rates)}" for key, rates in models.items())
    return "{\n" + "\n".join(lines) + '\n "models": {\n' + body + "\n }\n}\n"


if __name__ == "__main__":
    TARGET.write_text(table(rows(), as_of=date.today().isoformat()), encoding="utf-8")
