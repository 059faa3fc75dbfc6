"""The pure half: the turn machine, its records and how they are written. Standard library only.

`TurnMachine` (turn.py) is the way in; `TurnCheckpoint` (state.py) is the seed of the whole design. No module here reads
a clock, draws a random number, or does IO; import-linter holds it to that.
"""

from __future__ import annotations

from .config import JsonTurnProtocol, TurnMachineConfig, TurnProtocol, UnitTurnProtocol, turn_limit_message
from .driver import CheckedDriver, DriverContext, ProtocolDriver
from .projector import ChatProjector, ContextProjector
from .state import TurnCheckpoint
from .turn import TurnMachine

__all__ = [
    "ChatProjector",
    "CheckedDriver",
    "ContextProjector",
    "DriverContext",
    "JsonTurnProtocol",
    "ProtocolDriver",
    "TurnCheckpoint",
    "TurnMachine",
    "TurnMachineConfig",
    "TurnProtocol",
    "UnitTurnProtocol",
    "turn_limit_message",
]
