"""Which model answers: the order of precedence, what is said about it, and opening it by name.

What is decided here: what the user named last and nearest wins; a key in the environment is used only when
nothing was named; a notebook's own metadata may pin a cassette and nothing else (a mailed notebook must not
send data to a host of its choice). No environment is read but the mapping that is passed in. Imports the
contract and `errors` only; implementations are loaded by name.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from ..errors import InputError, UnknownModelError
from ..previews import Previews, allowed_previews, told_of_variables
from . import MODELS, NAME_FORMS, OFFLINE, Model, Opening
from ._names import address_of

__all__ = [
    "DEFAULT_MODELS",
    "FROZEN_VARIABLE",
    "MODEL_VARIABLE",
    "ModelChoice",
    "choose_model",
    "open_model",
    "suggestion",
]

MODEL_VARIABLE = "LASH_NB_MODEL"

DEFAULT_MODELS: Mapping[str, str] = MappingProxyType(
    {
        "OPENAI_API_KEY": "openai:gpt-6-luna",
        "ANTHROPIC_API_KEY": "anthropic:claude-haiku-5-5",
        "GEMINI_API_KEY": "google:gemini-3.8-flash",
        "GOOGLE_API_KEY": "google:gemini-3.8-flash",
    }
)
"""Key variable → the model it stands for when none is named: the provider's small one (as of 2026-11)."""

_MAX_SUGGESTION_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model's name, what chose it, and what leaves the machine because of it."""

    name: str
    why: str
    where: str
    """The host or the provider that it sends to; empty: it sends nothing."""
    previews: Previews = "sample"
    """How much of the variables' values is sent."""
    note: str = ""
    """What else is to be said: a suggestion of the notebook's author, which is not followed unasked."""

    @property
    def sends(self) -> str:
        """What is sent, and where."""
        return f"{_shown(self.previews)} are sent to {self.where}" if self.where else "nothing leaves this machine"

    @property
    def announcement(self) -> str:
        """The first line of a session; `note` is for a line of its own."""
        return f"{self.name}, chosen by {self.why}; {self.sends}"


def choose_model(
    explicit: str | None = None,
    *,
    notebook_pick: str | None = None,
    notebook_pin: str | None = None,
    configured: str | None = None,
    env: Mapping[str, str] | None = None,
    cassette: Path | None = None,
) -> ModelChoice:
    """The model that answers.

    `explicit` is `-m` of the cell or the command, `notebook_pick` is `%lash model NAME`, `notebook_pin` what
    the metadata of the notebook says, `configured` the trait, `cassette` the notebook's own
    `NAME.cassette.jsonl` (used when it exists).

    Raises: UnknownModelError when nothing chooses a model, or when what does is not of any known form;
        InputError when the address in its name is none, or the environment allows previews of no known kind.
    """
    env = os.environ if env is None else env
    previews = allowed_previews(None, env=env)
    pinned, note = _pin(notebook_pin, env)
    ways = [
        (explicit, "-m"),
        (notebook_pick, "%lash model"),
        (pinned, "the notebook's metadata"),
        (configured, "the configuration"),
        (env.get(MODEL_VARIABLE), MODEL_VARIABLE),
        *((name, f"{key} in the environment") for key, name in DEFAULT_MODELS.items() if env.get(key)),
    ]
    for name, why in ways:
        if name and name.strip():
            name = name.strip()
            _form(name)
            return ModelChoice(name=name, why=why, where=_where(name, env), previews=previews, note=note)
    if cassette is not None and cassette.is_file():
        name = f"replay:{cassette.name}"
        return ModelChoice(
            name=name, why="the cassette beside the notebook", where=_where(name, env), previews=previews, note=note
        )
    hint = f". {note[:1].upper()}{note[1:]}" if note else ""
    raise UnknownModelError(
        f"no model is chosen: name one (`%lash model NAME`, -m NAME or {MODEL_VARIABLE}), or set a provider's key; "
        f"`%lash model` and `lash-nb model list` say which could answer here, and `local` needs no key{hint}"
    )


def _pin(name: str | None, env: Mapping[str, str]) -> tuple[str | None, str]:
    """What the metadata may decide, and what is said about the rest of it."""
    name = (name or "").strip()
    if not name or name.startswith("replay:"):
        return name or None, ""
    return None, suggestion(name, env)


def suggestion(name: str, env: Mapping[str, str]) -> str:
    """What is said of a model that a notebook names in its metadata: which host it would send to, and how to use it.

    The name is a stranger's: one that is not of a known form, or not printable, is not offered.
    """
    if not name.isprintable() or len(name) > _MAX_SUGGESTION_CHARS or "`" in name:
        return "this notebook's author suggests a model whose name cannot be shown"
    try:
        _form(name)
        where = _where(name, env)
    except InputError:
        return f"this notebook's author suggests {name}, which is no model's name"
    shown = _shown(allowed_previews(None, env=env))
    sends = f"it would send {shown} to {where}" if where else "it would send nothing anywhere"
    return f"this notebook's author suggests {name} ({sends}); if you want that: `%lash model {name}`"


def _where(name: str, env: Mapping[str, str]) -> str:
    """The host or the provider that a name sends to; empty when it sends nothing. Raises: InputError."""
    word, _, argument = name.partition(":")
    return "" if word in OFFLINE else address_of(word, argument, env)


def _shown(previews: Previews) -> str:
    return f"your requests and cells, the agent's code, its outputs and {told_of_variables(previews)}"


def _forms() -> str:
    return ", ".join(NAME_FORMS)


def _form(name: str) -> str:
    """The word that says how to open this name. Raises: UnknownModelError."""
    kind = name.partition(":")[0]
    if kind in MODELS:
        return kind
    near = difflib.get_close_matches(kind.lower(), MODELS, n=1)
    if near and ":" in name:
        guess = f"; did you mean {near[0] + name[len(kind) :]!r}?"
    elif ":" not in name:
        likely = "replay" if name.endswith(".jsonl") else "scripted" if name.endswith(".json") else "openai"
        guess = f"; did you mean {likely + ':' + name!r}?"
    else:
        guess = ""
    raise UnknownModelError(f"there is no model {name!r}{guess} (names: {_forms()})")


FROZEN_VARIABLE = "LASH_NB_FROZEN"
"""Set in the environment of a run that may ask no model; what such a run starts has it, too."""


def open_model(name: str, *, base_dir: Path, strict: bool = False, env: Mapping[str, str] | None = None) -> Model:
    """The model of that name; paths in it are relative to `base_dir`, `strict` is for replays.

    Raises: UnknownModelError, MissingKeyError, MissingExtraError, CassetteError or another InputError;
    nothing is sent yet.
    """
    name = name.strip()
    kind = _form(name)
    if kind != "replay" and (os.environ if env is None else env).get(FROZEN_VARIABLE):
        raise UnknownModelError(f"--frozen: no model may be asked in this run, and {name} is one")
    module, _, attribute = MODELS[kind].partition(":")
    factory = getattr(import_module(module), attribute)
    model: Model = factory(
        Opening(
            argument=name.partition(":")[2].strip(),
            base_dir=base_dir,
            strict=strict,
            env=os.environ if env is None else env,
        )
    )
    return model
