"""Finds where a function over the unit cube, such as an acquisition function, is largest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.parameters import Categorical, Numeric
from agent.space import Space
from agent.surrogates.blas import one_thread
from agent.surrogates.points import Array

WIDE, NARROW = 384, 48
"""Places that are tried all over the box, and around the best one in each later round."""
ROUNDS = 12
SHRINK = 0.6


class Grid:
    """The places that a space's values have in the unit cube.

    Args:
        space: Its numbers and choices are the d coordinates.
    """

    def __init__(self, space: Space) -> None:
        items = [space[name] for name in space.numeric]
        levels = [item.levels if isinstance(item, Numeric) else None for item in items]
        self.size = len(items)
        self.levels = np.array([count or 0 for count in levels])
        """(d,) how many values a coordinate has; 0 for a continuum."""
        self.choices = np.array([isinstance(item, Categorical) for item in items], dtype=bool)
        """(d,) whether a coordinate is a category, whose values have no order."""

    def snap(self, x: Array) -> Array:
        """(m, d) places moved into the cube and to the nearest values there are."""
        x = np.clip(x, 0.0, 1.0)
        for place in np.flatnonzero(self.levels):
            count = self.levels[place]
            x[:, place] = (np.minimum(np.floor(x[:, place] * count), count - 1) + 0.5) / count
        return x

    def uniform(self, count: int, rng: np.random.Generator) -> Array:
        """(count, d) random places."""
        return self.snap(rng.random((count, self.size)))

    def around(self, centre: Array, width: Array, count: int, rng: np.random.Generator) -> Array:
        """(count, d) places around a centre; each changes some of the coordinates, about five at most.

        Args:
            centre: (d,) place.
            width: (d,) standard deviations. Whole numbers move by at least one step; categories are drawn anew.
            count: How many.
            rng: Randomness.
        """
        chance = max(min(1.0, 5.0 / self.size), 1.0 / self.size)
        moved = rng.random((count, self.size)) < chance
        moved[np.arange(count), rng.integers(0, self.size, count)] = True
        step = rng.normal(size=(count, self.size)) * width
        least = np.where(self.levels > 0, 1.0 / np.maximum(self.levels, 1), 0.0)
        step = np.where((least > 0) & (np.abs(step) < least), np.sign(step) * least, step)
        x = np.where(moved, centre + step, centre)
        fresh = rng.random((count, self.size))
        return self.snap(np.where(moved & self.choices, fresh, x))


def maximise(
    score: Callable[[Array], Array],
    grid: Grid,
    rng: np.random.Generator,
    *,
    low: Array | None = None,
    high: Array | None = None,
    centres: Array | None = None,
    width: Array | None = None,
) -> tuple[Array, float]:
    """The best place that a random search over the box and a shrinking local search around its best finds.

    Args:
        score: From (m, d) places to (m,) numbers; larger is better.
        grid: The places there are.
        rng: Randomness.
        low: (d,) lower corner of the box; the cube's by default.
        high: (d,) upper corner.
        centres: (k, d) places whose surroundings are tried as well, such as the best points so far.
        width: (d,) standard deviations of the surroundings' first draws, 0.2 of the box by default.

    Returns:
        The place and its score.
    """
    with one_thread():
        return _maximise(score, grid, rng, low, high, centres, width)


def _maximise(
    score: Callable[[Array], Array],
    grid: Grid,
    rng: np.random.Generator,
    low: Array | None,
    high: Array | None,
    centres: Array | None,
    width: Array | None,
) -> tuple[Array, float]:
    low = np.zeros(grid.size) if low is None else low
    high = np.ones(grid.size) if high is None else high
    width = 0.2 * (high - low) if width is None else width
    tried = [grid.snap(low + rng.random((WIDE, grid.size)) * (high - low))]
    for centre in centres if centres is not None else ():
        tried += [grid.around(centre, width * scale, NARROW // 2, rng) for scale in (1.0, 0.2)]
    x = np.vstack(tried)
    inside = np.where(grid.levels > 0, x, np.clip(x, low, high))
    values = score(inside)
    best = int(np.argmax(values))
    place, value = inside[best], float(values[best])
    scale = 0.5
    for _ in range(ROUNDS):
        x = grid.around(place, width * scale, NARROW, rng)
        x = np.where(grid.levels > 0, x, np.clip(x, low, high))
        values = score(x)
        best = int(np.argmax(values))
        if values[best] > value:
            place, value = x[best], float(values[best])
        else:
            scale *= SHRINK
    return place, value
