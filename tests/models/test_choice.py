"""Which model answers, what is said about it, and opening models by name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic_ai.models import KnownModelName

from lash_nb.errors import UnknownModelError
from lash_nb.models.choice import DEFAULT_MODELS, choose_model, open_model, suggestion
from lash_nb.models.replay import write_cassette

KEY = {"OPENAI_API_KEY": "sk-test"}
NAMED = {**KEY, "LASH_NB_MODEL": "openai:from-variable"}


@pytest.fixture
def cassette(tmp_path: Path) -> Path:
    path = tmp_path / "n.cassette.jsonl"
    write_cassette(path, [])
    return path


def test_the_order(cassette: Path) -> None:
    choice = choose_model(
        "openai:a",
        notebook_pick="openai:b",
        notebook_pin="replay:p",
        configured="openai:c",
        env=NAMED,
        cassette=cassette,
    )
    assert (choice.name, choice.why) == ("openai:a", "-m")
    choice = choose_model(
        notebook_pick="openai:b", notebook_pin="replay:p", configured="openai:c", env=NAMED, cassette=cassette
    )
    assert (choice.name, choice.why) == ("openai:b", "%lash model")
    choice = choose_model(notebook_pin="replay:p", configured="openai:c", env=NAMED, cassette=cassette)
    assert (choice.name, choice.why) == ("replay:p", "the notebook's metadata")
    choice = choose_model(configured="openai:c", env=NAMED, cassette=cassette)
    assert (choice.name, choice.why) == ("openai:c", "the configuration")
    choice = choose_model(env=NAMED, cassette=cassette)
    assert (choice.name, choice.why) == ("openai:from-variable", "LASH_NB_MODEL")
    choice = choose_model(env=KEY, cassette=cassette)
    assert (choice.name.partition(":")[0], choice.why) == ("openai", "OPENAI_API_KEY in the environment")
    choice = choose_model(env={}, cassette=cassette)
    assert (choice.name, choice.why) == ("replay:n.cassette.jsonl", "the cassette beside the notebook")


def test_nothing_chosen_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError) as caught:
        choose_model(env={"OPENAI_API_KEY": "", "LASH_NB_MODEL": " "}, cassette=tmp_path / "none.cassette.jsonl")
    assert str(caught.value) == (
        "no model is chosen: name one (`%lash model NAME`, -m NAME or LASH_NB_MODEL), or set a provider's key; "
        "`%lash model` and `lash-nb model list` say which could answer here, and `local` needs no key"
    )


@pytest.mark.parametrize(
    ("name", "env", "expected"),
    [
        ("openai:gpt-x", {}, "are sent to OpenAI"),
        ("anthropic:claude-x", {}, "are sent to Anthropic"),
        ("google:gemini-x", {}, "are sent to Google"),
        ("openai:m@http://127.0.0.1:8080/v1", {}, "are sent to http://127.0.0.1:8080/v1"),
        ("anthropic:m@https://h.example", {}, "are sent to https://h.example"),
        ("openai:m", {"OPENAI_BASE_URL": "https://x/v1"}, "are sent to https://x/v1"),
        ("anthropic:m", {"ANTHROPIC_BASE_URL": "https://x", "OPENAI_BASE_URL": "https://y"}, "are sent to https://x"),
        ("google:m", {"GOOGLE_GEMINI_BASE_URL": "https://x"}, "are sent to https://x"),
    ],
)
def test_the_announcement_says_what_is_sent_and_where(name: str, env: dict[str, str], expected: str) -> None:
    assert choose_model(name, env=env).announcement == (
        f"{name}, chosen by -m; your requests and cells, the agent's code, its outputs and short values of your and "
        f"its variables {expected}"
    )


def test_the_announcement_of_what_sends_nothing(cassette: Path) -> None:
    assert choose_model(env={}, cassette=cassette).announcement == (
        "replay:n.cassette.jsonl, chosen by the cassette beside the notebook; nothing leaves this machine"
    )
    assert choose_model("local", env={}).announcement == "local, chosen by -m; nothing leaves this machine"


def test_a_key_stands_for_a_small_model_of_its_provider() -> None:
    for variable, name in DEFAULT_MODELS.items():
        assert choose_model(env={variable: "k"}).name == name
    known = get_args(KnownModelName.__value__)
    assert set(DEFAULT_MODELS.values()) <= set(known)


def test_metadata_may_pin_a_cassette_only(cassette: Path) -> None:
    pin = "openai:m@http://elsewhere.example/v1"
    said = (
        f"this notebook's author suggests {pin} (it would send your requests and cells, the agent's code, its outputs "
        "and short values of your and its variables to http://elsewhere.example/v1); if you want that: "
        f"`%lash model {pin}`"
    )
    choice = choose_model(notebook_pin=pin, env={}, cassette=cassette)
    assert choice.name == "replay:n.cassette.jsonl"
    assert choice.note == said
    assert choice.announcement.endswith("; nothing leaves this machine")
    with pytest.raises(UnknownModelError, match="This notebook's author suggests"):
        choose_model(notebook_pin=pin, env={})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "anthropic:claude-x",
            "it would send your requests and cells, the agent's code, its outputs "
            "and short values of your and its variables to Anthropic",
        ),
        ("local", "it would send nothing anywhere"),
        ("scripted:x.json", "it would send nothing anywhere"),
    ],
)
def test_what_a_notebook_suggests(name: str, said: str) -> None:
    assert (
        suggestion(name, {})
        == f"this notebook's author suggests {name} ({said}); if you want that: `%lash model {name}`"
    )


def test_what_a_notebook_suggests_that_is_no_model() -> None:
    for name in ("xyzzy:q", "gpt-x", "openai:m@ftp://h", "openai:m@https://a:b@h"):
        assert suggestion(name, {}) == f"this notebook's author suggests {name}, which is no model's name"
    for name in ("openai:a\nb", "openai:\x1b[2J", "openai:`rm`", "openai:" + "m" * 300):
        assert suggestion(name, {}) == "this notebook's author suggests a model whose name cannot be shown"


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("opnai:gpt-x", "; did you mean 'openai:gpt-x'?"),
        ("OpenAI:gpt-x", "; did you mean 'openai:gpt-x'?"),
        ("gpt-x", "; did you mean 'openai:gpt-x'?"),
        ("n.cassette.jsonl", "; did you mean 'replay:n.cassette.jsonl'?"),
        ("xyzzy:q", ""),
    ],
)
def test_an_unknown_name(name: str, guess: str, tmp_path: Path) -> None:
    expected = (
        f"there is no model '{name}'{guess} "
        "(names: openai:MODEL, openai:MODEL@http://HOST:PORT/v1, anthropic:MODEL, google:MODEL, local, replay:PATH, "
        "scripted:PATH)"
    )
    with pytest.raises(UnknownModelError) as caught:
        open_model(name, base_dir=tmp_path)
    assert str(caught.value) == expected
    with pytest.raises(UnknownModelError) as caught:
        choose_model(name, env={})
    assert str(caught.value) == expected
