"""CatCMA, and the distribution of a mixed space."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from agent.parameters import Categorical, Float, Int
from agent.proposers.catcma import CatCMA
from agent.proposers.mixed import Choices, Mixed, split
from agent.proposers.random import Random
from agent.space import Candidate, Space
from agent.testing.proposers import Search

SPACE = Space(
    {
        **{f"x{i}": Float(0, 1) for i in range(3)},
        "n": Int(1, 20),
        "flag": Int(0, 1),
        **{f"c{i}": Categorical(tuple("abcde")) for i in range(3)},
    }
)


def test_numbers_and_choices_are_told_apart() -> None:
    assert split(SPACE) == ([0, 1, 2, 3], {4: 2, 5: 5, 6: 5, 7: 5})  # a whole number with two values is a choice


def test_chances_follow_what_was_good_and_never_vanish() -> None:
    choices = Choices.around([0, 1], [3, 2])
    assert [row.tolist() for row in choices.chances] == [pytest.approx([2 / 3, 1 / 6, 1 / 6]), [0.25, 0.75]]
    for _ in range(60):
        choices.tell([[2, 0], [2, 0], [2, 0]], np.array([0.6, 0.3, 0.1]))
    least = (1 - 0.73**0.5) / 2
    assert choices.chances[0] == pytest.approx([least, least, 1 - 2 * least])
    assert choices.chances[1] == pytest.approx([1 - 2 * least, 2 * least])


def test_the_first_step_of_a_single_choice_is_the_one_computed_by_hand() -> None:
    choices = Choices([np.array([0.5, 0.5])])
    choices.tell([[0], [1]], np.array([0.8, 0.2]))
    # gradient (0.3, -0.3); its only coordinate is 0.3/√.5 + √.5·0.3/(.5+√.5), the step has length 1 in it
    length = 0.3 / 0.5**0.5 + 0.5**0.5 * 0.3 / (0.5 + 0.5**0.5)
    assert choices.chances[0][0] == pytest.approx(min(0.73, 0.5 + 0.3 / length))


def test_members_that_say_what_the_chances_say_change_nothing() -> None:
    choices = Choices([np.array([0.75, 0.25])])
    before = choices.to_json()
    choices.tell([[0], [1]], np.array([0.75, 0.25]))
    assert choices.to_json() == before


def test_draws_have_the_chances_frequencies() -> None:
    choices = Choices([np.array([0.7, 0.2, 0.1])])
    rng = np.random.default_rng(0)
    counts = np.bincount([choices.draw(rng)[0] for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_the_distribution_survives_json_exactly() -> None:
    mixed = Mixed.around(SPACE, np.full(8, 0.4), 0.2)
    rng = np.random.default_rng(1)
    for _ in range(5):
        mixed.tell(np.array([mixed.draw(rng) for _ in range(9)]), np.zeros(9, dtype=bool))
    again = Mixed.from_json(SPACE, json.loads(json.dumps(mixed.to_json())))
    assert again.to_json() == mixed.to_json() and again.generation == 5
    one, two = np.random.default_rng(2), np.random.default_rng(2)
    assert (mixed.draw(one) == again.draw(two)).all()


def test_a_whole_number_never_gets_stuck_on_one_value() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 10)})
    mixed = Mixed.around(space, np.array([0.5, 0.55]), 0.2)
    for _ in range(40):  # every generation sits on one point, so that the spread collapses
        mixed.tell(np.tile(mixed.draw(np.random.default_rng(0)), (6, 1)), np.zeros(6, dtype=bool))
    assert mixed.numbers is not None
    deviations = mixed.numbers.sigma * np.sqrt(mixed.numbers.cov.diagonal())
    assert deviations[0] < 0.01 and deviations[1] >= 0.2 / 10 * 0.999


def target(seed: int):  # type: ignore[no-untyped-def]
    rng = random.Random(seed)
    place = [rng.random() for _ in range(4)]
    kinds = [rng.choice("abcde") for _ in range(3)]

    def measure(candidate: Candidate) -> dict[str, float]:
        numbers = [candidate["x0"], candidate["x1"], candidate["x2"], candidate["n"] / 20]
        value = sum((a - b) ** 2 for a, b in zip(numbers, place, strict=True)) + 0.1 * candidate["flag"]
        return {"value": value + sum(0.3 * (candidate[f"c{i}"] != kinds[i]) for i in range(3)), "size": 0.0}

    return measure


def test_it_is_far_better_than_random_search_on_a_mixed_space() -> None:
    def found(proposer: type, seed: int) -> float:
        state = Search(proposer(), SPACE, target(seed), budget=200, seed=seed).run()
        return state.history.value(state.history[state.history.champion])

    ours, others = (np.mean([found(p, seed) for seed in range(4)]) for p in (CatCMA, Random))
    assert ours < others / 2


def test_choices_alone_can_be_searched() -> None:
    space = Space({f"c{i}": Categorical(tuple("abcd")) for i in range(6)})

    def measure(candidate: Candidate) -> dict[str, float]:
        return {"value": float(sum(candidate[name] != "c" for name in candidate)), "size": 0.0}

    state = Search(CatCMA(), space, measure, budget=120).run()
    assert state.history.value(state.history[state.history.champion]) <= 1
