"""Guards: evidence that something did not get worse, beside the proof that something got better.

A guard is one of four kinds, from strong to weak:

- anchors: items that must not break; compared exactly.
- limit: proof that a mean (a rate of violations, a cost) keeps a bound.
- noninferior: proof that a score fell by less than a margin.
- alarm: no evidence of harm so far. It is cheap, and it proves nothing.

All but the first bet on pairs (see `agent.gate.wealth`), so they may look after every pair. When
several guards and a gain must ALL hold, each is tested at the same level and no correction is due:
a false acceptance needs the one test to fail whose null is true (Berger, Technometrics 1982).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from agent.errors import ConfigError
from agent.gate import wealth

Item = TypeVar("Item", bound=Hashable)
ALARM = 0.2
"""Chance at which an alarm may block a candidate that is as good as the old one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard found.

    Args:
        name: What it guards, such as the metric's name.
        kind: Which guard it was.
        passed: Whether the candidate may go on.
        p: Anytime p-value of what the guard tests. Small is good for a proof and bad for an alarm.
        log_e: Logarithm of the wealth after the last pair: an e-value, which `joint` and `pareto` combine.
        level: Error level of the test.
        sentence: All of this for people.
    """

    name: str
    kind: Literal["noninferior", "alarm", "limit"]
    passed: bool
    p: float
    log_e: float
    level: float
    sentence: str


def _tested(d: npt.ArrayLike, level: float, m: float) -> tuple[wealth.Betting, float, int]:
    path = wealth.log_wealth(d, m)
    return wealth.judge(path, level), float(path[-1]) if path.size else 0.0, path.size


def _mean(values: npt.ArrayLike) -> str:
    array = np.asarray(values, dtype=np.float64)
    return f"{float(array.mean()):+.4g} on average" if array.size else "nothing measured"


def _count(n: int, unit: str) -> str:
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


def noninferior(d: npt.ArrayLike, margin: float, level: float, name: str = "score") -> Finding:
    """Proof that a score did not fall by `margin` or more: the test of "the mean of d is at most -margin".

    It is expensive: with a fifth of the pairs untied and a margin of 0.05, two equal candidates
    pass in about a fifth of cases with 200 pairs.

    Args:
        d: Differences in order, new minus old with higher better, shape (n,), in [-1, 1].
        margin: Fall that is too much, as a share of the score's range, in [0, 1).
        level: Chance to pass when the score fell by the margin or more, in (0, 1).
        name: What the sentence calls the score.

    Raises:
        ValueError: A difference, the margin or the level outside its range.
    """
    if not 0 <= margin < 1:
        raise ValueError(f"a margin lies in [0, 1), not at {margin}")
    betting, log_e, n = _tested(d, level, -margin)
    word = "shown" if betting.accepted else "not shown"
    sentence = (
        f"{name}: {word} to be less than {margin:g} worse, at level {level:g}"
        f" ({_mean(d)} over {_count(n, 'pair')}, p = {betting.p:.2g})"
    )
    return Finding(name, "noninferior", betting.accepted, betting.p, log_e, level, sentence)


def alarm(d: npt.ArrayLike, level: float = ALARM, name: str = "score") -> Finding:
    """Alarm for harm: blocks when the bet that the new one is worse reaches 1/level. It never proves safety.

    Args:
        d: Differences in order, new minus old with higher better, shape (n,), in [-1, 1].
        level: Chance to block a candidate that is not worse, in (0, 1).
        name: What the sentence calls the score.

    Raises:
        ValueError: A difference or the level outside its range.
    """
    betting, log_e, n = _tested(-wealth.differences(d), level, 0.0)
    over = f"({_mean(d)} over {_count(n, 'pair')}, p = {betting.p:.2g})"
    if betting.accepted:
        sentence = f"{name}: blocked, it got worse, at level {level:g} {over}"
    else:
        sentence = f"{name}: no evidence of harm at level {level:g}, but harm is not excluded {over}"
    return Finding(name, "alarm", not betting.accepted, betting.p, log_e, level, sentence)


def limit(
    values: npt.ArrayLike,
    bound: float,
    low: float,
    high: float,
    level: float,
    at_most: bool = True,
    name: str = "mean",
) -> Finding:
    """Proof that the mean of a quantity is at most (or at least) a bound.

    A rate of 0/1 violations without a single one needs at least about ln(1/level)/bound examples
    in any valid test, and half as many again here, since the bets are not tuned to that case.

    Args:
        values: One per example in order, shape (n,), in the quantity's own unit.
        bound: The limit, in the same unit. low <= bound < high, or low < bound <= high for "at least".
            No sample can prove a mean to be at the very end of the range.
        low: Smallest value that is possible.
        high: Largest value that is possible.
        level: Chance to pass when the mean is beyond the bound, in (0, 1).
        at_most: Whether the bound is an upper one.
        name: What the sentence calls the quantity.

    Raises:
        ConfigError: A bound that is not inside the range, or values outside it.
        ValueError: The level outside its range.
    """
    inside = low <= bound < high if at_most else low < bound <= high
    if not (math.isfinite(low) and math.isfinite(high) and inside):
        raise ConfigError(
            f"{name}: a limit of {bound:g} cannot be tested in a range from {low:g} to {high:g}",
            hint="declare the smallest and largest possible value, with the limit between them",
        )
    array = np.asarray(values, dtype=np.float64)
    side, span = (-1 if at_most else 1), high - low
    scaled = side * (2 * (array - low) / span - 1)
    if not np.all(np.abs(scaled) <= 1 + wealth.ROUNDING):
        raise ConfigError(
            f"{name}: a value lies outside its declared range from {low:g} to {high:g}",
            hint="declare the smallest and largest value that can occur; a limit cannot be proven without them",
        )
    betting, log_e, n = _tested(scaled, level, side * (2 * (bound - low) / span - 1))
    word, relation = "shown" if betting.accepted else "not shown", "at most" if at_most else "at least"
    sentence = (
        f"{name}: {word} to be {relation} {bound:g}, at level {level:g}"
        f" ({_mean(array)} over {_count(n, 'example')}, p = {betting.p:.2g})"
    )
    return Finding(name, "limit", betting.accepted, betting.p, log_e, level, sentence)


def anchors(new: Mapping[Item, float], old: Mapping[Item, float], sign: int = 1) -> list[Item]:
    """Items that must not break and did: any fall counts, and so does a value that is missing or not a number.

    Args:
        new: Values of the new candidate by item.
        old: Values of the old one; its items are the anchors. One without a number cannot break.
        sign: 1 when higher is better, -1 when lower is.

    Returns:
        Broken items, in the order of `old`.

    Raises:
        ValueError: Another sign.
    """
    if sign not in (1, -1):
        raise ValueError(f"the sign is 1 or -1, not {sign}")
    return [
        item
        for item, before in old.items()
        if not math.isnan(before) and not sign * new.get(item, math.nan) >= sign * before
    ]


def joint(log_e: Sequence[float]) -> float:
    """Evidence that several things ALL hold: the smallest of their e-values, in logarithms.

    It is an e-value for "at least one does not hold" (intersection-union), whatever their dependence.

    Args:
        log_e: Logarithms of e-values, one for each thing.

    Raises:
        ValueError: None given.
    """
    if not log_e:
        raise ValueError("there is no joint evidence of nothing")
    return min(log_e)


def pareto(gains: Sequence[float], noninferiorities: Sequence[float]) -> float:
    """Evidence for a Pareto improvement: some metric improved, and none fell by its margin or more.

    It is min(mean of the gains' e-values, smallest e-value of non-inferiority), in logarithms. The
    mean is an e-value for "no metric improved". Give wealths after the same last pair
    (`Finding.log_e`): the mean of largest wealths is not an e-value.

    Args:
        gains: Logarithms of e-values against "this metric did not improve".
        noninferiorities: Logarithms of e-values against "this metric fell by its margin or more".

    Raises:
        ValueError: One of the two is empty.
    """
    if not gains or not noninferiorities:
        raise ValueError("a Pareto improvement needs evidence of a gain and of non-inferiority")
    mean = float(np.logaddexp.reduce(np.asarray(gains, dtype=np.float64))) - math.log(len(gains))
    return joint([mean, *noninferiorities])
