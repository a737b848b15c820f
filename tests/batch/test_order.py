"""The order of a night is a pure function of what earlier nights found and cost."""

from __future__ import annotations

import pytest

from agent.batch.order import HALF_LIFE, PRIOR_GAIN, Past, cost, order, rate, relative_gain


def names(places: list) -> list[str]:
    return [place.problem for place in places]


def test_the_formula() -> None:
    assert rate([], 0.25) == PRIOR_GAIN / 0.25
    one = rate([Past(age=HALF_LIFE, gain=0.4, cost=0.5)], 0.25)
    assert one == pytest.approx((PRIOR_GAIN + 0.5 * 0.4) / (0.25 + 0.5 * 0.5))


def test_what_gained_nothing_falls_behind_what_was_never_tried_and_what_gained_goes_before_it() -> None:
    past = {"stale": [Past(1, 0.0, 0.5)], "good": [Past(1, 0.3, 0.5)]}
    found = order([("stale", 0), ("new", 0), ("good", 0)], past)
    assert names(found) == ["good", "new", "stale"]
    assert "1 earlier night" in found[0].why and "no earlier night" in found[1].why


def test_a_gain_fades_and_so_does_a_failure() -> None:
    def value(age: float, gain: float) -> float:
        return rate([Past(age, gain, 0.5)], 0.25)

    assert value(1, 0.5) > value(10, 0.5) > value(100, 0.5)
    assert value(1, 0.0) < value(10, 0.0) < value(100, 0.0)
    assert value(1000, 0.5) == pytest.approx(rate([], 0.25), rel=1e-6)


def test_the_cheaper_of_two_equal_gains_goes_first() -> None:
    assert rate([Past(1, 0.2, 0.1)], 0.25) > rate([Past(1, 0.2, 0.9)], 0.25)


def test_priority_goes_before_gain_and_an_unfinished_run_before_both() -> None:
    past = {"a": [Past(1, 0.9, 0.1)]}
    given = [("a", 0), ("b", 5), ("c", 0)]
    assert names(order(given, past)) == ["b", "a", "c"]
    assert names(order(given, past, unfinished=["c"])) == ["c", "b", "a"]


def test_equals_keep_the_order_of_the_file() -> None:
    assert names(order([("z", 0), ("y", 0), ("x", 0)], {})) == ["z", "y", "x"]


def test_the_cost_is_the_share_of_the_cap_that_was_used_most_of() -> None:
    assert cost({"evaluations": 50, "usd": 1.0}, {"evaluations": 100, "usd": 10}, 0.5) == 0.5
    assert cost({"evaluations": 5, "usd": 9.0}, {"evaluations": 100, "usd": 10}, 0.5) == 0.9
    assert cost({"evaluations": 5}, {}, 0.5) == 0.5, "without caps a night costs an equal share"


@pytest.mark.parametrize(
    ("before", "after", "effect", "gain"),
    [
        (10.0, 8.0, 2.0, 0.2),
        (0.5, 0.75, 0.25, 1 / 3),
        (-4.0, -5.0, 1.0, 0.2),
        (0.0, 0.0, 0.1, 1.0),
        (1.0, -5.0, 6.0, 1.0),
        (None, 3.0, None, 0.0),
        (1.0, 2.0, -1.0, 0.0),
    ],
)
def test_a_relative_gain_is_a_share(before: float | None, after: float, effect: float | None, gain: float) -> None:
    assert relative_gain(before, after, effect) == pytest.approx(gain)
