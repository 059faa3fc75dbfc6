"""The puppet: a protocol driver that returns scripted action lists, and the codecs of its script."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lash_nb.machine.checkpoints import CHECKPOINT_KIND, RESUME_ACTION
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Emit,
    Finish,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
    WaitingExecView,
    WaitingLlmView,
)
from lash_nb.machine.effects import EXEC_RESULT
from lash_nb.machine.events import STREAM_EVENT, event_record_codec
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import LLM_REQUEST, LLM_RESPONSE, LlmRequest, LlmResponse
from lash_nb.machine.messages import MESSAGE
from lash_nb.machine.outcomes import TURN_OUTCOME
from lash_nb.machine.tool_calls import COMPLETED_TOOL_CALL, PENDING_TOOL_CALL, CompletedToolCall
from lash_nb.machine.wire import (
    JSON,
    STRING,
    Codec,
    array,
    externally_tagged,
    nullable,
    refined,
    strict_struct,
    wrapper,
)

CALLBACKS = ("prepare", "llm", "tools", "exec")

RECORD = event_record_codec(JSON)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedStartLlm:
    """StartLlm as a script has it: a request to project when the callback runs, or a whole one."""

    request: LlmRequest | Projected
    driver_state: Any = None


class Projected(StrEnum):
    """A request that is projected when the callback runs."""

    PLAIN = "project"
    WITH_TOOLS = "project_tools"


_REQUEST: Codec[LlmRequest | Projected] = externally_tagged(
    "request",
    {
        "project": (Projected.PLAIN, None),
        "project_tools": (Projected.WITH_TOOLS, None),
        "raw": (LlmRequest, refined(LLM_REQUEST, lambda request: request)),
    },
)

ACTION: Codec[Any] = externally_tagged(
    "driver action",
    {
        "Emit": (Emit, wrapper(Emit, "event", STREAM_EVENT)),
        "AppendEvents": (AppendEvents, wrapper(AppendEvents, "records", array(RECORD))),
        "StartLlm": (
            ScriptedStartLlm,
            strict_struct(ScriptedStartLlm, request=_REQUEST, driver_state=nullable(JSON)),
        ),
        "StartTools": (StartTools, strict_struct(StartTools, calls=array(PENDING_TOOL_CALL))),
        "StartExec": (
            StartExec,
            strict_struct(StartExec, language=STRING, code=STRING, driver_state=nullable(JSON)),
        ),
        "StartCheckpoint": (
            StartCheckpoint,
            strict_struct(StartCheckpoint, checkpoint=CHECKPOINT_KIND, on_empty=RESUME_ACTION),
        ),
        "AdvanceProtocolIteration": (AdvanceProtocolIteration, None),
        "ScheduleTurnLimitFinal": (
            ScheduleTurnLimitFinal,
            strict_struct(ScheduleTurnLimitFinal, message=MESSAGE),
        ),
        "Finish": (Finish, wrapper(Finish, "outcome", TURN_OUTCOME)),
    },
)
ACTIONS: Codec[tuple[Any, ...]] = array(ACTION)


@dataclass
class Puppet:
    """Returns the next list of its queue, and notes how it was called."""

    queues: dict[str, deque[tuple[Any, ...]]] = field(default_factory=lambda: {name: deque() for name in CALLBACKS})
    calls: list[dict[str, Any]] = field(default_factory=list)

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return self._next("prepare", ctx)

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        return self._next(
            "llm",
            ctx,
            driver_state=waiting.take_driver_state(),
            request_id=waiting.request.scope.request_id,
            response=LLM_RESPONSE.encode(response),
            text_streamed=text_streamed,
        )

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return self._next("tools", ctx, results=array(COMPLETED_TOOL_CALL).encode(completed))

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return self._next("exec", ctx, driver_state=waiting.driver_state, result=EXEC_RESULT.encode(result))

    def _next(self, callback: str, ctx: DriverContext, **seen: Any) -> Sequence[DriverAction]:
        self.calls.append({"cb": callback, "ctx": _context(ctx), **seen})
        queue = self.queues[callback]
        return [_start(action, ctx) for action in (queue.popleft() if queue else ())]


def given_start(action: DriverAction | ScriptedStartLlm) -> DriverAction | None:
    """The action as the machine takes it; None when a request has to be projected first."""
    if not isinstance(action, ScriptedStartLlm):
        return action
    if isinstance(action.request, Projected):
        return None
    return StartLlm(request=action.request, driver_state=action.driver_state)


def _start(action: DriverAction | ScriptedStartLlm, ctx: DriverContext) -> DriverAction:
    if isinstance(action, ScriptedStartLlm) and isinstance(action.request, Projected):
        request = ctx.project_llm_request(use_tools=action.request is Projected.WITH_TOOLS)
        action = ScriptedStartLlm(request=request, driver_state=action.driver_state)
    ready = given_start(action)
    assert ready is not None
    return ready


def _context(ctx: DriverContext) -> dict[str, Any]:
    return {
        "iter": ctx.protocol_iteration,
        "offset": ctx.protocol_run_offset,
        "max_turns": ctx.max_turns,
        "autonomous": ctx.autonomous,
        "force_exit": ctx.should_force_exit_after_grace_turn(),
        "limit_final": ctx.turn_limit_final_to_schedule(),
        "n_messages": len(ctx.messages),
        "n_events": len(ctx.events),
        "causes": [cause.id for cause in ctx.turn_causes],
    }
