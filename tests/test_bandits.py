"""Bandits: what they draw, what they learn, and what they refuse."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from agent.bandits import Arm, InverseGap, TsallisINF, chebyshev, guide, tsallis

MEANS = (0.7, 0.5, 0.3, 0.6)
"""Chances that an arm costs 1; the third is best."""


def cost(arm: int, rng: random.Random) -> float:
    return float(rng.random() < MEANS[arm])


def ucb(rounds: int, rng: random.Random) -> float:
    """Expected cost beyond the best arm's when the guide's first arm is always taken."""
    counts, sums, regret = dict.fromkeys("0123", 0), dict.fromkeys("0123", 0.0), 0.0
    for _ in range(rounds):
        name = guide(counts, sums)[0].name
        regret += MEANS[int(name)] - min(MEANS)
        counts[name] += 1
        sums[name] += 1.0 - cost(int(name), rng)
    return regret


def inf(rounds: int, rng: random.Random) -> float:
    bandit, regret = TsallisINF(4), 0.0
    for _ in range(rounds):
        arm = bandit.draw(rng)
        regret += MEANS[arm] - min(MEANS)
        bandit.update(arm, cost(arm, rng))
    return regret


def contextual(rounds: int, rng: random.Random) -> float:
    """In each context another arm is best; a bandit that is blind to it would lose 0.2 in most rounds."""
    bandit, regret = InverseGap(2, 3), 0.0
    for _ in range(rounds):
        place = rng.uniform(-1, 1)
        costs = (0.5 + 0.4 * place, 0.5 - 0.4 * place)
        features = chebyshev(place, 2)
        arm = bandit.draw(features, rng)
        regret += costs[arm] - min(costs)
        bandit.update(features, arm, costs[arm] + rng.uniform(-0.1, 0.1))
    return regret


@pytest.mark.parametrize("play", [ucb, inf, contextual])
def test_four_times_the_rounds_cost_less_than_four_times_the_regret(play: Callable[..., float]) -> None:
    few, many = (sum(play(rounds, random.Random(seed)) for seed in range(8)) for rounds in (500, 2000))
    assert 0 < few < 8 * 500 * 0.15, "worse than a fixed, middling arm"
    assert many < 2.8 * few


def test_a_bandit_follows_a_change() -> None:
    bandit, rng = TsallisINF(2), random.Random(0)
    for round_ in range(3000):
        arm = bandit.draw(rng)
        bandit.update(arm, float(arm == (1 if round_ < 500 else 0)))
    assert bandit.probabilities()[1] > 0.9


# Probabilities.


@pytest.mark.parametrize("losses", [[0.0], [0.0] * 5, [0.0, 1e9], [3.0, 1.0, 2.0], [1e12, 1e12 + 1], [-5.0, 5.0]])
@pytest.mark.parametrize("rate", [2.0, 0.1, 1e-3])
def test_probabilities_sum_to_one_and_fall_with_the_loss(losses: list[float], rate: float) -> None:
    chances = tsallis(losses, rate)
    assert math.fsum(chances) == pytest.approx(1.0, abs=1e-14)
    assert all(chance > 0 for chance in chances)
    order = sorted(range(len(losses)), key=losses.__getitem__)
    assert [chances[i] for i in order] == sorted(chances, reverse=True)


def test_the_probabilities_minimise_what_they_should() -> None:
    losses, rate = [3.0, 1.0, 2.0], 0.7
    chances = tsallis(losses, rate)

    def target(p: list[float]) -> float:
        return sum(a * b for a, b in zip(losses, p, strict=True)) - 4 / rate * sum(map(math.sqrt, p))

    for i in range(3):
        for j in range(3):
            moved = list(chances)
            moved[i], moved[j] = moved[i] + 1e-4, moved[j] - 1e-4
            if i != j:
                assert target(moved) > target(chances)


def test_inverse_gaps_by_hand() -> None:
    bandit = InverseGap(3, 1, scale=2.0, ridge=1e-9)
    for arm, value in enumerate((0.2, 0.5, 0.8)):
        bandit.update([1.0], arm, value)
    assert bandit.predicted([1.0]) == pytest.approx([0.2, 0.5, 0.8])
    gamma = 2.0 * math.sqrt(3 * 4)  # the fourth round
    second, third = 1 / (3 + gamma * 0.3), 1 / (3 + gamma * 0.6)
    assert bandit.probabilities([1.0]) == pytest.approx([1 - second - third, second, third])


def test_the_regression_is_a_ridge_regression() -> None:
    rng, bandit = random.Random(1), InverseGap(2, 4, ridge=0.3)
    rows = [(chebyshev(rng.uniform(-1, 1), 3), rng.random()) for _ in range(30)]
    for features, value in rows:
        bandit.update(features, 1, value)
    x, y = np.array([row for row, _ in rows]), np.array([value for _, value in rows])
    coefficients = np.linalg.solve(x.T @ x + 0.3 * np.eye(4), x.T @ y)
    features = chebyshev(0.4, 3)
    assert bandit.predicted(features) == pytest.approx([0.0, float(features @ coefficients)])


def test_chebyshev_polynomials_are_cosines() -> None:
    assert chebyshev(0.3, 5) == pytest.approx([math.cos(k * math.acos(0.3)) for k in range(6)])
    assert chebyshev(1.0, 0) == [1.0]


# The guide.


def test_the_guide_tells_counts_means_and_bonuses() -> None:
    arms = guide({"gp": 8, "llm": 2, "random": 0}, {"gp": 4.0, "llm": 0.5})
    bonus = {name: math.sqrt(0.5 * math.log(10) / n) for name, n in (("gp", 8), ("llm", 2))}
    assert arms == [
        Arm("random", 0, 0.0, math.inf),
        Arm("llm", 2, 0.25, bonus["llm"]),
        Arm("gp", 8, 0.5, bonus["gp"]),
    ]
    assert arms[1].value == 0.25 + bonus["llm"]
    assert [arm.name for arm in guide({"gp": 8, "llm": 2}, {"gp": 4.0, "llm": 0.5}, alpha=0)] == ["gp", "llm"]


def test_untried_arms_come_first_in_their_order_and_one_pull_has_no_bonus_yet() -> None:
    assert [arm.name for arm in guide({"b": 0, "a": 1, "c": 0}, {"a": 99.0})] == ["b", "c", "a"]
    assert guide({"a": 1}, {"a": 1.0}) == [Arm("a", 1, 1.0, 0.0)]
    assert guide({"a": 0.25}, {"a": 0.1})[0].bonus == 0.0
    assert guide({}, {}) == []


@pytest.mark.parametrize(
    ("counts", "sums", "alpha"),
    [
        ({"a": -1}, {}, 0.5),
        ({"a": math.nan}, {}, 0.5),
        ({"a": 1}, {"a": math.inf}, 0.5),
        ({"a": 1}, {"b": 1.0}, 0.5),
        ({"a": 0}, {"a": 1.0}, 0.5),
        ({"a": 1}, {"a": 1.0}, -0.1),
        ({"a": 1}, {"a": 1.0}, math.nan),
    ],
)
def test_the_guide_refuses_nonsense(counts: dict[str, float], sums: dict[str, float], alpha: float) -> None:
    with pytest.raises(ValueError):
        guide(counts, sums, alpha)


# What is refused. Nothing that is refused is learnt.


@pytest.mark.parametrize(("arm", "loss"), [(0, -0.01), (0, 1.01), (0, math.nan), (2, 0.5), (-1, 0.5)])
def test_a_loss_out_of_range_is_refused(arm: int, loss: float) -> None:
    bandit = TsallisINF(2)
    with pytest.raises(ValueError):
        bandit.update(arm, loss)
    assert bandit.rounds == 0 and bandit.losses == [0.0, 0.0]


@pytest.mark.parametrize(
    ("features", "arm", "value"),
    [
        ([1.0], 0, 0.5),
        ([1.0, math.nan], 0, 0.5),
        ([1.0, 1.0], 2, 0.5),
        ([1.0, 1.0], -1, 0.5),
        ([1.0, 1.0], 0, math.inf),
    ],
)
def test_a_context_that_does_not_fit_is_refused(features: list[float], arm: int, value: float) -> None:
    bandit = InverseGap(2, 2)
    with pytest.raises(ValueError):
        bandit.update(features, arm, value)
    assert bandit.rounds == 0 and bandit.predicted([1.0, 1.0]) == [0.0, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TsallisINF(0),
        lambda: InverseGap(0, 1),
        lambda: InverseGap(1, 0),
        lambda: InverseGap(1, 1, scale=0),
        lambda: InverseGap(1, 1, ridge=0),
        lambda: tsallis([], 1.0),
        lambda: tsallis([1.0, math.inf], 1.0),
        lambda: tsallis([1.0], 0.0),
        lambda: chebyshev(1.5, 2),
        lambda: chebyshev(0.0, -1),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()
