"""How near a proposal may come to what is known: a repeat teaches nothing and is paid for all the same.

Distance is the maximum norm in the unit cube of `Space.encode`. It counts only between points that agree in every
choice and text, since another category is another point. The whole numbers of a short range have to agree as well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.history import History, Warm
from agent.parameters import Categorical, Int
from agent.space import Candidate, Space, canonical

FEW = 16
"""New points that are put into the sorted columns one by one; more are sorted with the rest."""
ROUNDING = 1e-9
"""Points of a grid whose step is the radius are not near to each other, however their places are rounded."""


class _Group:
    """Points that agree in all choices and texts: their places, and each coordinate's order."""

    def __init__(self, size: int) -> None:
        self.numbers: list[int] = []
        self.rows: list[list[float]] = []
        self.columns: list[list[float]] = [[] for _ in range(size)]
        self.orders: list[list[int]] = [[] for _ in range(size)]

    def add(self, points: Sequence[tuple[int, list[float]]]) -> None:
        first = len(self.rows)
        for number, row in points:
            self.numbers.append(number)
            self.rows.append(row)
        for j, (column, order) in enumerate(zip(self.columns, self.orders, strict=True)):
            column.extend(row[j] for _, row in points)
            if len(points) <= FEW:
                for place in range(first, len(column)):
                    insort(order, place, key=column.__getitem__)
            else:
                order.extend(range(first, len(column)))
                order.sort(key=column.__getitem__)

    def nearest(self, unit: Sequence[float], allowed: Sequence[float]) -> int | None:
        """The number of the nearest point no further away than `allowed` in any coordinate; the first of several."""
        places: Sequence[int] = range(len(self.rows))
        for at, off, column, order in zip(unit, allowed, self.columns, self.orders, strict=True):
            low = bisect_left(order, at - off, key=column.__getitem__)
            high = bisect_right(order, at + off, lo=low, key=column.__getitem__)
            if high - low < len(places):
                places = order[low:high]
        found: tuple[float, int] | None = None
        ends = [(at - off, at + off) for at, off in zip(unit, allowed, strict=True)]
        for place in places:
            row = self.rows[place]
            for at, (low_end, high_end) in zip(row, ends, strict=False):
                if not low_end <= at <= high_end:
                    break
            else:
                hit = max((abs(a - b) for a, b in zip(row, unit, strict=True)), default=0.0), self.numbers[place]
                found = hit if found is None else min(found, hit)
        return None if found is None else found[1]


class Nearness:
    """Points of a space, each encoded once, and which of them is near to another one.

    A question looks only at the points that are near in the coordinate where fewest are.

    Args:
        space: Of the points.
    """

    def __init__(self, space: Space) -> None:
        self._numbers = [name for name in space.numeric if not isinstance(space[name], Categorical)]
        self._rest = [name for name in space if name not in self._numbers]
        self._space = space
        self._groups: dict[str, _Group] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, points: Iterable[Mapping[str, Any]]) -> None:
        """More points; they are numbered from 0 in the order in which they come."""
        new: dict[str, list[tuple[int, list[float]]]] = {}
        for point in points:
            new.setdefault(self._key(point), []).append((self._count, self._encode(point)))
            self._count += 1
        for key, items in new.items():
            self._groups.setdefault(key, _Group(len(self._numbers))).add(items)

    def nearest(self, point: Mapping[str, Any], radius: float) -> int | None:
        """The number of the nearest point within `radius` (of the unit cube's sides); None when all are further."""
        group = self._groups.get(self._key(point))
        if group is None:
            return None
        return group.nearest(self._encode(point), [self._allowed(name, radius) for name in self._numbers])

    def _key(self, point: Mapping[str, Any]) -> str:
        return canonical([point[name] for name in self._rest])

    def _encode(self, point: Mapping[str, Any]) -> list[float]:
        return [self._space[name].encode(point[name]) for name in self._numbers]  # type: ignore[attr-defined]

    def _allowed(self, name: str, radius: float) -> float:
        item = self._space[name]
        few = isinstance(item, Int) and (item.high - item.low + 1) * 2 * radius < 1
        return 0.0 if few else max(0.0, radius - ROUNDING)


class Known:
    """What a proposal may not come near to: the candidates of a run, and points that failed in an earlier one.

    It holds nothing that the history does not say; candidates are encoded when the first question after them comes.

    Args:
        space: Of the run.
        warm: What the run knows from before.
    """

    def __init__(self, space: Space, warm: Iterable[Warm] = ()) -> None:
        self._near = Nearness(space)
        self._failed = Nearness(space)
        self._sources: list[str] = []
        for point in warm:
            if point.failed and _fits(space, point.values):  # of a later epoch's space it may say nothing
                self._failed.add([point.values])
                self._sources.append(point.source)

    def refusal(self, candidate: Candidate, radius: Any, history: History, noisy: bool) -> str:
        """Why a candidate is too near to what is known, or "".

        Args:
            candidate: Checked, and not in the history.
            radius: Share of the unit cube's sides, from 0 (nothing but the same candidate is too near) to 1.
            history: Of the run that this belongs to.
            noisy: Whether measuring twice gives two numbers.
        """
        if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not 0 <= radius <= 1:
            return f"not allowed: radius: found {radius!r}, allowed is a number from 0 to 1"
        if not radius:
            return ""
        if len(self._near) < len(history):
            self._near.add([history.trials[number].candidate for number in range(len(self._near), len(history))])
        within = f"within {100 * radius:.3g} % of"
        number = self._near.nearest(candidate, radius)
        if number is not None:
            again = "; a repeat is measured by the race alone, as a new replicate" if noisy else ""
            return f"{within} candidate {number} ({history.trials[number].state}){again}"
        number = self._failed.nearest(candidate, radius)
        if number is not None:
            return f"{within} a point that failed in {self._sources[number].removeprefix('warm:')}"
        return ""


def _fits(space: Space, values: Mapping[str, Any]) -> bool:
    try:
        space.candidate(values)
    except ValueError:
        return False
    return True
