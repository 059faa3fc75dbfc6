"""Which models could answer from here: keys in the environment, the local model, cassettes beside the notebook.

Decided here: nothing is asked over the network and nothing heavy is imported, so the list is there at once and may be
printed anywhere: no password, and nothing that a stranger could have chosen to draw over a terminal. What is missing
comes with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError
from ..models.choice import DEFAULT_MODELS, open_model
from ..models.fetching import address_shown
from ..models.weights import GGUF_VARIABLE, LOCAL_WEIGHTS, PULL, find_weights
from . import Finding, State
from .guard import Part, found_by, printable

__all__ = ["candidates", "parts"]

_OWN_SERVER = "openai:MODEL@http://HOST:PORT/v1"
_SUFFIX = ".cassette.jsonl"
_MOST_CASSETTES = 5


def candidates(env: Mapping[str, str], *, home: Path) -> tuple[Finding, ...]:
    """What can be named, the model first; `home` is the notebook's directory."""
    return tuple(found_by(parts(env, home=home)))


def parts(env: Mapping[str, str], *, home: Path) -> Iterator[Part]:
    """The same, to be looked into one by one."""
    variables: dict[str, list[str]] = {}  # several may hold the key of one provider
    for variable, name in DEFAULT_MODELS.items():
        variables.setdefault(name, []).append(variable)
    for name, keys in variables.items():
        yield name, partial(_provider, name, keys, env, home)
    yield _OWN_SERVER, partial(_own_server, env)
    yield "local", partial(_local, env, home)
    yield f"replay:NAME, of NAME{_SUFFIX}", partial(_cassettes, home)


def _provider(name: str, keys: list[str], env: Mapping[str, str], home: Path) -> list[Finding]:
    there = [key for key in keys if env.get(key)]
    if not there:
        return [Finding(state=State.ABSENT, what=name, said=f"set {' or '.join(keys)}")]
    try:
        open_model(name, base_dir=home, env=env)
    except InputError as error:
        return [Finding(state=State.BAD, what=name, said=str(error))]
    said = f"{there[0]} is set; any other {name.partition(':')[0]}:MODEL, too"
    return [Finding(state=State.GOOD, what=name, said=said)]


def _own_server(env: Mapping[str, str]) -> list[Finding]:
    address = (env.get("OPENAI_BASE_URL") or "").strip()
    if not address:
        said = "any server that speaks OpenAI's dialect: Ollama, vLLM, llama.cpp, … (no key needed)"
        return [Finding(state=State.ABSENT, what=_OWN_SERVER, said=said)]
    shown = address_shown(address)
    if "@" in address:
        said = f"OPENAI_BASE_URL ({shown}) holds a user name or password: take it out, use OPENAI_API_KEY"
        return [Finding(state=State.BAD, what=_OWN_SERVER, said=said)]
    return [Finding(state=State.GOOD, what=_OWN_SERVER, said=f"OPENAI_BASE_URL says {shown}")]


def _local(env: Mapping[str, str], home: Path) -> list[Finding]:
    # Nobody said that there has to be one, unless they named it.
    absent = State.BAD if (env.get(GGUF_VARIABLE) or "").strip() else State.ABSENT
    if find_spec("xllamacpp") is None:
        return [Finding(state=absent, what="local", said="pip install 'lash-nb[local]', then lash-nb model pull")]
    try:
        found = find_weights(env)
    except InputError as error:
        return [Finding(state=absent, what="local", said=printable(str(error)))]
    try:
        open_model("local", base_dir=home, env=env)
    except InputError as error:
        return [Finding(state=State.BAD, what="local", said=printable(str(error)))]
    size = found.path.lstat().st_size
    if found.pinned and size != LOCAL_WEIGHTS.size_bytes:
        said = f"{found.path} has {size:,} bytes instead of {LOCAL_WEIGHTS.size_bytes:,}: `{PULL}` replaces it"
        return [Finding(state=State.BAD, what="local", said=said)]
    return [Finding(state=State.GOOD, what="local", said=printable(f"{found.name}: {found.path}"))]


def _cassettes(home: Path) -> list[Finding]:
    names = sorted(path.name for path in home.glob(f"*{_SUFFIX}"))
    shown = [
        Finding(state=State.GOOD, what=f"replay:{printable(name.removesuffix(_SUFFIX))}", said="recorded answers")
        for name in names[:_MOST_CASSETTES]
    ]
    if len(names) > _MOST_CASSETTES:
        said = f"{len(names) - _MOST_CASSETTES} more cassettes in {home}"
        shown.append(Finding(state=State.GOOD, what="replay:…", said=said))
    return shown
