"""Exact tests by drawing anew: tonight against earlier nights, and new rows against those that were there.

Where nothing changed, tonight is a night like the others: in each row, every value that was measured there
is as likely as another to be tonight's. Drawing tonight's values anew from each row's own values gives the
exact distribution of any statistic, whatever the noise is like, however much rows differ, and in any unit.
Two are taken: the mean, and the mean rank of tonight in its rows, which rare extreme values do not blind. The
smaller of their p-values is compared with the smaller of the two in every draw, so taking two costs little.
The tests in `agent.gate` do not fit here: a sign test, or a sign flip, against the mean of several nights
is wrong for skewed noise (a score that is 1 nine times in ten loses to its own mean one time in ten and
never wins), and the tests by betting need a known range.

Sources: Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.6, for the smaller of two; Fisher,
    The Design of Experiments (1935), section 21; Pesarin and Salmaso, Permutation Tests for
    Complex Data (2010), chapter 1, for draws within strata; Phipson and Smyth, Permutation p-values should
    never be zero (2010), for 1 + count.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.gate.levels import z

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

LEVEL = 0.001
"""Chance of a false alarm of one problem in one night: one in three years of nights, one in a hundred nights for
ten problems. A smaller one costs power: at 0.0001 a drift must be a fifth larger to be seen as often."""
CONFIDENCE, POWER = 0.95, 0.8
DRAWS = 9999
CHUNK = 2_000_000
"""Drawn values in memory at once."""
ROUNDING = 1e-12
"""Sums this close, relative to their largest term, are the same sum."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Tonight against the earlier nights, on the rows that both have.

    Args:
        rows: How many there are.
        effect: Mean over rows of tonight's score less the row's mean before, in the score's unit.
        interval: Of the effect, about 95 %.
        p: Two-sided; at most a with chance at most a, when tonight is a night like the others.
        above: Rows whose score is above the middle of what was measured there.
        below: Rows whose score is below it.
        by_rank: Whether the ranks say more than the mean.
        smallest: The smallest shift of all rows that would be shown with 80 %, about; None when none could be.
    """

    rows: int
    effect: float = 0.0
    interval: tuple[float, float] = (0.0, 0.0)
    p: float = 1.0
    above: int = 0
    below: int = 0
    by_rank: bool = False
    smallest: float | None = None


def compare(
    tonight: Sequence[float], earlier: Sequence[Sequence[float]], *, level: float = LEVEL, seed: int = 0
) -> Compared:
    """Are tonight's scores like those of the earlier nights?

    Args:
        tonight: A score for each row, shape (n,), in any unit.
        earlier: The same rows' scores of earlier nights, at least one each; rows may have different numbers.
        level: Of the test that `smallest` is about, in (0, 1).
        seed: Of the draws; the same seed gives the same p.

    Raises:
        ValueError: Different numbers of rows, a row without an earlier score, or a score that is not finite.
    """
    import numpy as np

    n = len(tonight)
    if n != len(earlier) or not all(earlier):
        raise ValueError("each of tonight's rows needs an earlier score, and the other way round")
    if n == 0:
        return Compared(0)
    sizes = np.array([len(row) + 1 for row in earlier])
    table = np.zeros((n, int(sizes.max())))
    table[:, 0] = tonight
    for place, row in enumerate(earlier):
        table[place, 1 : len(row) + 1] = row
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite numbers")
    # What tonight has above the mean of the others is this share of what it has above the mean of all.
    shares = sizes / (sizes - 1) / n
    means = table.sum(axis=1) / sizes
    each = np.arange(table.shape[1]) < sizes[:, None]
    gaps = np.where(each, (table - means[:, None]) * shares[:, None], 0.0)
    ranks = np.zeros_like(table)
    for place, size in enumerate(sizes):
        ordered = np.sort(table[place, :size])
        sides = (np.searchsorted(ordered, table[place, :size], side) for side in ("left", "right"))
        ranks[place, :size] = (sum(sides) / size - 1) * shares[place]  # from -1 to 1, 0 in the middle
    effect = float(gaps[:, 0].sum())
    rounding = ROUNDING * float(np.abs(table).max()) * math.sqrt(n)

    drawn, ranked, tonights = _draws(gaps, ranks, sizes, shares, seed)
    by_mean = _p_values(np.abs(np.append(effect, drawn)), rounding)
    by_rank = _p_values(np.abs(np.append(ranks[:, 0].sum(), ranked)), ROUNDING)
    smaller = np.minimum(by_mean, by_rank)
    noise = drawn - effect * tonights  # what is drawn when the effect is taken off tonight's scores
    low, high = np.quantile(noise, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Compared(
        rows=n,
        effect=effect,
        interval=(effect - float(high), effect - float(low)),
        p=float(np.mean(smaller <= smaller[0])),
        above=int(np.count_nonzero(ranks[:, 0] > ROUNDING)),
        below=int(np.count_nonzero(ranks[:, 0] < -ROUNDING)),
        by_rank=bool(by_rank[0] < by_mean[0]),
        smallest=_smallest(np.abs(noise), rounding, level, float(np.log(sizes).sum())),
    )


def _p_values(statistic: Array, rounding: float) -> Array:
    """The share of all, itself included, that is as large as each."""
    import numpy as np

    found: Array = 1 - np.searchsorted(np.sort(statistic), statistic - rounding) / len(statistic)
    return found


def _draws(gaps: Array, ranks: Array, sizes: Any, shares: Array, seed: int) -> tuple[Array, Array, Array]:
    """Means and mean ranks of nights drawn anew, and how much of each is tonight's, beyond what is expected."""
    import numpy as np

    rng, n = np.random.default_rng(seed), len(sizes)
    drawn, ranked, tonights = (np.empty(DRAWS) for _ in range(3))
    step = max(1, CHUNK // n)
    for start in range(0, DRAWS, step):
        part = slice(start, min(start + step, DRAWS))
        picks = rng.integers(0, sizes, size=(part.stop - start, n))
        drawn[part] = gaps[np.arange(n), picks].sum(axis=1)
        ranked[part] = ranks[np.arange(n), picks].sum(axis=1)
        tonights[part] = (picks == 0) @ shares - (shares / sizes).sum()
    return drawn, ranked, tonights


def _smallest(noise: Array, rounding: float, level: float, patterns: float) -> float | None:
    """The bar that the noise alone passes with `level`, and what a drift needs above it to pass it mostly."""
    import numpy as np

    if float(noise.max()) <= rounding:  # measuring again has always given the same
        return 0.0 if patterns >= math.log(2 / level) else None
    ordered = np.sort(noise)[::-1]
    allowed = math.floor(level * (1 + DRAWS) + 1e-9) - 1
    bars = [float(bar) for bar in ordered[: max(0, allowed)] if np.count_nonzero(noise >= bar - rounding) <= allowed]
    return bars[-1] + z(POWER) * float(np.sqrt(np.mean(noise**2))) if bars else None


def moved(before: Sequence[Hashable], new: Sequence[Hashable], seed: int = 0) -> float:
    """P-value of "both were drawn from one distribution", for categories, by the chi-squared statistic.

    Args:
        before: Category of each row that was there.
        new: The same of those that came, or of those that went.
        seed: Of the draws.

    Returns:
        1 where one of them is empty.
    """
    import numpy as np

    if not before or not new:
        return 1.0
    names = {name: place for place, name in enumerate(dict.fromkeys([*before, *new]))}
    pool = np.array([names[name] for name in (*before, *new)])
    totals = np.bincount(pool)
    expected = totals * len(new) / len(pool)

    rng = np.random.default_rng(seed)
    # Of fixed totals the statistic of both groups rises with that of one.
    drawn = rng.multivariate_hypergeometric(totals, len(new), size=DRAWS, method="marginals")
    statistic = ((drawn - expected) ** 2 / expected).sum(axis=1)
    found = float(((np.bincount(pool[len(before) :], minlength=len(totals)) - expected) ** 2 / expected).sum())
    return (1 + int(np.count_nonzero(statistic >= found * (1 - ROUNDING)))) / (1 + DRAWS)
