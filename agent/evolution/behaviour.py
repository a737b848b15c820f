"""A behaviour space that is learned: numbers about what programs do, projected onto a few axes.

What a program does is told by the numbers that its evaluator reports beside the goals, and by its results on the rows;
where there are neither, by its trace, and without one by what it looks like. Random projection keeps distances (Johnson
and Lindenstrauss 1984), PCA the directions in which programs differ most. As in STAX (Paolo et al. 2021, "Discovering
and exploiting sparse rewards in a learned behavior space", arXiv 2111.01919) the space is learned from what the search
itself has met, and anew from time to time, since early programs do not show what later ones do; other than there, it is
linear.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.evolution.grid import Axis, Grid
from agent.history import Trial
from agent.problem import Problem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from agent.tracing.spans import Trace, Value

    Array = npt.NDArray[np.float64]

Projection = Literal["pca", "random"]
PROJECTIONS: tuple[Projection, ...] = ("pca", "random")
OPS = 64
"""Ops of a trace that count, those that were called most."""
FEWEST = 8
"""Programs with a result from which the space is learned for the first time; then whenever there are twice as many."""


def numbers(
    problem: Problem, trial: Trial, rows: Mapping[str, float], looks: Callable[[Trial], Mapping[str, float]]
) -> dict[str, float]:
    """What a candidate does, in numbers by name.

    Args:
        problem: Its objectives and constraints are no part of it: they say how good a program is.
        trial: With values.
        rows: Its results by row.
        looks: What a candidate's programs look like, for where nothing else is known.
    """
    goals = set(problem.reported)
    out = {name: value for name, value in (trial.values or {}).items() if name not in goals}
    out.update({f"row {row}": score for row, score in rows.items()})
    return out or dict(looks(trial))


def traced(trace: Trace) -> dict[str, float]:
    """What a program does, by its trace: how often each op was called, and what it gave on average, if that is a
    number, else how large that was.

    Args:
        trace: Of one measurement; values in it are previews.
    """
    calls: Counter[str] = Counter(span.name for span in trace.spans)
    given: dict[str, list[float]] = {}
    for span in trace.spans:
        value = trace.values.get(span.output)
        if value is not None:
            given.setdefault(span.name, []).append(_number(value))
    kept = [name for name, _ in calls.most_common(OPS)]
    out = {f"calls {name}": float(calls[name]) for name in kept}
    means = {f"gave {name}": math.fsum(given[name]) / len(given[name]) for name in kept if name in given}
    return out | {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _number(value: Value) -> float:
    try:
        return float(value.text) if value.type in ("int", "float") else float(value.size)
    except ValueError:  # a preview that was cut
        return float(value.size)


@dataclass(frozen=True)
class Behaviour:
    """A linear map from what programs do onto a few axes.

    Args:
        names: The numbers that count, in the order of the columns.
        centre: (d,) their means,
        scale: (d,) and deviations; what does not differ has 1.
        axes: (d, k) the map.
        edges: For each axis, where its bins end: quantiles of what it was learned from.
    """

    names: tuple[str, ...]
    centre: Array
    scale: Array
    axes: Array
    edges: tuple[tuple[float, ...], ...]

    @classmethod
    def learned(
        cls, known: Sequence[Mapping[str, float]], axes: int, bins: int, projection: Projection, seed: str
    ) -> Behaviour:
        """The map for some programs, in the order in which they came.

        It is learned from the first 8, 16, 32 … of them, as many as there are, so that it stays while the search goes
        on and is a function of the history alone.

        Args:
            known: What each of them does; a number that one of them lacks counts as the mean.
            axes: k, at least 1.
            bins: For each axis.
            projection: "pca" or "random".
            seed: Of the random projection.

        Raises:
            ValueError: There are none.
        """
        import numpy as np

        count = FEWEST
        while 2 * count <= len(known):
            count *= 2
        sample = known[:count]
        if not sample:
            raise ValueError("there is nothing to learn a behaviour space from")
        names = tuple(sorted({name for one in sample for name in one}))
        rows = np.array([[one.get(name, np.nan) for name in names] for one in sample], dtype=float)
        centre = np.nanmean(rows, axis=0)
        scale = np.nanstd(rows, axis=0)
        scale[scale == 0] = 1.0
        x = np.where(np.isnan(rows), 0.0, (rows - centre) / scale)
        made = _pca(x, axes) if projection == "pca" else _random(len(names), axes, seed)
        placed = x @ made
        shares = [number / bins for number in range(1, bins)]
        edges = tuple(tuple(float(edge) for edge in np.quantile(column, shares)) for column in placed.T)
        return cls(names, centre, scale, made, edges)

    def grid(self) -> Grid:
        """The cells of the space."""
        return Grid([Axis(f"axis {k}", len(edges) + 1, edges) for k, edges in enumerate(self.edges)])

    def descriptor(self, given: Mapping[str, float]) -> dict[str, float]:
        """Where a program is, by axis."""
        import numpy as np

        row = np.array([given.get(name, np.nan) for name in self.names], dtype=float)
        placed = np.where(np.isnan(row), 0.0, (row - self.centre) / self.scale) @ self.axes
        return {f"axis {k}": float(value) for k, value in enumerate(placed)}


def _pca(x: Array, axes: int) -> Array:
    """(d, k) the directions of the largest variance; zeros beyond the rank."""
    import numpy as np

    _, singular, directions = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    out = np.zeros((x.shape[1], axes))
    kept = int((singular > 1e-9 * max(1.0, float(singular.max(initial=0.0)))).sum())
    for k in range(min(axes, kept)):
        direction = directions[k]
        # The sign is arbitrary; without a rule it would depend on the library.
        out[:, k] = direction * np.sign(direction[np.argmax(np.abs(direction))])
    return out


def _random(size: int, axes: int, seed: str) -> Array:
    """(d, k) normal numbers."""
    import numpy as np

    rng = random.Random(f"behaviour {seed}")
    drawn = [[rng.gauss(0.0, axes**-0.5) for _ in range(axes)] for _ in range(size)]
    return np.array(drawn, dtype=float)
