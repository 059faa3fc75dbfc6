"""Values of the scripted kernel: copies go over and come back, as with a real one; nothing else changes them."""

from __future__ import annotations

import copy
import io
import itertools
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import ValueNotSentError
from .inside.parcels import digest_of
from .inside.pickling import Packed, StoppedError, packed
from .inside.unpickling import Unpickler
from .shared_values import Fetched, Held, Pushed, PushedValue
from .value_words import why_not_pickled

__all__ = ["ScriptedValues"]


class ScriptedValues:
    """The variables that have values: those given, of which there are copies in every life, and what was pushed."""

    language: str

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._values: dict[str, Any] = dict(given)
        self._delivered: dict[str, tuple[str, object]] = {}

    @abstractmethod
    def _require_life(self) -> None: ...

    def _forget_values(self) -> None:
        """Another life begins."""
        self._values, self._delivered = dict(self._given), {}

    async def push(
        self, values: Mapping[str, Any], *, keep: Collection[str] = (), most_bytes: int | None = None
    ) -> Pushed:
        """Bind copies; what stands under the names in `keep` goes on as NAME_agent."""
        self._require_life()
        sent: dict[str, PushedValue] = {}
        failed: dict[str, str] = {}
        made: dict[str, Any] = {}
        for name, value in values.items():
            if self.language != "python":
                failed[name] = f"a {self.language} kernel takes no values"
                continue
            try:
                one = packed(value, most_bytes=most_bytes)
                sent[name] = PushedValue(bytes=one.size, digest=digest_of(one, {}))
                made[name] = self._copied(one)
            except (StoppedError, Exception) as error:
                failed[name] = why_not_pickled(error)
        kept = {name: self._free(name) for name in keep if name in self._values and name in made}
        self._values |= {kept[name]: self._values[name] for name in kept} | made
        self._delivered |= {name: (sent[name].digest, made[name]) for name in made}
        return Pushed(sent=sent, failed=failed, kept=kept)

    def _copied(self, one: Packed) -> Any:
        buffers = [bytearray(view) if not view.readonly else bytes(view) for view in one.buffers]
        stream = io.BytesIO(b"".join(one.stream))
        one.release()
        return Unpickler(stream, buffers=buffers, live=self._values).load()

    def _free(self, name: str) -> str:
        numbered = (f"{name}_agent_{number}" for number in itertools.count(2))
        return next(one for one in itertools.chain((f"{name}_agent",), numbered) if one not in self._values)

    async def held(self, names: Collection[str], *, look: bool = True) -> Mapping[str, Held]:
        """What is bound under those names."""
        self._require_life()
        found = {}
        for name in names:
            if name in self._values and self.language == "python":
                digest, value = self._delivered.get(name, ("", None))
                found[name] = Held(sha256=digest, same=look and bool(digest) and value is self._values[name])
        return found

    async def values(self, names: Collection[str], *, namespace: dict[str, Any] | None = None) -> Fetched:
        """Copies of several; what is one object in several of them is one here, too."""
        self._require_life()
        there = {name: self._values[name] for name in names if name in self._values}
        failed = {name: f"the agent's kernel has no variable {name!r}" for name in names if name not in there}
        return Fetched(values=copy.deepcopy(there), failed=failed)

    async def value(self, name: str, *, data_only: bool = False) -> Any:
        """A copy of one.

        Raises:
            ValueNotSentError: there is none.
        """
        found = await self.values([name])
        if name in found.failed:
            raise ValueNotSentError(found.failed[name])
        return found.values[name]
