"""A list that is copied often and changed a little between copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar, overload

BLOCK = 128
"""Items that are copied together when one of them changes while somebody holds an older copy."""

T = TypeVar("T")


class SharedList(Sequence[T]):
    """A list that is cheap to copy however long it is: copies share the blocks that neither has changed since."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._blocks: list[list[T]] = []
        self._length = 0
        self._own: set[int] = set()
        """Numbers of the blocks that no copy shares."""
        for item in items:
            self.append(item)

    def copy(self) -> SharedList[T]:
        """The same items; what is changed here or there does not show in the other."""
        other: SharedList[T] = SharedList()
        other._blocks, other._length = list(self._blocks), self._length
        self._own.clear()
        return other

    def append(self, item: T) -> None:
        """Add one at the end."""
        if self._length % BLOCK == 0:
            self._own.add(len(self._blocks))
            self._blocks.append([])
        self._block(len(self._blocks) - 1).append(item)
        self._length += 1

    def _block(self, number: int) -> list[T]:
        """A block that may be changed."""
        if number not in self._own:
            self._blocks[number] = list(self._blocks[number])
            self._own.add(number)
        return self._blocks[number]

    def __setitem__(self, place: int, item: T) -> None:
        self._block(place // BLOCK)[place % BLOCK] = item

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return list(self)[place]
        if place < 0:
            place += self._length
        if not 0 <= place < self._length:
            raise IndexError(place)
        return self._blocks[place // BLOCK][place % BLOCK]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._blocks)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return repr(list(self))
