"""Tests of a mean by betting: how rich a gambler gets who bets against "it is not better".

A pair's difference d lies in [-1, 1]. The null hypothesis H(m) says that its mean is at most m:
m = 0 is "no gain", m = -0.05 is "worse by 0.05 or more". A gambler who starts with 1 and stakes
against H(m) does not get rich when it is true: the chance that the wealth ever reaches 1/a is at
most a. So a wealth of 20 is evidence at level .05, at whatever moment one looks.

Besides this test of the mean there are three fixed-size tests with other nulls or needs: an exact
threshold for signs, a sign-flip test for "the change did nothing", and a t test for Gaussian noise.

Sources: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS-B
2024); Robbins, Statistical methods related to the law of the iterated logarithm (1970), for the
uniform mixture; Ville, Étude critique de la notion de collectif (1939), for the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NODES = 64
"""Bets in the mixture. Every finite mixture is valid; this many agree with the integral to many digits."""
ROUNDING = 1e-9
"""By how much a difference may leave [-1, 1] through rounding."""
EQUAL = 1e-12
"""Numbers closer than this are the same number."""
MERGED = 1e-9
"""Two wealths whose logarithms are closer than this are one value; quadrature and sums err by less."""
ENUMERATED = 13
"""Up to so many pairs every pattern of signs is tried, 8192 in all."""
STEPS = 16
"""Halvings of an interval of length 2: a bound is found to 4e-5, far below the width of any interval."""
CAP = 700.0
"""Logarithm at which a wealth is cut off, short of the largest float."""


@dataclass(frozen=True, slots=True)
class Betting:
    """What a test by betting found.

    Args:
        accepted: Whether the wealth reached 1/level.
        p: The anytime p-value, min(1, 1 / largest wealth).
        stopped: Number of pairs (from 1) after which the wealth first reached 1/level; None when it never did.
    """

    accepted: bool
    p: float
    stopped: int | None


@lru_cache(maxsize=1)
def _mixture() -> tuple[Array, Array]:
    """Bets in (0, 1) and the logarithms of their shares, which sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    bets, logs = (nodes + 1) / 2, np.log(weights / 2)
    bets.flags.writeable = logs.flags.writeable = False
    return bets, logs


def differences(d: npt.ArrayLike) -> Array:
    """`d` as a vector of floats in [-1, 1].

    Raises:
        ValueError: Not a vector, not a number, or outside the range by more than rounding.
    """
    values = np.asarray(d, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"paired differences form one row of numbers, not an array of shape {values.shape}")
    if not np.all(np.abs(values) <= 1 + ROUNDING):  # also catches what is not a number
        raise ValueError("paired differences must lie in [-1, 1]: divide them by the range of the score")
    return np.clip(values, -1.0, 1.0)


def _bar(level: float) -> float:
    """Logarithm of the wealth that a test at `level` asks for."""
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    return -math.log(level)


def _path(d: Array, m: float) -> Array:
    bets, logs = _mixture()
    growth = np.multiply.outer((d - m) / (1 + m), bets)
    growth += 1.0
    np.log(growth, out=growth)
    np.cumsum(growth, axis=0, out=growth)
    growth += logs
    top = growth.max(axis=1)
    growth -= top[:, None]
    np.exp(growth, out=growth)
    total: Array = np.log(growth.sum(axis=1)) + top
    return total


def log_wealth(d: npt.ArrayLike, m: float = 0.0) -> Array:
    """Path of the logarithm of the wealth against H(m): the mean of d is at most m.

    W_t(m) is the mean over bets b, uniform on [0, 1/(1+m)], of the product of 1 + b (d_i - m) over
    i <= t. Each factor is at least 0 and has mean at most 1 under H(m), whatever came before; so
    the wealth is a supermartingale from 1 and reaches 1/a with chance at most a.

    Args:
        d: Differences in order, shape (n,), in [-1, 1], new minus old so that a gain is positive.
        m: Mean that is tested, in (-1, 1].

    Returns:
        log W_1 .. log W_n, shape (n,).

    Raises:
        ValueError: A difference or `m` outside its range.

    Source: Waudby-Smith and Ramdas (2024), section 4, with a uniform mixture instead of a plug-in bet.
    """
    if not -1 < m <= 1:
        raise ValueError(f"the tested mean lies in (-1, 1], not at {m}")
    return _path(differences(d), m)


def judge(path: Array, level: float) -> Betting:
    """What the path of a log wealth says at this level: accepted when it ever reaches 1/level.

    Raises:
        ValueError: The level outside (0, 1).
    """
    hits = np.flatnonzero(path >= _bar(level) - EQUAL)
    stopped = int(hits[0]) + 1 if hits.size else None
    return Betting(stopped is not None, math.exp(-float(path.max(initial=0.0))), stopped)


def test(d: npt.ArrayLike, level: float, m: float = 0.0) -> Betting:
    """Test of H(m) that may look after every pair: accept the gain when the wealth reaches 1/level.

    Args:
        d: Differences in order, shape (n,), in [-1, 1].
        level: Chance of a false acceptance, in (0, 1). For signs, 1 / threshold(n, level) is sharper.
        m: Mean that is tested.

    Raises:
        ValueError: A difference, the level or `m` outside its range.
    """
    return judge(log_wealth(d, m), level)


def _sign_table(n: int) -> Array:
    """log W after u wins (row) and v losses (column) at m = 0; only u + v <= n is filled, the rest is -inf."""
    bets, logs = _mixture()
    up, down = np.log(1 + bets), np.log(1 - bets)
    table = np.full((n + 1, n + 1), -np.inf)
    for wins in range(n + 1):
        losses = np.arange(n + 1 - wins)
        terms = np.multiply.outer(losses, down) + (wins * up + logs)
        top = terms.max(axis=1)
        table[wins, : losses.size] = np.log(np.exp(terms - top[:, None]).sum(axis=1)) + top
    return table


def _crossing(table: Array, n: int, bar: float) -> float:
    """P(log W reaches `bar` within n fair signs), by the chance of each (wins, losses) not yet stopped."""
    alive, hit = np.zeros(n + 2), 0.0
    alive[0] = 1.0
    rows = np.arange(n + 1)
    for total in range(1, n + 1):
        alive[1 : total + 1] = (alive[1 : total + 1] + alive[:total]) / 2
        alive[0] /= 2
        out = table[rows[: total + 1], total - rows[: total + 1]] >= bar
        hit += float(alive[: total + 1][out].sum())
        alive[: total + 1][out] = 0.0
    return hit


def crossing(n: int, bar: float) -> float:
    """P(the wealth against H(0) reaches `bar` within n pairs), when every pair is a fair win or loss.

    This is the worst case of the null for signs. The wealth rises with a win in place of a loss, so
    P(win) = P(loss) is the worst balance; and a tie leaves wins and losses as they were and uses up
    a pair, so without ties the wealth has the most chances to cross.

    Args:
        n: Pairs, at least 0.
        bar: Wealth, above 0.
    """
    return _crossing(_sign_table(n), n, math.log(bar) - EQUAL)


@lru_cache(maxsize=256)
def threshold(n: int, level: float) -> float:
    """The wealth that signs must reach within n pairs; below the 1/level that is safe for every d in [-1, 1].

    It is the smallest c for which `crossing(n, c)` is at most the level, found among the values the
    wealth can take, and placed halfway (in logarithms) to the next lower one so that rounding decides
    nothing. Valid for d in {-1, 0, 1} and m = 0 only. Use it as `test(d, 1 / threshold(n, level))`.

    Args:
        n: Largest number of pairs that is looked at, ties included.
        level: Chance of a false acceptance, in (0, 1).

    Returns:
        The threshold; infinite when not even n wins in a row are enough.
    """
    bar = _bar(level)
    table = _sign_table(n)
    reachable = np.unique(table[(table > 0) & (table < bar)])
    values = np.concatenate([[0.0], reachable, [bar]])
    values = values[np.concatenate([[True], np.diff(values) > MERGED])]
    below, found = 0, len(values) - 1  # Ville's inequality: the last one always holds
    while found - below > 1:
        middle = (below + found) // 2
        if _crossing(table, n, values[middle] - MERGED) <= level:
            found = middle
        else:
            below = middle
    logarithm = float(values[below] + values[found]) / 2
    return math.exp(logarithm) if table.max() >= logarithm else math.inf


def lower_bound(d: npt.ArrayLike, level: float) -> float:
    """The largest mean that is excluded: sup of the m for which the wealth against H(m) reached 1/level.

    The true mean lies below it with chance at most `level`, over all moments at which one could look.
    With b = x / (1+m) a factor of the wealth is 1 - x + x (1+d)/(1+m), which falls in m for every
    share x: so the excluded m form an interval that begins at -1, and halving finds its end.

    Args:
        d: Differences in order, shape (n,), in [-1, 1].
        level: In (0, 1).

    Returns:
        The bound, in [-1, 1); it errs to the low side by at most 4e-5. -1 when nothing is excluded.

    Raises:
        ValueError: A difference or the level outside its range.
    """
    bar, values = _bar(level), differences(d)
    if not values.size:
        return -1.0
    # At a mean above every running mean the gambler has at most 1.
    low, high = -1.0, float((np.cumsum(values) / np.arange(1, values.size + 1)).max())
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle <= -1:
            break
        low, high = (middle, high) if _path(values, middle).max() >= bar else (low, middle)
    return low


def interval(d: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval for the mean of d; it covers at every moment at once with at least `confidence`.

    Two one-sided bounds at half of 1 - confidence each. The pairs must come in an order that has
    nothing to do with their values: sorted pairs can make the two ends cross.

    Raises:
        ValueError: A difference or the confidence outside its range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    values, level = differences(d), (1 - confidence) / 2
    return lower_bound(values, level), -lower_bound(-values, level)


def sign_flip(d: npt.ArrayLike, seed: int, flips: int = 9999) -> float:
    """Sign-flip test of "the change did nothing": then d and -d are equally likely for every pair.

    One-sided for a gain. The studentised statistic and the plain sum order the patterns alike, since
    the sum of squares does not change with signs; so sums are compared. Exact up to 13 pairs that are
    not ties, by random flips beyond, where counting the observed pattern keeps the test valid.

    Its null is not "the mean is at most 0": many small gains and a rare large loss can pass.

    Args:
        d: Differences, shape (n,), in any unit.
        seed: Of the random flips; the same seed gives the same p.
        flips: Number of random flips.

    Returns:
        The p-value; 1 when there is nothing but ties.

    Raises:
        ValueError: A difference that is not a finite number.

    Source: Fisher, The Design of Experiments (1935), section 21; Phipson and Smyth (2010) for 1 + count.
    """
    values = np.asarray(d, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("paired differences form one row of finite numbers")
    values = values[values != 0]
    sizes, n = np.abs(values), values.size
    # A pattern turns some differences negative. It is at least as good as the observed one when
    # what it turns weighs no more than what is negative already.
    lost = float(sizes[values < 0].sum()) + EQUAL * float(sizes.sum())
    if n <= ENUMERATED:
        turned = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(turned @ sizes <= lost))
    # Eight signs make a byte: what each of its 256 patterns turns in each group of eight is summed once.
    groups = np.append(sizes, np.zeros(-n % 8)).reshape(-1, 8)
    patterns = (np.arange(256)[:, None] >> np.arange(8)) & 1
    sums, each = patterns @ groups.T, np.arange(len(groups))
    rng, count = np.random.default_rng(seed), 0
    for start in range(0, flips, 1024):
        drawn = rng.integers(0, 256, (min(1024, flips - start), len(groups)), dtype=np.uint8)
        count += int(np.count_nonzero(sums[drawn, each].sum(axis=1) <= lost))
    p: float = (1 + count) / (1 + flips)
    return p


def t_wealth(x: npt.ArrayLike) -> Array:
    """Scale-free wealth against "the mean is at most 0" for differences with GAUSSIAN noise of unknown size.

    With Q the sum of squares and S the sum of the first t values it is
    E_t = (1+t)^(-1/2) (1 - S^2 / (Q (1+t)))^(-t/2), which is the Bayes factor of a unit-variance
    normal prior on mean / deviation, and is 0 here while S <= 0. It reaches 1/a with chance at most a.

    Gaussian noise must be declared: symmetric noise is not enough. Seven values of +1 in a row give
    E_7 = 8^3 = 512, and with fair signs they have probability 1/128, more than 1/512; skewed noise
    is worse. With a known range use `log_wealth`.

    Args:
        x: Differences in order, shape (n,), in any unit.

    Returns:
        E_1 .. E_n, shape (n,), cut off at e^700.

    Raises:
        ValueError: A difference that is not a finite number.

    Source: Wang and Ramdas, Anytime-valid t-tests and confidence sequences for Gaussian means (2024).
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("paired differences form one row of finite numbers")
    scale = float(np.abs(values).max(initial=0.0)) or 1.0  # squares of tiny or huge units leave the floats
    values = values / scale
    t = np.arange(1, values.size + 1)
    total, squares = np.cumsum(values), np.cumsum(values**2)
    share = np.divide(total**2, squares * (1 + t), out=np.zeros_like(total), where=squares > 0)
    log_e = -np.log1p(t) / 2 - t / 2 * np.log1p(-share)
    wealth: Array = np.where(total > 0, np.exp(np.minimum(log_e, CAP)), 0.0)
    return wealth


def conservative(d: npt.ArrayLike) -> tuple[int, int]:
    """Wins and losses for which the exact sign test is valid for the MEAN, for any d in [-1, 1].

    A win is d = 1; whatever is neither 1 nor 0 is a loss, small gains too. Proof: d is 1 on wins, 0
    on ties and at least -1 on losses, so 0 >= E d >= P(win) - P(loss), which is the sign test's null.

    Args:
        d: Differences, shape (n,), in [-1, 1].

    Returns:
        Numbers of wins and losses; ties are left out.

    Raises:
        ValueError: A difference outside its range.
    """
    values = differences(d)
    wins = int(np.count_nonzero(values >= 1 - EQUAL))
    ties = int(np.count_nonzero(np.abs(values) <= EQUAL))
    return wins, values.size - wins - ties
