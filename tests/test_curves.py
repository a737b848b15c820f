"""Learning curves: what is predicted of them, and that hardly any winner is stopped."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from agent.curves import COMPLETE, EARLIEST, FEWEST, UNWATCHED, Curve, Known, Watch, chance, hopeless, prediction
from agent.goals import Constraint, Goals, Objective

LOSS = Goals((Objective("loss"),))
STEPS = 40


def power(rng: random.Random, end: float) -> list[float]:
    c = 10 ** rng.uniform(-0.7, 0.4)
    return scaled([t**-c for t in range(1, STEPS + 1)], end)


def exponential(rng: random.Random, end: float) -> list[float]:
    rate = 10 ** rng.uniform(0.2, 1.3)
    return scaled([math.exp(-rate * t / STEPS) for t in range(1, STEPS + 1)], end)


def plateau_then_drop(rng: random.Random, end: float, at: float | None = None) -> list[float]:
    """Flat until something makes it drop, such as a smaller learning rate."""
    rate, size = 10 ** rng.uniform(0.9, 1.6), rng.uniform(0.05, 0.4)
    drop = STEPS * (at or rng.uniform(0.3, 0.9))
    after = [size * (1.0 if t < drop else math.exp(-10 * (t - drop) / STEPS)) for t in range(1, STEPS + 1)]
    return scaled([(1 - size) * math.exp(-rate * t / STEPS) + after[t - 1] for t in range(1, STEPS + 1)], end)


def scaled(shape: list[float], end: float) -> list[float]:
    first, last = shape[0], shape[-1]
    return [end + (1 - end) * (value - last) / (first - last) for value in shape]


def drop_at_the_same_step(rng: random.Random, end: float) -> list[float]:
    return plateau_then_drop(rng, end, at=0.7)


WORLDS = {
    "power": (power,),
    "exponential": (exponential,),
    "drop": (plateau_then_drop,),
    "drop at the same step": (drop_at_the_same_step,),
    "all": (power, exponential, plateau_then_drop),
}


def search(world: str, seed: int, noise: float, candidates: int = 30, doubt: float = 0.05) -> tuple[int, int, int, int]:
    """A random search that stops hopeless candidates: winners, winners stopped, losers, losers stopped.

    A winner is one that would have beaten the champion of its time at its end.
    """
    rng = random.Random(f"{world} {seed} {noise}")
    champion: float | None = None
    ended: list[Curve] = []
    counts = [0, 0, 0, 0]
    for number in range(candidates):
        true = rng.choice(WORLDS[world])(rng, rng.uniform(0.05, 0.6))
        costs = [cost + rng.gauss(0, noise) for cost in true]
        watch = Watch(LOSS, STEPS, doubt, ended[-16:])
        stopped = None
        for step, cost in enumerate(costs, 1):
            found = watch.hopeless({"loss": cost, "step": step}, {"loss": champion} if champion is not None else None)
            if found and number % UNWATCHED:
                stopped = found
                break
        if champion is not None:
            wins = costs[-1] < champion
            counts[0 if wins else 2] += 1
            counts[1 if wins else 3] += stopped is not None
        if stopped is None:
            ended.append(watch.curve)
            champion = min(costs[-1], math.inf if champion is None else champion)
    return counts[0], counts[1], counts[2], counts[3]


def several(rng: random.Random, make: Any = exponential, noise: float = 0.01, count: int = COMPLETE) -> Known:
    return Known(complete(rng, make, noise, count))


def complete(rng: random.Random, make: Any = exponential, noise: float = 0.01, count: int = COMPLETE) -> list[Curve]:
    curves = [make(rng, rng.uniform(0.1, 0.5)) for _ in range(count)]
    return [Curve.read(LOSS, [cost + rng.gauss(0, noise) for cost in curve]) for curve in curves]


def test_who_would_have_won_is_hardly_ever_stopped_and_most_losers_are() -> None:
    doubt = 0.05
    counts = [0, 0, 0, 0]
    for world in WORLDS:
        for noise in (0.005, 0.03):
            for seed in range(3):
                counts = [a + b for a, b in zip(counts, search(world, seed, noise, 24, doubt), strict=True)]
    winners, winners_stopped, losers, losers_stopped = counts
    assert winners >= 60, "otherwise nothing is shown"
    assert winners_stopped <= doubt * winners
    assert losers_stopped >= 0.3 * losers


def test_a_curve_that_has_levelled_off_above_the_champion_is_hopeless() -> None:
    rng = random.Random(1)
    references = several(rng)
    flat = [(float(t), 0.5 + 0.5 * math.exp(-t / 2) + rng.gauss(0, 0.005)) for t in range(1, 25)]
    assert chance(flat, STEPS, 0.1, references) < 0.05
    assert chance(flat, STEPS, 0.9, references) > 0.95, "it is below that already"


def test_noise_and_few_points_give_wide_predictions() -> None:
    def width(points: int, noise: float) -> float:
        rng = random.Random(2)
        seen = [(t, cost + rng.gauss(0, noise)) for t, cost in enumerate(power(random.Random(3), 0.3), 1)][:points]
        known = several(random.Random(4), power, noise)
        thresholds = [place / 200 for place in range(-100, 300)]
        inner = [t for t in thresholds if 0.25 < chance(seen, STEPS, t, known) < 0.75]
        return (len(inner) + 1) / 200

    assert width(6, 0.002) > 1.5 * width(30, 0.002)
    assert width(20, 0.1) > 2 * width(20, 0.002)


def test_the_weights_of_a_prediction_sum_to_one_and_chances_rise_with_the_threshold() -> None:
    references = several(random.Random(5))
    seen = [(float(t), cost) for t, cost in enumerate(power(random.Random(6), 0.3), 1)][:12]
    assert math.fsum(part.weight for part in prediction(seen, STEPS, references)) == pytest.approx(1)
    chances = [chance(seen, STEPS, threshold, references) for threshold in (-1.0, 0.1, 0.3, 0.5, 2.0)]
    assert chances == sorted(chances)
    assert chances[0] < 0.01 and chances[-1] > 0.99


def test_nothing_is_said_before_enough_is_known() -> None:
    references = several(random.Random(7))
    flat = [(float(t), 1.0) for t in range(1, 30)]
    assert chance(flat, STEPS, 0.0, references) < 0.5
    assert chance(flat[: FEWEST - 1], STEPS, 0.0, references) == 1
    assert chance(flat, STEPS, 0.0, several(random.Random(7), count=COMPLETE - 1)) == 1, (
        "too few curves came to their end"
    )


def test_a_late_drop_that_others_showed_is_expected() -> None:
    rng = random.Random(8)
    seen = [(float(t), cost) for t, cost in enumerate(drop_at_the_same_step(random.Random(9), 0.3), 1)][:25]
    dropping = several(rng, drop_at_the_same_step, 0.003)
    level = several(rng, exponential, 0.003)
    below = seen[-1][1] - 0.1
    assert chance(seen, STEPS, below, dropping) > 4 * chance(seen, STEPS, below, level)


def test_a_long_curve_is_read_in_groups_and_an_even_one_is_no_trouble() -> None:
    references = several(random.Random(10))
    long = [(float(t), 0.5 + math.exp(-t / 50)) for t in range(1, 951)]
    assert chance(long, 1000, 0.0, references) < 0.05 < chance(long, 1000, 0.45, references)
    for cost in (0.0, 1.0, -1e99):
        even = [(float(t), cost) for t in range(1, 30)]
        assert chance(even, STEPS, cost + 1 + abs(cost) / 2, references) > 0.9


# Reading what evaluators report.


def test_partial_results_come_in_several_forms() -> None:
    curve = Curve()
    assert curve.add(LOSS, {"values": {"loss": 0.9}, "feedback": ""}), (
        "as a function's are passed on; steps are counted"
    )
    assert curve.add(LOSS, 0.8)
    assert curve.add(LOSS, {"loss": 0.6, "step": 4, "of": 40, "accuracy": 0.1})
    assert curve.add(LOSS, {"loss": 0.7, "step": 3}), "out of order"
    assert curve.add(LOSS, {"loss": 0.65, "step": 4}), "the last word on a step counts"
    assert curve.points == [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.65)]
    assert (curve.step, curve.of, len(curve)) == (4, 40, 4)


HOSTILE: list[Any] = [
    math.nan,
    math.inf,
    "0.5",
    None,
    True,
    [0.1],
    {},
    {"loss": "0.5"},
    {"loss": math.nan},
    {"loss": 1e300},
    {"other": 1.0},
    {"loss": 0.5, "step": 0},
    {"loss": 0.5, "step": -1},
    {"loss": 0.5, "step": "3"},
    {"loss": 0.5, "step": math.inf},
    {"loss": 0.5, "step": 41, "of": 40},
    {"loss": 0.5, "step": 1, "of": "many"},
    {"loss": 0.5, "step": 1, "of": -40},
    {"loss": 10**400},
    {"values": 3},
]


@pytest.mark.parametrize("partial", HOSTILE, ids=str)
def test_what_cannot_be_used_is_left_out(partial: Any) -> None:
    curve = Curve()
    assert not curve.add(LOSS, partial)
    assert not curve.points and curve.of is None
    assert curve.add(LOSS, {"loss": 0.5, "step": 1, "of": 40}), "and what comes after it still counts"


def test_steps_that_rounding_makes_one_predict_nothing_wild() -> None:
    near = [(1e15 + t, float(t)) for t in range(1, 10)]
    assert 0 <= chance(near, 2e15, 0.0, several(random.Random(11))) <= 1


def test_larger_may_be_better() -> None:
    goals = Goals((Objective("accuracy", "maximize"),))
    curve = Curve.read(goals, [{"accuracy": 0.25, "step": 1}])
    assert curve.points == [(1, -0.25)]


# When a measurement is stopped.


def bad(step: int) -> dict[str, float]:
    return {"loss": 0.8 + 0.2 * math.exp(-step), "step": step, "of": STEPS}


def references() -> list[Curve]:
    return complete(random.Random(12))


def first(watch: Watch, champion: Any, partials: Any = bad) -> Any:
    return next((found for step in range(1, STEPS + 1) if (found := watch.hopeless(partials(step), champion))), None)


def test_a_hopeless_measurement_is_stopped_with_its_confidence() -> None:
    found = first(Watch(LOSS, None, 0.05, references()), {"loss": 0.2})
    assert found["step"] >= EARLIEST * STEPS and found["of"] == STEPS
    assert found["chance"] < 0.05 and found["against"] == 0.2 and found["value"] == pytest.approx(0.8, abs=0.01)
    assert hopeless(found).startswith(f"hopeless after {found['step']} of 40 steps: ")
    assert hopeless({"step": 12, "of": 40, "chance": 0.018, "against": 0.31, "value": 1}) == (
        "hopeless after 12 of 40 steps: 1.8 % chance to beat 0.31"
    )
    assert "under 0.1 %" in hopeless({**found, "chance": 0.0})


def test_more_doubt_is_allowed_to_go_on() -> None:
    def partials(step: int) -> dict[str, float]:
        return {"loss": power(random.Random(13), 0.35)[step - 1], "step": step, "of": STEPS}

    sooner, later = (first(Watch(LOSS, None, doubt, references()), {"loss": 0.3}, partials) for doubt in (0.4, 0.02))
    assert sooner is not None and (later is None or later["step"] > sooner["step"])


def test_a_minimum_effect_is_part_of_beating_the_champion() -> None:
    close = Goals((Objective("loss", min_effect=0.5),))

    def partials(step: int) -> dict[str, float]:
        return {"loss": 0.3 + 0.7 * math.exp(-step / 2), "step": step, "of": STEPS}

    assert first(Watch(LOSS, None, 0.05, references()), {"loss": 0.31}, partials) is None
    assert first(Watch(close, None, 0.05, references()), {"loss": 0.31}, partials) is not None


@pytest.mark.parametrize(
    ("full", "champion", "partials"),
    [
        (None, {"loss": 0.2}, lambda step: {"loss": 0.8, "step": step}),
        (40, None, bad),
        (40, {"loss": 0.2, "size": 9}, bad),
    ],
    ids=["of how many is not known", "there is no champion", "the champion breaks a constraint"],
)
def test_it_goes_on_where_nothing_can_be_said(full: Any, champion: Any, partials: Any) -> None:
    goals = Goals((Objective("loss"),), (Constraint("size", max=3),) if champion and "size" in champion else ())
    assert first(Watch(goals, full, 0.5, references()), champion, partials) is None
