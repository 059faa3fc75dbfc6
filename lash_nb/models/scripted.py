"""A model that says what it was told to say: the public double, for tests and demonstrations.

What is decided here: replies are used up one a call (a flat script), or looked up by turn and step (a script
by turn, which therefore survives a redelivered call). A script that runs out is a failed call, not an answer.

`scripted:PATH` reads the script from a JSON file, either a list of replies used in order

    ["first reply", "second reply"]

or replies by turn, one for each step

    {"turns": {"1": ["reply of step 1", "reply of step 2"], "2": ["…"]}}

The second form may also say which protocol the replies are written for: `"protocol": "tools"` (default "code"). A reply
that calls tools is an object; `text` and `id` may be left out:

    {"text": "I look.", "calls": [{"tool": "search", "args": {"q": "x"}, "id": "c1"}]}

Imports the contract, `machine` and `errors` only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InputError, ModelCallError
from ..machine.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from ..machine.wire import dumps
from . import CallContext, ModelTraits, OnDelta, Opening, play

__all__ = ["Reply", "Script", "ScriptFile", "ScriptedCall", "ScriptedModel", "calling", "open_scripted", "read_script"]

Answer: TypeAlias = str | LlmResponse | LlmCallError | ModelCallError
Reply: TypeAlias = "Answer | Callable[[LlmRequest], Answer]"
"""One reply: text, a whole response, a failure (what its `partial_response` holds is streamed first), or a function of
the request that gives one of these."""
ScriptedCall: TypeAlias = "tuple[str, Mapping[str, Any] | str] | tuple[str, Mapping[str, Any] | str, str]"
"""A call: name and arguments, and its id."""
Script: TypeAlias = "Sequence[Reply] | Mapping[int, Sequence[Reply]]"
"""Replies in order, or by turn (from 1) and then step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFile:
    """What a script in a file says."""

    replies: list[Reply] | dict[int, list[Reply]]
    protocol: str = "code"


def calling(*calls: ScriptedCall, text: str = "") -> LlmResponse:
    """A reply that calls tools, with prose before the calls.

    Arguments that are a text are sent as they are, however broken. An id that is left out is `call_1`, `call_2`, ….
    """
    parts: list[TextOutput | ToolCallOutputPart] = [TextOutput(text=text)] if text else []
    for number, (name, args, *given) in enumerate(calls, start=1):
        call_id = given[0] if given else f"call_{number}"
        sent = args if isinstance(args, str) else dumps(args)
        parts.append(ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=sent))
    return LlmResponse(full_text=text, parts=tuple(parts), terminal_reason=LlmTerminalReason.TOOL_USE)


class ScriptedModel:
    """Answers from a script, streaming in chunks of `chunk_size` characters, `delay_s` apart.

    `traits` says what the model is taken for: which protocol the replies are written for, whether it sees images.

    `requests` and `contexts` hold what was asked, in order.
    """

    def __init__(
        self,
        replies: Script,
        *,
        name: str = "scripted",
        traits: ModelTraits | None = None,
        chunk_size: int = 16,
        delay_s: float = 0.0,
    ) -> None:
        self.name = name
        self._traits = traits or ModelTraits()
        self.requests: list[LlmRequest] = []
        self.contexts: list[CallContext] = []
        self.closed = False
        self._by_turn = (
            {turn: tuple(steps) for turn, steps in replies.items()} if isinstance(replies, Mapping) else None
        )
        self._in_order = () if isinstance(replies, Mapping) else tuple(replies)
        self._used = 0
        self._chunk_size = chunk_size
        self._delay_s = delay_s

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """What it was made with, for every turn."""
        return self._traits

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The next reply of the script. Raises: ModelCallError when it is a failure, or when there is
        none."""
        self.requests.append(request)
        self.contexts.append(context)
        reply = self._next(context)
        answer = reply(request) if callable(reply) else reply
        if isinstance(answer, LlmCallError):
            answer = ModelCallError(answer)
        if isinstance(answer, ModelCallError):
            if answer.error.partial_response is not None:
                await play(
                    answer.error.partial_response,
                    on_delta=on_delta,
                    chunk_size=self._chunk_size,
                    delay_s=self._delay_s,
                )
            raise answer
        if isinstance(answer, str):
            answer = LlmResponse(
                full_text=answer, parts=(TextOutput(text=answer),), terminal_reason=LlmTerminalReason.STOP
            )
        return await play(answer, on_delta=on_delta, chunk_size=self._chunk_size, delay_s=self._delay_s)

    def _next(self, context: CallContext) -> Reply:
        if self._by_turn is not None:
            steps = self._by_turn.get(context.turn, ())
            if context.step <= len(steps):
                return steps[context.step - 1]
            raise _used_up(f"the script has {_count(len(steps))} for turn {context.turn}, this is step {context.step}")
        if self._used < len(self._in_order):
            self._used += 1
            return self._in_order[self._used - 1]
        raise _used_up(
            f"the script has {_count(len(self._in_order))}, and all are used (turn {context.turn}, step {context.step})"
        )

    async def aclose(self) -> None:
        """Marks the model closed."""
        self.closed = True


def _count(replies: int) -> str:
    return "1 reply" if replies == 1 else f"{replies} replies"


def _used_up(message: str) -> ModelCallError:
    return ModelCallError(
        LlmCallError(
            message=message,
            retryable=False,
            kind=ProviderFailureKind.VALIDATION,
            terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        )
    )


def open_scripted(opening: Opening) -> ScriptedModel:
    """The model of `scripted:PATH`. Raises: InputError when the file cannot be read as a script."""
    if not opening.argument:
        raise InputError("`scripted` needs a file: scripted:PATH (a JSON file with replies)")
    path = opening.base_dir / Path(opening.argument).expanduser()
    script = read_script(path)
    traits = ModelTraits(protocol=script.protocol)
    return ScriptedModel(script.replies, name=f"scripted:{opening.argument}", traits=traits)


def read_script(path: Path) -> ScriptFile:
    """The script in a JSON file. Raises: InputError that names the file and the place in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the script cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the script is not UTF-8 text (byte {error.start})") from error
    try:
        script: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: the script is not JSON ({error.msg})") from error
    if isinstance(script, list):
        return ScriptFile(replies=_replies(path, "the script", script))
    if not isinstance(script, dict) or not isinstance(script.get("turns"), dict):
        raise InputError(f'{path}: a script is a list of replies, or {{"turns": {{"1": [replies], …}}}}')
    turns: dict[int, list[Reply]] = {}
    for label, steps in script["turns"].items():
        if not (label.isascii() and label.isdigit() and int(label) > 0):
            raise InputError(f'{path}: turns: "{label}" is not the number of a turn (1, 2, …)')
        turns[int(label)] = _replies(path, f"turns.{label}", steps)
    protocol = script.get("protocol", "code")
    if not isinstance(protocol, str):
        raise InputError(f"{path}: protocol is not the name of a protocol")
    return ScriptFile(replies=turns, protocol=protocol)


def _replies(path: Path, place: str, value: object) -> list[Reply]:
    if not isinstance(value, list):
        raise InputError(f"{path}: {place} is not a list of replies")
    return [
        reply if isinstance(reply, str) else _calls(path, f"{place}[{index}]", reply)
        for index, reply in enumerate(value)
    ]


def _calls(path: Path, place: str, reply: object) -> LlmResponse:
    """A reply that calls tools, as a file has it."""
    if not isinstance(reply, dict):
        raise InputError(f"{path}: {place} is not a text, nor an object with calls")
    unknown = sorted(set(reply) - {"text", "calls"})
    text, calls = reply.get("text", ""), reply.get("calls")
    if unknown or not isinstance(text, str) or not isinstance(calls, list) or not calls:
        raise InputError(f'{path}: {place} is not of the form {{"text": "…", "calls": [{{"tool": …, "args": …}}]}}')
    made = []
    for number, call in enumerate(calls):
        if not isinstance(call, dict) or not set(call) <= {"tool", "args", "id"}:
            raise InputError(f'{path}: {place}.calls[{number}] is not of the form {{"tool": "…", "args": {{…}}}}')
        tool, args, call_id = call.get("tool"), call.get("args", {}), call.get("id", f"call_{number + 1}")
        if not isinstance(tool, str) or not isinstance(args, (dict, str)) or not isinstance(call_id, str):
            raise InputError(f"{path}: {place}.calls[{number}]: a tool and an id are texts, arguments are an object")
        made.append((tool, args, call_id))
    return calling(*made, text=text)
