"""The calls of one reply, judged: which are made, why the others are not, and under which ids.

Decided here: a call whose arguments are no JSON object is not made (the history then holds `{}`, which every provider
takes back), nor is one of a tool that was not offered, nor one beyond `MOST_CALLS`; of a reply that has lost its mind
the first `MOST_KEPT` calls are kept. Ids are the provider's, unless one is blank or the conversation has it already:
providers refuse a second call of the same id. Pure: ids are made of the turn, the iteration and the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..machine.llm import ToolCallOutputPart
from ..machine.messages import Message, MessageRole, PartKind, ProviderReplayMeta
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import DecodeError, Json, canonical_json, loads
from .tool_history import CELL_CALL
from .tool_prompt import MOST_CALLS, not_json_text, not_made_text, unknown_tool_text

__all__ = ["MOST_KEPT", "Refusal", "SaidCall", "call_ids", "judged_calls"]

MOST_KEPT = 4 * MOST_CALLS
"""Calls of one reply that the history keeps, made or not."""

_MAX_DEPTH = 100
"""Of arguments: what reads, writes and prints JSON is recursive."""
_MAX_NAMES_CHARS = 200
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call is not made, for the model."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidCall:
    """One call of a reply."""

    call_id: str
    tool_name: str
    input_json: str
    """As the history keeps it."""
    args: Json
    replay: ProviderReplayMeta | None = None
    refusal: Refusal | None = None


def judged_calls(
    said: Sequence[ToolCallOutputPart], *, tools: Sequence[str], known: Iterable[str], label: str
) -> tuple[SaidCall, ...]:
    """The calls of a reply, in order. `tools` are those that were offered, `known` the conversation's call ids.

    `label` is the turn and the iteration: new ids begin with it.
    """
    names = _Names(known, (part.call_id for part in said), label)
    made, listed, calls = 0, False, []
    for part in said[:MOST_KEPT]:
        call = _judged(part, names.of(part.call_id), tools, listed=listed)
        listed = listed or part.tool_name not in tools
        if call.refusal is None:
            made += 1
            call = call if made <= MOST_CALLS else replace(call, refusal=_one_too_many())
        calls.append(call)
    if len(said) > MOST_KEPT:
        calls[-1] = replace(calls[-1], refusal=_one_too_many(dropped=len(said) - MOST_KEPT))
    return tuple(calls)


def call_ids(messages: Iterable[Message]) -> set[str]:
    """The ids of all calls of a conversation."""
    return {
        part.tool_call_id
        for message in messages
        if message.role is MessageRole.ASSISTANT
        for part in message.parts
        if part.kind is PartKind.TOOL_CALL and part.tool_call_id is not None
    }


_USUAL = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""What an id is kept as; a slash stands between a cell's id and those of its calls."""


class _Names:
    """Gives each call of a reply an id of its own."""

    def __init__(self, known: Iterable[str], said: Iterable[str], label: str) -> None:
        self._taken = set(known)
        self._said = set(said)
        """Ids that the reply holds: one that is made here must not be one of them."""
        self._label = _UNUSUAL.sub("_", label)
        self._count = 0

    def of(self, said: str) -> str:
        """The id that the provider gave, or a new one."""
        place, self._count = self._count, self._count + 1
        found = said
        if not _USUAL.fullmatch(said) or said in self._taken or said.startswith(CELL_CALL):
            found, tries = f"call_{self._label}_{place}", 0
            while found in self._taken or found in self._said:
                tries += 1
                found = f"call_{self._label}_{place}_{tries}"
        self._taken.add(found)
        return found


def _judged(part: ToolCallOutputPart, call_id: str, tools: Sequence[str], *, listed: bool) -> SaidCall:
    name = part.tool_name
    args, problem = _arguments(part.input_json)
    call = SaidCall(
        call_id=call_id,
        tool_name=name,
        input_json=part.input_json if problem is None else "{}",
        args=args,
        replay=part.replay,
    )
    if name not in tools:
        refusal = Refusal(code="unknown_tool", text=unknown_tool_text(name, () if listed else tools))
        return replace(call, tool_name=_UNUSUAL.sub("_", name)[:64] or "unnamed", refusal=refusal)
    if problem is not None:
        return replace(call, refusal=Refusal(code="bad_arguments", text=not_json_text(name, problem, part.input_json)))
    wrong = _wrong_code(args) if name == RUN_CODE else None
    return call if wrong is None else replace(call, refusal=Refusal(code="bad_arguments", text=not_made_text(wrong)))


def _arguments(text: str) -> tuple[dict[str, Json], str | None]:
    """The arguments, and what is wrong with them."""
    if not text.strip():
        return {}, "there is nothing (a call without arguments has {})"
    try:
        args = loads(text)
        if not isinstance(args, dict):
            return {}, f"this is {_kind(args)}"
        if _too_deep(args):
            return {}, f"they are nested more than {_MAX_DEPTH} levels deep"
        found: dict[str, Json] = canonical_json(args)
    except DecodeError as error:
        return {}, error.problem
    return found, None


def _kind(value: Json) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _too_deep(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Json] = []
        for item in level:
            below += item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        if not below:
            return False
        level = below
    return True


def _wrong_code(args: Mapping[str, Json]) -> str | None:
    """What is wrong with the arguments of the tool that runs a cell."""
    code = args.get("code")
    others = sorted(set(args) - {"code"})
    if not isinstance(code, str):
        return f'{RUN_CODE} takes one argument, "code", and that is a string.'
    if others:
        unknown = ", ".join(map(repr, others))[:_MAX_NAMES_CHARS]
        return f'{RUN_CODE} takes "code" and nothing else; it does not know {unknown}.'
    return None if code.strip() else "The code is empty."


def _one_too_many(*, dropped: int = 0) -> Refusal:
    text = (
        f"Of one reply {MOST_CALLS} calls at most are made, and so many came before it. If it is still needed, make it "
        "in your next reply."
    )
    if dropped:
        text = f"There were far too many calls in one reply, and the {dropped:,} behind it are not even kept."
    return Refusal(code="too_many_calls", text=not_made_text(text))
