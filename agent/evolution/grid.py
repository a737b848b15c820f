"""Behaviour space cut into cells: axes with edges that never move under what is already filed.

Source: Mouret and Clune 2015, "Illuminating search spaces by mapping elites" (arXiv 1504.04909), section 3.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = tuple[int, ...]
"""A bin for each axis."""

SAMPLE = 64
"""Values after which the edges of an axis without a range are set, once and for good, at their quantiles."""


@dataclass(slots=True)
class Axis:
    """One descriptor and its bins.

    With edges, bins are fixed from the beginning: bin i holds the values from edge i - 1 up to below edge i, and the
    outer bins are open. Without edges all values are in bin 0 until `SAMPLE` of them were seen; then the edges are set
    at their quantiles and stay. `Grid.see` says when that happens, so that what was filed before is filed anew.

    Args:
        name: Of the descriptor.
        bins: How many, at least 1.
        edges: bins - 1 of them, ascending; None for quantiles.
    """

    name: str
    bins: int
    edges: tuple[float, ...] | None = None
    _seen: list[float] = field(default_factory=list)

    @classmethod
    def even(cls, name: str, low: float, high: float, bins: int) -> Axis:
        """Bins of equal width over [low, high]; what is beyond is in the outer ones."""
        return cls(name, bins, tuple(low + (high - low) * i / bins for i in range(1, bins)))

    def bin(self, value: float) -> int:
        """Where a value is, from 0."""
        return bisect.bisect_right(self.edges, value) if self.edges is not None else 0

    def see(self, value: float) -> bool:
        """Take note of a value, and say whether that set the edges."""
        if self.edges is not None:
            return False
        self._seen.append(value)
        if len(self._seen) < SAMPLE:
            return False
        ordered = sorted(self._seen)
        self.edges = tuple(ordered[len(ordered) * i // self.bins] for i in range(1, self.bins))
        self._seen = []
        return True


class Grid:
    """Axes together. A grid belongs to one fold; see `agent.evolution.population`.

    Args:
        axes: One for each descriptor, at least one.
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        if not axes:
            raise ValueError("a grid needs an axis")
        self.axes = tuple(axes)

    @property
    def cells(self) -> int:
        """How many there are."""
        return math.prod(axis.bins for axis in self.axes)

    @property
    def settled(self) -> bool:
        """Whether all edges are set."""
        return all(axis.edges is not None for axis in self.axes)

    def cell(self, descriptor: Mapping[str, float]) -> Cell:
        """Where a descriptor is filed now. A missing or non-finite value counts as the lowest bin."""
        return tuple(axis.bin(_finite(descriptor.get(axis.name))) for axis in self.axes)

    def see(self, descriptor: Mapping[str, float]) -> bool:
        """Take note of a descriptor; True when edges were set by it, so that all must be filed anew."""
        set_now = [axis.see(_finite(descriptor.get(axis.name))) for axis in self.axes]  # each of them is to see it
        return any(set_now)


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else -math.inf
