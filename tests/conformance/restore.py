"""`python -m tests.conformance.restore < checkpoint.json`: restores a TurnCheckpoint, prints `messages=N state=…`.

The messages of a finished turn are those of its Done effect, which the checkpoint holds undrained.
"""

from __future__ import annotations

import sys

from lash_nb.errors import DecodeError
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig
from lash_nb.machine.effects import Done
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.turn import TurnMachine

from .puppet import Puppet


def main() -> int:
    """Restore what stdin holds; 2 when it is not a checkpoint."""
    try:
        checkpoint = TurnCheckpoint.from_text(sys.stdin.read())
    except DecodeError as error:
        print(f"this is not a TurnCheckpoint: {error}", file=sys.stderr)
        return 2
    config = TurnMachineConfig(driver=Puppet(), projector=ChatProjector(), protocol=JsonTurnProtocol, model="none")
    machine = TurnMachine.restore(config, checkpoint)
    again = machine.checkpoint()
    done = [effect for effect in again.pending_effects if isinstance(effect, Done)]
    messages = done[0].messages if done else again.messages
    print(f"messages={len(messages)} state={type(again.state).__name__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
