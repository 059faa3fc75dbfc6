"""What a provider's name means: which model, which host, and who gets a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lash_nb.errors import InputError, MissingKeyError, ModelCallError
from lash_nb.models._names import PROVIDERS, Endpoint, endpoint_of, host_of
from lash_nb.models._vision import sees
from lash_nb.models.choice import open_model

from .cases import context, request
from .place import Place

WORDS = sorted(PROVIDERS)


def endpoint(word: str, argument: str, **env: str) -> Endpoint:
    return endpoint_of(PROVIDERS[word], argument, env)


# -- who gets a key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_the_provider_gets_the_key_at_its_own_address(word: str) -> None:
    provider = PROVIDERS[word]
    for variable in provider.keys:
        assert endpoint(word, "m", **{variable: " k\n"}) == Endpoint(model="m", url=None, key="k")
    own = f"m@{provider.url}"
    assert endpoint(word, own, **{provider.keys[0]: "k"}) == Endpoint(model="m", url=provider.url, key="k")


@pytest.mark.parametrize("word", WORDS)
def test_the_users_own_gateway_gets_the_key(word: str) -> None:
    provider = PROVIDERS[word]
    url = "https://gateway.example:8443/path"
    env = {provider.keys[0]: "k", provider.url_variable: url}
    assert endpoint(word, "m", **env) == Endpoint(model="m", url=url, key="k")
    assert endpoint(word, f"m@{url}", **env) == Endpoint(model="m", url=url, key="k")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/v1",
        "http://other.example/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com.other.example/v1",
        "https://api.openai.com:444/v1",
        "https://api.anthropic.com.other.example",
        "http://generativelanguage.googleapis.com",
        "http://192.168.0.7:8080/v1",
        "http://127.0.0.1.other.example/",
    ],
)
def test_no_other_host_gets_the_key_because_a_name_says_so(word: str, url: str) -> None:
    env = {variable: "k" for variable in PROVIDERS[word].keys}
    assert endpoint(word, f"m@{url}", **env) == Endpoint(model="m", url=url, key=None, stranger=True)
    assert endpoint(word, f"m@{url}") == Endpoint(model="m", url=url, key=None, stranger=True)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:8080"])
def test_this_machine_needs_no_key_and_gets_one_if_there_is(word: str, host: str) -> None:
    provider, url = PROVIDERS[word], f"http://{host}/v1"
    assert endpoint(word, f"m@{url}") == Endpoint(model="m", url=url, key=None)
    assert endpoint(word, f"m@{url}", **{provider.keys[0]: "k"}) == Endpoint(model="m", url=url, key="k")
    assert endpoint(word, "m", **{provider.url_variable: url}) == Endpoint(model="m", url=url, key=None)


@pytest.mark.parametrize("word", WORDS)
def test_a_missing_key(word: str) -> None:
    provider = PROVIDERS[word]
    for env in ({}, {provider.keys[0]: "  "}, {provider.url_variable: "https://gateway.example"}):
        with pytest.raises(MissingKeyError) as caught:
            endpoint(word, "m", **env)
        assert str(caught.value) == f"{word}:m needs a key: set {' or '.join(provider.keys)} in the environment"


def test_what_is_no_key() -> None:
    for key in ("sk-ünicode", "sk-a b", "sk-a\nb"):
        with pytest.raises(InputError, match="what OPENAI_API_KEY holds is not a key") as caught:
            endpoint("openai", "m", OPENAI_API_KEY=key)
        assert key not in str(caught.value)


async def test_what_arrives_at_a_host_that_only_a_name_gave(place: Place, tmp_path: Path) -> None:
    """Headers that the environment adds for a gateway stay away from it, and a refusal says what to do."""
    word = place.wire.word
    added = {"ANTHROPIC_CUSTOM_HEADERS": "x-gateway: secret", "OPENAI_CUSTOM_HEADERS": "x-gateway: secret"}
    model = place.model(stranger=True, env=added)
    place.server.answers.append(place.wire.refusal(401, "who are you"))
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context())
    assert place.wire.key(place.server.headers[0]) == "none"
    assert not {"x-gateway", "openai-organization", "openai-project"} & set(place.server.headers[0])
    assert str(caught.value).endswith(
        "(a key is not sent to a host because a name says so; if this one is yours: "
        f"{PROVIDERS[word].url_variable}={place.url} and {word}:m)"
    )


async def test_a_name_on_this_machine(place: Place, tmp_path: Path) -> None:
    provider = PROVIDERS[place.wire.word]
    for name, env, expected in (
        (f"{provider.word}:m@{place.url}", {}, "none"),
        (f"{provider.word}:m@{place.url}", {provider.keys[0]: "k"}, "k"),
        (f"{provider.word}:m@{place.url}{provider.suffix}/", {}, "none"),
        (f"{provider.word}:m", {provider.url_variable: place.url}, "none"),
        (f"{provider.word}:m", {provider.url_variable: place.url, provider.keys[0]: "k"}, "k"),
    ):
        place.server.answers.append(place.text("ok"))
        model = open_model(name, base_dir=tmp_path, env=env)
        assert model.name == name
        assert (await model.complete(request(), context=context())).full_text == "ok"
        await model.aclose()
        assert place.wire.key(place.server.headers[-1]) == expected
        assert (
            place.server.headers[-1]["request-line"]
            == {
                "openai": "POST /v1/chat/completions HTTP/1.1",
                "anthropic": "POST /v1/messages HTTP/1.1",
                "google": "POST /v1beta/models/m:streamGenerateContent?alt=sse HTTP/1.1",
            }[provider.word]
        )


async def test_a_proxy_of_the_environment_is_no_way_to_this_machine(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert (await place.complete(place.text("direct"))).full_text == "direct"


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "model", "url"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", None),
        ("llama3.2:3b@http://localhost:11434/v1", "llama3.2:3b", "http://localhost:11434/v1"),
        ("m@HTTPS://Host.example/v1", "m", "HTTPS://Host.example/v1"),
        ("claude@20260101", "claude@20260101", None),
        ("a@b@http://127.0.0.1/v1", "a@b", "http://127.0.0.1/v1"),
        (" my model ", "my model", None),
        ("模型-7b", "模型-7b", None),
    ],
)
def test_models_and_addresses(argument: str, model: str, url: str | None) -> None:
    found = endpoint("openai", argument, OPENAI_API_KEY="k")
    assert (found.model, found.url) == (model, url)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("", "`openai` needs a model"),
        ("@http://127.0.0.1/v1", "`openai` needs a model"),
        ("m@http://", "is not an address of a model server"),
        ("m@http://h:port/v1", "is not an address of a model server"),
        ("m@http://[::1/v1", "is not an address of a model server"),
        ("m@ftp://h/v1", "'ftp://h/v1' is not an address of a model server"),
        ("m@file:///etc/passwd", "is not an address of a model server"),
        ("m@http://h/a b", "is not an address of a model server"),
        ("m@http://h\\@api.openai.com/v1", "is not an address of a model server"),
        ("m@https://me:secret@h/v1", "the address of h holds a user name or password"),
        ("m@localhost:8080/v1", "did you mean openai:m@http://localhost:8080/v1"),
        ("m@10.0.0.1/v1", "did you mean openai:m@http://10.0.0.1/v1"),
        ("m@gpu-box:8000", "did you mean openai:m@http://gpu-box:8000"),
        ("m\nx", "is not the name of a model"),
        ("m\x1b[2J", "is not the name of a model"),
        ("m" * 201, "is not the name of a model"),
    ],
)
def test_what_is_no_name(argument: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        endpoint("openai", argument, OPENAI_API_KEY="k")
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b/../../x?y=1#z", "模型", "../secret"])
async def test_odd_names_reach_the_server_as_they_are_or_fail_as_a_call(place: Place, name: str) -> None:
    outcome = await place.outcome(place.text("ok"), of=place.model(name))
    if isinstance(outcome, ModelCallError):
        assert not outcome.error.retryable
        assert place.server.requests == []
    else:
        assert outcome.full_text == "ok"
        assert ".." not in place.server.headers[0]["request-line"]
        assert place.server.requests[0].get("model", name) == name


# -- eyes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4.1-nano",
        "gpt-5.6-luna",
        "gpt-6-luna",
        "gpt-10",
        "o1",
        "o3",
        "o4-mini",
        "openai/gpt-6.1-sol",
        "claude-3-opus-latest",
        "claude-haiku-5-5",
        "anthropic/claude-sonnet-4-6",
        "gemini-3.8-flash",
        "gemini-4-argon",
        "models/gemini-2.5-pro",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen3-vl:8b",
        "llama3.2-vision:11b",
        "llava:13b",
        "mistralai/Pixtral-12B-2409",
        "gemma3:4b",
        "google/gemma-3-27b-it",
    ],
)
def test_models_that_see(model: str) -> None:
    assert sees(model)


@pytest.mark.parametrize(
    "model",
    [
        "m",
        "gpt-3.5-turbo",
        "gpt-4",
        "gpt-oss-120b",
        "o1-mini",
        "o3-mini",
        "claude-2.1",
        "claude-instant-1.2",
        "gemini-1.0-pro",
        "gemini-embedding-001",
        "gemma3:1b",
        "gemma-3-270m",
        "qwen3:8b",
        "Qwen2.5-Coder-0.5B-Instruct",
        "deepseek-reasoner",
        "llama3.2:3b",
        "evolution-7b",
        "text-embedding-3-large",
    ],
)
def test_models_that_are_not_known_to_see(model: str) -> None:
    assert not sees(model)


# -- weight ----------------------------------------------------------------------------------------------------------


def test_opening_loads_no_package_of_a_provider() -> None:
    code = (
        "import sys, pathlib; import lash_nb.models.providers; from lash_nb.models.choice import open_model\n"
        "env = {'OPENAI_API_KEY': 'k', 'ANTHROPIC_API_KEY': 'k', 'GEMINI_API_KEY': 'k'}\n"
        "for word in ('openai', 'anthropic', 'google'): open_model(word + ':m', base_dir=pathlib.Path('.'), env=env)\n"
        "print(sorted({'openai', 'anthropic', 'google.genai', 'pydantic_ai', 'httpx', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "address", ["ftp://u:hunter2@host/v1", "http://u:hunter2@[host/v1", "http://u:hunter2@host:x/v1"]
)
def test_a_password_in_an_address_is_in_no_message(address: str) -> None:
    with pytest.raises(InputError) as caught:
        host_of(address, PROVIDERS["openai"])
    assert "hunter2" not in str(caught.value)
