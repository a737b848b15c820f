"""Signs of a trick, and exact rechecks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gate.suspicion import Interval, beyond_bound, exact, jump, newly_internal


def test_what_cannot_be_is_suspicious() -> None:
    bounds = {"sum": (0.0, 2.6359), "gap": (0.0, None)}
    assert not beyond_bound({"sum": 2.6359, "gap": 0.0, "other": 9.0}, bounds)
    found = beyond_bound({"sum": 2.64, "gap": -1e-9}, bounds)
    assert [item.reason for item in found] == ["bound", "bound"] and "2.64, and more than 2.6359" in found[0].evidence
    assert beyond_bound({"sum": math.nan}, bounds)[0].evidence == "sum is nan"


def test_a_gain_out_of_all_proportion() -> None:
    usual = [1.0, 1.1, 0.9, 1.2, 1.0, 1.1, 0.9, 1.0]
    assert jump(usual, 1.4, 1.0) is None and jump(usual, 0.2, 1.0) is None
    found = jump(usual, 9.0, 1.0)
    assert found is not None and found.reason == "jump" and "gains 7.8 over the best of 8" in found.evidence
    assert jump(usual, -9.0, -1.0) is not None, "where less is better"
    assert jump(usual[:7], 9.0, 1.0) is None, "seven scores say nothing about what is usual"
    assert jump([5.0] * 8, 5.0, 1.0) is None and jump([5.0] * 8, 5.1, 1.0) is not None


@pytest.mark.parametrize(
    "text",
    [
        "import gc",
        "import sys\nsys._getframe(1)",
        "from inspect import currentframe",
        "getattr(object, '__subclasses__')",
        "x = (1).__reduce__",
        "import task",
    ],
)
def test_a_program_that_reaches_around_itself(text: str) -> None:
    found = newly_internal([text], [], ["task"])
    assert found is not None and "line" in found.evidence


def test_words_in_comments_and_texts_are_nothing() -> None:
    text = '# gc and inspect\nx = "we inspect the gc"\ndef f(game): return game'
    assert newly_internal([text], [], ["task"]) is None


def test_numbers_as_they_are() -> None:
    assert exact([0.1, (1, 2.5)]) == [Fraction(3602879701896397, 36028797018963968), [1, Fraction(5, 2)]]
    for wrong in (math.nan, math.inf, "1", None, True, [math.nan]):
        with pytest.raises(ValueError):
            exact(wrong)


NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, NUMBERS, st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1), st.floats(0, 1))
def test_intervals_hold_what_they_should(a: float, b: float, r: float, s: float, t: float, u: float) -> None:
    one, two = Interval.of(a, r), Interval.of(b, s)
    x = one.low + (one.high - one.low) * Fraction(t)
    y = two.low + (two.high - two.low) * Fraction(u)
    for made, value in ((one + two, x + y), (one - two, x - y), (one * two, x * y)):
        assert made.low <= value <= made.high
    square = Interval(x * x, x * x).sqrt()
    assert square.low <= abs(x) <= square.high and square.high - square.low < Fraction(1, 10**30)


def overlapping(circles: Any) -> bool:
    """Whether two circles overlap, without a doubt about rounding: the recheck of a packing."""
    made = [[Interval.of(value) for value in circle] for circle in circles]
    return any(
        not (((x - u) * (x - u) + (y - v) * (y - v)).sqrt()).certainly_at_least(r + s)
        for number, (x, y, r) in enumerate(made)
        for u, v, s in made[:number]
    )


def test_a_packing_that_rounding_lets_pass_is_found_out() -> None:
    touching = [(0.25, 0.25, 0.25), (0.75, 0.25, 0.24999)]
    assert not overlapping(touching)
    cheat = [(0.25, 0.25, 0.25), (0.75, 0.25, 0.25 + 1e-15)]
    assert overlapping(cheat) and math.isclose(0.5, 0.5 + 1e-15), "floats would have let it pass"
    with pytest.raises(ValueError, match="negative"):
        Interval.of(-1.0).sqrt()
    assert Interval.of(1).certainly_at_most(Interval.of(1)) and not Interval.of(1, 1).certainly_at_most(Interval.of(1))
