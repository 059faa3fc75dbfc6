"""Which variables of the caller's process a turn may see and use, and which of them go over when.

Decided here: all of them are described, a copy goes over when a cell uses one (`used_names`), with what its functions
need. What went over is sent again when it has changed here; when the agent has changed its copy, that is kept; when
both have, ours takes the name and the agent's gets `_agent` behind its own. What the agent made by itself under a name
of ours is the agent's until ours is bound anew. Names that are hidden are neither described nor sent.

A cell that only tries something out can have its copies `afresh`: then ours go over whatever stands there. What such
cells leave behind under our names is not the agent's own: it is written over, and nobody is told that both changed it.

The originals are only read: what goes over is pickled, and what is made of it are copies.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from .errors import InputError, KernelBusyError
from .kernels.differences import imported_packages
from .kernels.inside.describer import Describer
from .kernels.shared_values import Held, Pushed
from .kernels.sharing import digests, needs
from .kernels.summaries import namespace_summary
from .kernels.surroundings import Surroundings, surroundings_of
from .kernels.value_requests import apart
from .machine.activity import RefusedVariable, SharedVariable, VariablesShared
from .machine.execution import NamespaceSummary
from .previews import Previews
from .used_names import used_names

__all__ = ["Sharing", "TakesOver", "TakesValues"]

_SHELL = re.compile(r"_+|_i*|_\d+|_i\d+|_[doi]h|__\w+__|In|Out|exit|quit|get_ipython|open")
"""What IPython keeps in its namespace beside the user's variables."""
_WORD = re.compile(r"[^\W\d]\w*")
_MOST_ROUNDS = 8
"""Of functions that call functions."""
_MOST_NAMES = 500
"""That one cell reaches, with what its functions need."""


@runtime_checkable
class TakesValues(Protocol):
    """A kernel that takes copies of values."""

    @property
    def epoch(self) -> str:
        """See `Kernel.epoch`."""
        ...

    async def push(self, values: Mapping[str, Any], *, keep: Collection[str] = ()) -> Pushed:
        """Bind copies; what stands under the names in `keep` goes on under another name, which is in the answer."""
        ...

    async def held(self, names: Collection[str], *, look: bool = True) -> Mapping[str, Held]:
        """What the kernel holds under those names; one that is missing is not bound there.

        Without `look`, whether it still is what went over is not found out, which may take its time.
        """
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A kernel that can be made like this process."""

    @property
    def epoch(self) -> str:
        """See `Kernel.epoch`."""
        ...

    async def take_over_surroundings(self, surroundings: Surroundings) -> None:
        """Set what this process has set, as far as it can; never fails."""
        ...

    async def differences(self, packages: Mapping[str, str]) -> tuple[str, ...]:
        """What of its Python keeps values from going over, in sentences."""
        ...


class Sharing:
    """The variables of a namespace, for the turns of one session.

    Args:
        namespace: the variables; read whenever they are needed, never written.
        hidden: those that are not the user's, by name: they are hidden as long as the name is bound to just that.
        look_s: seconds that it may take to find out which of them have changed; those do not go over in that turn.
    """

    def __init__(
        self, namespace: dict[str, Any], *, hidden: Mapping[str, Any] | None = None, look_s: float = 120.0
    ) -> None:
        self._namespace, self._look_s = namespace, look_s
        self._hidden: Mapping[str, Any] = hidden if hidden is not None else {}
        self.patterns: list[str] = []
        """Names like these (`secret_*`) are hidden from the model, here and in the kernel."""
        self._describer = Describer()
        self._surroundings: Surroundings | None = None
        self._compared = ""
        """With which life of the kernel this process was compared."""
        self._digests: dict[str, str] = {}
        """Of variables that were looked at in this turn; while it runs, they stay as they are."""
        self._refused: dict[str, str] = {}
        """What could not go in this turn, and why: it is said once."""
        self._epoch = ""
        """Of which life of the kernel the rest is known."""
        self._own: dict[str, str] = {}
        """By the names that it has variables of its own under: the digest of ours when that was first seen (empty:
        there was none), or when ours came from there."""
        self._copied: set[str] = set()
        """The names under which it has, or had, copies of ours."""
        self._tried: set[str] = set()
        """The names under which it has what cells made that had their copies afresh, and had nothing before."""

    def sibling(self) -> Sharing:
        """The same variables for another kernel."""
        one = Sharing(self._namespace, hidden=self._hidden, look_s=self._look_s)
        one.patterns, one._surroundings = self.patterns, self._surroundings
        return one

    def begin_turn(self) -> None:
        """Look at everything anew."""
        self._digests.clear()
        self._refused.clear()

    # -- the same place ------------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Take note of what this process has set (paths, options of libraries), in the thread that runs its cells."""
        self._surroundings = surroundings_of()

    async def prepare(self, kernel: object) -> tuple[str, ...]:
        """Have a kernel set what this process has; what of its Python keeps values from going over, once a life."""
        if not isinstance(kernel, TakesOver):
            return ()
        if self._surroundings is not None:
            await kernel.take_over_surroundings(self._surroundings)
        if self._compared == kernel.epoch:
            return ()
        self._compared = kernel.epoch
        return await kernel.differences(imported_packages())

    # -- what is seen --------------------------------------------------------------------------------------------------

    def describe(self, *, limit: int = 200, previews: Previews = "sample") -> NamespaceSummary:
        """The variables, described as those of a kernel are; from any thread."""
        reply = self._describer.summary(self._namespace, self._hidden, limit, previews)
        return self.visible(namespace_summary(reply, previews=previews))

    def visible(self, summary: NamespaceSummary) -> NamespaceSummary:
        """Without what is hidden, of this namespace or of a kernel's."""
        if not self.patterns:
            return summary
        kept = tuple(variable for variable in summary.variables if not self._is_hidden(variable.name))
        removed = tuple(name for name in summary.removed if not self._is_hidden(name))
        return replace(summary, variables=kept, removed=removed)

    def _is_hidden(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    def names(self) -> frozenset[str]:
        """Those that are bound here now."""
        return frozenset(self._namespace)

    def names_hidden(self, code: str) -> bool:
        """Whether a cell has the name of something that is hidden."""
        return bool(self.patterns) and any(self._is_hidden(word) for word in re.findall(r"\w+", code))

    def value(self, name: str) -> Any:
        """One variable. Raises InputError: there is none of that name, or it is hidden."""
        if name not in self._namespace or self._is_hidden(name):
            raise InputError(f"there is no variable {name!r} in the notebook")
        return self._namespace[name]

    # -- what goes over ------------------------------------------------------------------------------------------------

    async def for_cell(self, code: str, kernel: TakesValues, *, afresh: bool = False) -> VariablesShared | None:
        """Send what a cell uses and the kernel lacks, before it runs; None: nothing had to.

        With `afresh` it lacks whatever is not just what ours is now, and all of them go together then.

        Raises KernelError: the kernel did not take them.
        """
        names = used_names(code)
        self._begin(kernel.epoch)
        words = frozenset(_WORD.findall(code))
        if afresh:
            await self._note_tried(words, kernel)
        sent = await self._for_names(names, kernel, afresh=afresh) if names else None
        if not afresh:
            self._tried -= words  # it has them anew, or makes them its own
        return sent

    async def _note_tried(self, names: Iterable[str], kernel: TakesValues) -> None:
        """A cell that is only tried out may make variables of these names: what stands there before is the agent's."""
        new = sorted(name for name in names if name not in self._tried)
        self._tried |= set(new) - (await kernel.held(new, look=False)).keys()

    async def anew(self, code: str, kernel: Any) -> None:
        """Have what code uses of ours go over again when it runs, whatever became of the copies. Raises KernelError."""
        self._begin(kernel.epoch)
        held = await kernel.held(sorted(used_names(code) & self._copied), look=False)
        if held:
            await kernel.run("", f"del {', '.join(sorted(held))}")
            self._copied -= held.keys()

    async def refresh(self, kernel: TakesValues) -> None:
        """Have what is left there of cells that were tried out be copies again, as far as ours are there.

        Raises KernelError: the kernel did not take them; they go before the next cell that uses them.
        """
        self._begin(kernel.epoch)
        held = await kernel.held([name for name in sorted(self._tried) if self._is_shared(name)])
        left = {name: self._namespace[name] for name, there in held.items() if not there.untouched}
        if left:
            await self._sent(left, (), kernel)

    async def _for_names(self, names: frozenset[str], kernel: TakesValues, *, afresh: bool) -> VariablesShared | None:
        values, held = await self._used(names, kernel)
        if not values:
            return None
        late = await self._late(values, held)
        values = {name: value for name, value in values.items() if name not in self._refused}
        doubted = [
            name
            for name, there in held.items()
            if name in values and (afresh or name in self._tried or self._differs(name, there))
        ]
        known = {**held, **(await kernel.held(doubted) if doubted else {})}
        wanted, keep = self._wanted(values, known, afresh=afresh)
        if not wanted:
            return late
        try:
            sent = await self._sent(wanted, keep, kernel)
        except KernelBusyError as error:  # one of them does not end being pickled: not again in this turn
            sent = self._all_refused(wanted, str(error))
        if afresh:
            self._tried |= {one.name for one in sent.shared}
        return sent if late is None else replace(sent, refused=(*late.refused, *sent.refused))

    async def _used(self, names: frozenset[str], kernel: TakesValues) -> tuple[dict[str, Any], Mapping[str, Held]]:
        """The variables of those names, and of what they need, here or there; and what the kernel has of all that."""
        values: dict[str, Any] = {}
        held: dict[str, Held] = {}
        asked: set[str] = set()
        for _ in range(_MOST_ROUNDS):
            reached = self._reached(names)
            values |= reached
            new = (names | reached.keys()) - asked
            if not new:
                break
            asked |= new
            there = await kernel.held(sorted(new), look=False)
            held.update(there)
            # What a function of the agent's own reads may have changed here.
            names = frozenset().union(*(one.needs for one in there.values())) - asked
        return values, held

    def _all_refused(self, values: Iterable[str], why: str) -> VariablesShared:
        self._refused.update(dict.fromkeys(values, why))
        return VariablesShared(refused=tuple(RefusedVariable(name=name, why=why) for name in sorted(values)))

    async def _late(self, values: Mapping[str, Any], held: Mapping[str, Held]) -> VariablesShared | None:
        """Look whether those that the kernel has were changed here; which ones that took too long for."""
        looked = {name: values[name] for name in held if name in values and name not in self._refused}
        try:
            await self._look_at(looked)
        except KernelBusyError as error:
            return self._all_refused(looked, str(error))
        return None

    async def note_kernels(self, names: Iterable[str], epoch: str) -> None:
        """The kernel has variables of these names: of those that are its own it is remembered what ours was by then."""
        self._begin(epoch)
        new = [name for name in names if name not in self._own and name not in self._copied]
        with suppress(KernelBusyError):
            await self._look_at({name: self._namespace[name] for name in new if self._is_shared(name)})
        for name in new:
            self._own[name] = self._digests.get(name, "")

    async def edited(self, name: str) -> bool:
        """Whether what came from the kernel under that name was changed here since."""
        before = self._own.get(name)
        self._digests.pop(name, None)
        await self._look_at({name: self._namespace[name]})
        return before is not None and before != self._digests.get(name, "")

    async def push(self, values: Mapping[str, Any], kernel: TakesValues) -> VariablesShared:
        """Send values because somebody asked for it, with what their functions need. Raises KernelError."""
        needed = {**self._reached(_needs(values.values()) - values.keys()), **values}
        self._begin(kernel.epoch)
        held = await kernel.held(list(needed))
        mine = {name: value for name, value in needed.items() if name in values or name not in held}
        return await self._sent(mine, [name for name in mine if name in held and not held[name].untouched], kernel)

    def _reached(self, names: Iterable[str]) -> dict[str, Any]:
        """The variables of those names, and of what their functions and classes need, and so on."""
        found: dict[str, Any] = {}
        waiting = sorted(names)
        while waiting and len(found) < _MOST_NAMES:
            name = waiting.pop()
            if name not in found and self._is_shared(name):
                found[name] = value = self._namespace[name]
                with suppress(Exception):  # a class may do anything when it is looked at
                    waiting += sorted(needs(value) - found.keys())
        return found

    @staticmethod
    def is_ours(name: str) -> bool:
        """Whether a name can be a variable of the user's, and not one of IPython's own."""
        return not _SHELL.fullmatch(name)

    def _is_shared(self, name: str) -> bool:
        absent = object()
        value = self._namespace.get(name, absent)
        unhidden = self._hidden.get(name, absent) is not value and not self._is_hidden(name)
        return value is not absent and unhidden and self.is_ours(name)

    def _wanted(
        self, values: Mapping[str, Any], held: Mapping[str, Held], *, afresh: bool
    ) -> tuple[dict[str, Any], Collection[str]]:
        """Which of them are to be sent, and under which names the kernel's own is to be kept."""
        wanted = {name: value for name, value in values.items() if name not in held}
        keep = []
        for name, there in held.items():
            if name not in values:
                continue
            lost = not there.untouched and (afresh or name in self._tried)
            if lost or self._differs(name, there):
                wanted[name] = values[name]
                if not there.untouched and name not in self._tried:
                    keep.append(name)
        # What is one object here under two names is to be one there.
        return (dict(values) if afresh and wanted else wanted), keep

    def _differs(self, name: str, there: Held) -> bool:
        """Whether ours is another one than when it was last the kernel's, or when the kernel's own was first seen."""
        mine = self._digests.get(name, "")
        if there.sha256 and name not in self._own:
            return mine != there.sha256
        return self._own.setdefault(name, mine) != mine

    async def came(self, name: str, epoch: str) -> None:
        """A copy of the kernel's variable was bound here: from now on both can change it."""
        self._begin(epoch)
        self._digests.pop(name, None)
        await self._look_at({name: self._namespace[name]})
        self._own[name] = self._digests.get(name, "")

    def bound(self, name: str) -> None:
        """A value that is none of the kernel's variables was bound here: ours takes the name there, too."""
        self._own[name] = ""

    def _begin(self, epoch: str) -> None:
        if self._epoch != epoch:
            self._epoch, self._own, self._copied, self._tried = epoch, {}, set(), set()

    async def _look_at(self, values: Mapping[str, Any]) -> None:
        new = {name: value for name, value in values.items() if name not in self._digests}
        if new:
            self._digests.update(await apart(lambda stopped: digests(new), self._look_s))

    async def _sent(self, values: Mapping[str, Any], keep: Collection[str], kernel: TakesValues) -> VariablesShared:
        pushed = await kernel.push(values, keep=keep)
        for name, sent in pushed.sent.items():
            self._digests[name] = sent.digest
            self._own.pop(name, None)
            self._copied.add(name)
        self._refused.update(pushed.failed)
        return VariablesShared(
            shared=tuple(
                SharedVariable(
                    name=name,
                    bytes=sent.bytes,
                    sha256=sent.digest,
                    module=isinstance(values[name], ModuleType),
                    before=pushed.kept.get(name, ""),
                )
                for name, sent in sorted(pushed.sent.items())
            ),
            refused=tuple(RefusedVariable(name=name, why=why) for name, why in sorted(pushed.failed.items())),
        )


def _needs(values: Iterable[Any]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for value in values:
        with suppress(Exception):
            found |= needs(value)
    return found
