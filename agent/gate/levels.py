"""Error levels over all exams on one gate set, and what exams of a given size can show.

Each exam on a gate set lets one bit out: accepted or not. What is proposed next may depend on all
bits so far, so there is one possible exam for each history of bits. The levels of all these exams
sum to at most alpha, which bounds the chance of any false claim (a union bound, see docs/gate.md).

A level is the product of three shares:

- `kt`, of the history of bits among all histories of that length;
- `weight`, of the run among all runs that ever use the set;
- `interim` or `final`, of the exam among those of its run.

Sources: Krichevsky and Trofimov (1981) for the code over bits; Blum and Hardt, The Ladder (2015), and
Dwork et al. (2015) for the argument by description length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any

FIRST_RUN = 0.75
"""Share of the first run; the others have the rest, which lasts for ever."""
EXTRA = 3
"""Pairs added to the normal approximation of an exam's size."""
DISCORDANCE = 0.2
"""Share of untied pairs that is assumed when it is not known; see `assumed_discordance`."""
PER_GAIN = 1.2
GRID = 0.005
"""Gains are scanned in steps of this size before the smallest one that can be shown is bisected."""
HALVINGS = 12


def kt(accepts: int, tests: int) -> float:
    """Probability that the Krichevsky-Trofimov code gives to one order of `accepts` ones among `tests` bits.

    Over all bit histories of one length it sums to 1.

    Raises:
        ValueError: Unless 0 <= accepts <= tests.
    """
    if not 0 <= accepts <= tests:
        raise ValueError(f"there cannot be {accepts} accepts in {tests} tests")
    logarithm = math.lgamma(accepts + 0.5) + math.lgamma(tests - accepts + 0.5) - math.lgamma(tests + 1)
    return math.exp(logarithm) / math.pi


def weight(number: int) -> float:
    """Share of the run with this number (from 1) among the runs that examine on one gate set; all sum to 1.

    Raises:
        ValueError: The number is below 1.
    """
    if number < 1:
        raise ValueError(f"runs are numbered from 1, not {number}")
    return FIRST_RUN if number == 1 else (1 - FIRST_RUN) * 6 / (math.pi * (number - 1)) ** 2


def interim(j: int) -> float:
    """Share of a run's interim exam number `j` (from 1): 1/4, 1/8, 1/16 and so on.

    Raises:
        ValueError: The number is below 1.
    """
    if j < 1:
        raise ValueError(f"interim exams are numbered from 1, not {j}")
    return float(2.0 ** -(j + 1))


def final(taken: int) -> float:
    """Share of a run's final exam after `taken` interim ones: all that they left.

    Raises:
        ValueError: The number is below 0.
    """
    if taken < 0:
        raise ValueError(f"a run cannot have taken {taken} exams")
    return float(0.5 + 2.0 ** -(taken + 1))


def level(alpha: float, *, accepts: int, tests: int, run: int, taken: int, last: bool, pending: int = 0) -> float:
    """Error level of the next exam on a gate set.

    Args:
        alpha: Error level of everything that is ever claimed with this set, in (0, 1).
        accepts: Exams that are known to be accepted, over all runs.
        tests: Exams started so far over all runs, those that are still pending included.
        run: Number of this run (from 1) among those that examine. A run that goes on after its
            final exam takes a new number.
        taken: Interim exams started so far in this run.
        last: Whether this is the run's final exam.
        pending: Exams started whose bit is not known yet. The level is the smallest over what they
            may turn out to be, so it is right for the history that comes true.

    Raises:
        ValueError: Numbers that contradict each other.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
    if pending < 0 or accepts + pending > tests or not 0 <= taken <= tests:
        raise ValueError(f"{accepts} accepts, {pending} pending and {taken} interim exams do not fit {tests} exams")
    history = min(kt(accepts + more, tests) for more in range(pending + 1))
    return alpha * history * weight(run) * (final(taken) if last else interim(taken + 1))


def alone(alpha: float, account: Mapping[str, Any]) -> float:
    """Error level of a run's last exam, where no other exam comes before it.

    Args:
        alpha: As for `level`.
        account: What the account of the rows says: accepts, tests and run; empty where no run has used them.
    """
    accepts, tests = account.get("accepts", 0), account.get("tests", 0)
    return level(alpha, accepts=accepts, tests=tests, run=account.get("run", 1), taken=0, last=True)


def z(p: float) -> float:
    """Quantile of the standard normal distribution, p in (0, 1)."""
    return NormalDist().inv_cdf(p)


def assumed_discordance(gain: float) -> float:
    """Share of untied pairs to plan with when it is not known: 0.2, or 1.2 times a large gain, at most 1."""
    return min(1.0, max(DISCORDANCE, PER_GAIN * gain))


def _check_effect(gain: float, discordance: float) -> None:
    if not 0 < discordance <= 1 or not abs(gain) <= discordance:
        raise ValueError(f"a gain of {gain} needs a discordance between it and 1, not {discordance}")


def exam_size(gain: float, discordance: float, level: float, power: float = 0.8) -> int:
    """Pairs that a fixed-size exam needs to show a gain, by the normal approximation of McNemar's test.

    Args:
        gain: Mean difference to be shown, as a share of the score's range, in (0, discordance].
        discordance: Share of pairs that are not ties (for graded scores: mean squared difference).
        level: Error level of the exam, in (0, 1).
        power: Chance to show the gain when it is there, in (0, 1).

    Raises:
        ValueError: A gain that is not above 0 or larger than the discordance.

    Source: Miettinen, The matched pairs design in the case of all-or-none responses (Biometrics 1968).
    """
    _check_effect(gain, discordance)
    if gain <= 0:
        raise ValueError(f"only a gain above 0 can be shown, not {gain}")
    spread = z(1 - level) * math.sqrt(discordance) + z(power) * math.sqrt(discordance - gain**2)
    fewest = math.log(1 / level) / (discordance * math.log(2))  # that many wins without a loss pass the sign test
    return max(math.ceil((spread / gain) ** 2) + EXTRA, math.ceil(fewest))


@lru_cache(maxsize=64)
def critical_wins(n: int, level: float) -> tuple[int, ...]:
    """Wins that the exact sign test asks for among k untied pairs, for k = 0 .. n; k + 1 when none are enough."""
    found, wins, favourable = [1], 1, 0  # no pair, and one win of it, which cannot be
    for k in range(1, n + 1):
        favourable = 2 * favourable + math.comb(k - 1, wins - 1)  # patterns of k signs with that many wins or more
        if favourable / 2**k > level:
            favourable -= math.comb(k, wins)
            wins += 1
        found.append(wins)
    return tuple(found)


def _pmf(n: int, k: int, p: float) -> float:
    """P(k of n), in logarithms so that neither factor leaves the floats."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def _accepting(n: int, gain: float, discordance: float, level: float) -> float:
    win = min(1.0, max(0.0, (1 + gain / discordance) / 2))
    asked = critical_wins(n, level)
    total = enough = 0.0  # enough: the chance of as many wins as are asked for among k untied pairs
    for k in range(1, n + 1):
        enough += win * _pmf(k - 1, asked[k - 1] - 1, win)
        if asked[k] > asked[k - 1]:
            enough -= _pmf(k, asked[k - 1], win)
        total += _pmf(n, k, discordance) * enough
    return min(1.0, max(0.0, total))


def power(n: int, gain: float, discordance: float, level: float) -> float:
    """Exact chance that a one-sided sign test on n pairs accepts.

    Args:
        n: Pairs, ties included.
        gain: P(win) - P(loss), in [-discordance, discordance].
        discordance: P(win) + P(loss), in (0, 1].
        level: Error level of the test, in (0, 1).

    Raises:
        ValueError: A gain that does not fit the discordance.
    """
    _check_effect(gain, discordance)
    return _accepting(n, gain, discordance, level)


def detectable(n: int, level: float, discordance: float | None = None, power: float = 0.8) -> float:
    """The smallest gain that an exact sign test on n pairs shows with this power.

    Args:
        n: Pairs.
        level: Error level of the test, in (0, 1).
        discordance: Share of untied pairs; None plans with `assumed_discordance` of each gain.
        power: Chance to show the gain.

    Returns:
        The gain as a share of the score's range, in (0, 1]; infinite when n pairs cannot show any.

    Raises:
        ValueError: A discordance outside (0, 1].
    """
    most = 1.0 if discordance is None else discordance
    _check_effect(most, most)

    def shown(gain: float) -> bool:
        found = assumed_discordance(gain) if discordance is None else discordance
        return _accepting(n, gain, found, level) >= power

    # The power of a discrete test may dip where the assumed discordance grows: so the first gain is looked for.
    steps = math.ceil(most / GRID)
    first = next((step for step in range(1, steps + 1) if shown(min(most, step * GRID))), None)
    if first is None:
        return math.inf
    low, high = (first - 1) * GRID, min(most, first * GRID)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high
