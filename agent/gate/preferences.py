"""Preferences as evidence: pairs judged by comparison, and human audits of a judge.

A comparison says which of two outputs is better, without a score. Judged in both orders it gives a
paired difference in [-1, 1], which the gate reads like any other. A human who looks at some of the
pairs makes the evidence valid for the human's opinion, whatever the judge's bias is.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from agent.errors import ConfigError, EvaluatorError

Array = npt.NDArray[np.float64]
Compare = Callable[[Any, Any, Any], Any]
"""`compare(example, a, b)`: the preference for a over b in [0, 1], where a is shown first; sync or async."""

# ---------------------------------------------------------------- pairs


def both_orders(first: float, second: float) -> float:
    """The difference of one pair that was judged in both orders; what flips with the order is a tie.

    An additive bias for the first or the second place cancels.

    Args:
        first: Preference for the new one where it was shown first: 1 it wins, 0.5 a tie, 0 it loses.
        second: Preference for the new one (not for the first place) where it was shown second.

    Returns:
        first + second - 1, in [-1, 1]; positive when the new one is better.

    Raises:
        ValueError: A preference is not a number in [0, 1].
    """
    return _preference(first) + _preference(second) - 1.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two outputs for one example.

    Args:
        id: Of the example, or of the cluster that it belongs to.
        example: What the comparison may read besides the outputs.
        new: The challenger's output.
        old: The output of what it is compared with.
    """

    id: str
    example: Any
    new: Any
    old: Any


@dataclass(slots=True)
class Comparisons:
    """Judged pairs by id. Several judgements of one id are averaged, for they are one unit of evidence."""

    judged: dict[str, list[float]] = field(default_factory=dict)
    """By id: the differences in [-1, 1]."""
    failed: dict[str, str] = field(default_factory=dict)
    """By id: why it could not be judged."""
    twice: int = 0
    """Pairs that were judged in both orders."""
    flips: int = 0
    """Those of them in which each order preferred another one."""

    def add(self, id: str, first: float, second: float | None = None) -> None:
        """Take the judgement of a pair.

        Args:
            id: Of the pair.
            first: Preference for the new one in [0, 1], in one order.
            second: The same in the other order; None when it was judged in one order only.

        Raises:
            ValueError: A preference is not a number in [0, 1].
        """
        if second is None:
            difference = 2 * _preference(first) - 1
        else:
            difference = both_orders(first, second)
            self.twice += 1
            self.flips += (first - 0.5) * (second - 0.5) < 0
        self.judged.setdefault(id, []).append(difference)

    def fail(self, id: str, reason: str) -> None:
        """Take note that a pair could not be judged."""
        self.failed.setdefault(id, reason)

    @property
    def flip_rate(self) -> float | None:
        """Share of the pairs judged in both orders whose verdict follows the order; None without any."""
        return self.flips / self.twice if self.twice else None

    def differences(self, unjudged: float = -1.0) -> tuple[tuple[str, ...], Array]:
        """The evidence, in the order in which the ids came.

        Args:
            unjudged: What a pair without any judgement counts as. It is never left out, for a
                candidate must not gain by what cannot be judged.

        Returns:
            Ids, and the mean difference of each in [-1, 1], shape (ids,); positive when the new one is better.
        """
        means = {id: math.fsum(values) / len(values) for id, values in self.judged.items()}
        every = means | {id: unjudged for id in self.failed if id not in means}
        return tuple(every), np.array(list(every.values()), dtype=float)


async def judge_pairs(
    compare: Compare,
    items: Iterable[Pair],
    order: Literal["both", "random"] = "both",
    seed: int = 0,
    at_once: int = 8,
) -> Comparisons:
    """Have pairs judged.

    Source: the position bias of judges, and why a fixed order is no option, in Zheng et al., Judging
    LLM-as-a-Judge (2023), section 3.3.

    Args:
        compare: Gets the example and two outputs, and gives the preference for the first of them in
            [0, 1]. An async function is called for up to `at_once` pairs at a time, a sync one for one
            pair at a time, in a thread.
        items: The pairs.
        order: "both" asks twice per pair; "random" once, in an order that is drawn from seed and id.
        seed: Of the random orders.
        at_once: How many pairs are judged at a time, at least 1.

    Raises:
        ConfigError: An unknown order, or `at_once` below 1.
        EvaluatorError: No pair at all could be judged; a single one that cannot is noted in `failed`.
    """
    if order not in ("both", "random"):
        raise ConfigError(f"order: found {order!r}, allowed is both or random", hint="leave it out to ask in both")
    if at_once < 1:
        raise ConfigError(f"at_once: found {at_once}, allowed is at least 1")
    pairs = list(items)
    waits = inspect.iscoroutinefunction(compare) or inspect.iscoroutinefunction(
        getattr(type(compare), "__call__", None)  # noqa: B004
    )
    slots = asyncio.Semaphore(at_once if waits else 1)

    async def asked(pair: Pair, new_first: bool) -> float:
        """The preference for the new one, when it is shown in this place."""
        shown = (pair.new, pair.old) if new_first else (pair.old, pair.new)
        result = compare(pair.example, *shown) if waits else await asyncio.to_thread(compare, pair.example, *shown)
        value = _preference(await result if isinstance(result, Awaitable) else result)
        return value if new_first else 1.0 - value

    async def judged(pair: Pair) -> tuple[float, float | None] | Exception:
        async with slots:
            try:
                if order == "random":
                    return await asked(pair, random.Random(f"{seed}:{pair.id}").random() < 0.5), None
                return await asked(pair, True), await asked(pair, False)
            except Exception as error:  # whatever the user's comparison raises
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(judged(pair)) for pair in pairs]
    found = Comparisons()
    for pair, task in zip(pairs, tasks, strict=True):
        result = task.result()
        if isinstance(result, Exception):
            found.fail(pair.id, f"{type(result).__name__}: {result}")
        else:
            found.add(pair.id, *result)
    if found.failed and not found.judged:
        reason = next(iter(found.failed.values()))
        raise EvaluatorError(f"no pair could be judged: {reason}", hint="correct the comparison function")
    return found


def _preference(value: Any) -> float:
    number = float(value) if isinstance(value, (bool, int, float, np.number)) else math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"a preference must be a number from 0 (the second is better) to 1, not {value!r}")
    return number


# ---------------------------------------------------------------- human audits of a judge


def audit_probability(predicted_gain: npt.ArrayLike, budget: float, minimum: float = 0.1) -> Array:
    """With which probability a human looks at each pair, most where a human label is worth most.

    Args:
        predicted_gain: Shape (n,): predicted worth of a human label, such as how far the human is
            expected to be from the judge; only the proportions count, and what is negative counts as 0.
        budget: Expected number of labels.
        minimum: The smallest probability, in (0, 1]; every pair must have a chance, or the judge's
            bias there could not be corrected.

    Returns:
        Shape (n,): probabilities from `minimum` to 1 that sum to `budget`, as far as 1 each allows.

    Raises:
        ValueError: `minimum` is out of range, a gain is not finite, or the budget does not pay for the minimum.
    """
    gains = np.array(predicted_gain, dtype=float)
    if not 0 < minimum <= 1:
        raise ValueError(f"minimum: found {minimum!r}, allowed is above 0 and at most 1")
    if gains.ndim != 1 or not np.isfinite(gains).all():
        raise ValueError("predicted_gain must be a list of finite numbers")
    if budget < minimum * len(gains):
        raise ValueError(
            f"{budget:g} labels cannot give each of {len(gains)} pairs a chance of {minimum:g};"
            f" allow at least {math.ceil(minimum * len(gains))}, or lower the minimum"
        )
    gains = np.maximum(gains, 0.0)
    if not gains.any():
        gains = np.ones(len(gains))
    gains = np.maximum(gains / gains.max(initial=1e-12), 1e-12)  # who predicts nothing comes last, not never
    low, high = 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        enough = np.clip(middle * gains, minimum, 1).sum() >= budget
        low, high = (low, middle) if enough else (middle, high)
    probability: Array = np.clip(high * gains, minimum, 1)
    return probability


def choose_audits(probability: npt.ArrayLike, ids: Sequence[str], seed: int) -> npt.NDArray[np.bool_]:
    """Draw the pairs that a human looks at, shape (n,); each draw follows from seed and id alone."""
    chances = np.array(probability, dtype=float)
    draws = [random.Random(f"{seed}:audit:{id}").random() < p for id, p in zip(ids, chances, strict=True)]
    return np.array(draws, dtype=bool)


def audited(
    judge: npt.ArrayLike,
    human: npt.ArrayLike,
    probability: npt.ArrayLike,
    chosen: npt.ArrayLike,
    minimum: float | None = None,
) -> tuple[Array, float]:
    """Differences with the judge's cost and the human's mean, whatever the judge's bias is.

    x_i = d_J + (ξ_i / π_i)(d_H - d_J), where ξ_i says whether a human looked. As ξ_i / π_i has mean 1,
    so has x_i the mean of d_H. It lies within ±(2/π_min - 1), by which it is divided.

    Source: the augmented inverse-probability estimator of Robins, Rotnitzky and Zhao (1994); with
    predictions as the judge, Angelopoulos et al., Prediction-powered inference (2023).

    Args:
        judge: Shape (n,): differences by the judge, in [-1, 1].
        human: Shape (n,): differences by the human where `chosen`; elsewhere they are not read.
        probability: Shape (n,): π, fixed before any label was seen; above 0.
        chosen: Shape (n,): whether a human looked, drawn with that probability.
        minimum: π_min, when it was declared for more pairs than these; the smallest of these when None.

    Returns:
        Differences in [-1, 1], shape (n,), and the factor by which they were made smaller: their mean
        over this factor estimates the human's mean difference.

    Raises:
        ValueError: A probability is 0, or below `minimum`, a chosen label is missing, or a value is out of range.
    """
    d_judge, d_human, pi = (np.array(item, dtype=float) for item in (judge, human, probability))
    looked = np.array(chosen, dtype=bool)
    if not d_judge.shape == d_human.shape == pi.shape == looked.shape or d_judge.ndim != 1:
        raise ValueError("judge, human, probability and chosen must be lists of one length")
    if not ((pi > 0) & (pi <= 1)).all():
        raise ValueError(
            "every probability of an audit must be above 0 and at most 1: where no human can ever look, the"
            " judge's bias stays; audit_probability gives valid ones"
        )
    smallest = float(pi.min(initial=1.0)) if minimum is None else minimum
    if not 0 < smallest <= pi.min(initial=1.0):
        raise ValueError(f"minimum: found {smallest:g}, but a probability is {pi.min(initial=1.0):g}")
    if not (np.abs(d_judge) <= 1).all():
        raise ValueError("the judge's differences must lie in [-1, 1]")
    if not (np.abs(d_human[looked]) <= 1).all():
        raise ValueError("a pair that was chosen has no human difference in [-1, 1]; label it, never leave it out")
    factor = 1 / (2 / smallest - 1)
    x = d_judge + np.where(looked, (np.where(looked, d_human, 0.0) - d_judge) / pi, 0.0)
    return np.clip(x * factor, -1.0, 1.0), factor  # the clip removes rounding alone
