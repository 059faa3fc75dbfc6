"""Copies of the agent's variables in the notebook's own namespace: by `%lash pull`, and by the Pull of a view.

Decided here: nothing of the notebook's is written over in silence: a name that is taken there gets `_agent` behind it,
unless another one was given. To unpickle a value runs what its classes want run: it is the agent's word that is
taken, and a person who asks for it.
"""

from __future__ import annotations

import asyncio
import keyword
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from .bridge import shared_loop
from .errors import InputError, LashError
from .languages import GivesValues

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Pulled"]

_BEHIND = "_agent"


class Pulled:
    """Brings variables over; `namespace` and `session` are asked for each time."""

    def __init__(
        self, *, namespace: Callable[[], MutableMapping[str, Any]], session: Callable[[], Session | None]
    ) -> None:
        self._namespace, self._session = namespace, session

    def soon(self, name: str, done: Callable[[str], None]) -> None:
        """Bring one over without waiting, from any thread; `done` is told how it went, in a sentence."""
        asyncio.run_coroutine_threadsafe(self._told(name, done), shared_loop().loop)

    async def _told(self, name: str, done: Callable[[str], None]) -> None:
        try:
            done(self._bound(name, await self._value(name), wanted=None))
        except LashError as error:
            done(str(error))

    def now(self, name: str, *, wanted: str | None = None) -> str:
        """Bring one over, as `wanted` if that is given; how it went, in a sentence.

        Raises:
            InputError: there is no such variable, or no kernel. KernelError: it cannot be sent.
        """
        return self._bound(name, shared_loop().run(self._value(name)), wanted=wanted)

    async def _value(self, name: str) -> Any:
        _checked(name)
        session = self._session()
        kernel = session.kernel if session is not None else None
        if kernel is None or not kernel.alive:
            raise InputError("the agent's kernel does not run: there is nothing to pull")
        if not isinstance(kernel, GivesValues):
            raise InputError(f"a {kernel.language} kernel gives no values: have the agent write a file")
        return await kernel.value(name)

    def _bound(self, name: str, value: Any, *, wanted: str | None) -> str:
        namespace = self._namespace()
        target = _checked(wanted) if wanted else name
        taken = not wanted and target in namespace
        if taken:
            target = f"{name}{_BEHIND}"
        namespace[target] = value
        note = f" ({name} is yours and stays as it is)" if taken else ""
        return f"{target}: a copy of the agent's {name}{note}"


def _checked(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(f"{name!r} is not the name of a variable")
    return name
