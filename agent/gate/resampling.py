"""Exams on a number that belongs to a whole set of rows: the F1 of all outputs, a corpus error rate, a distribution.

Such a number has no value on one row, so there are no paired differences. Clusters are drawn with
replacement, the same ones for both candidates, and the number is computed on each draw. That is an
approximation which gets good with many clusters; a verdict that rests on it says so.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), sections 13.3 and 15.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
FEWEST = 20
"""Clusters below which the approximation is not used: nothing is shown then."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """What resampling found about two candidates.

    Args:
        new: The number of the one on all rows.
        old: The same of the other.
        gain: new - old.
        interval: Percentile interval of the gain.
        p: Share of draws without a gain; at least 1 / (draws + 1).
        clusters: How many there were.
    """

    new: float
    old: float
    gain: float
    interval: tuple[float, float]
    p: float
    clusters: int


def paired(
    metric: Callable[[Sequence[Any]], float],
    new: Sequence[Any],
    old: Sequence[Any],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    margin: float = 0.0,
    resamples: int = RESAMPLES,
) -> Resampled:
    """Compare two candidates by a number of the whole set.

    Args:
        metric: From what a candidate gave on some rows (rows may repeat) to a number; larger is better.
        new: What the one gave, by row.
        old: What the other gave on the same rows.
        clusters: What each row belongs to.
        seed: Of the draws.
        confidence: Of the interval.
        margin: Gain that is too small to count.
        resamples: Number of draws.

    Raises:
        ValueError: No rows, or lists of different lengths.
    """
    if not new or not len(new) == len(old) == len(clusters):
        raise ValueError("as many new outputs, old outputs and clusters are needed, and at least one")
    groups: dict[str, list[int]] = {}
    for place, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(place)
    members = list(groups.values())
    rng = np.random.default_rng(seed)
    gains = np.empty(resamples)
    for draw in range(resamples):
        places = [place for group in rng.integers(len(members), size=len(members)) for place in members[group]]
        gains[draw] = metric([new[i] for i in places]) - metric([old[i] for i in places])
    tail = (1 - confidence) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    after, before = float(metric(new)), float(metric(old))
    p = (1 + int(np.count_nonzero(gains <= margin))) / (resamples + 1)
    if len(members) < FEWEST:
        p = 1.0
    return Resampled(after, before, after - before, (float(low), float(high)), p, len(members))


def ratio(numerator: dict[str, float], denominator: dict[str, float]) -> Callable[[Sequence[Any]], float]:
    """A metric that is a quotient of two weighted sums over the rows' values; 0 where the lower sum is 0.

    F1 of the whole set is ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1}).
    """

    def metric(rows: Sequence[Any]) -> float:
        above = below = 0.0
        for values in rows:
            if values is not None:
                above += sum(weight * values[name] for name, weight in numerator.items())
                below += sum(weight * values[name] for name, weight in denominator.items())
        return above / below if below else 0.0

    return metric
