"""How far a judge agrees with people: agreement, Cohen's kappa and position bias, each with an interval.

Sources: Cohen, A coefficient of agreement for nominal scales (1960), and his weighted kappa (1968); Wilson, Probable
inference (1927), for shares; percentile bootstrap over items for kappa (Efron and Tibshirani, 1993, section 13.3).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from agent.errors import ConfigError
from agent.together import together

if TYPE_CHECKING:
    from agent.evaluators.judge import Compared, Judge, PairJudge
    from agent.metrics.base import Ask, Row

T = TypeVar("T")
RESAMPLES = 2000
FEWEST = 20
"""Labelled pairs below which intervals are not believed: resampling too few items makes them too short."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; all None where there is nothing to estimate it from."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"unknown (n = {self.n})"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, n = {self.n})"


def share(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's score interval."""
    if not n:
        return Estimate(None, None, None, 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, spread = hits / n, z * z / n
    centre = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def kappa(
    judged: Sequence[Hashable], labels: Sequence[Hashable], weights: Literal["quadratic"] | None = None
) -> float | None:
    """Cohen's kappa: agreement beyond chance, 1 at best, 0 for chance.

    Args:
        judged: The judge's verdicts.
        labels: The people's, in the same order.
        weights: "quadratic" for numbers on a scale, where a near miss counts less than a far one.

    Returns:
        Kappa; None where chance alone explains everything (one verdict, and the same label everywhere) or
        there are no items.

    Raises:
        ValueError: Lists of different lengths.
    """
    if len(judged) != len(labels):
        raise ValueError("as many verdicts as labels are needed")
    n = len(judged)

    def cost(a: Any, b: Any) -> float:
        return float((a - b) ** 2) if weights == "quadratic" else float(a != b)

    observed = sum(cost(a, b) for a, b in zip(judged, labels, strict=True))
    ours, theirs = Counter(judged), Counter(labels)
    chance = sum(k * m * cost(a, b) for a, k in ours.items() for b, m in theirs.items())
    return 1 - n * observed / chance if chance else None


def resampled(
    items: Sequence[Any], statistic: Callable[[list[Any]], float | None], confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """A statistic of items with its percentile bootstrap interval; draws on which it is undefined are left out."""
    value = statistic(list(items)) if items else None
    if value is None:
        return Estimate(None, None, None, len(items))
    rng = random.Random(seed)
    draws = (statistic(rng.choices(items, k=len(items))) for _ in range(RESAMPLES))
    found = sorted(draw for draw in draws if draw is not None)
    tail = (1 - confidence) / 2
    low, high = found[int(tail * (len(found) - 1))], found[math.ceil((1 - tail) * (len(found) - 1))]
    return Estimate(value, low, high, len(items))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a judge of pairs is worth against labels. Intervals are of 95 %.

    Args:
        items: Pairs that were judged, each in both orders.
        unreadable: Votes without a verdict, of 2 x items.
        agreement: Share of readable votes that name the labelled output; a tie is no agreement.
        strict: Share of all pairs on which both orders name it; a vote that cannot be read is a miss. Coin flips get
            0.25.
        kappa: Cohen's, over pairs whose two votes can be read; a pair on which the orders differ is a tie.
        first: Share of the votes for one output that go to the one shown first; 0.5 without position bias.
        flips: Share of the pairs with two readable votes whose verdict follows the order.
    """

    items: int
    unreadable: int
    agreement: Estimate
    strict: Estimate
    kappa: Estimate
    first: Estimate
    flips: Estimate

    @property
    def sentence(self) -> str:
        """What follows from it, for people."""
        told = f"{self.unreadable} of {2 * self.items} votes could not be read"
        if self.items < FEWEST:
            return f"{self.items} labelled pairs are too few to tell; label at least {FEWEST} ({told})"
        if self.kappa.low is None or self.kappa.low <= 0:
            return f"no agreement beyond chance is shown; do not optimize against this judge ({told})"
        return f"it agrees with the labels beyond chance: kappa at least {self.kappa.low:.2f} ({told})"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {**asdict(self), "sentence": self.sentence}

    def __str__(self) -> str:
        rows = [
            ("agreement of a vote", self.agreement),
            ("both orders right", self.strict),
            ("Cohen's kappa", self.kappa),
            ("first place preferred", self.first),
            ("verdict follows order", self.flips),
        ]
        return "\n".join([*(f"{name:<22} {value}" for name, value in rows), self.sentence])


def of_pairs(judged: Sequence[Compared], labels: Sequence[str]) -> Calibration:
    """What judged pairs say of their judge.

    Args:
        judged: One per pair.
        labels: "a", "b" or "tie" per pair, by people.

    Raises:
        ValueError: Lists of different lengths, or another label.
    """
    if len(judged) != len(labels):
        raise ValueError("as many judged pairs as labels are needed")
    if wrong := {label for label in labels if label not in ("a", "b", "tie")}:
        raise ValueError(f"labels: found {sorted(map(repr, wrong))}, allowed are 'a', 'b' and 'tie'")
    both = list(zip(judged, labels, strict=True))
    votes = [(vote, label) for pair, label in both for vote in (pair.first, pair.second) if vote is not None]
    # In the first order "a" is shown first, in the second "b".
    places = [
        vote == shown
        for pair, _ in both
        for vote, shown in ((pair.first, "a"), (pair.second, "b"))
        if vote in ("a", "b")
    ]
    read = [(_joined(pair), label) for pair, label in both if not pair.unreadable]
    return Calibration(
        items=len(both),
        unreadable=sum(pair.unreadable for pair in judged),
        agreement=_clustered(both) if votes else share(0, 0),
        strict=share(sum(pair.first == pair.second == label for pair, label in both), len(both)),
        kappa=resampled(read, lambda drawn: kappa([a for a, _ in drawn], [b for _, b in drawn])),
        first=share(sum(places), len(places)),
        flips=share(sum(pair.flipped for pair in judged), len(read)),
    )


def _joined(pair: Compared) -> str:
    return pair.first if pair.first is not None and pair.first == pair.second else "tie"


def _clustered(both: list[tuple[Compared, str]]) -> Estimate:
    """Agreement of the votes; resampled by pairs, for the two votes on one pair are not independent."""

    def agreement(drawn: list[tuple[Compared, str]]) -> float | None:
        right = [vote == label for pair, label in drawn for vote in (pair.first, pair.second) if vote is not None]
        return sum(right) / len(right) if right else None

    return resampled(both, agreement)


async def calibrate_pairs(
    judge: PairJudge, items: Sequence[tuple[Row, str, str, str]], ask: Ask, at_once: int = 8
) -> Calibration:
    """Have labelled pairs judged in both orders, and say how far the judge agrees.

    Args:
        judge: The judge.
        items: Row, output a, output b, and the label "a", "b" or "tie"; the judge does not see the label.
        ask: Calls the judge's model.
        at_once: How many pairs are judged at a time, at least 1.

    Raises:
        AgentError: A call failed; the others are stopped.
    """
    judged = await _each([judge.compare(row, a, b, ask) for row, a, b, _ in items], at_once)
    return of_pairs(judged, [label for *_, label in items])


async def _each(work: Sequence[Coroutine[Any, Any, T]], at_once: int) -> list[T]:
    """What each gives, at most `at_once` at a time; the first error stops the others."""
    if at_once < 1:
        for item in work:
            item.close()
        raise ConfigError(f"at_once: found {at_once}, allowed is at least 1")
    slots = asyncio.Semaphore(at_once)

    async def one(item: Coroutine[Any, Any, T]) -> T:
        async with slots:
            return await item

    try:
        return await together(map(one, work))
    finally:
        for item in work:
            item.close()  # those that never began


@dataclass(frozen=True, slots=True)
class Grading:
    """What a judge of single outputs is worth against people's grades on the same scale.

    Args:
        items: Outputs that were judged.
        unreadable: Those without a verdict.
        agreement: Share of the verdicts that equal the grade; of several votes the rounded mean counts.
        kappa: Cohen's, with quadratic weights.
        bias: Mean of verdict minus grade; above 0 the judge is lenient.
    """

    items: int
    unreadable: int
    agreement: Estimate
    kappa: Estimate
    bias: Estimate

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return asdict(self)


async def calibrate(judge: Judge, items: Sequence[tuple[str, Row, int]], ask: Ask, at_once: int = 8) -> Grading:
    """Have graded outputs judged, and say how far the judge agrees.

    Args:
        judge: The judge.
        items: Output, row and the grade on the judge's scale.
        ask: Calls the judge's model.
        at_once: How many outputs are judged at a time, at least 1.

    Raises:
        ValueError: A grade is not on the scale.
        AgentError: A call failed; the others are stopped.
    """
    low, high = judge.scale
    if wrong := [grade for *_, grade in items if not low <= grade <= high]:
        raise ValueError(f"grade {wrong[0]!r} is not on the judge's scale from {low} to {high}")
    votes = await _each([judge.verdicts(output, row, ask) for output, row, _ in items], at_once)
    means = [sum(one.given) / len(one.given) if one.given else None for one in votes]
    found = [(mean, grade) for mean, (*_, grade) in zip(means, items, strict=True)]
    read = [(verdict, grade) for verdict, grade in found if verdict is not None]
    whole = [(round(verdict), grade) for verdict, grade in read]
    return Grading(
        items=len(items),
        unreadable=len(items) - len(read),
        agreement=share(sum(verdict == grade for verdict, grade in whole), len(whole)),
        kappa=resampled(whole, lambda drawn: kappa([a for a, _ in drawn], [b for _, b in drawn], "quadratic")),
        bias=resampled(read, lambda drawn: sum(a - b for a, b in drawn) / len(drawn)),
    )
