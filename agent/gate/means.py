"""An interval for a mean in the standard library alone, for what is shown without loading numpy."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def mean_interval(mean: float, n: int, bounds: tuple[float, float] | None) -> list[float] | None:
    """Confidence interval of a mean of n independent numbers within known bounds; None without bounds.

    Valid for any distribution, and close to the exact interval for scores of 0 and 1.

    Args:
        mean: Observed, within the bounds.
        n: At least 1.
        bounds: The smallest and the largest possible number.

    Source: Hoeffding, Probability inequalities for sums of bounded random variables (JASA 58, 1963), equation 2.1:
        P(mean - E >= t) <= exp(-n KL(E + t, E)), inverted by bisection.
    """
    if bounds is None or n < 1:
        return None
    low, high = bounds
    share = min(1.0, max(0.0, (mean - low) / (high - low)))
    bar = math.log(2 / (1 - CONFIDENCE)) / n
    ends = []
    for end in (0.0, 1.0):
        inside, outside = share, end
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if _divergence(share, middle) <= bar else (inside, middle)
        ends.append(low + (high - low) * outside)
    return ends


def _divergence(p: float, q: float) -> float:
    """Kullback–Leibler divergence of two coins."""
    out = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            if b <= 0:
                return math.inf
            out += a * math.log(a / b)
    return out
