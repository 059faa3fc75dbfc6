"""Which model answers, what is said about it, and opening models by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lash_nb.errors import InputError, MissingKeyError, UnknownModelError
from lash_nb.models.choice import choose_model, open_model
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
        "no model is chosen: name one (`%lash model NAME`, -m NAME or LASH_NB_MODEL), or set OPENAI_API_KEY; "
        "NAME is openai:MODEL, openai:MODEL@http://HOST:PORT/v1, replay:PATH, scripted:PATH"
    )


def test_the_announcement_says_what_is_sent(cassette: Path) -> None:
    assert choose_model("openai:gpt-x", env={}).announcement == (
        "openai:gpt-x, chosen by -m; your requests, the agent's code and its outputs are sent"
    )
    assert choose_model("openai:m@http://127.0.0.1:8080/v1", env={}).announcement.endswith(
        " are sent to http://127.0.0.1:8080/v1"
    )
    assert choose_model("openai:m", env={"OPENAI_BASE_URL": "https://x/v1"}).announcement.endswith(
        " are sent to https://x/v1"
    )
    assert choose_model(env={}, cassette=cassette).announcement == (
        "replay:n.cassette.jsonl, chosen by the cassette beside the notebook; nothing leaves this machine"
    )


def test_metadata_may_pin_a_cassette_only(cassette: Path) -> None:
    pin = "openai:m@http://elsewhere.example/v1"
    choice = choose_model(notebook_pin=pin, env={}, cassette=cassette)
    assert choice.name == "replay:n.cassette.jsonl"
    assert choice.announcement.endswith(f"(the notebook suggests '{pin}'; `%lash model NAME` if you want it)")
    with pytest.raises(UnknownModelError, match="the notebook suggests"):
        choose_model(notebook_pin=pin, env={})


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
        "(names: openai:MODEL, openai:MODEL@http://HOST:PORT/v1, replay:PATH, scripted:PATH)"
    )
    with pytest.raises(UnknownModelError) as caught:
        open_model(name, base_dir=tmp_path)
    assert str(caught.value) == expected
    with pytest.raises(UnknownModelError) as caught:
        choose_model(name, env={})
    assert str(caught.value) == expected


def test_a_missing_key(tmp_path: Path) -> None:
    for env in ({}, {"OPENAI_API_KEY": ""}, {"OPENAI_BASE_URL": "https://models.example/v1"}):
        with pytest.raises(MissingKeyError) as caught:
            open_model("openai:gpt-x", base_dir=tmp_path, env=env)
        assert str(caught.value) == "openai:gpt-x needs a key: set OPENAI_API_KEY in the environment"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("openai:", "`openai` needs a model"),
        ("openai:@http://127.0.0.1/v1", "`openai` needs a model"),
        ("openai:m@http://", "is not an address of a model server"),
        ("openai:m@http://h:port/v1", "is not an address of a model server"),
        ("openai:m@https://me:secret@h/v1", "the address of h holds a user name or password"),
    ],
)
def test_an_address_that_is_none(name: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        open_model(name, base_dir=tmp_path, env=KEY)
    assert "secret" not in str(caught.value)


def test_importing_and_opening_load_no_sdk(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from lash_nb.models.choice import open_model; "
        "open_model('openai:m', base_dir=pathlib.Path('.'), env={'OPENAI_API_KEY': 'k'}); "
        "print(sorted({'openai', 'pydantic_ai', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
