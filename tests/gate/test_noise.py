"""The noise at the start, and the smallest gain that it leaves visible."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.evaluators.function import FunctionEvaluator
from agent.gate.noise import Noise, smallest_gain
from agent.goals import Objective
from agent.parameters import Float
from agent.problem import Example, Problem
from agent.settings import Settings
from agent.space import Space


def problem(rows: int = 0, **given: Any) -> Problem:
    data = tuple(Example(f"r{n}", {"n": n}) for n in range(rows))
    return Problem(
        name="noise",
        space=Space({"x": Float(0, 1)}),
        evaluator=FunctionEvaluator("evaluate:measure", names=("value",), folder=Path("/nowhere")),
        objectives=(given.pop("goal", Objective("value", "maximize", unit="ms")),),
        data=data,
        **{"target": "population" if rows else "suite", **given},
    )


def test_equal_measurements_have_no_noise() -> None:
    found = Noise.of([[1.0, 1.0], [2.0, 2.0 + 1e-12]], problem(), 1.0)
    assert (found.pairs, found.sd, found.discordance, found.differ) == (2, pytest.approx(0.0, abs=1e-9), 0.0, None)


def test_the_deviation_is_that_of_one_measurement_around_its_row() -> None:
    found = Noise.of([[1.0, 3.0], [10.0, 12.0], [5.0, 5.0]], problem(), 1.0)
    assert found.sd == pytest.approx(math.sqrt((2 + 2 + 0) / 3))
    assert found.discordance == pytest.approx(2 / 3) and found.differ in ((1.0, 3.0), (10.0, 12.0))
    rng = random.Random(1)
    many = Noise.of([[row + rng.gauss(0, 0.5) for _ in range(4)] for row in range(300)], problem(), 1.0)
    assert many.sd == pytest.approx(0.5, rel=0.1) and many.pairs == 900


def test_the_most_different_pair_is_named() -> None:
    found = Noise.of([[1.0, 1.1], [1.0, 5.0], [2.0, 2.5]], problem(deterministic=True), 1.0)
    assert found.differ == (1.0, 5.0)
    text = found.contradiction(problem(deterministic=True))
    assert " 1 " in text and " 5 " in text and "remove deterministic" in text


def test_a_failure_differs_from_every_number_but_another_failure() -> None:
    minimized = problem(goal=Objective("value", "minimize"))
    found = Noise.of([[1.0, None], [None, None]], minimized, 1.0)
    assert found.discordance == 0.5 and found.differ is not None and set(found.differ) == {None, 1.0}
    assert "a failure" in found.contradiction(minimized)
    scored = Noise.of([[1.0, None]], problem(), 1.0)
    assert scored.differ == (1.0, 0.0), "where larger is better a failure counts as 0"


def test_no_measurements_tell_nothing() -> None:
    assert Noise.of([], problem(), 1.0) == Noise(0, 0.0, 0.0, None)
    assert Noise.of([[1.0]], problem(), 1.0).sd == 0.0


# What it means.


def test_a_sentence_for_each_kind_of_problem() -> None:
    settings, quiet, loud = Settings(), Noise(3, 0.0, 0.0, None), Noise(10, 0.4, 0.5, (0.0, 1.0))
    assert "exact" in quiet.sentence(problem(deterministic=True), settings, 0, 0.01)
    noisy = loud.sentence(problem(), settings, 0, 0.01)
    assert "standard deviation of 0.4 ms" in noisy and f"with {settings.exam_pairs} pairs" in noisy
    rows = problem(100)
    assert "repeats differ on 50% of the rows" in loud.sentence(rows, settings, 50, 0.01)
    assert "with 50 gate examples" in loud.sentence(rows, settings, 50, 0.01)
    assert "repeats" not in quiet.sentence(replace(rows, deterministic=True), settings, 50, 0.01)
    assert "nothing can be proven" in loud.sentence(problem(30), settings, 0, 0.01)
    assert "50 more" in loud.sentence(problem(30), settings, 0, 0.01)
    assert "no gain at all" in loud.sentence(rows, settings, 3, 0.01)


def points(units: int, level: float, discordance: float = 0.0) -> int:
    text = Noise(10, 0.0, discordance, None).sentence(problem(100), Settings(), units, level)
    return int(text.partition("gains under ")[2].partition(" % of the score")[0])


def test_more_rows_show_less_and_a_smaller_level_or_more_noise_hides_more() -> None:
    assert points(50, 0.01) > points(100, 0.01) > points(400, 0.01) > 0
    assert points(100, 0.001) > points(100, 0.01)
    assert points(100, 0.01, 0.6) > points(100, 0.01, 0.3)


def test_the_smallest_gain_grows_with_the_noise_and_falls_with_the_pairs() -> None:
    base = smallest_gain(20, 0.03, 1.0)
    assert smallest_gain(20, 0.03, 2.0) == pytest.approx(2 * base)
    assert smallest_gain(80, 0.03, 1.0) < base < smallest_gain(20, 0.001, 1.0)
    assert smallest_gain(3, 0.001, 1.0) == math.inf
    assert smallest_gain(20, 0.03, 0.0) == 0.0


def test_a_gain_of_that_size_is_shown_four_times_in_five() -> None:
    from agent.gate.evidence import sign_test

    rng, pairs, level, shows, worlds = random.Random(3), 20, 0.03, 0, 1500
    gain = smallest_gain(pairs, level, 1.0)
    for _ in range(worlds):
        d = [gain + rng.gauss(0, 1) - rng.gauss(0, 1) for _ in range(pairs)]
        shows += sign_test(sum(x > 0 for x in d), sum(x < 0 for x in d)) <= level
    assert shows / worlds == pytest.approx(0.8, abs=0.04)
