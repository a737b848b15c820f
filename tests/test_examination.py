"""The gate's part of a run's state, folded by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from agent import decide_gate
from agent.events import ExamDecided, ExamPlanned, ExamStarted, VerdictReached
from agent.folds.asks import Asks
from agent.folds.examination import Examination
from agent.gate.planning import Plan

PLAN = Plan(4, True, "sign", 1.0, 0.0, 0.2, 0.3, 4, 0.9)


def examined(last: bool, **standing: Any) -> Examination:
    """After one exam on rows that was rejected."""
    gate = Examination("old", val=[(f"row-{n}", f"row-{n}") for n in range(4)], standing=standing)
    gate.plan_made(ExamPlanned(1, "new", "old", 4, last, replace(PLAN, last=last).to_json()))
    gate.started(ExamStarted(1, "new", "old", 4, 0.01), Asks([None]), True)
    gate.reached(
        VerdictReached({"champion": "new", "released": "old", "kind": "rows", "accepted": False, "effect": -0.1})
    )
    gate.decided(ExamDecided(1, False), "new")
    return gate


def test_a_run_that_goes_on_counts_as_its_account_does() -> None:
    after_last = examined(last=True, run=3)
    after_last.go_on()
    assert (after_last.standing["run"], after_last.taken, after_last.open) == (4, 0, False)
    between = examined(last=False, run=3)
    between.go_on()
    assert (between.standing["run"], between.taken) == (3, 1), "without a last exam it is the same run to its account"


def test_no_number_of_an_exam_is_used_twice() -> None:
    gate = Examination("old")
    assert gate.held == 0
    gate.plan_made(ExamPlanned(1, "new", "old", 4, True, PLAN.to_json()))
    assert gate.held == 1, "it may be charged already"
    assert examined(last=True).held == examined(last=False).held == 1


def test_a_champion_that_an_interim_exam_put_below_is_not_the_best() -> None:
    gate = examined(last=False)
    none = {"champion": "new", "released": "old", "kind": "none", "accepted": False, "effect": None}
    gate.reached(VerdictReached(none))
    state: Any = SimpleNamespace(gate=gate, history=SimpleNamespace(champion="new"))
    assert decide_gate._best(state) == ("old", False)
