"""The exact exam of a quotient: gains are found, and worlds that deceive a resampling do not deceive it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agent.errors import ConfigError
from agent.forecast import _of_set
from agent.gate.heldout import examine
from agent.gate.ofset import too_few
from agent.gate.planning import Plan
from agent.gate.quotient import Quotient
from agent.gate.resampling import paired, ratio
from agent.goals import Goals, Objective
from agent.metrics.base import load

LEVEL = 0.0375
ABOVE, BELOW = {"tp": 2.0}, {"tp": 2.0, "fp": 1.0, "fn": 1.0}
F1 = Objective("f1", "maximize", low=0, high=1, numerator=ABOVE, denominator=BELOW, most=1)
PLAN = Plan(100, True, "quotient", 1.0, 0.0, 0.2, 0.3, 50, 0.8)
Row = dict[str, float]


def f1(most: float = 1) -> Quotient:
    return Quotient(ABOVE, BELOW, most, 1)


def row(tp: float = 0, fp: float = 0, fn: float = 0) -> Row:
    return {"f1": tp / max(1, tp + fp + fn), "tp": tp, "fp": fp, "fn": fn}


def binary(rng: np.random.Generator, yes: Any, recall: float, precision: float, share: float) -> list[Row]:
    alarms = share * recall * (1 / precision - 1) / (1 - share)
    said = np.where(yes, rng.random(len(yes)) < recall, rng.random(len(yes)) < alarms)
    return [row(float(s and y), float(s and not y), float(y and not s)) for s, y in zip(said, yes, strict=True)]


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_a_gain_is_shown_and_its_mirror_is_not() -> None:
    rng = np.random.default_rng(0)
    yes = rng.random(150) < 0.4
    new, old = binary(rng, yes, 0.95, 0.95, 0.4), binary(rng, yes, 0.5, 0.6, 0.4)
    verdict = examine(Goals((F1,)), PLAN, LEVEL, "new", "old", new, old, names(150))
    assert (
        verdict.accepted
        and verdict.p is not None
        and verdict.p < 0.01
        and "the test is of that number" in verdict.sentence
    )
    assert verdict.interval is not None and verdict.effect is not None
    assert 0 < verdict.interval[0] < verdict.effect < verdict.interval[1] < 1
    assert verdict.effect == pytest.approx(ratio(ABOVE, BELOW)(new) - ratio(ABOVE, BELOW)(old))
    mirror = examine(Goals((F1,)), PLAN, LEVEL, "old", "new", old, new, names(150))
    assert not mirror.accepted and mirror.p == 1.0


def test_a_margin_is_asked_for_and_a_rate_of_errors_counts_downwards() -> None:
    rng = np.random.default_rng(1)
    yes = rng.random(150) < 0.4
    new, old = binary(rng, yes, 0.95, 0.95, 0.4), binary(rng, yes, 0.5, 0.6, 0.4)
    assert f1().p(new, old) < f1().p(new, old, 0.1) < 0.05 < f1().p(new, old, 0.5)
    errors = Quotient({"errors": 1.0}, {"words": 1.0}, 2, -1)
    many = [{"errors": float(rng.random() < 0.7), "words": 1.0} for _ in range(150)]
    few = [{"errors": float(rng.random() < 0.2), "words": 1.0} for _ in range(150)]
    assert errors.p(few, many) < LEVEL < errors.p(many, few)
    assert errors.interval(few, many, 0.95) is None  # nobody said that errors are at most as many as words


@pytest.mark.parametrize(("n", "share", "recall"), [(100, 0.1, 0.1), (100, 0.05, 0.2)])
def test_a_loud_candidate_against_a_silent_one_of_equal_f1(n: int, share: float, recall: float) -> None:
    same = 2 * recall / (1 + recall)
    rng, exact, drawn, worlds = np.random.default_rng(2), 0, 0, 60
    for _ in range(worlds):
        yes = rng.random(n) < share
        new, old = binary(rng, yes, 1.0, same / (2 - same), share), binary(rng, yes, recall, 1.0, share)
        exact += f1().p(new, old) <= LEVEL
        if drawn < 3:
            drawn += paired(ratio(ABOVE, BELOW), new, old, names(n), resamples=100).p <= LEVEL
    assert exact <= worlds * LEVEL + 3 * math.sqrt(worlds * LEVEL)
    assert drawn == 3  # resampling is deceived


def test_rare_huge_rows_that_the_sample_lacks() -> None:
    """One row of a hundred has 200 items, and there the new candidate is so much worse that it is worse in all."""
    rng, exact = np.random.default_rng(3), 0
    for _ in range(60):
        huge = rng.random(25) < 0.01
        new = [row(100, 0, 100) if big else row(x, 0, 1 - x) for big, x in zip(huge, rng.random(25) < 0.9, strict=True)]
        old = [row(200, 0, 0) if big else row(x, 0, 1 - x) for big, x in zip(huge, rng.random(25) < 0.6, strict=True)]
        exact += f1(200).p(new, old) <= LEVEL
    assert exact == 0


def test_a_row_beyond_what_was_declared_bars_the_proof() -> None:
    new, old = [row(1)] * 60, [row(0, 0, 1)] * 60
    assert examine(Goals((F1,)), PLAN, LEVEL, "new", "old", new, old, names(60)).accepted
    found = examine(Goals((F1,)), PLAN, LEVEL, "new", "old", [row(2), *new[1:]], old, names(60))
    assert not found.accepted and "more than most = 1" in found.sentence


def test_rows_of_one_cluster_are_one_piece_of_evidence() -> None:
    new, old = [row(1)] * 60, [row(0, 0, 1)] * 60
    found = examine(Goals((F1,)), PLAN, LEVEL, "new", "old", new, old, ["a", "b", "c"] * 20)
    assert not found.accepted and found.pairs == 3


def test_too_few_rows_are_said_and_not_a_p_of_1() -> None:
    fewest = f1().fewest(LEVEL)
    assert fewest is not None and 5 <= fewest <= 12
    n = fewest - 1
    found = examine(Goals((F1,)), PLAN, LEVEL, "new", "old", [row(1)] * n, [row(0, 0, 1)] * n, names(n))
    assert (
        not found.accepted and f"too few rows for a test at level 0.037: at least {fewest} are needed" in found.sentence
    )
    assert "p =" not in found.sentence
    assert not too_few(F1, LEVEL, fewest) and f1().p([row(1)] * fewest, [row(0, 0, 1)] * fewest) <= LEVEL


def test_the_estimate_says_beforehand_what_a_quotient_can_prove() -> None:
    bare = Objective("f1", "maximize", numerator=ABOVE, denominator=BELOW)
    assert "nothing can be proven of f1: how much tp, fp, fn of one row" in _of_set(bare, 100, LEVEL, "…")
    assert "with 3 gate examples: too few rows" in _of_set(F1, 3, LEVEL, "…")
    assert _of_set(F1, 100, LEVEL, "gains under 12 points").startswith(
        "gains under 12 points (f1 is a number of all rows"
    )


def test_a_largest_sum_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Objective("f1", numerator=ABOVE, denominator=BELOW, most=0)
    with pytest.raises(ConfigError, match="needs a numerator"):
        Objective("f1", most=3)
    with pytest.raises(ConfigError, match="no weight below 0"):
        Objective("f1", numerator={"tp": -1}, denominator=BELOW, most=3)


def test_micro_f1_keeps_to_the_largest_sum_that_it_declares() -> None:
    metric = load("micro_f1", {"most": 3})
    assert metric.most == 3 and load("micro_f1", {"positive": ["yes"]}).most == 1 and load("micro_f1").most is None
    values = metric.values("x1, x2, x3, x4, x5", {"answer": ["a1"]})[0]
    assert (values["tp"], values["fp"], values["fn"]) == (0, 2, 1)
    with pytest.raises(ValueError, match="4 items to find, and most = 3"):
        metric.values("a1", {"answer": ["a1", "b1", "c1", "d1"]})
    with pytest.raises(ConfigError, match="at least 1"):
        load("micro_f1", {"most": 0})
