"""Which models could answer from here: keys in the environment, the local model, cassettes beside the notebook.

Decided here: nothing is asked over the network and nothing heavy is imported, so the list is there at once and may be
printed anywhere. What is missing comes with what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError
from ..models.choice import DEFAULT_MODELS, open_model
from ..models.weights import GGUF_VARIABLE, LOCAL_WEIGHTS, PULL, find_weights
from . import Finding, State

__all__ = ["candidates"]

_SUFFIX = ".cassette.jsonl"
_MOST_CASSETTES = 5


def candidates(env: Mapping[str, str], *, home: Path) -> tuple[Finding, ...]:
    """What can be named, the model first; `home` is the notebook's directory."""
    return (*_providers(env), _own_server(env), _local(env), *_cassettes(home))


def _providers(env: Mapping[str, str]) -> list[Finding]:
    """One line a provider: several variables may hold its key."""
    found: dict[str, list[str]] = {}
    for variable, name in DEFAULT_MODELS.items():
        found.setdefault(name, []).append(variable)
    rows = []
    for name, variables in found.items():
        there = [variable for variable in variables if env.get(variable)]
        if not there:
            rows.append(Finding(state=State.ABSENT, what=name, said=f"set {' or '.join(variables)}"))
            continue
        try:
            open_model(name, base_dir=Path.cwd(), env=env)
        except InputError as error:
            rows.append(Finding(state=State.BAD, what=name, said=str(error)))
            continue
        said = f"{there[0]} is set; any other {name.partition(':')[0]}:MODEL, too"
        rows.append(Finding(state=State.GOOD, what=name, said=said))
    return rows


def _own_server(env: Mapping[str, str]) -> Finding:
    address = env.get("OPENAI_BASE_URL")
    said = (
        f"OPENAI_BASE_URL says {address}"
        if address
        else "any server that speaks OpenAI's dialect: Ollama, vLLM, llama.cpp, … (no key needed)"
    )
    return Finding(state=State.GOOD if address else State.ABSENT, what="openai:MODEL@http://HOST:PORT/v1", said=said)


def _local(env: Mapping[str, str]) -> Finding:
    if find_spec("xllamacpp") is None:
        return Finding(state=State.ABSENT, what="local", said="pip install 'lash-nb[local]', then lash-nb model pull")
    try:
        found = find_weights(env)
        open_model("local", base_dir=Path.cwd(), env=env)
    except InputError as error:
        state = State.BAD if env.get(GGUF_VARIABLE) else State.ABSENT
        return Finding(state=state, what="local", said=str(error))
    size = found.path.stat().st_size
    if found.pinned and size != LOCAL_WEIGHTS.size_bytes:
        said = f"{found.path} has {size:,} bytes instead of {LOCAL_WEIGHTS.size_bytes:,}: `{PULL}` replaces it"
        return Finding(state=State.BAD, what="local", said=said)
    return Finding(state=State.GOOD, what="local", said=f"{found.name}: {found.path}")


def _cassettes(home: Path) -> list[Finding]:
    try:
        names = sorted(path.name for path in home.glob(f"*{_SUFFIX}"))
    except OSError:
        return []
    shown = [
        Finding(state=State.GOOD, what=f"replay:{name.removesuffix(_SUFFIX)}", said="recorded answers")
        for name in names[:_MOST_CASSETTES]
    ]
    if len(names) > _MOST_CASSETTES:
        shown.append(
            Finding(state=State.GOOD, what="replay:…", said=f"{len(names) - _MOST_CASSETTES} more cassettes in {home}")
        )
    return shown
