"""Bandits: which arm to pull next when only the pulled one tells its cost or reward.

`guide` is what code tells a chooser (a program or a model) about its arms. `TsallisINF` needs no
assumption on how costs come about. `InverseGap` reads a context first, such as a property of the
instance that is to be solved. Standard library only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of an arm.

    Args:
        name: Of the arm.
        pulls: How often it was pulled; fractions are allowed, for counts that fade.
        mean: Its mean reward; 0 for an untried arm.
        bonus: What it may be better than its mean; infinity for an untried arm.
    """

    name: str
    pulls: float
    mean: float
    bonus: float

    @property
    def value(self) -> float:
        """Mean and bonus together: the upper confidence bound."""
        return self.mean + self.bonus


def guide(counts: Mapping[str, float], sums: Mapping[str, float], alpha: float = 0.5) -> list[Arm]:
    """Counts, means and exploration bonuses of some arms, the most promising first.

    The bonus is sqrt(alpha · ln t / n) with t pulls in all and n of the arm: UCB1 (Auer, Cesa-Bianchi and
    Fischer 2002, Machine Learning 47, section 2, with alpha = 2), in the form that EVOLvE hands to a model as its
    algorithm guide (Nie et al. 2024, arXiv 2410.06238, section 4, alpha = 0.5). The bonus is in the unit of the
    reward, so rewards belong into [0, 1].

    Args:
        counts: Pulls by arm.
        sums: Sums of rewards by arm, more is better; arms that are missing here have 0.
        alpha: Weight of the bonus, at least 0.

    Returns:
        The arms by mean + bonus; untried ones first, ties in the order of `counts`.

    Raises:
        ValueError: A count is negative, a number is not finite, a sum has no arm, or an untried arm has a reward.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be a number of at least 0, not {alpha!r}")
    stray = [name for name in sums if name not in counts]
    if stray:
        raise ValueError(f"there are rewards of {', '.join(map(repr, stray))}, but no counts")
    for name, pulls in counts.items():
        total = sums.get(name, 0.0)
        if not (math.isfinite(pulls) and pulls >= 0):
            raise ValueError(f"{name!r}: a count must be a number of at least 0, not {pulls!r}")
        if not math.isfinite(total) or (total and not pulls):
            raise ValueError(f"{name!r}: {total!r} is not the sum of {pulls!r} rewards")
    everything = math.log(max(1.0, math.fsum(counts.values())))
    arms = [
        Arm(name, n, sums.get(name, 0.0) / n, math.sqrt(alpha * everything / n)) if n else Arm(name, 0, 0.0, math.inf)
        for name, n in counts.items()
    ]
    return sorted(arms, key=lambda arm: -arm.value)


def tsallis(losses: Sequence[float], rate: float) -> list[float]:
    """Probabilities that minimise ⟨losses, p⟩ − (4 / rate) Σ √p: online mirror descent with 1/2-Tsallis entropy.

    The answer is p_i = 4 / (rate · (losses_i − x))², with x such that they sum to one; Newton's method finds
    it (Zimmert and Seldin 2021, J. Mach. Learn. Res. 22(28), section 3 and Algorithm 2).

    Args:
        losses: Estimated cumulative losses, one per arm.
        rate: The learning rate, above 0.

    Raises:
        ValueError: There are no losses, one is not finite, or the rate is not above 0.
    """
    if not losses or not all(map(math.isfinite, losses)) or not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"finite losses and a rate above 0 are needed, not {list(losses)!r} and {rate!r}")
    least = min(losses)
    gaps = [loss - least for loss in losses]  # only differences matter, and small numbers keep their digits
    # The sum grows with x and is convex. It is at least 1 where the best arm alone has all, so that Newton's
    # steps from there go down to the root and never beyond it.
    x = -2.0 / rate
    for _ in range(100):
        weights = [4.0 / (rate * (gap - x)) ** 2 for gap in gaps]
        excess = math.fsum(weights) - 1.0
        if excess < 1e-12:
            break
        x -= excess / (rate * math.fsum(weight**1.5 for weight in weights))
    total = math.fsum(weights)
    return [weight / total for weight in weights]


class TsallisINF:
    """Bandit with losses in [0, 1], good against chance and against an adversary alike.

    Zimmert and Seldin 2021 (J. Mach. Learn. Res. 22(28), Algorithm 1), with importance-weighted losses and the
    learning rate 2 / √t of their Theorem 1, which needs no horizon. Learning to Relax (Khodak et al. 2024,
    arXiv 2310.02246, section 2) sets a solver's parameter with it.

    Args:
        arms: How many there are.

    Raises:
        ValueError: There is no arm.
    """

    def __init__(self, arms: int) -> None:
        if arms < 1:
            raise ValueError(f"at least one arm is needed, not {arms}")
        self.losses = [0.0] * arms
        """Importance-weighted sums, without bias for what each arm would have cost."""
        self.rounds = 0

    def probabilities(self) -> list[float]:
        """With which each arm is drawn now; they sum to one."""
        return tsallis(self.losses, 2.0 / math.sqrt(self.rounds + 1))

    def draw(self, rng: random.Random) -> int:
        """An arm, at random."""
        return drawn(self.probabilities(), rng)

    def update(self, arm: int, loss: float) -> None:
        """Learn what the arm that was drawn in this round has cost.

        Raises:
            ValueError: There is no such arm, or the loss is outside [0, 1].
        """
        _check(arm, len(self.losses))
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"a loss must be in [0, 1], not {loss!r}: divide costs by the largest that is possible")
        self.losses[arm] += loss / self.probabilities()[arm]
        self.rounds += 1


def chebyshev(x: float, degree: int) -> list[float]:
    """The Chebyshev polynomials T_0 to T_degree at a place in [-1, 1].

    Raises:
        ValueError: The place is outside, or the degree is negative.
    """
    if not -1.0 <= x <= 1.0 or degree < 0:
        raise ValueError(f"a place in [-1, 1] and a degree of at least 0 are needed, not {x!r} and {degree!r}")
    out = [1.0, x]
    while len(out) <= degree:
        out.append(2.0 * x * out[-1] - out[-2])
    return out[: degree + 1]


class InverseGap:
    """Contextual bandit: predicts each arm's cost by ridge regression, and draws arms by how far they are behind.

    An arm that is predicted to be worse than the best by a gap has probability 1 / (arms + γ · gap), and the best one
    has the rest (inverse-gap weighting: Abe and Long 1999; SquareCB, Foster and Rakhlin 2020, arXiv 2002.04926,
    Algorithm 1). With Chebyshev features of a scalar context it is the method of ChebCB (Khodak et al. 2024,
    arXiv 2310.02246, section 4), except that it bounds the coefficients by a ridge instead of by constraints. An arm
    that was never pulled is predicted to cost nothing, so costs of at least 0 make every arm be tried.

    Args:
        arms: How many there are.
        features: Length of a context's features.
        scale: γ in round t is scale · √(arms · t / features): more means less exploration.
        ridge: Weight of the squared coefficients, above 0.

    Raises:
        ValueError: A number is too small.
    """

    def __init__(self, arms: int, features: int, *, scale: float = 10.0, ridge: float = 0.1) -> None:
        if arms < 1 or features < 1 or not (math.isfinite(scale) and scale > 0) or not (0 < ridge < math.inf):
            raise ValueError("at least one arm and one feature, and a scale and a ridge above 0 are needed")
        self.rounds = 0
        self._scale = scale * math.sqrt(arms / features)
        self._size = features
        self._inverse = [
            [[1.0 / ridge if i == j else 0.0 for j in range(features)] for i in range(features)] for _ in range(arms)
        ]
        self._moment = [[0.0] * features for _ in range(arms)]

    def predicted(self, features: Sequence[float]) -> list[float]:
        """The cost of each arm in this context, as far as is known.

        Raises:
            ValueError: The features have the wrong length, or one is not finite.
        """
        self._fits(features)
        return [
            _dot(features, [_dot(row, moment) for row in inverse])
            for inverse, moment in zip(self._inverse, self._moment, strict=True)
        ]

    def probabilities(self, features: Sequence[float]) -> list[float]:
        """With which each arm is drawn in this context; they sum to one."""
        costs = self.predicted(features)
        gamma = self._scale * math.sqrt(self.rounds + 1)
        best = min(range(len(costs)), key=costs.__getitem__)
        out = [1.0 / (len(costs) + gamma * (cost - costs[best])) for cost in costs]
        out[best] = 0.0
        out[best] = 1.0 - math.fsum(out)
        return out

    def draw(self, features: Sequence[float], rng: random.Random) -> int:
        """An arm for this context, at random."""
        return drawn(self.probabilities(features), rng)

    def update(self, features: Sequence[float], arm: int, cost: float) -> None:
        """Learn what an arm has cost in a context; costs near [0, 1] suit the defaults.

        Raises:
            ValueError: There is no such arm, the features do not fit, or the cost is not finite.
        """
        _check(arm, len(self._moment))
        self._fits(features)
        if not math.isfinite(cost):
            raise ValueError(f"a cost must be finite, not {cost!r}")
        inverse = self._inverse[arm]
        along = [_dot(row, features) for row in inverse]
        share = 1.0 / (1.0 + _dot(along, features))  # the inverse after one more row: Sherman and Morrison 1950
        for i, left in enumerate(along):
            inverse[i] = [value - share * left * right for value, right in zip(inverse[i], along, strict=True)]
        self._moment[arm] = [m + cost * f for m, f in zip(self._moment[arm], features, strict=True)]
        self.rounds += 1

    def _fits(self, features: Sequence[float]) -> None:
        if len(features) != self._size or not all(map(math.isfinite, features)):
            raise ValueError(f"{self._size} finite features are needed, not {list(features)!r}")


def drawn(probabilities: Sequence[float], rng: random.Random) -> int:
    """An index, at random with these probabilities."""
    return rng.choices(range(len(probabilities)), probabilities)[0]


def _check(arm: int, arms: int) -> None:
    if not 0 <= arm < arms:
        raise ValueError(f"there is no arm {arm}, the last is {arms - 1}")


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
