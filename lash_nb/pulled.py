"""Copies of the agent's variables in the notebook's own namespace: by `%lash pull`, and by the Pull of a view.

Decided here: nothing of the notebook's is written over in silence: a name that is taken there gets `_agent` behind it,
or `_agent_2`, until one is free, unless another one was given. What was pulled before and is still there, as it came,
makes way for what is pulled again. To unpickle a value runs what its classes want run: a person has to ask for it. What
comes by itself, at a turn's end, is data alone (`kernels.plain_data`).
"""

from __future__ import annotations

import asyncio
import itertools
import keyword
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
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
        self,
        *,
        namespace: Callable[[], MutableMapping[str, Any]],
        session: Callable[[], Session | None],
        came: Callable[[str, str], Awaitable[None]] | None = None,
        edited: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`came` is told what was bound under its own name, and in which life of the kernel it was made; `edited` says
        whether what came under a name was changed since."""
        self._namespace, self._session, self._came, self._edited = namespace, session, came, edited
        self._here: dict[str, tuple[str, Callable[[], object]]] = {}
        """By the name in the notebook: which variable was pulled under it, and what came."""

    def names(self) -> frozenset[str]:
        """Those under which copies of the agent's variables of the same name are, as they came."""
        return frozenset(name for name in list(self._here) if self._pulled_as(name, name))

    def soon(self, name: str, done: Callable[[str], None]) -> None:
        """Bring one over without waiting, from any thread; `done` is told how it went, in a sentence."""
        asyncio.run_coroutine_threadsafe(self._told(name, done), shared_loop().loop)

    async def _told(self, name: str, done: Callable[[str], None]) -> None:
        try:
            done(await self._brought(name, wanted=None))
        except LashError as error:
            done(str(error))
        except Exception as error:  # nobody else would hear of it
            done(f"{name} was not pulled: {type(error).__name__}: {error}")

    def now(self, name: str, *, wanted: str | None = None) -> str:
        """Bring one over, as `wanted` if that is given; how it went, in a sentence.

        Raises:
            InputError: there is no such variable, or no kernel. KernelError: it cannot be sent.
        """
        return shared_loop().run(self._brought(name, wanted=wanted))

    def data(self, name: str, *, over: bool) -> str:
        """As `now`, for what comes with a turn's end: data alone, so that nothing of the agent's runs unasked.

        `over` takes the name whatever stands there.

        Raises: as `now`.
        """
        return shared_loop().run(self._brought(name, wanted=name if over else None, data_only=True))

    def given(self, name: str, value: object, *, what: str) -> str:
        """Bind a value that is none of the agent's variables, whatever stands there; how it went, in a sentence."""
        namespace = self._namespace()
        note = f" (in place of what {name} was before)" if name in namespace else ""
        namespace[name] = value
        self._here.pop(name, None)
        return f"{name}: {what}{note}"

    async def _brought(self, name: str, *, wanted: str | None, data_only: bool = False) -> str:
        kernel = self._kernel(name)
        if self._edited is not None and self._pulled_as(name, name) and await self._edited(name):
            self._here.pop(name)  # it is the person's own now
        value = await kernel.value(name, data_only=data_only)
        said = self._bound(name, value, wanted=wanted)
        if self._came is not None and self._namespace().get(name) is value:
            await self._came(name, kernel.epoch)
        return said

    def _kernel(self, name: str) -> Any:
        _checked(name)
        session = self._session()
        kernel = session.kernel if session is not None else None
        if kernel is None or not kernel.alive:
            raise InputError("the agent's kernel does not run: there is nothing to pull")
        if not isinstance(kernel, GivesValues):
            raise InputError(f"a {kernel.language} kernel gives no values: have the agent write a file")
        return kernel

    def _bound(self, name: str, value: Any, *, wanted: str | None) -> str:
        namespace = self._namespace()
        target = _checked(wanted) if wanted else self._free(name)
        note = ""
        if self._pulled_as(target, name):
            note = " (in place of the one that was pulled before)"
        elif target in namespace:
            note = f" (in place of what {target} was before)"
        elif target != name and not wanted:
            note = f" ({name} is yours and stays as it is)"
        namespace[target] = value
        self._here[target] = (name, _held(value))
        return f"{target}: a copy of the agent's {name}{note}"

    def _free(self, name: str) -> str:
        """The first name under which nothing of the person's would be lost."""
        behind = (f"{name}{_BEHIND}_{number}" for number in itertools.count(2))
        names = itertools.chain((name, f"{name}{_BEHIND}"), behind)
        return next(one for one in names if one not in self._namespace() or self._pulled_as(one, name))

    def _pulled_as(self, target: str, name: str) -> bool:
        """Whether what is there is what was pulled of that variable."""
        namespace, (before, held) = self._namespace(), self._here.get(target, ("", lambda: None))
        return before == name and target in namespace and namespace[target] is held()


def _held(value: object) -> Callable[[], object]:
    """The value, kept alive only where its type cannot be referred to otherwise."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _checked(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(f"{name!r} is not the name of a variable")
    return name
