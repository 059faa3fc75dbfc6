"""What grows without being copied: the sequence that machine, Progress and checkpoints share, and text that streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar, overload

__all__ = ["AppendOnly", "GrowingText"]

T = TypeVar("T")


class AppendOnly(Sequence[T], Generic[T]):
    """An immutable view of the first `n` entries of a shared, append-only list.

    `appended` gives a longer view; views share one list, so taking one is O(1) and keeping an old one costs nothing. A
    view that is no longer the longest copies its entries when it is appended to (a branch).
    """

    __slots__ = ("_entries", "_length")

    def __init__(self, entries: Iterable[T] = ()) -> None:
        self._entries: list[T] = list(entries)
        self._length = len(self._entries)

    def appended(self, entries: Iterable[T]) -> AppendOnly[T]:
        """This view and then `entries`."""
        grown: AppendOnly[T] = AppendOnly.__new__(AppendOnly)
        # An empty view may be a shared default: it never lends its list.
        longest = 0 < self._length == len(self._entries)
        shared = self._entries if longest else self._entries[: self._length]
        shared.extend(entries)
        grown._entries, grown._length = shared, len(shared)
        return grown

    def first(self, count: int) -> AppendOnly[T]:
        """A view of the first `count` entries of the same list: O(1)."""
        view: AppendOnly[T] = AppendOnly.__new__(AppendOnly)
        view._entries, view._length = self._entries, min(count, self._length)
        return view

    def shared_with(self, other: AppendOnly[T]) -> int:
        """How many first entries the two views take from one list: known without looking at them, so O(1).

        0 for views of different lists, also where their entries are equal. One view goes on where `other` ended when
        the answer is `len(other)`.
        """
        return min(self._length, other._length) if self._entries is other._entries else 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            if step > 0:
                return tuple(self._entries[start:stop:step])
            return tuple(self._entries[i] for i in range(start, stop, step))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._entries[index if index >= 0 else self._length + index]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        # A later `appended` of a longer view may make the list grow meanwhile; this view's part of it never changes.
        return islice(self._entries, self._length)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (AppendOnly, tuple, list)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"AppendOnly({self._entries[: self._length]!r})"


@dataclass(frozen=True, slots=True, eq=False)
class GrowingText:
    """An immutable text that is cheap to append to; equal to another of the same characters.

    Each piece is at least twice as long as the next, so there are few, and a character is copied O(log n) times.
    """

    pieces: tuple[str, ...] = ()

    def appended(self, text: str) -> GrowingText:
        """This text and then `text`."""
        if not text:
            return self
        pieces = list(self.pieces)
        while pieces and len(pieces[-1]) < 2 * len(text):
            text = pieces.pop() + text
        return GrowingText((*pieces, text))

    def __str__(self) -> str:
        return "".join(self.pieces)

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, GrowingText) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))
