"""The race's first look, and its sequential test on rows."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.gate.race import Race, look
from agent.goals import Direction
from tests.gate.race_support import SIGNS, problem, values


@pytest.mark.parametrize("direction", SIGNS)
@pytest.mark.parametrize(
    ("gain", "exact", "noisy"), [(1, "promote", "continue"), (0, "drop", "drop"), (-1, "drop", "drop")]
)
def test_a_first_look_knows_what_is_better(direction: Direction, gain: int, exact: str, noisy: str) -> None:
    new, old = values(5.0 + SIGNS[direction] * gain), values(5.0)
    assert look(problem(direction, deterministic=True), new, old).decision == exact
    ruling = look(problem(direction), new, old)
    assert ruling.decision == noisy and ruling.evidence["gain"] == gain


def test_a_gain_of_exactly_the_minimum_effect_is_none() -> None:
    which = problem(deterministic=True, min_effect=0.5)
    ruling = look(which, values(4.5), values(5.0))
    assert ruling.decision == "drop"
    assert ruling.reason.startswith("too little better: 4.5") and ruling.reason.endswith("a gain counts above 0.5")
    assert look(which, values(5.0), values(5.0)).reason.startswith("not better: 5")
    assert look(which, values(4.4), values(5.0)).decision == "promote"


def test_what_breaks_a_constraint_is_dropped_and_says_which() -> None:
    ruling = look(problem(deterministic=True), values(0.0, size=2.0), values(5.0))
    assert ruling.decision == "drop" and "size is 2 (size at most 1)" in ruling.reason


@pytest.mark.parametrize("champion", [None, values(0.0, size=2.0)])
def test_the_first_to_keep_every_constraint_is_the_champion(champion: Mapping[str, float] | None) -> None:
    assert look(problem(), values(9.0), champion).decision == "promote"


# The sequential test on differences.


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), max_size=60))
def test_from_the_other_side_a_promotion_is_a_drop(differences: list[float]) -> None:
    race = Race()
    one = race.update(differences, longest=60).decision
    other = race.update([-d for d in differences], longest=60).decision
    assert {one, other} != {"promote"}, "two candidates cannot both be better than the other"
    assert race.stake(differences) + race.stake([-d for d in differences]) <= 1e-12


def test_wins_promote_losses_drop_and_ties_tell_nothing() -> None:
    race = Race()
    assert race.update([1.0] * 8, longest=100).decision == "promote"
    assert race.update([-1.0] * 8, longest=100).decision == "drop"
    assert race.update([0.0] * 11, longest=100).decision == "continue"
    ruling = race.update([0.0] * 12, longest=100)
    assert ruling.decision == "drop" and "no effect: the same on 12 rows" in ruling.reason
    assert race.stake([0.0] * 12) == 0


def test_nothing_is_dropped_before_the_shortest_race() -> None:
    race = Race(shortest=5)
    assert race.update([-1.0] * 4, longest=100).decision == "continue"
    assert race.update([-1.0] * 5, longest=100).decision == "drop"


def test_at_the_end_the_stake_decides() -> None:
    race = Race()
    ahead, behind = [1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0], [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert race.update(ahead, longest=len(ahead)).decision == "promote"
    ruling = race.update(behind, longest=len(behind))
    assert ruling.decision == "drop" and ruling.evidence == {"pairs": 7, "wins": 1, "losses": 1, "gain": 0.0}
    assert ruling.reason.startswith("undecided after all 7 rows: better on 1 and worse on 1")
    worse = race.update([-0.1, 0.0, -0.1, -0.1, -0.1, -0.1], longest=6)
    assert worse.reason == "not better after all 6 rows: better on 0 and worse on 5 of 6 rows"


def test_the_bet_is_small_where_many_pairs_differ() -> None:
    race = Race()
    noisy, quiet = [1.0, -1.0] * 20 + [1.0], [0.0] * 40 + [1.0]
    grown = [race.stake(d) - race.stake(d[:-1]) for d in (noisy, quiet)]
    assert math.exp(grown[0]) - 1 == pytest.approx(0.1, abs=0.01), "the smallest bet"
    assert grown[1] > 3 * grown[0]


@pytest.mark.parametrize(("gain", "low", "high"), [(-0.3, 0, 0.05), (0.0, 0.02, 0.3), (0.3, 0.9, 1)])
def test_what_is_better_is_mostly_promoted_and_what_is_worse_rarely(gain: float, low: float, high: float) -> None:
    rng, race, promoted, worlds = random.Random(5), Race(), 0, 400
    for _ in range(worlds):
        differences: list[float] = []
        ruling = race.update(differences, longest=60)
        while ruling.decision == "continue":
            up = (0.4 + gain) / 2
            draw = rng.random()
            differences.append(1.0 if draw < up else -1.0 if draw < 0.4 else 0.0)
            ruling = race.update(differences, longest=60)
        promoted += ruling.decision == "promote"
    assert low <= promoted / worlds <= high
