"""Betting on paired differences: the wealth is what the definition says, and false hypotheses pay, true ones do not."""

from __future__ import annotations

import itertools
import math
import timeit
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from agent.gate import wealth
from agent.gate.evidence import sign_test

Sampler = Callable[[np.random.Generator, tuple[int, int]], wealth.Array]
WORLDS = 1500


def signs(rng: np.random.Generator, shape: tuple[int, ...], gain: float, discordance: float) -> wealth.Array:
    """Wins, losses and ties with P(win) - P(loss) = gain and P(win) + P(loss) = discordance."""
    chances = [(discordance - gain) / 2, 1 - discordance, (discordance + gain) / 2]
    return rng.choice([-1.0, 0.0, 1.0], shape, p=chances)


def rare_loss(rng: np.random.Generator, shape: tuple[int, ...]) -> wealth.Array:
    """Mean 0: nearly always a little better, now and then a disaster."""
    return np.where(rng.random(shape) < 1 / 21, -1.0, 0.05)


NULLS: dict[str, Sampler] = {
    "binary": lambda rng, shape: signs(rng, shape, 0.0, 1.0),
    "ties": lambda rng, shape: signs(rng, shape, 0.0, 0.1),
    "graded": lambda rng, shape: rng.normal(0, 0.3, shape).clip(-1, 1),
    "rare loss": rare_loss,
    "worse": lambda rng, shape: signs(rng, shape, -0.05, 0.3),
}


def test_wealth_is_the_mean_over_bets_of_the_direct_product() -> None:
    d = np.random.default_rng(1).uniform(-1, 1, 40)
    points = 40_000
    for m in (0.0, -0.05, 0.3, -0.9):
        bets = (np.arange(points) + 0.5) / points / (1 + m)
        product, direct = np.ones(points), []
        for difference in d:
            product = product * (1 + bets * (difference - m))
            direct.append(math.log(product.mean()))
        np.testing.assert_allclose(wealth.log_wealth(d, m), direct, atol=1e-6)


def exact(wins: int, losses: int) -> Fraction:
    """The integral of (1+b)^wins (1-b)^losses over b in [0, 1], term by term as Beta integrals."""
    return sum(
        (Fraction(math.comb(wins, k) * math.factorial(k) * math.factorial(losses), math.factorial(k + losses + 1)))
        for k in range(wins + 1)
    )


@pytest.mark.parametrize(
    ("wins", "losses"), [(0, 0), (1, 0), (0, 1), (5, 0), (12, 3), (40, 25), (200, 150), (290, 210)]
)
def test_wealth_of_signs_is_a_beta_integral_in_any_order_and_with_any_ties(wins: int, losses: int) -> None:
    d = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 7)
    expected = math.log(exact(wins, losses))
    for seed in range(3):
        found = wealth.log_wealth(np.random.default_rng(seed).permutation(d))[-1]
        assert found == pytest.approx(expected, abs=1e-10)


def test_three_wins_are_worth_fifteen_fourths() -> None:
    np.testing.assert_allclose(np.exp(wealth.log_wealth([1, 1, 0, 1, -1])), [3 / 2, 7 / 3, 7 / 3, 15 / 4, 13 / 10])


def test_long_one_sided_data_neither_overflow_nor_get_lost() -> None:
    won, lost = wealth.log_wealth(np.ones(5000)), wealth.log_wealth(-np.ones(5000))
    assert won[-1] == pytest.approx(5001 * math.log(2) - math.log(5001), rel=1e-2)
    assert np.isfinite(lost).all() and lost[-1] < -math.log(4000)


@pytest.mark.parametrize("bad", [[1.1], [-1.1, 0.0], [math.nan], [[0.1, 0.2]]])
def test_differences_outside_the_range_are_refused(bad: list[float]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: wealth.log_wealth(bad),
        lambda: wealth.test(bad, 0.05),
        lambda: wealth.lower_bound(bad, 0.05),
        lambda: wealth.conservative(bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\[-1, 1\]|one row"):
            call()
    assert wealth.log_wealth([1 + 1e-12])[0] == pytest.approx(math.log(1.5)), "rounding is no error"


@pytest.mark.parametrize("m", [-1.0, 1.5, math.nan])
def test_a_mean_that_cannot_be_tested_is_refused(m: float) -> None:
    with pytest.raises(ValueError, match="tested mean"):
        wealth.log_wealth([0.1], m)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    for call in (wealth.test, wealth.lower_bound):
        with pytest.raises(ValueError, match="level"):
            call([0.1], level)
    with pytest.raises(ValueError, match="confidence"):
        wealth.interval([0.1], 1 - level)


def test_the_test_stops_when_the_wealth_first_reaches_one_over_the_level() -> None:
    # Wins in a row are worth 1.5, 2.3, 3.75, 6.2, 10.5, 18.1, 31.9.
    found = wealth.test([1.0] * 7 + [-1.0] * 30, 0.05)
    assert (found.accepted, found.stopped) == (True, 7) and found.p == pytest.approx(8 / 255)
    found = wealth.test([1.0] * 6, 0.05)
    assert (found.accepted, found.stopped) == (False, None) and found.p == pytest.approx(7 / 127)
    # Exactly 1/level is enough.
    assert wealth.test([1.0, 1.0, 1.0], 4 / 15).stopped == 3


@pytest.mark.parametrize("d", [[], [0.0] * 50, [-1.0] * 50])
def test_ties_and_losses_are_no_evidence(d: list[float]) -> None:
    assert wealth.test(d, 0.05) == wealth.Betting(False, 1.0, None)
    assert wealth.sign_flip(d, seed=0) == 1.0


def test_what_wins_one_way_round_does_not_win_the_other() -> None:
    d = signs(np.random.default_rng(2), (100,), 0.3, 0.4)
    p = {1: wealth.sign_flip(d, seed=0), -1: wealth.sign_flip(-d, seed=0)}
    assert wealth.test(d, 0.05).accepted and not wealth.test(-d, 0.05).accepted
    assert p[1] < 0.001 and p[-1] > 0.999
    assert wealth.lower_bound(d, 0.05) > 0 > wealth.lower_bound(-d, 0.05)
    low, high = wealth.interval(d)
    assert 0 < low < d.mean() < high
    assert wealth.interval(-d) == (-high, -low)
    assert wealth.t_wealth(d + 1e-3)[-1] > 20 and wealth.t_wealth(-d - 1e-3)[-1] == 0
    wins, losses = wealth.conservative(d)
    assert sign_test(wins, losses) < 0.01 and wealth.conservative(-d) == (losses, wins)


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_true_nulls_pay_rarely(null: str, level: float) -> None:
    d = NULLS[null](np.random.default_rng(3), (WORLDS, 150))
    share = np.mean([wealth.log_wealth(row).max() >= -math.log(level) for row in d])
    assert share <= level + 3 * math.sqrt(level * (1 - level) / WORLDS)


def test_the_mean_of_the_wealth_under_the_null_is_one() -> None:
    # All 3^5 histories of fair wins, losses and ties: not one on average only, but exactly.
    for m, values in ((0.0, (-1.0, 0.0, 1.0)), (-0.1, (-1.0, -0.1, 0.8)), (0.25, (-0.5, 0.25, 1.0))):
        final = [math.exp(wealth.log_wealth(history, m)[-1]) for history in itertools.product(values, repeat=5)]
        assert np.mean(values) == pytest.approx(m) and np.mean(final) == pytest.approx(1, abs=1e-12)


# Exact thresholds for signs


def moments(n: int, gain: float, discordance: float, bar: float) -> tuple[float, float]:
    """Power and mean number of pairs of the test with this bar, by its chances over (wins, losses)."""
    win, loss = (discordance + gain) / 2, (discordance - gain) / 2
    alive, accepted, pairs = {(0, 0): 1.0}, 0.0, 0.0
    worth = {
        (u, v): math.log(exact(u, v)) for u in range(n + 1) for v in range(n + 1 - u) if u + v <= n and v <= n // 2
    }
    for _ in range(n):
        pairs += sum(alive.values())
        after: dict[tuple[int, int], float] = {}
        for (u, v), chance in alive.items():
            for state, step in (((u + 1, v), win), ((u, v + 1), loss), ((u, v), 1 - discordance)):
                if worth.get(state, -math.inf) >= math.log(bar) and step:
                    accepted += chance * step
                else:
                    after[state] = after.get(state, 0.0) + chance * step
        alive = {state: chance for state, chance in after.items() if chance > 1e-12}
    return accepted, pairs


# Powers with wealth 20 and with the exact threshold, and the mean number of pairs of the latter, from an
# independent simulation of 2000 worlds: hence the tolerance.
@pytest.mark.parametrize(
    ("n", "gain", "safe", "sharp", "calls"),
    [
        (20, 0.1, 0.01, 0.04, 20),
        (20, 0.2, 0.11, 0.22, 19),
        (20, 0.3, 0.35, 0.54, 17),
        (50, 0.1, 0.18, 0.30, 45),
        (50, 0.2, 0.73, 0.85, 31),
        (50, 0.3, 0.94, 0.96, 22),
    ],
)
def test_the_exact_threshold_has_the_power_that_was_simulated(
    n: int, gain: float, safe: float, sharp: float, calls: float
) -> None:
    discordance = max(0.2, 1.2 * gain)
    assert moments(n, gain, discordance, 20)[0] == pytest.approx(safe, abs=0.03)
    power, pairs = moments(n, gain, discordance, wealth.threshold(n, 0.05))
    assert power == pytest.approx(sharp, abs=0.03) and pairs == pytest.approx(calls, abs=1.0)


def test_the_chance_of_crossing_is_that_of_all_patterns() -> None:
    n, bar = 10, 5.0
    crossed = [wealth.log_wealth(row).max() >= math.log(bar) for row in itertools.product((-1.0, 1.0), repeat=n)]
    assert wealth.crossing(n, bar) == pytest.approx(np.mean(crossed), abs=1e-12)


@pytest.mark.parametrize("level", [0.05, 0.0125, 0.2])
@pytest.mark.parametrize("n", [5, 20, 50, 100])
def test_the_threshold_keeps_the_level_and_the_next_lower_wealth_does_not(n: int, level: float) -> None:
    c = wealth.threshold(n, level)
    if math.isinf(c):
        assert 0.5**n > level
        return
    assert wealth.crossing(n, c) <= level < wealth.crossing(n, lower_wealth(n, c)) and c <= 1 / level


def lower_wealth(n: int, c: float) -> float:
    """The largest wealth below c that signs can have within n pairs."""
    return max(
        (float(w) for u in range(n + 1) for v in range(min(u, n - u) + 1) if (w := exact(u, v)) < c), default=0.0
    )


def test_thresholds_rise_from_eight_to_fifteen_and_too_few_pairs_have_none() -> None:
    found = [wealth.threshold(n, 0.05) for n in (4, 5, 20, 50, 100, 500)]
    assert math.isinf(found[0]) and [round(c, 1) for c in found[1:]] == [8.1, 10.9, 10.6, 11.7, 14.9]
    assert wealth.test([1.0] * 5, 1 / found[1]).accepted and not wealth.test([1.0] * 4, 1 / found[1]).accepted


def test_neither_ties_nor_a_worse_balance_make_a_false_crossing_likelier() -> None:
    n, bar = 12, wealth.threshold(12, 0.05)
    fair = moments(n, 0.0, 1.0, bar)[0]
    assert fair == pytest.approx(wealth.crossing(n, bar), abs=1e-9) and fair <= 0.05
    tied = [moments(n, 0.0, discordance, bar)[0] for discordance in (1.0, 0.8, 0.5, 0.2)]
    worse = [moments(n, -loss, 1.0, bar)[0] for loss in (0.0, 0.05, 0.2)]
    assert tied == sorted(tied, reverse=True) and worse == sorted(worse, reverse=True)
    assert all(wealth.crossing(shorter, bar) <= wealth.crossing(shorter + 1, bar) for shorter in range(n))


# Bounds


def test_wealth_falls_as_the_tested_mean_rises() -> None:
    rng = np.random.default_rng(5)
    for d in (rng.uniform(-1, 1, 60), signs(rng, (60,), 0.2, 0.4), rare_loss(rng, (60,))):
        paths = np.array([wealth.log_wealth(d, m) for m in np.linspace(-0.95, 0.95, 77)])
        assert (np.diff(paths, axis=0) < 0).all()


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_lower_bound_is_where_the_test_changes_its_mind(level: float) -> None:
    rng = np.random.default_rng(6)
    for d in (
        rng.uniform(-1, 1, 80),
        signs(rng, (80,), 0.2, 0.4),
        -np.ones(3) / 2,
        np.ones(100),
        np.repeat([1.0, -1.0], [60, 40]),
    ):
        bound = wealth.lower_bound(d, level)
        assert wealth.test(d, level, bound).accepted
        assert not wealth.test(d, level, bound + 4e-5).accepted
    # Without evidence nothing is excluded.
    assert wealth.lower_bound([], 0.05) == -1.0 == wealth.lower_bound([-1.0, -1.0], 0.05)
    assert wealth.interval([]) == (-1.0, 1.0)


def test_intervals_cover_and_shrink() -> None:
    rng, mean = np.random.default_rng(7), 0.1
    d = signs(rng, (400, 120), mean, 0.4)
    found = np.array([wealth.interval(row, 0.9) for row in d])
    assert np.mean((found[:, 0] <= mean) & (mean <= found[:, 1])) >= 0.9
    low, high = np.transpose([wealth.interval(d.ravel()[:n]) for n in (30, 100, 300, 1000)])
    assert (np.diff(high - low) < 0).all() and high[-1] - low[-1] < 0.15


# Sign flips


def test_few_pairs_try_every_pattern() -> None:
    d = [0.5, -0.1, 0.3, 0.0, 0.2]
    sums = [
        sum(s * abs(x) for s, x in zip(pattern, d, strict=True)) for pattern in itertools.product((1, -1), repeat=5)
    ]
    assert wealth.sign_flip(d, seed=0) == np.mean(np.array(sums) >= sum(d) - 1e-9)
    assert wealth.sign_flip([0.1] * 5, seed=0) == sign_test(5, 0) == 1 / 32
    # 0.1 + 0.2 and 0.3 are the same sum, however they are rounded.
    assert wealth.sign_flip([0.3, -0.1, -0.2], seed=0) == 5 / 8


def test_the_studentised_statistic_orders_patterns_as_sums_do() -> None:
    d = np.random.default_rng(8).normal(0.2, 1, 10)
    flipped = np.array(list(itertools.product((1, -1), repeat=10))) * d
    student = flipped.mean(axis=1) / flipped.std(axis=1, ddof=1)
    better = np.mean(student >= student[0] - 1e-12)
    assert wealth.sign_flip(d, seed=0) == better


def test_many_pairs_are_flipped_at_random_and_reproducibly() -> None:
    d = signs(np.random.default_rng(9), (61,), 0.2, 0.6)
    wins, losses = wealth.conservative(d)
    p = sign_test(wins, losses)  # for equal sizes the sum is the number of wins
    found = [wealth.sign_flip(d, seed=seed) for seed in range(5)]
    assert len(set(found)) > 1 and wealth.sign_flip(d, seed=0) == found[0]
    assert found == pytest.approx([p] * 5, abs=4 * math.sqrt(p * (1 - p) / 9999))
    assert wealth.sign_flip(np.ones(200), seed=0, flips=999) == 1 / 1000


def test_the_sign_flip_test_has_the_power_of_a_t_test_on_graded_scores_and_keeps_its_level() -> None:
    rng = np.random.default_rng(10)
    for gain, least, most in ((0.0, 0.0, 0.05 + 3 * 0.011), (0.1, 0.85, 1.0)):
        d = rng.normal(gain, 0.2, (400, 50))
        share = np.mean([wealth.sign_flip(row, seed=1, flips=399) <= 0.05 for row in d])
        assert least <= share <= most


@pytest.mark.parametrize("bad", [[math.inf], [math.nan, 1.0], [[1.0]]])
def test_what_is_no_number_is_refused_without_a_range_too(bad: list[float]) -> None:
    for call in (lambda: wealth.sign_flip(bad, seed=0), lambda: wealth.t_wealth(bad)):
        with pytest.raises(ValueError, match="finite"):
            call()


# Gaussian noise


def test_t_wealth_is_the_formula_with_the_squared_t_statistic() -> None:
    x = np.random.default_rng(11).normal(0.4, 1, 30)
    expected = [1.0]
    for t in range(2, 31):
        head, nu = x[:t], t - 1
        squared = t * head.mean() ** 2 / head.var(ddof=1)
        ratio = (1 + squared / nu) / (1 + squared / ((1 + t) * nu))
        expected.append(math.sqrt(1 / (1 + t)) * ratio ** (t / 2) if head.mean() > 0 else 0.0)
    expected[0] = 1.0 if x[0] > 0 else 0.0
    np.testing.assert_allclose(wealth.t_wealth(x), expected, rtol=1e-9)
    np.testing.assert_allclose(wealth.t_wealth(x * 1e-200), expected, rtol=1e-9)  # no scale


def test_t_wealth_of_ties_and_of_equal_values_is_a_number() -> None:
    assert (wealth.t_wealth([0.0] * 5) == 0).all() and wealth.t_wealth([]).size == 0
    assert wealth.t_wealth([1.0] * 7)[-1] == pytest.approx(8**3)
    assert np.isfinite(wealth.t_wealth(np.ones(3000))).all()


def test_t_wealth_is_safe_for_gaussian_noise_with_a_mean_of_zero_or_less() -> None:
    rng = np.random.default_rng(12)
    for mean in (0.0, -0.2):
        d = rng.normal(mean, 3, (WORLDS * 4, 60))
        largest = np.array([wealth.t_wealth(row).max() for row in d])
        for level in (0.2, 0.05, 0.005):
            assert np.mean(largest >= 1 / level) <= level + 3 * math.sqrt(level * (1 - level) / len(d))


def test_t_wealth_is_not_safe_for_symmetric_noise_that_is_not_gaussian() -> None:
    """Exact over all patterns of 12 fair signs; `wealth.test` keeps the level on the same patterns."""
    largest, bets = [], []
    for pattern in itertools.product((-1.0, 1.0), repeat=12):
        largest.append(wealth.t_wealth(pattern).max())
        bets.append(wealth.log_wealth(pattern).max())
    for level in (0.0125, 0.005, 0.002):
        assert np.mean(np.array(largest) >= 1 / level) > 1.3 * level
        assert np.mean(np.array(bets) >= -math.log(level)) <= level


# The sign test for the mean


def test_small_gains_count_as_losses_in_the_conservative_sign_test() -> None:
    assert wealth.conservative([1.0, 1 - 1e-13, 0.0, 1e-13, -1.0, 0.5, -0.5, 0.999]) == (2, 4)
    assert wealth.conservative([]) == (0, 0)


def test_the_conservative_sign_test_is_valid_for_the_mean_where_the_plain_one_is_not() -> None:
    rng = np.random.default_rng(13)
    plain = [sign_test(int((row > 0).sum()), int((row < 0).sum())) <= 0.05 for row in rare_loss(rng, (200, 60))]
    assert np.mean(plain) > 0.95
    for null in ("rare loss", "graded", "ties", "worse"):
        d = NULLS[null](rng, (WORLDS, 60))
        share = np.mean([sign_test(*wealth.conservative(row)) <= 0.05 for row in d])
        assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / WORLDS)
    # Full wins with graded losses of the same weight: the worst that the mean null allows for it.
    d = rng.choice([1.0, -0.5, -1.0], (WORLDS, 60), p=[0.45, 0.2, 0.35])
    assert np.mean([sign_test(*wealth.conservative(row)) <= 0.05 for row in d]) <= 0.05 + 3 * 0.0057
    # Yet it sees full wins.
    d = signs(rng, (200, 50), 0.3, 0.36)
    assert np.mean([sign_test(*wealth.conservative(row)) <= 0.05 for row in d]) > 0.95


def fastest(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=1, repeat=7))


def test_a_verdict_over_500_pairs_is_quick() -> None:
    d = np.random.default_rng(15).uniform(-1, 1, 500)
    assert fastest(lambda: wealth.log_wealth(d)) < 0.005
    assert fastest(lambda: wealth.interval(d)) < 0.05
    assert fastest(lambda: wealth.sign_flip(d, seed=0)) < 0.05
    wealth.threshold(500, 0.05)
    assert fastest(lambda: wealth.threshold(500, 0.05)) < 0.001
