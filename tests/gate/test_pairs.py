"""The race on repeated measurements: quick with what is better, rarely fooled, and the same from both sides."""

from __future__ import annotations

import random
from typing import Any

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from agent.gate.pairs import Pairs
from agent.gate.race import Ruling
from agent.goals import Direction
from agent.problem import Problem
from tests.gate.race_support import SIGNS, problem, values


def given(value: float | None) -> dict[str, float] | None:
    return None if value is None else values(value)


def raced(challenger: list[float | None], champion: list[float | None], which: Problem, **options: Any) -> Ruling:
    """The race's last word after these pairs, in this order."""
    race = Pairs("new", "old", **options)
    ruling = race.update(which)
    for number, (new, old) in enumerate(zip(challenger, champion, strict=True)):
        race.add(number, "new", given(new))
        race.add(number, "old", given(old))
        ruling = race.update(which)
        if ruling.decision != "continue":
            break
    return ruling


@pytest.mark.parametrize("direction", SIGNS)
def test_three_wins_promote_and_two_losses_drop(direction: Direction) -> None:
    sign = SIGNS[direction]
    better, worse = [5.0 + sign] * 10, [5.0 - sign] * 10
    for challenger, decision, pairs in [(better, "promote", 3), (worse, "drop", 2)]:
        ruling = raced(list(challenger), [5.0] * 10, problem(direction))
        assert (ruling.decision, ruling.evidence["pairs"]) == (decision, pairs)


def test_a_challenger_that_falls_behind_is_dropped_early() -> None:
    ruling = raced([4.0, 6.0, 6.0, 4.0, 4.0], [5.0] * 5, problem())
    assert (ruling.decision, ruling.evidence["pairs"]) == ("drop", 3)


@settings(deadline=None, max_examples=100)
@hypothesis.given(st.sampled_from(["minimize", "maximize"]), st.lists(st.integers(-5, 5), min_size=1, max_size=10))
def test_seen_from_the_other_side_wins_are_losses(direction: Direction, gains: list[int]) -> None:
    sign = SIGNS[direction]
    one, other = Pairs("a", "b"), Pairs("b", "a")
    for number, gain in enumerate(gains):
        for race in (one, other):
            race.add(number, "a", values(5.0 + sign * gain))
            race.add(number, "b", given(5.0))
    first, second = one.evidence(problem(direction)), other.evidence(problem(direction))
    assert first.gains == tuple(gains) == tuple(-gain for gain in second.gains)
    assert (first.wins, first.losses, first.mean) == (second.losses, second.wins, -second.mean)
    decisions = {one.update(problem(direction)).decision, other.update(problem(direction)).decision}
    assert decisions != {"promote"}, "two candidates cannot both be better than the other"
    mirrored: Direction = "maximize" if direction == "minimize" else "minimize"
    assert one.update(problem(direction)).decision == other.update(problem(mirrored)).decision


def simulated(
    gain: float, worlds: int = 1500, direction: Direction = "minimize", **options: Any
) -> tuple[float, float]:
    """Share of promotions, and mean number of pairs, when the gain is so many standard deviations of a measurement."""
    rng, sign = random.Random(7), SIGNS[direction]
    promoted = pairs = 0
    for _ in range(worlds):
        new = [sign * (rng.gauss(0, 1) + gain) for _ in range(10)]
        old = [sign * rng.gauss(0, 1) for _ in range(10)]
        ruling = raced(list(new), list(old), problem(direction), **options)
        promoted += ruling.decision == "promote"
        pairs += int(ruling.evidence["pairs"])
    return promoted / worlds, pairs / worlds


@pytest.mark.parametrize("direction", SIGNS)
def test_what_is_equal_or_worse_is_promoted_rarely_and_what_is_better_quickly(direction: Direction) -> None:
    # Exact values for fair coins: 0.253 of the equal ones are promoted, after 3.9 pairs on average.
    assert simulated(0, direction=direction)[0] < 0.3
    assert simulated(-1, direction=direction)[0] < 0.03
    share, pairs = simulated(3, direction=direction)
    assert share > 0.97 and pairs < 3.5


def test_longer_races_are_fooled_less() -> None:
    assert simulated(0, shortest=8)[0] < simulated(0)[0] - 0.05


def test_a_challenger_that_fails_is_dropped_at_once() -> None:
    race = Pairs("new", "old")
    race.add(0, "new", None)
    assert race.update(problem()).decision == "drop"
    assert "failed" in race.update(problem()).reason


def test_a_champion_that_fails_says_nothing_about_the_challenger() -> None:
    ruling = raced([4.0, 4.0, 4.0, 4.0, 4.0], [None, 5.0, None, 5.0, 5.0], problem())
    assert ruling.decision == "promote" and ruling.evidence == {"pairs": 3, "wins": 3, "losses": 0, "gain": 1.0}
    ruling = raced([4.0] * 4, [None] * 4, problem(), longest=4)
    assert ruling.decision == "drop" and "undecided after 4 pairs" in ruling.reason
    ruling = raced([4.0, 6.0, 4.0, 9.0], [5.0] * 4, problem(), longest=4)
    assert ruling.decision == "drop" and ruling.reason.startswith("not better after 4 pairs: better in 2 of 4")


def test_half_a_pair_counts_for_nothing() -> None:
    race = Pairs("new", "old")
    for number in range(3):
        race.add(number, "new", given(1.0))
    assert race.complete == 0 and len(race.evidence(problem())) == 0
    assert race.update(problem()).decision == "continue"


def test_undecided_at_the_end_the_stake_decides() -> None:
    old = [5.0] * 10
    seven = [4.0, 6.0, 4.0, 4.0, 6.0, 4.0, 4.0, 6.0, 4.0, 4.0]  # 7 of 10, never ahead by enough
    assert raced(list(seven), list(old), problem(), shortest=10).decision == "promote"
    six = [4.0] * 6 + [6.0] * 4  # better on average, and no more often than luck
    assert raced(list(six), list(old), problem(), shortest=10).decision == "drop"
    costly = [4.9] * 7 + [25.0] * 3  # more wins, and worse on average
    assert raced(list(costly), list(old), problem(), shortest=10).decision == "drop"


def test_gains_below_the_minimum_effect_are_losses() -> None:
    old = [5.0] * 10
    assert raced([4.6] * 10, list(old), problem(min_effect=0.5)).decision == "drop"
    assert raced([4.4] * 10, list(old), problem(min_effect=0.5)).decision == "promote"
    # A tenth of what the champion has, not of what the challenger has.
    assert raced([4.52] * 10, list(old), problem(min_effect_relative=0.1)).decision == "drop"


def test_pairs_are_asked_for_one_by_one_after_the_shortest() -> None:
    race = Pairs("new", "old", shortest=3, longest=5, first=40)
    wanted = []
    for number in range(40, 46):
        wanted.append(race.wanted)
        race.asked = race.wanted
        race.add(number, "new", given(1.0))
        race.add(number, "old", given(1.0))
    assert wanted == [3, 3, 3, 4, 5, 5]
    assert race.numbers == range(40, 45)
