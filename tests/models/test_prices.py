"""The table of prices: what a call costs, and when nothing is said."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from lash_nb.machine.llm import LlmUsage
from lash_nb.models.choice import DEFAULT_MODELS, open_model
from lash_nb.models.prices import PriceTable, call_price, price_table

from . import price_source

TABLE = PriceTable(
    as_of="2026-01-02",
    source="by hand",
    models={
        "a/plain": {"input": 2, "output": 10},
        "a/cached": {"input": 2, "cache_read": 0.5, "cache_write": 3, "output": 10},
        "a/steps": {
            "input": 1,
            "cache_read": 0.1,
            "output": 4,
            "above": {"tokens": 1000, "input": 2, "cache_read": 0.2, "output": 8},
        },
        "a/only-latest": {"input": 1, "output": 1},
        "a/moving-latest": {"input": 5, "output": 5},
    },
)
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("key", "usage", "dollars"),
    [
        ("a/plain", LlmUsage(input_tokens=MILLION, output_tokens=MILLION), 12.0),
        ("a/plain", LlmUsage(input_tokens=0, cache_read_input_tokens=MILLION), 2.0),
        ("a/cached", LlmUsage(input_tokens=MILLION, cache_read_input_tokens=2 * MILLION), 3.0),
        ("a/cached", LlmUsage(cache_write_input_tokens=MILLION, output_tokens=100_000), 4.0),
        ("a/steps", LlmUsage(input_tokens=900, cache_read_input_tokens=100, output_tokens=50), 0.00111),
        ("a/steps", LlmUsage(input_tokens=901, cache_read_input_tokens=100, output_tokens=50), 0.002222),
        ("a/plain-2026-10-01", LlmUsage(output_tokens=MILLION), 10.0),
        ("a/plain-20261001", LlmUsage(output_tokens=MILLION), 10.0),
        ("a/plain-latest", LlmUsage(output_tokens=MILLION), 10.0),
        ("a/moving-2026-10-01", LlmUsage(output_tokens=MILLION), 5.0),
    ],
)
def test_a_call_costs_what_the_table_says(key: str, usage: LlmUsage, dollars: float) -> None:
    price = call_price(key, usage, table=TABLE)
    assert price is not None
    assert price.dollars == pytest.approx(dollars)
    assert price.as_of == "2026-01-02"


def test_reasoning_is_a_part_of_the_output_and_not_paid_twice() -> None:
    usage = LlmUsage(output_tokens=MILLION, reasoning_output_tokens=900_000)
    price = call_price("a/plain", usage, table=TABLE)
    assert price is not None
    assert price.dollars == pytest.approx(10.0)


@pytest.mark.parametrize("key", ["", "a/unknown", "b/plain", "a/plain-mini", "a/plai"])
def test_what_is_not_in_the_table_has_no_price(key: str) -> None:
    assert call_price(key, LlmUsage(input_tokens=5), table=TABLE) is None


def test_what_was_not_counted_has_no_price() -> None:
    assert call_price("a/plain", LlmUsage(), table=TABLE) is None


@pytest.mark.parametrize(
    ("name", "priced_as"),
    [
        ("openai:gpt-6-luna", "openai/gpt-6-luna"),
        ("anthropic:claude-haiku-5-5", "anthropic/claude-haiku-5-5"),
        ("google:gemini-3.8-flash", "google/gemini-3.8-flash"),
        ("openai:gpt-6-luna@https://api.openai.com/v1", "openai/gpt-6-luna"),
        ("openai:gpt-6-luna@http://127.0.0.1:1/v1", ""),
        ("anthropic:claude-haiku-5-5@https://gateway.example", ""),
    ],
)
def test_the_table_holds_at_the_providers_own_address_only(name: str, priced_as: str, tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}
    model = open_model(name, base_dir=tmp_path, env=env)
    assert model.traits(session="1", turn=1).priced_as == priced_as


def test_every_model_that_is_taken_unnamed_has_a_price() -> None:
    for name in DEFAULT_MODELS.values():
        assert call_price(name.replace(":", "/"), LlmUsage(input_tokens=1)) is not None, name


def test_the_tool_that_makes_the_table_writes_what_is_read(tmp_path: Path) -> None:
    found = json.loads(price_source.table(price_source.rows(), as_of="2026-11-22"))
    assert set(found) == {"as_of", "source", "unit", "models"}
    assert len(found["models"]) > 50
    assert found["models"]["anthropic/claude-haiku-4-5"] == {
        "input": 1,
        "cache_read": 0.1,
        "cache_write": 1.25,
        "output": 5,
    }


def test_the_table_that_is_shipped() -> None:
    table = price_table()
    assert datetime.date.fromisoformat(table.as_of) <= datetime.date(2026, 11, 22)
    assert table.source
    assert len(table.models) > 50
    for key, row in table.models.items():
        assert key.split("/")[0] in ("anthropic", "google", "openai"), key
        for rates in (row, row.get("above", row)):
            numbers = {name: rate for name, rate in rates.items() if name not in ("above", "tokens")}
            assert {"input", "output"} <= set(numbers) <= {"input", "output", "cache_read", "cache_write"}, key
            assert all(0 <= rate < 1000 for rate in numbers.values()), key
            assert numbers["output"] >= numbers["input"], key
    # Two rows, as the providers' pages had them on that day.
    price = call_price("anthropic/claude-haiku-4-5-20251001", LlmUsage(input_tokens=MILLION, output_tokens=MILLION))
    assert price is not None
    assert price.dollars == pytest.approx(6.0)
