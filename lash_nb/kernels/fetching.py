"""Copies of a kernel's variables in this process.

Decided here: what is tried when some of them cannot be loaded here, so that the others come all the same. To load a
value runs what its classes want run: it is for whoever trusts the code that made it.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ..errors import KernelError, ValueNotSentError
from .inside import parcels
from .inside.parcels import Arrived, placed
from .inside.reducing import LIVE
from .inside.unpickling import Unpickler, problem_of
from .life import Life
from .plain_data import DataUnpickler, SandboxedUnpickler
from .shared_values import Fetched
from .value_requests import FullError, GoneError, apart, asked
from .value_words import why_not_here

__all__ = ["fetch_value", "fetch_values"]

Content = dict[str, Any]


async def fetch_values(
    life: Life,
    names: Collection[str],
    *,
    within_s: float,
    namespace: dict[str, Any] | None = None,
    data_only: bool = False,
) -> Fetched:
    """Copies of variables; what is one object in several of them is one here, too. A cell may run meanwhile.

    Functions of the kernel's cells use `namespace` as their globals: what they need and it lacks is set there. Without
    one they have globals of their own. With `data_only` what is more than data (`plain_data`) is in `failed`.

    Raises:
        KernelBusyError: the kernel did not send them within `within_s` seconds, or it took longer to load them.
        KernelDiedError: the kernel ended.
    """
    came = await _came(life, list(names), within_s, namespace, data_only)
    failed = {name: why_not_here(name, problem) for name, problem in came.failed.items()}
    return Fetched(values=came.values, failed=failed)


async def fetch_value(life: Life, name: str, *, within_s: float, data_only: bool = False) -> Any:
    """A copy of one variable.

    Raises:
        ValueNotSentError: there is none, it cannot be pickled or loaded, or there is no room for it.
        KernelBusyError, KernelDiedError: as of `fetch_values`.
    """
    came = await _came(life, [name], within_s, None, data_only)
    if name in came.failed:
        problem = came.failed[name]
        why = why_not_here(name, problem)
        if problem["kind"] != "name":
            said = "cannot be sent" if problem["kind"] in ("pickle", "full") else "came, but cannot be loaded here"
            advice = "" if life.process.sandboxed else "; have it made into data, or written to a file"  # is in `why`
            why = f"{name} {said}: {why}{advice}"
        raise ValueNotSentError(why)
    return came.values[name]


@dataclass(frozen=True, slots=True)
class _Came:
    values: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Content] = field(default_factory=dict)


async def _came(
    life: Life, names: list[str], within_s: float, namespace: dict[str, Any] | None, data_only: bool
) -> _Came:
    came = await _pulled(life, names, True, within_s, namespace, data_only)
    broken = [name for name in names if name not in came.values and name not in came.failed]
    if not broken:
        return came
    alone = await _pulled(life, broken, False, within_s, namespace, data_only)  # one of them cannot be loaded here
    came.failed.update(alone.failed)
    good = [name for name in broken if name in alone.values]
    if len(good) > 1:
        together = await _pulled(life, good, True, within_s, namespace, data_only)
        came.failed.update(together.failed)
        alone.values.update(together.values)
    came.values.update({name: alone.values[name] for name in good})
    return came


async def _pulled(
    life: Life, names: list[str], together: bool, within_s: float, namespace: dict[str, Any] | None, data_only: bool
) -> _Came:
    """One attempt; names of a stream of several that cannot be loaded are neither in `values` nor in `failed`."""
    shared = str(life.process.shared)
    for named in (True,) if life.process.sandboxed else (False, True):
        places = [placed(shared, in_memory=False, named=named)]
        if not named:
            places.insert(0, placed(shared, in_memory=True))
        try:
            told = [place.told() for place in places]
            content = {"names": names, "together": together, "places": told, "have": list(namespace or ())}
            reply = await asked(life, "lash_pull_request", content, within_s)
            arrived = Arrived(reply, fd=places[reply["place"]].fd, copied=life.process.sandboxed)
            load = SandboxedUnpickler if life.process.sandboxed else DataUnpickler if data_only else Unpickler
            return await apart(lambda stopped: _loaded(reply, arrived, namespace, load), within_s)  # noqa: B023 (awaited)
        except parcels.GoneError as error:
            raise KernelError(f"what the kernel sent did not come whole: {error}") from error
        except GoneError:
            if named:
                raise
        except FullError as error:
            return _Came(failed={name: {"kind": "full", "message": str(error)} for name in names})
        finally:
            for place in places:
                place.close()
    raise AssertionError


def _loaded(reply: Content, arrived: Arrived, namespace: dict[str, Any] | None, unpickler: type[Unpickler]) -> _Came:
    live = {"__name__": LIVE, "__builtins__": builtins} if namespace is None else namespace
    came = _Came(failed=dict(reply["failed"]))
    for names, (begin, _, numbers) in zip(reply["names"], reply["streams"], strict=True):
        buffers = [arrived.buffers[number] for number in numbers]
        stream = arrived.stream(begin)
        try:
            value = unpickler(stream, buffers=buffers, live=live, code_form=reply["code_form"]).load()
        except BaseException as error:  # also SystemExit: it is the value's own
            if len(names) == 1:
                came.failed[names[0]] = {**problem_of(error), "python": reply["python"]}
            continue
        for name, one in zip(names, value if reply["together"] else (value,), strict=True):
            if name in reply["along"]:
                live.setdefault(name, one)
            else:
                came.values[name] = one
    return came
