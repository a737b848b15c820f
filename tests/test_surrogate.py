"""The Gaussian process: what it expects where nothing was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.parameters import Categorical, Float
from agent.space import Space
from agent.surrogates.kernel import Hyper, Warp, log_posterior
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate, log_h

PLANE = Space({"a": Float(0, 1), "b": Float(0, 1)})


def points(x: Array, y: Array, failed: Array | None = None, counts: Array | None = None) -> Points:
    """Evaluated points without their trials."""
    none = np.zeros((0, x.shape[1]))
    found = Points(x, y, np.ones(len(y)) if counts is None else counts, (), none if failed is None else failed, none)
    object.__setattr__(found, "trials", (None,) * len(y))
    return found


def bowl(x: Array) -> Array:
    out: Array = 100.0 * ((x - 0.4) ** 2).sum(axis=1)
    return out


def scattered(count: int, size: int = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((count, size))


def test_it_passes_through_what_was_measured_and_is_unsure_far_away() -> None:
    x = 0.5 * scattered(20)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    mean, sd = surrogate.predict(x)
    assert np.allclose(mean, bowl(x), atol=0.05)
    far = surrogate.posterior(np.array([[1.0, 1.0]]))[1][0]
    assert far > 5 * surrogate.posterior(x)[1].max()
    assert sd.shape == (20,)


def test_it_learns_a_bowl_from_few_points() -> None:
    x, fresh = scattered(25), scattered(200, seed=1)
    mean, _ = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False).predict(fresh)
    error = mean - bowl(fresh)
    assert np.sqrt(np.mean(error**2)) < 0.1 * np.std(bowl(fresh))


def test_its_intervals_hold_on_fresh_noisy_points() -> None:
    rng = np.random.default_rng(2)
    inside = []
    for seed in range(5):
        x, fresh = scattered(60, seed=seed), scattered(200, seed=100 + seed)
        surrogate = Surrogate.fit(points(x, bowl(x) + 3 * rng.normal(size=60)), PLANE, noisy=True)
        mean, sd = surrogate.predict(fresh)
        inside.append(np.mean(np.abs(mean - bowl(fresh)) < 3 * sd + 0.5))
    assert np.mean(inside) > 0.9


def test_more_measurements_of_a_point_count_for_more() -> None:
    x, y = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]]), np.array([0.0, 10.0, 5.0])
    hyper = Hyper((0.0, 0.0), math.log(0.5), math.inf, 3)
    choices = np.array([False, False])
    at = np.array([[0.5, 0.5]])
    even = Surrogate(x, y, np.array([1.0, 1.0, 1.0]), choices, hyper).predict(at)[0][0]
    first = Surrogate(x, y, np.array([50.0, 1.0, 1.0]), choices, hyper).predict(at)[0][0]
    assert first < even - 1


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    x = scattered(30, 3)
    parts = np.array([(x[:, k, None] - x[None, :, k]) ** 2 for k in range(3)])
    z = (bowl(x) - bowl(x).mean()) / bowl(x).std()
    theta = np.append(0.3 * rng.normal(size=3), -4.0)
    _, slope = log_posterior(theta, parts, z, np.ones(30), 0.5)
    for place in range(4):
        step = np.zeros(4)
        step[place] = 1e-5
        up, down = (log_posterior(theta + sign * step, parts, z, np.ones(30), 0.5)[0] for sign in (1, -1))
        assert slope[place] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_lengths_tell_which_parameter_matters() -> None:
    x = scattered(40)
    surrogate = Surrogate.fit(points(x, np.sin(9 * x[:, 0])), PLANE, noisy=False)
    assert surrogate.lengths[0] < surrogate.lengths[1] / 3


def test_categories_have_no_order() -> None:
    space = Space({"kind": Categorical(("a", "b", "c"))})
    x = np.array([[1 / 6], [0.5], [1 / 6], [0.5]])
    surrogate = Surrogate.fit(points(x, np.array([0.0, 10.0, 0.1, 9.9])), space)
    mean, sd = surrogate.posterior(np.array([[1 / 6], [0.5], [5 / 6]]))
    assert mean[0] < mean[2] < mean[1]
    assert sd[2] > sd[0]
    # "c" is as far from "a" as from "b", although its place is next to that of "b".
    assert abs(mean[2] - (mean[0] + mean[1]) / 2) < 0.3


def test_a_few_huge_costs_do_not_drown_the_rest() -> None:
    x = scattered(40)
    y = np.exp(12 * ((x - 0.4) ** 2).sum(axis=1) * 4)
    fresh = scattered(300, seed=5)
    truth = np.exp(12 * ((fresh - 0.4) ** 2).sum(axis=1) * 4)
    good = truth < np.quantile(truth, 0.3)
    warped = Surrogate.fit(points(x, y), PLANE, noisy=False)
    plain_hyper = {**warped.hyper, "share": None, "size": 40}
    plain = Surrogate.fit(points(x, y), PLANE, noisy=False, hyper=plain_hyper)
    assert warped.hyper["share"] is not None

    def wrong(surrogate: Surrogate) -> float:
        return float(np.mean(np.abs(surrogate.predict(fresh[good])[0] - truth[good])))

    assert wrong(warped) < wrong(plain)


def test_the_warp_can_be_undone() -> None:
    y = np.array([1.0, 2.0, 5.0, 40.0, 1e4])
    for share in (math.inf, 1.0, 0.01):
        warp = Warp.of(y, share)
        assert np.allclose(warp.back(warp.forward(y)), y, rtol=1e-9)
        z = warp.forward(y)
        step = (warp.back(z + 1e-6) - warp.back(z - 1e-6)) / 2e-6
        assert np.allclose(step, warp.slope(z), rtol=1e-4)


def test_log_h_is_stable_where_its_parts_vanish() -> None:
    t = np.array([-200.0, -40.0, -5.001, -4.999, 0.0, 3.0])
    out = log_h(t)
    assert np.all(np.isfinite(out)) and np.all(np.diff(out) > 0)
    assert out[4] == pytest.approx(math.log(1 / math.sqrt(2 * math.pi)))
    assert out[3] == pytest.approx(out[2], abs=0.02)


def test_expected_improvement_is_largest_where_the_bowl_is_lowest() -> None:
    x = scattered(25)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    at, away = surrogate.log_ei(np.array([[0.4, 0.4], [0.9, 0.9]]))
    assert at > away + 3


def test_optimism_grows_with_what_is_unknown() -> None:
    x = 0.4 * scattered(15)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    far = np.array([[0.95, 0.95]])
    assert surrogate.optimistic(far, 3.0)[0] < surrogate.optimistic(far, 0.0)[0]
    assert surrogate.optimistic(far, 0.0)[0] == pytest.approx(surrogate.predict(far)[0][0])


def test_where_it_failed_is_avoided_and_no_score_is_made_up() -> None:
    x = scattered(20)
    bad = np.array([[0.45, 0.4], [0.42, 0.45], [0.38, 0.42]])
    x = x[((x - 0.41) ** 2).sum(axis=1) > 0.02]
    with_failures = Surrogate.fit(points(x, bowl(x), bad), PLANE, noisy=False)
    without = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    at = np.array([[0.41, 0.42]])
    assert with_failures.predict(at)[0][0] == pytest.approx(without.predict(at)[0][0])
    assert with_failures.log_ei(at)[0] < without.log_ei(at)[0]
    assert np.all(with_failures.success(scattered(50)) > 0)


def test_it_learns_which_parameter_makes_candidates_fail() -> None:
    x = scattered(60, 4)
    ok = x[:, 0] < 0.5
    space = Space({f"x{k}": Float(0, 1) for k in range(4)})
    surrogate = Surrogate.fit(points(x[ok], bowl(x[ok]), x[~ok]), space, noisy=False)
    fresh = scattered(200, 4, seed=9)
    chance = surrogate.success(fresh)
    assert chance[fresh[:, 0] < 0.4].mean() > 0.85
    assert chance[fresh[:, 0] > 0.6].mean() < 0.2
    assert Surrogate.fit(points(x[ok], bowl(x[ok]), x[~ok]), space, hyper=surrogate.hyper).hyper == surrogate.hyper


def test_a_fantasy_makes_it_sure_and_promises_no_gain() -> None:
    x = scattered(10)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    at = np.array([[0.6, 0.2]])
    after = surrogate.fantasise(at)
    assert after.posterior(at)[1][0] < 0.2 * surrogate.posterior(at)[1][0]
    assert after.incumbent >= float(after.warp.forward(np.array([bowl(x).min()]))[0]) - 1e-9


def test_a_fit_is_used_again_until_a_tenth_more_is_known() -> None:
    x = scattered(40)
    first = Surrogate.fit(points(x[:20], bowl(x[:20])), PLANE)
    again = Surrogate.fit(points(x[:22], bowl(x[:22])), PLANE, hyper=first.hyper)
    later = Surrogate.fit(points(x, bowl(x)), PLANE, hyper=first.hyper)
    assert again.hyper == first.hyper
    assert later.hyper["size"] == 40


def test_hundreds_of_points_are_thinned_and_the_best_are_kept() -> None:
    x = scattered(500)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False, seed=1)
    assert len(surrogate.x) == 300
    assert surrogate.y.min() == bowl(x).min()


@pytest.mark.parametrize("y", [[3.0, 3.0, 3.0], [1e140, -1e140, 0.0], [0.0, 1e-300, 2e-300]])
def test_odd_costs_do_not_break_it(y: list[float]) -> None:
    x = scattered(3)
    surrogate = Surrogate.fit(points(x, np.array(y)), PLANE)
    mean, sd = surrogate.posterior(scattered(10, seed=3))
    assert np.all(np.isfinite(mean)) and np.all(np.isfinite(sd)) and np.all(np.isfinite(surrogate.log_ei(x)))


def test_repeated_places_do_not_break_it() -> None:
    x = np.repeat(scattered(4), 10, axis=0)
    surrogate = Surrogate.fit(points(x, bowl(x)), PLANE, noisy=False)
    assert np.all(np.isfinite(surrogate.log_ei(scattered(20, seed=8))))


def test_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="two evaluated points"):
        Surrogate.fit(points(scattered(1), np.ones(1)), PLANE)
