"""What breaking a constraint costs while searching."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Constraint, Objective
from agent.history import Trial
from agent.lagrange import Multipliers, excess
from agent.parameters import Float
from agent.problem import Problem
from agent.space import Candidate, Space
from agent.testing import square


def problem(*constraints: Constraint, direction: str = "maximize") -> Problem:
    return Problem(
        "p",
        Space({"x": Float(0, 1)}),
        FunctionEvaluator(f"agent.testing:{square.__name__}", names=("value",)),
        (Objective("value", direction),),  # type: ignore[arg-type]
        constraints,
    )


def trials(measured: list[Mapping[str, float] | None]) -> list[Trial]:
    return [
        Trial(Candidate({"x": k}), k, k, "test", values=dict(values) if values is not None else None)
        for k, values in enumerate(measured)
    ]


LIMIT = Constraint("size", max=1.0)


def traded(x: float) -> dict[str, float]:
    """The further beyond the threshold, the better the objective: a score that is bought with the other one."""
    return {"value": 10 * x, "size": 2 * x}


def test_the_best_at_the_price_is_the_best_that_keeps_the_threshold() -> None:
    rng = random.Random(0)
    known = trials([traded(rng.random()) for _ in range(60)])
    for sign, direction in ((1, "maximize"), (-1, "minimize")):
        given = [trial.values and {**trial.values, "value": sign * trial.values["value"]} for trial in known]
        goals = problem(LIMIT, direction=direction)
        prices = Multipliers.of(goals, trials(given))
        best = min((one for one in given if one), key=prices.cost)
        feasible = [one["value"] for one in given if one and one["size"] <= 1]
        assert best["value"] == sign * max(sign * value for value in feasible)
        assert prices.weights["size"] > 0
        free = Multipliers.of(problem(direction=direction), trials(given))
        assert min((one for one in given if one), key=free.cost)["size"] > 1.5, "without a price the score is bought"


def test_more_than_is_asked_for_earns_nothing() -> None:
    prices = Multipliers.of(problem(LIMIT), trials([traded(x / 10) for x in range(11)]))
    assert prices.cost({"value": 3, "size": 0.1}) == prices.cost({"value": 3, "size": 1.0}) == -3
    assert prices.cost({"value": 3, "size": 1.2}) > -3


def test_a_price_falls_again_where_the_constraint_is_kept() -> None:
    beyond = [{"value": 5.0 + k, "size": 3.0} for k in range(6)]
    within = [{"value": 50.0 + k, "size": 0.2} for k in range(30)]
    high = Multipliers.of(problem(LIMIT), trials([{"value": 0.0, "size": 0.5}, *beyond])).weights["size"]
    low = Multipliers.of(problem(LIMIT), trials([{"value": 0.0, "size": 0.5}, *beyond, *within])).weights["size"]
    assert high > 0 and low == 0


def test_each_threshold_has_its_own_price_and_failures_have_no_part_in_it() -> None:
    both = problem(LIMIT, Constraint("right", min=0.9))
    measured = [{"value": float(k), "size": 0.5, "right": 1.0 - k / 10} for k in range(8)]
    prices = Multipliers.of(both, trials([None, *measured, None]))
    assert prices.weights["right"] > 0 == prices.weights["size"]
    assert prices == Multipliers.of(both, trials([*measured]))
    assert excess(Constraint("r", min=0.9, max=1.0), {"r": 0.5}) == pytest.approx(0.4)
    assert excess(Constraint("r", min=0.0, max=1.0), {"r": 0.25}) == -0.25


def test_where_nothing_is_known_there_is_no_price() -> None:
    for known in ([], [None], [{"value": 1.0, "size": 9.0}]):
        assert Multipliers.of(problem(LIMIT), trials(list(known))).cost({"value": 2.0, "size": 1.0}) == -2.0
    alarm = Constraint("harm", kind="alarm", low=0, high=1)
    assert (
        Multipliers.of(problem(alarm), trials([{"value": 1.0, "harm": 1.0}])).cost({"value": 2.0, "harm": 1.0}) == -2.0
    )
