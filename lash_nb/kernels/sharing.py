"""Copies of values go to a kernel: pickled together, through memory that both sides map. And the other way: `fetching`.

Decided here: what is tried when some of them cannot be pickled or loaded there, so that the others go all the same, and
what a kernel that shares values offers. The form is that of `inside.pickling` and `inside.parcels`. Which names go when
is decided elsewhere. Pickling runs what a value's classes want run, on a thread of its own.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ValueNotSentError
from .fetching import fetch_value, fetch_values
from .inside.needed import needs
from .inside.parcels import Layout, Place, digest_of, fits_in_memory, placed
from .inside.pickling import StoppedError, packed, packed_together
from .inside.unpickling import CODE_FORM
from .life import Life
from .shared_values import Fetched, Held, Pushed, PushedValue
from .value_requests import GoneError, apart, asked
from .value_words import why_not_pickled, why_not_there

__all__ = ["Fetched", "Held", "Pushed", "PushedValue", "SharesValues", "digests", "held", "needs", "push", "unchanged"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})

Content = dict[str, Any]


class SharesValues:
    """What a managed kernel adds to the contract: values go over and come back. Only Python kernels do that."""

    language: str
    _value_timeout_s: float

    @abstractmethod
    def _require_life(self) -> Life: ...

    async def push(
        self, values: Mapping[str, Any], *, keep: Collection[str] = (), most_bytes: int | None = None
    ) -> Pushed:
        """Bind copies of values; what stands under the names in `keep` goes on as NAME_agent (see `sharing.push`).

        Raises:
            ValueNotSentError: there is no room for them.
            KernelBusyError: it was not done in time.
            KernelDiedError: there is no live kernel.
        """
        life = self._require_life()
        if not life.process.has_inside:
            return Pushed(failed=dict.fromkeys(values, f"a {self.language} kernel takes no values"))
        return await push(life, values, keep=keep, most_bytes=most_bytes, within_s=self._value_timeout_s)

    async def held(self, names: Collection[str], *, look: bool = True) -> Mapping[str, Held]:
        """What the kernel holds under those names (see `sharing.held`); raises as `push` does."""
        life = self._require_life()
        if not life.process.has_inside:
            return {}
        return await held(life, names, look=look, within_s=self._value_timeout_s)

    async def values(self, names: Collection[str], *, namespace: dict[str, Any] | None = None) -> Fetched:
        """Copies of several variables (see `fetching.fetch_values`); raises as `push` does."""
        life = self._require_life()
        if not life.process.has_inside:
            return Fetched(failed=dict.fromkeys(names, self._gives_none()))
        return await fetch_values(life, names, namespace=namespace, within_s=self._value_timeout_s)

    async def value(self, name: str, *, data_only: bool = False) -> Any:
        """A copy of one variable, in this process; also while a cell runs. It is unpickled here, which runs its code.

        With `data_only` nothing of the kernel's code is run here: what is more than data does not come.

        Raises:
            ValueNotSentError: there is none, or it cannot be sent.
            KernelBusyError: it did not come in time.
            KernelDiedError: there is no live kernel.
        """
        life = self._require_life()
        if not life.process.has_inside:
            raise ValueNotSentError(self._gives_none())
        return await fetch_value(life, name, within_s=self._value_timeout_s, data_only=data_only)

    def _gives_none(self) -> str:
        return f"a {self.language} kernel gives no values: have it write a file"


# -- to the kernel -----------------------------------------------------------------------------------------------------


async def push(
    life: Life,
    values: Mapping[str, object],
    *,
    keep: Collection[str] = (),
    most_bytes: int | None = None,
    within_s: float,
) -> Pushed:
    """Bind copies in the kernel, all at once; what is one object in several of them is one there, too.

    What stands there under the names in `keep` goes on as NAME_agent. A value that cannot go is in `failed`, and so is
    one over `most_bytes`. It may take `within_s` seconds to pickle them, and as long to load them there. The values
    are only read; while they are, a thread that changes them may find a buffer locked.

    Raises:
        KernelBusyError: it was not done in time; nothing is bound, unless the kernel was at it in that moment.
        KernelDiedError: the kernel ended.
    """
    sender = _Sender(life, keep, most_bytes, within_s)
    left = dict(values)
    if not await sender.sent(left, together=True):
        before = len(left)
        await sender.probe(left)  # one of them cannot be loaded there; or all together cannot
        await sender.sent(left, together=len(left) < before, last=True)
    return sender.done()


class _Sender:
    """The attempts of one push."""

    def __init__(self, life: Life, keep: Collection[str], most_bytes: int | None, within_s: float) -> None:
        self._life, self._keep, self._most_bytes, self._within_s = life, list(keep), most_bytes, within_s
        self._failed: dict[str, str] = {}
        self._sent: Mapping[str, PushedValue] = {}
        self._kept: Mapping[str, str] = {}
        self._named = life.process.sandboxed  # nothing of this process is to be seen there

    async def sent(self, values: dict[str, object], *, together: bool, last: bool = False) -> bool:
        """Have `values` bound but for what fails, which is taken out; False: some cannot be loaded, none was bound."""
        while values:
            outgoing, reply = await self._tried(values, together=together, bind=True)
            problems = self._problems(reply)
            if not problems:
                self._sent, self._kept = outgoing.sent, reply.get("kept", {})
                return True
            if len(values) > 1 and not last:
                return False
            self._take_out(values, problems)
        return True

    async def probe(self, values: dict[str, object]) -> None:
        """Have each loaded, and not bound; what fails is taken out."""
        _, reply = await self._tried(values, together=False, bind=False)
        self._take_out(values, self._problems(reply))

    async def _tried(self, values: dict[str, object], *, together: bool, bind: bool) -> tuple[_Outgoing, Content]:
        outgoing = await apart(lambda stopped: self._outgoing(values, together, stopped), self._within_s)
        self._take_out(values, outgoing.failed)
        if not values:
            return outgoing, {"failed": {}}
        content = outgoing.content | {"bind": bind, "keep": self._keep}
        try:
            return outgoing, await asked(self._life, "lash_push_request", content, self._within_s)
        except GoneError:
            if self._named:
                raise
        finally:
            outgoing.place.close()
        self._named = True  # the other side may not open this process's descriptors
        return await self._tried(values, together=together, bind=bind)

    def _problems(self, reply: Content) -> dict[str, str]:
        return {name: why_not_there(problem, reply["python"]) for name, problem in reply["failed"].items()}

    def _take_out(self, values: dict[str, object], failed: Mapping[str, str]) -> None:
        self._failed.update(failed)
        for name in failed:
            values.pop(name, None)

    def _outgoing(self, values: Mapping[str, object], together: bool, stopped: Callable[[], bool]) -> _Outgoing:
        return _outgoing(
            values,
            together=together,
            most_bytes=self._most_bytes,
            directory=self._life.process.shared,
            named=self._named,
            stopped=stopped,
        )

    def done(self) -> Pushed:
        return Pushed(sent=self._sent, failed=self._failed, kept=self._kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outgoing:
    """Values in a file."""

    place: Place
    content: Content
    sent: Mapping[str, PushedValue]
    failed: Mapping[str, str]


def _outgoing(
    values: Mapping[str, object],
    *,
    together: bool,
    most_bytes: int | None,
    directory: Path,
    named: bool,
    stopped: Callable[[], bool],
) -> _Outgoing:
    """Pickle and write them; each for itself, too, for its digest.

    Raises:
        ValueNotSentError: there is no room for them. StoppedError: nobody waits for it any more.
    """
    with contextlib.ExitStack() as releases:
        alone, failed = _each(values, most_bytes, stopped)
        for one in alone.values():
            releases.callback(one.release)
        names, parcels = [[name] for name in alone], list(alone.values())
        if together and len(alone) > 1:
            with contextlib.suppress(Exception):  # then each goes for itself
                joint = packed_together([values[name] for name in alone], stopped=stopped)
                releases.callback(joint.release)
                names, parcels = [list(alone)], [joint]
        layout = Layout(parcels)
        digests: dict[tuple[int, int], str] = {}
        place = _written(layout, directory, named=named, stopped=stopped, digests=digests)
        sent = {name: PushedValue(bytes=one.size, digest=digest_of(one, digests)) for name, one in alone.items()}
        content = {
            **place.told(),
            **layout.told(digests),
            "names": names,
            "together": [len(some) > 1 for some in names],
            "sha256": {name: value.digest for name, value in sent.items()},
            "renewed": _renewed(values[name] for name in alone),
            "code_form": CODE_FORM,
        }
        return _Outgoing(place=place, content=content, sent=sent, failed=failed)


def _each(
    values: Mapping[str, object], most_bytes: int | None, stopped: Callable[[], bool]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Each pickled for itself; why some could not be."""
    alone: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, value in values.items():
        try:
            alone[name] = packed(value, most_bytes=most_bytes, stopped=stopped)
        except StoppedError as error:
            if stopped():
                raise
            failed[name] = str(error)
        except BaseException as error:  # also KeyboardInterrupt: this is no main thread, so it is the value's own
            failed[name] = why_not_pickled(error)
    return alone, failed


def _written(
    layout: Layout,
    directory: Path,
    *,
    named: bool,
    stopped: Callable[[], bool],
    digests: dict[tuple[int, int], str] | None = None,
) -> Place:
    for in_memory in (True, False):
        if in_memory and (named or not fits_in_memory(layout.size)):
            continue
        place: Place | None = None
        try:
            place = placed(str(directory), in_memory=in_memory, named=named)
            layout.write(place.fd, stopped=stopped, digests=digests)
            return place
        except BaseException as error:
            if place is not None:
                place.close()
            if not isinstance(error, OSError) or error.errno not in _FULL:
                raise
            problem = error
    raise ValueNotSentError(f"there is no room to send {layout.size:,} bytes ({problem}); free some, or send less")


def _renewed(values: Iterable[object]) -> list[str]:
    """cloudpickle's ids of the classes that are sent themselves, or as those of what is sent."""
    ids = getattr(sys.modules.get("cloudpickle.cloudpickle"), "_DYNAMIC_CLASS_TRACKER_BY_CLASS", {})
    found = []
    for value in values:
        kind = type(value)
        with contextlib.suppress(TypeError):  # a class that cannot be hashed is none of cloudpickle's
            found.append(ids.get(value if issubclass(kind, type) else kind))
    return [one for one in found if one is not None]


# -- what was delivered ------------------------------------------------------------------------------------------------


async def held(life: Life, names: Collection[str], *, look: bool = True, within_s: float) -> Mapping[str, Held]:
    """What the kernel holds under those names; one that is missing is not bound there.

    To know whether it is the same it is pickled there again, its larger buffers apart: without `look` that is not done,
    and nothing is told to be. A delivered value is told as changed, though it was not, where its stream had over 32 MB
    or took over a second to pickle, and where pickling gives something else after a mere look at it (a cached attribute
    was computed, a frame put its columns together).

    Raises:
        KernelBusyError: it was not told in time. KernelDiedError: the kernel ended.
    """
    reply = await asked(life, "lash_held_request", {"names": list(names), "look": look}, within_s)
    needed = reply.get("needs", {})  # a kernel that an earlier version started does not say
    return {
        name: Held(sha256=sha256, same=same, fetched=any(fetched), needs=frozenset(needed.get(name, ())))
        for name, (sha256, same, *fetched) in reply["held"].items()
    }


async def unchanged(life: Life, names: Collection[str], *, within_s: float) -> Mapping[str, bool]:
    """Whether what was delivered under each name still is there, and unchanged. See `held`."""
    found = await held(life, names, within_s=within_s)
    return {name: name in found and found[name].same for name in names}


def digests(values: Mapping[str, object]) -> Mapping[str, str]:
    """The digests that `push` would give, without those that cannot be pickled; reads all of them."""
    alone, _ = _each(values, None, lambda: False)
    try:
        known: dict[tuple[int, int], str] = {}
        return {name: digest_of(one, known) for name, one in alone.items()}
    finally:
        for one in alone.values():
            one.release()
