"""Levels over all histories sum to at most alpha, and plans promise what the exact test keeps."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from agent.gate import levels
from agent.gate.evidence import sign_test

ALPHA = 0.05
Bits = tuple[int, ...]
Policy = Callable[[Any], float]


def level(**changes: Any) -> float:
    usual: dict[str, Any] = {"accepts": 0, "tests": 0, "run": 1, "taken": 0, "last": False}
    return levels.level(ALPHA, **{**usual, **changes})


@pytest.mark.parametrize(("accepts", "tests", "expected"), [(0, 0, 1), (0, 1, 1 / 2), (1, 1, 1 / 2), (2, 2, 3 / 8)])
def test_the_code_over_bits_has_its_known_values(accepts: int, tests: int, expected: float) -> None:
    assert levels.kt(accepts, tests) == pytest.approx(expected)


@pytest.mark.parametrize("tests", [1, 5, 12, 300])
def test_the_code_is_a_probability_over_histories(tests: int) -> None:
    assert sum(math.comb(tests, b) * levels.kt(b, tests) for b in range(tests + 1)) == pytest.approx(1)
    # And it is consistent: a history has the chance of its two continuations.
    for b in range(tests + 1):
        assert levels.kt(b, tests) == pytest.approx(levels.kt(b, tests + 1) + levels.kt(b + 1, tests + 1))


def test_runs_for_ever_share_one() -> None:
    assert [levels.weight(number) for number in (1, 2, 3)] == pytest.approx([0.75, 0.15198, 0.037995], rel=1e-4)
    assert 0.9999 < sum(levels.weight(number) for number in range(1, 20_001)) < 1


@pytest.mark.parametrize("taken", range(12))
def test_interim_exams_and_the_final_one_share_all_of_a_run(taken: int) -> None:
    assert sum(levels.interim(j) for j in range(1, taken + 1)) + levels.final(taken) == 1


def test_levels_are_those_of_the_design_in_a_world_of_one_run() -> None:
    whole = levels.weight(1)
    assert level() / whole == pytest.approx(0.0125)
    assert level(last=True) / whole == pytest.approx(0.05)
    assert level(tests=1, taken=1, last=True) / whole == pytest.approx(0.0188, abs=5e-5)
    assert level(tests=2, accepts=2, taken=2, last=True) / whole == pytest.approx(0.0117, abs=5e-5)


def test_later_runs_and_more_tests_have_less() -> None:
    assert level(last=True) > level() and level(run=2) < level()
    assert level(tests=1, taken=1) < level() > level(tests=1, accepts=1, taken=1)
    assert levels.level(0.1, accepts=0, tests=0, run=1, taken=0, last=True) == 2 * level(last=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"accepts": 1},
        {"accepts": -1, "tests": 1},
        {"tests": 1, "taken": 2},
        {"taken": -1},
        {"run": 0},
        {"tests": 2, "accepts": 1, "pending": 2},
        {"pending": -1},
    ],
)
def test_counts_that_contradict_each_other_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"accepts|runs|exams"):
        level(**wrong)


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        levels.level(alpha, accepts=0, tests=0, run=1, taken=0, last=False)


def test_shares_are_numbered_from_one() -> None:
    for call in (lambda: levels.interim(0), lambda: levels.final(-1), lambda: levels.weight(0)):
        with pytest.raises(ValueError, match=r"numbered|taken"):
            call()


def spent(ends: Callable[[Bits], bool], depth: int, bits: Bits = (), run: int = 1, taken: int = 0) -> float:
    """Levels summed over all histories of bits, when `ends` says which history is followed by a final exam."""
    if len(bits) > depth:
        return 0.0
    last = ends(bits)
    own = level(accepts=sum(bits), tests=len(bits), run=run, taken=taken, last=last)
    run, taken = (run + 1, 0) if last else (run, taken + 1)
    return own + sum(spent(ends, depth, (*bits, bit), run, taken) for bit in (0, 1))


def randomly(seed: int) -> Policy:
    """A number in [0, 1) for each history, fixed once and for all."""
    return lambda history: random.Random(f"{seed} {history}").random()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_levels_over_all_histories_sum_to_at_most_alpha(seed: int, share: float) -> None:
    chance = randomly(seed)
    assert 0.2 * ALPHA < spent(lambda bits: chance(bits) < share, depth=11) <= ALPHA


def test_the_sum_is_exact_for_policies_that_never_vary() -> None:
    always = spent(lambda bits: True, depth=8)
    assert always == pytest.approx(ALPHA * sum(levels.weight(run) for run in range(1, 10)))
    never = spent(lambda bits: False, depth=8)
    assert never == pytest.approx(ALPHA * levels.weight(1) * (0.5 - 2.0**-10))
    # An adversary that exams again and again only after an accept, or only after a reject, gains nothing.
    for wanted in (0, 1):
        assert spent(lambda bits, wanted=wanted: bits[-1:] != (wanted,), depth=10) <= ALPHA


def spent_in_parallel(
    chance: Policy, most: int, bits: tuple[int | None, ...], log: tuple[Any, ...], run: int, taken: int
) -> float:
    """As `spent`, with exams that are started before earlier bits are known and decided in any order.

    One exam with p pending bits stands for 2^p histories, and is counted as often.
    """
    pending = [number for number, bit in enumerate(bits) if bit is None]
    if len(bits) == most and not pending:
        return 0.0
    if len(bits) == most or (pending and chance(("decide", log)) < 0.5):
        number = pending[int(chance(("which", log)) * len(pending))]
        return sum(
            spent_in_parallel(
                chance, most, (*bits[:number], bit, *bits[number + 1 :]), (*log, (number, bit)), run, taken
            )
            for bit in (0, 1)
        )
    last = chance(("last", log)) < 0.4
    accepts = sum(bit for bit in bits if bit is not None)
    own = level(accepts=accepts, tests=len(bits), run=run, taken=taken, last=last, pending=len(pending))
    run, taken = (run + 1, 0) if last else (run, taken + 1)
    return 2 ** len(pending) * own + spent_in_parallel(chance, most, (*bits, None), (*log, last), run, taken)


@pytest.mark.parametrize("seed", range(6))
def test_pending_exams_decided_in_any_order_keep_alpha(seed: int) -> None:
    assert 0.2 * ALPHA < spent_in_parallel(randomly(seed), 9, (), (), 1, 0) <= ALPHA


def test_a_pending_exam_counts_as_the_worse_of_its_outcomes() -> None:
    known = {"accepts": 1, "tests": 5, "taken": 3}
    possible = [level(**{**known, "accepts": 1 + more}) for more in range(3)]
    assert level(**known, pending=2) == min(possible) < max(possible)


# Planning


@pytest.mark.parametrize(
    ("gain", "discordance", "pairs"),
    [(0.05, 0.2, 493), (0.1, 0.2, 122), (0.2, 0.25, 36), (0.3, 0.36, 23), (0.1, 0.4, 245)],
)
def test_exam_sizes_are_those_of_the_design_and_the_exact_test_keeps_them(
    gain: float, discordance: float, pairs: int
) -> None:
    n = levels.exam_size(gain, discordance, ALPHA)
    assert n - levels.EXTRA in (pairs, pairs + 1)  # the design rounds to the nearest, an exam rounds up
    assert 0.77 < levels.power(n, gain, discordance, ALPHA) < 0.82
    assert levels.exam_size(gain, discordance, ALPHA / 4) > n < levels.exam_size(gain, discordance, ALPHA, power=0.9)


def test_an_exam_is_never_smaller_than_the_wins_it_asks_for() -> None:
    assert levels.exam_size(1.0, 1.0, 1e-9) >= math.ceil(math.log2(1e9)) > levels.exam_size(1.0, 1.0, 0.05)
    # The normal approximation alone would ask for very few pairs of a sure win.
    assert sign_test(levels.exam_size(1.0, 1.0, 1e-12), 0) <= 1e-12


@pytest.mark.parametrize(("gain", "discordance"), [(0.0, 0.2), (-0.1, 0.2), (0.3, 0.2), (0.1, 1.2), (0.0, 0.0)])
def test_a_plan_needs_a_gain_that_is_possible(gain: float, discordance: float) -> None:
    with pytest.raises(ValueError, match="gain"):
        levels.exam_size(gain, discordance, ALPHA)


def enumerated(n: int, gain: float, discordance: float, alpha: float) -> float:
    """Power by adding up every number of wins, losses and ties."""
    win, loss = (discordance + gain) / 2, (discordance - gain) / 2
    return sum(
        math.comb(n, u) * math.comb(n - u, v) * win**u * loss**v * (1 - discordance) ** (n - u - v)
        for u, v in itertools.product(range(n + 1), repeat=2)
        if u + v <= n and sign_test(u, v) <= alpha
    )


@pytest.mark.parametrize("alpha", [0.05, 1 / 32, 0.0117])
@pytest.mark.parametrize(
    ("n", "gain", "discordance"), [(0, 0.1, 0.2), (4, 0.3, 0.4), (12, 0.2, 0.5), (40, 0.1, 0.2), (30, -0.1, 0.3)]
)
def test_power_is_that_of_the_exact_sign_test(n: int, gain: float, discordance: float, alpha: float) -> None:
    assert levels.power(n, gain, discordance, alpha) == pytest.approx(
        enumerated(n, gain, discordance, alpha), abs=1e-12
    )


@pytest.mark.parametrize(("n", "gain", "discordance"), [(8, 1.0, 1.0), (8, 0.5, 0.5), (8, -0.5, 0.5), (8, 0.2, 1.0)])
def test_power_holds_at_the_edges(n: int, gain: float, discordance: float) -> None:
    assert levels.power(n, gain, discordance, 0.05) == pytest.approx(enumerated(n, gain, discordance, 0.05), abs=1e-12)


# From an independent simulation of 2000 worlds a cell.
@pytest.mark.parametrize(
    ("n", "powers"), [(20, (0.08, 0.35, 0.66)), (50, (0.35, 0.91, 0.99)), (100, (0.68, 1, 1)), (200, (0.92, 1, 1))]
)
def test_powers_are_those_that_were_simulated(n: int, powers: tuple[float, ...]) -> None:
    found = [levels.power(n, gain, max(0.2, 1.2 * gain), ALPHA) for gain in (0.1, 0.2, 0.3)]
    assert found == pytest.approx(powers, abs=0.02)


@pytest.mark.parametrize("gain", [0.0, -0.05, -0.2])
def test_what_is_not_better_is_accepted_at_most_at_the_level(gain: float) -> None:
    for n in (5, 20, 100, 500):
        assert levels.power(n, gain, 0.2, ALPHA) <= ALPHA
    assert levels.power(100, gain, 0.2, ALPHA) < levels.power(100, gain + 0.05, 0.2, ALPHA)
    assert levels.power(100, -0.2, 0.2, ALPHA) < 1e-9 and levels.power(100, 0.2, 0.2, ALPHA) > 0.9999


def test_the_wins_asked_for_are_the_fewest_that_pass() -> None:
    for alpha in (0.05, 1 / 32, 0.0117):
        for k, wins in enumerate(levels.critical_wins(60, alpha)):
            assert wins == k + 1 or sign_test(wins, k - wins) <= alpha
            assert sign_test(wins - 1, k - wins + 1) > alpha
    first = next(k for k, wins in enumerate(levels.critical_wins(20, 0.05)) if wins <= k)
    assert first == 5


@pytest.mark.parametrize("n", [8, 20, 50, 200])
@pytest.mark.parametrize("discordance", [None, 0.5])
def test_the_detectable_gain_has_the_power_and_smaller_ones_have_not(n: int, discordance: float | None) -> None:
    def power(gain: float) -> float:
        return levels.power(n, gain, discordance or levels.assumed_discordance(gain), ALPHA)

    gain = levels.detectable(n, ALPHA, discordance)
    if math.isinf(gain):
        assert discordance is not None and power(discordance) < 0.8
        return
    assert power(gain) >= 0.8 and all(power(gain * part) < 0.8 for part in (0.999, 0.9, 0.5))


def test_fifty_examples_show_sixteen_points() -> None:
    assert [levels.assumed_discordance(gain) for gain in (0.05, 0.3, 0.9)] == pytest.approx([0.2, 0.36, 1.0])
    assert levels.detectable(50, ALPHA) == pytest.approx(0.163, abs=0.001)
    assert levels.detectable(200, ALPHA) < 0.1 < levels.detectable(20, ALPHA) < 0.4
    assert levels.detectable(50, ALPHA / 4) > levels.detectable(50, ALPHA)
    assert levels.detectable(50, ALPHA, power=0.5) < levels.detectable(50, ALPHA)


def test_too_few_examples_show_nothing() -> None:
    assert levels.detectable(4, ALPHA) == math.inf == levels.detectable(0, ALPHA)
    assert levels.detectable(5, ALPHA) <= 1
    with pytest.raises(ValueError, match="discordance"):
        levels.detectable(50, ALPHA, 1.5)
