"""The diagram is that of the machine: its arrows against a table written by hand."""

from __future__ import annotations

from lash_nb.machine.diagram import state_diagram, transitions

MOVES = {
    "StartLlm": "WaitingLlm",
    "StartTools": "WaitingTools",
    "StartExec": "WaitingExec",
    "StartCheckpoint": "WaitingCheckpoint",
    "Finish": "Finished",
}
DRIVEN = {
    "PreparingProtocol": "poll",
    "PrepareIteration": "poll",
    "WaitingLlm": "LlmComplete",
    "WaitingTools": "ToolResults",
    "WaitingExec": "ExecResult",
}
OTHERS = {
    ("PreparingProtocol", "poll, environment to be synced", "WaitingExecutionEnvironment"),
    ("PrepareIteration", "poll, environment to be synced", "WaitingExecutionEnvironment"),
    ("WaitingExecutionEnvironment", "ExecutionEnvironmentSynced Ok", "PrepareIteration"),
    ("WaitingExecutionEnvironment", "ExecutionEnvironmentSynced Err", "Finished"),
    ("WaitingLlm", "LlmComplete output_limit", "Finished"),
    ("WaitingLlm", "LlmComplete context_overflow", "Finished"),
    ("WaitingLlm", "LlmComplete content_filter", "Finished"),
    ("WaitingLlm", "LlmComplete provider_error", "Finished"),
    ("WaitingLlm", "LlmComplete cancelled", "Finished"),
    ("WaitingLlm", "LlmComplete Err", "Finished"),
    ("WaitingCheckpoint", "Checkpoint, nothing delivered", "PrepareIteration"),
    ("WaitingCheckpoint", "Checkpoint, nothing delivered", "Finished"),
    ("WaitingCheckpoint", "Checkpoint, messages delivered", "PrepareIteration"),
    ("WaitingCheckpoint", "Checkpoint, messages delivered after the last call", "Finished"),
}
SEVEN = {*DRIVEN, "WaitingExecutionEnvironment", "WaitingCheckpoint"}


def test_arrows() -> None:
    driven = {(source, f"{word}, {move}", to) for source, word in DRIVEN.items() for move, to in MOVES.items()}
    failed = {(source, "fail_turn", "Finished") for source in SEVEN}
    found = [(arrow.source, arrow.trigger, arrow.target) for arrow in transitions()]
    assert len(found) == len(set(found))
    assert set(found) == driven | OTHERS | failed


def test_the_text_is_the_same_each_time_and_shows_every_pair() -> None:
    text = state_diagram()
    assert text == state_diagram()
    assert text.startswith("stateDiagram-v2\n    [*] --> PreparingProtocol\n")
    for arrow in transitions():
        assert arrow.trigger == "fail_turn" or f"    {arrow.source} --> {arrow.target}: " in text
