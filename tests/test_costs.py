"""What measurements cost, and what the next ones will."""

from __future__ import annotations

import math

import pytest

from agent.events import CallEnded, CallStarted
from agent.folds.costs import MARGIN, SCOPE, Costs, measurement
from agent.ledger import Budget, Ledger


def asked(costs: Costs, evaluation: int, tokens: int, reserved: int, usd: float = 0.5) -> None:
    """One call of a measurement that is still in flight."""
    scope = f"{SCOPE}{evaluation}/judge"
    started = CallStarted(evaluation, scope, "k", 0, "task", "m", {"calls": 1, "tokens": reserved}, {})
    costs.call(evaluation, started, CallEnded(evaluation, {}, None, {"input": tokens, "output": 0, "usd": usd}, 1.0))


def test_a_call_counts_once_its_measurement_is_over() -> None:
    costs = Costs()
    asked(costs, 1, 100, 300)
    asked(costs, 1, 50, 300)
    assert (costs.askers, costs.asked["tokens"]) == (0, 0.0)
    costs.over(1)
    costs.over(2)  # which asked nobody
    assert costs.askers == 1 and costs.asked == {"calls": 2, "tokens": 150, "usd": 1.0}
    assert costs.held_back == {"calls": 2, "tokens": 600, "usd": 0.0}


def test_the_scarcest_kind_says_how_many_evaluations_a_budget_pays_for() -> None:
    costs = Costs()
    assert costs.total(Budget()) == math.inf
    assert costs.total(Budget(evaluations=50, calls=1)) == 50, "nothing is known of calls yet"
    asked(costs, 1, 100, 300)
    costs.over(1)
    assert costs.total(Budget(evaluations=50, tokens=1000)) == math.floor(1000 / (MARGIN * 100))
    assert costs.total(Budget(evaluations=50, tokens=1000, calls=4)) == math.floor(4 / MARGIN)


def test_what_is_left_pays_for_less_while_calls_are_under_way() -> None:
    costs, ledger = Costs(), Ledger(Budget(evaluations=50, tokens=1000))
    asked(costs, 1, 100, 300)
    costs.over(1)
    assert costs.affordable(ledger, workers=2) == math.floor((1000 - 2 * 300) / (MARGIN * 100))


def test_what_is_ahead_is_worked_out_from_the_measurements_that_asked() -> None:
    costs = Costs()
    assert costs.ahead(["tokens"], 10, 2) == {}
    for evaluation, tokens in ((1, 100), (2, 200)):
        asked(costs, evaluation, tokens, 400)
        costs.over(evaluation)
    assert costs.ahead(["tokens"], 10, 2) == {"tokens": pytest.approx(MARGIN * 10 * 150 + 2 * 400)}


@pytest.mark.parametrize(
    ("scope", "number"), [("evaluation-12", 12), ("evaluation-12/judge", 12), ("proposal-12", None)]
)
def test_a_scope_names_its_evaluation(scope: str, number: int | None) -> None:
    assert measurement(scope) == number
