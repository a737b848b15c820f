"""The exact exam of a quotient of two sums over rows, such as F1 of the whole set: no approximation, any size.

Let F = E[n] / E[d] for either candidate, where n and d are weighted sums of a row's parts (tp, fp, fn). When the new
one is no better, some c has F_new <= c <= F_old. For this c the differences n_new - c d_new and c d_old - n_old have
means of at most 0. They lie in a known range as soon as it is known how much the parts of one row can add up to, so
that betting on them, or on their sum, is a test for this c (see `agent.gate.wealth`). A gain is shown when the test
of every c rejects: whatever the true c is, its own test errs at most at its level (intersection-union; Berger 1982,
Technometrics 24). The range of c is cut into cells, and each difference is taken at the end of its cell that is worse
for the gambler, so that no c is left out.

Without a largest sum no test can hold its level: one row in a thousand, which the sample lacks, can turn the quotient
round (Bahadur and Savage 1956, Annals of Mathematical Statistics 27).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.goals import Objective

Array = npt.NDArray[np.float64]
Parts = Mapping[str, float]

CELLS = 100
NODES = 24
"""Bets in the mixture; every finite mixture is valid."""
SHARES = (0.05, 0.05, 0.9)
"""Of the stake: on the new candidate's differences, on the old one's, and on the sums of both."""
STEPS = 10
"""Halvings for an end of the interval, which stays on the safe side of it."""
LONGEST = 4096
"""Rows up to which `fewest` looks."""
ROUNDING = 1e-9
TINY = 1e-3
"""Smallest scale, as a share of the largest sum: where no loss is possible, a bet must still be finite."""


@dataclass(frozen=True, slots=True)
class Quotient:
    """What is compared: the weights, and the largest sum of the parts of one row.

    Args:
        above: Weights of the parts in the numerator, at least 0.
        below: In the denominator, at least 0.
        most: Largest sum of a row's parts, above 0; no part is below 0.
        sign: +1 when larger is better.
    """

    above: Parts
    below: Parts
    most: float
    sign: int

    @classmethod
    def of(cls, goal: Objective) -> Quotient | None:
        """The objective's; None where it is no quotient or has no largest sum."""
        if goal.numerator is None or goal.denominator is None or goal.most is None:
            return None
        return cls(goal.numerator, goal.denominator, goal.most, goal.sign)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts."""
        return tuple(dict.fromkeys([*self.above, *self.below]))

    def within(self, values: Parts) -> bool:
        """Whether a row's parts are what was declared."""
        parts = [values[name] for name in self.names]
        return min(parts) >= 0 and math.fsum(parts) <= self.most * (1 + ROUNDING)

    def value(self, rows: Sequence[Parts]) -> float:
        """The quotient; 0 where nothing is below the line."""
        above, below = (float(side.sum()) for side in self._sums(rows))
        return above / below if below else 0.0

    def p(self, new: Sequence[Parts], old: Sequence[Parts], margin: float = 0.0, times: int = 1) -> float:
        """p-value of "better by no more than the margin".

        Args:
            new: Parts of the one candidate, by independent unit; each `within`.
            old: Of the other, on the same units.
            margin: In the quotient's unit; a negative one asks whether it is worse by no less.
            times: How often each unit is there.
        """
        if not new:
            return 1.0
        better, worse = (new, old) if self.sign > 0 else (old, new)
        # Equal units are worked out once: with counts as parts there are few different ones.
        kinds, counts = np.unique([*self._sums(better), *self._sums(worse)], axis=1, return_counts=True)
        (n1, d1, n0, d0), counts = kinds, counts * times
        low, high = self._cells
        bounded = np.isfinite(high)[:, None]  # beyond the last cell nothing can be said of the better side
        high = np.where(np.isfinite(high), high, 0.0)[:, None]
        low = (low - margin)[:, None]
        ahead, risk = np.where(bounded, n1 - high * d1, 0.0), np.where(bounded, self._risk(high, 1), 0.0)
        behind, loss = low * d0 - n0, self._risk(low, -1)
        sides = (ahead / np.maximum(risk, TINY * self.most), behind / loss, (ahead + behind) / (risk + loss))
        logs = [
            math.log(share) + _log_wealth(np.maximum(x, -1.0), counts) for share, x in zip(SHARES, sides, strict=True)
        ]
        wealth = np.logaddexp.reduce(logs, axis=0)
        return min(1.0, math.exp(-max(0.0, float(wealth.min()))))

    def interval(self, new: Sequence[Parts], old: Sequence[Parts], confidence: float) -> tuple[float, float] | None:
        """Of the gain, from the same test in both directions; None where the quotient has no upper end."""
        top = self._top
        if top is None or not new:
            return None
        level = (1 - confidence) / 2
        gain = self.sign * (self.value(new) - self.value(old))
        return self._bound(new, old, gain, top, level), -self._bound(old, new, -gain, top, level)

    def fewest(self, level: float) -> int | None:
        """Units below which not even a perfect candidate against a useless one is shown; None beyond `LONGEST`."""
        corners = [{name: self.most * (name == full) for name in self.names} for full in (*self.names, "")]
        pairs = [([one], [two]) for one, two in itertools.product(corners, repeat=2)]
        low, high = 0, LONGEST
        if min(self.p(*pair, times=high) for pair in pairs) > level:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = min(self.p(*pair, times=middle) for pair in pairs) <= level
            low, high = (low, middle) if enough else (middle, high)
        return high

    def _bound(self, new: Sequence[Parts], old: Sequence[Parts], gain: float, top: float, level: float) -> float:
        low, high = -top, gain
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p(new, old, middle) <= level else (low, middle)
        return low

    def _sums(self, rows: Sequence[Parts]) -> tuple[Array, Array]:
        above, below = (
            np.array([math.fsum(weight * row[name] for name, weight in part.items()) for row in rows], dtype=np.float64)
            for part in (self.above, self.below)
        )
        return above, below

    @property
    def _top(self) -> float | None:
        """The largest value; None where a part counts above the line and not below."""
        used = {name: weight for name, weight in self.above.items() if weight > 0}
        if not used or any(not self.below.get(name) for name in used):
            return None
        return max(weight / self.below[name] for name, weight in used.items())

    @property
    def _cells(self) -> tuple[Array, Array]:
        """Lower and upper ends; the last upper end is infinite where the quotient has no largest value."""
        shares = np.linspace(0.0, 1.0, CELLS + 1)
        if self._top is not None:
            edges = self._top * shares
        else:
            unit = max(self.above.values(), default=1.0) / (max(self.below.values(), default=1.0) or 1.0)
            edges = unit * np.append(shares[:-1] / (1 - shares[:-1]), np.inf)
        return edges[:-1], edges[1:]

    def _risk(self, c: Array, sign: int) -> Array:
        """How far below 0 sign * (n - c d) of one row can be."""
        worst = [sign * (c * self.below.get(name, 0.0) - self.above.get(name, 0.0)) for name in self.names]
        risk: Array = np.maximum(self.most * np.maximum.reduce(worst), TINY * self.most)
        return risk


def _log_wealth(x: Array, counts: npt.NDArray[np.int64]) -> Array:
    """Logarithm of the wealth at the end, by row of `x`: shape (cells, kinds of units), at least -1."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    each = zip((nodes + 1) / 2, weights / 2, strict=True)
    logs = [math.log(weight) + np.log1p(bet * x) @ counts for bet, weight in each]
    total: Array = np.logaddexp.reduce(logs, axis=0)
    return total
