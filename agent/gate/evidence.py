"""Paired evidence, and the two things that are computed from it: a test and an interval.

Both are exact for any distribution of the noise, because they use only the signs and the order of
the paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Evidence:
    """Paired differences of a challenger and what it is compared with.

    Args:
        ids: One per pair, in order of measurement.
        gains: How much better the challenger was in each pair, in the objective's unit; negative is worse.
        margins: The gain that each pair needs to count as a win.
    """

    ids: tuple[int, ...]
    gains: tuple[float, ...]
    margins: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.gains)

    @property
    def wins(self) -> int:
        """Pairs that gained more than the margin."""
        return sum(gain > margin for gain, margin in zip(self.gains, self.margins, strict=True))

    @property
    def losses(self) -> int:
        """Pairs that gained less than the margin; a gain equal to it is neither."""
        return sum(gain < margin for gain, margin in zip(self.gains, self.margins, strict=True))

    @property
    def mean(self) -> float:
        """Mean gain; 0 without pairs."""
        return sum(self.gains) / len(self.gains) if self.gains else 0.0


def sign_test(wins: int, losses: int) -> float:
    """One-sided exact sign test: P(at least `wins` of the untied pairs | both sides equally likely).

    Source: Conover, Practical Nonparametric Statistics (3rd ed. 1999), section 3.4.
    """
    n = wins + losses
    favourable = sum(math.comb(n, k) for k in range(wins, n + 1))
    p: float = favourable / 2**n  # of whole numbers, which do not overflow as floats would
    return p


@lru_cache(maxsize=256)
def median_rank(n: int, confidence: float) -> int:
    """The order statistic (from 1) that begins a confidence interval for the median; 0 when n is too small."""
    tail, rank = 0.0, 0
    while rank < n:
        tail += math.comb(n, rank) / 2**n
        if 2 * tail > 1 - confidence:
            break
        rank += 1
    return rank


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones.

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("the median of no values does not exist")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval for the median from order statistics; it covers with at least `confidence`.

    Infinite when there are too few values to reach it (fewer than 6 at 0.95).

    Source: Conover (1999), section 3.2.
    """
    ordered = sorted(values)
    rank = median_rank(len(ordered), confidence)
    if rank == 0:
        return -math.inf, math.inf
    return ordered[rank - 1], ordered[-rank]


def pairs_needed(level: float) -> int:
    """The smallest number of pairs at which winning all of them passes the sign test at `level`."""
    return math.ceil(-math.log2(level))
