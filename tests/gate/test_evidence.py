"""Paired evidence: wins and losses, the exact sign test, and intervals that cover."""

from __future__ import annotations

import math
import random
import statistics
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.gate.evidence import Evidence, median, median_interval, median_rank, pairs_needed, sign_test


def evidence(*gains: float, margin: float = 0.0) -> Evidence:
    return Evidence(tuple(range(len(gains))), gains, (margin,) * len(gains))


@pytest.mark.parametrize("n", range(9))
def test_the_sign_test_counts_all_outcomes_of_fair_coins(n: int) -> None:
    outcomes = [sum(coins) for coins in product((0, 1), repeat=n)]
    for wins in range(n + 1):
        assert sign_test(wins, n - wins) == sum(heads >= wins for heads in outcomes) / 2**n


def test_the_sign_test_stays_exact_for_many_pairs() -> None:
    assert sign_test(1000, 1000) == pytest.approx(0.5 + math.comb(2000, 1000) / 2**2001)
    assert sign_test(1000, 0) == 2.0**-1000


def test_wins_have_to_exceed_the_margin() -> None:
    found = evidence(2.0, 1.0, 0.5, -3.0, margin=1.0)
    assert (found.wins, found.losses, len(found)) == (1, 2, 4)  # a gain of exactly the margin is neither
    assert found.mean == 0.125 and evidence().mean == 0


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=9))
def test_swapping_the_two_sides_swaps_wins_and_losses(gains: list[int]) -> None:
    one, other = evidence(*gains), evidence(*[-gain for gain in gains])
    assert (one.wins, one.losses, one.mean) == (other.losses, other.wins, -other.mean)


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_the_median_is_the_textbooks(values: list[float]) -> None:
    assert median(values) == pytest.approx(statistics.median(values))


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError):
        median([])


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (20, 6), (25, 8)])
def test_ranks_are_those_of_the_tables(n: int, rank: int) -> None:
    """Conover (1999), and any table of order-statistic intervals for the median at 95 %."""
    assert median_rank(n, 0.95) == rank


@settings(deadline=None)
@given(st.integers(1, 200), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_interval_is_the_shortest_that_keeps_its_confidence(n: int, confidence: float) -> None:
    def covers(rank: int) -> float:  # P(the median lies between the rank-th smallest and the rank-th largest)
        return 1 - 2 * sum(math.comb(n, k) for k in range(rank)) / 2**n

    rank = median_rank(n, confidence)
    assert rank == 0 or covers(rank) >= confidence - 1e-12
    assert covers(rank + 1) < confidence + 1e-12


@pytest.mark.parametrize("n", [6, 11, 12])
def test_the_interval_covers_the_median_of_a_skewed_distribution(n: int) -> None:
    rng = random.Random(n)
    worlds, hits = 2000, 0
    for _ in range(worlds):
        low, high = median_interval([rng.expovariate(1.0) for _ in range(n)])
        hits += low <= math.log(2) <= high
    assert hits / worlds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / worlds)


def test_too_few_values_have_no_finite_interval() -> None:
    assert median_interval([1, 2, 3, 4, 5]) == (-math.inf, math.inf)
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)


@pytest.mark.parametrize("level", [0.5, 0.25, 0.1, 0.05, 0.0375, 0.01, 0.001])
def test_pairs_needed_is_the_smallest_number_that_can_pass(level: float) -> None:
    need = pairs_needed(level)
    assert sign_test(need, 0) <= level < sign_test(need - 1, 0)
