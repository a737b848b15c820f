"""Rungs: which there are, what they cost, and who goes up."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.halving import PARTS, Fidelity, Halving, Step


@pytest.mark.parametrize(
    ("lowest", "eta", "rungs"),
    [
        (0.111, 3, (0.111111111, 0.333333333, 1.0)),
        (0.1, 3, (0.111111111, 0.333333333, 1.0)),
        (1 / 3, 3, (0.333333333, 1.0)),
        (0.12, 3, (0.333333333, 1.0)),
        (0.25, 2, (0.25, 0.5, 1.0)),
        (0.01, 10, (0.01, 0.1, 1.0)),
        (1, 3, (1.0,)),
    ],
)
def test_rungs_are_powers_of_eta_down_to_the_lowest(lowest: float, eta: float, rungs: tuple[float, ...]) -> None:
    assert Fidelity(lowest, eta, stop=True).rungs == rungs


@pytest.mark.parametrize("eta", [1.5, 2, 2.5, 3, 6, 7, 10])
def test_a_rung_costs_whole_parts_and_eta_of_them_no_more_than_the_next(eta: float) -> None:
    rungs = Fidelity(0.01, eta).rungs
    assert all((rung * PARTS) == pytest.approx(round(rung * PARTS), abs=1e-6) for rung in rungs)
    assert all(eta * low <= high + 1e-15 for low, high in itertools.pairwise(rungs))


def test_what_until_one_is_measured_in_full_costs() -> None:
    assert Fidelity(0.111, 3).bracket == pytest.approx(3), "nine, then three, then one"
    assert Fidelity(0.25, 2).bracket == 3
    assert Fidelity(stop=True).bracket == 1
    assert Fidelity(0.111, 3).counts(30) == [90, 30, 10]
    assert Fidelity(stop=True).counts(30) == [30]


def test_shares_in_words() -> None:
    assert Fidelity(0.111).words(1 / 9) == "11 % of the effort"
    assert Fidelity(0.111, unit="epochs", full=81).words(1 / 9) == "9 of 81 epochs"
    assert Fidelity(0.111, full=40).words(1 / 3) == "13.3 of 40 steps"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing is asked for"),
        ({"lowest": 0}, "lowest: found 0"),
        ({"lowest": 1.5}, "lowest: found 1.5"),
        ({"lowest": math.nan}, "lowest: found nan"),
        ({"lowest": "0.1"}, "lowest: found '0.1'"),
        ({"lowest": True, "stop": True}, "lowest: found True"),
        ({"lowest": 0.5}, "leaves no rung below"),
        ({"lowest": 0.1, "eta": 1}, "eta: found 1"),
        ({"lowest": 0.1, "eta": math.inf}, "eta: found inf"),
        ({"stop": 1}, "stop: found 1"),
        ({"stop": True, "doubt": 0}, "doubt: found 0"),
        ({"stop": True, "doubt": 0.9}, "doubt: found 0.9"),
        ({"stop": True, "full": 0}, "full: found 0"),
        ({"stop": True, "unit": 3}, "unit: found 3"),
    ],
)
def test_each_error_names_key_value_and_what_is_allowed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fidelity(**given)


# Who goes up.


def rule(halving: Halving) -> list[Step]:
    """All rulings that are due, recorded."""
    out = []
    while halving.rulings:
        step = halving.rulings[0]
        assert halving.ruled(step.candidate, step.fidelity) == step.to
        out.append(step)
    return out


LOW, MIDDLE, _ = Fidelity(0.111).rungs


def test_the_best_third_goes_up_and_the_rest_waits() -> None:
    halving = Halving(Fidelity(0.111))
    halving.add("a", LOW, 0, 3.0)
    halving.add("b", LOW, 0, 2.0)
    assert [(s.candidate, s.to, s.rank, s.of) for s in rule(halving)] == [("a", None, 1, 1), ("b", None, 1, 2)]
    halving.add("c", LOW, 0, 2.5)
    assert [(s.candidate, s.to, s.rank, s.of) for s in rule(halving)] == [("b", MIDDLE, 1, 3), ("c", None, 2, 3)]
    halving.add("d", LOW, 0, 1.0)
    assert [(s.candidate, s.to) for s in rule(halving)] == [("d", MIDDLE)], "at once, for it is the best of four"


def test_who_was_left_behind_goes_up_when_the_rung_has_grown() -> None:
    halving = Halving(Fidelity(0.111))
    for number, cost in enumerate([1.0, 2.0, 3.0, 4.0, 5.0]):
        halving.add(str(number), LOW, 0, cost)
    rule(halving)
    halving.add("5", LOW, 0, 6.0)
    steps = rule(halving)
    assert [(s.candidate, s.to) for s in steps] == [("1", MIDDLE), ("5", None)]
    assert halving.reason(steps[0]) == "goes on to 33 % of the effort: rank 2 of 6 at 11 % of the effort"
    assert halving.reason(steps[1]) == "stopped at 11 % of the effort: rank 6 of 6 there"


def test_each_goes_up_once_and_no_more_than_one_in_eta() -> None:
    rng = random.Random(1)
    halving = Halving(Fidelity(0.111))
    climbed: list[str] = []
    for number in range(300):
        halving.add(str(number), LOW, 0, rng.random())
        steps = rule(halving)
        climbed += [s.candidate for s in steps if s.to is not None]
        assert sum(s.candidate == str(number) for s in steps) == 1, "each hears of its own measurement"
    assert len(climbed) == len(set(climbed))
    # Being early is luck: some are among the best third of few, and not of many.
    assert 100 <= len(climbed) < 150


def test_who_keeps_the_constraints_ranks_before_who_does_not() -> None:
    halving = Halving(Fidelity(1 / 3))
    halving.add("broken", MIDDLE, 1, 0.0)
    halving.add("kept", MIDDLE, 0, 5.0)
    halving.add("worse", MIDDLE, 0, 6.0)
    assert [s.candidate for s in rule(halving) if s.to] == ["kept"]


def test_when_nothing_else_is_left_the_best_of_the_rest_goes_up_from_the_highest_rung() -> None:
    halving = Halving(Fidelity(0.111))
    for number, cost in enumerate([3.0, 1.0, 2.0]):
        halving.add(str(number), LOW, 0, cost)
    rule(halving)
    halving.add("1", MIDDLE, 0, 1.0)
    rule(halving)
    order = []
    while (step := halving.spare()) is not None:
        assert "nothing else is left to try" in halving.reason(step)
        assert halving.ruled(step.candidate, step.fidelity) == step.to
        order.append((step.candidate, step.to))
    assert order == [("1", 1.0), ("2", MIDDLE), ("0", MIDDLE)]


def test_equal_costs_keep_their_order() -> None:
    halving = Halving(Fidelity(0.111))
    for name in ("a", "b", "c", "d", "e", "f"):
        halving.add(name, LOW, 0, 1.0)
    assert [s.candidate for s in rule(halving) if s.to] == ["a", "b"]
