"""Numbers of a whole set: found where they are, from both sides, and never sure of what failed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import ConfigError, GateError
from agent.gate.gate import Gate
from agent.gate.heldout import examine
from agent.gate.planning import Plan
from agent.gate.resampling import FEWEST, paired, ratio
from agent.goals import Goals, Objective

F1 = Objective("f1", "maximize", low=0, high=1, numerator={"tp": 2}, denominator={"tp": 2, "fp": 1, "fn": 1})
PLAN = Plan(60, True, "resampling", 1.0, 0.0, 0.2, 0.3, 50, 0.8)


def outcome(rng: random.Random, skill: float) -> dict[str, float]:
    hit = rng.random() < skill
    return {"f1": float(hit), "tp": float(hit), "fp": float(not hit), "fn": float(not hit)}


def sides(seed: int, new: float, old: float, n: int = 60) -> tuple[list[Any], list[Any], list[str]]:
    rng = random.Random(seed)
    return [outcome(rng, new) for _ in range(n)], [outcome(rng, old) for _ in range(n)], [str(i) for i in range(n)]


def test_f1_is_of_the_whole_set_and_not_a_mean_of_rows() -> None:
    metric = ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})
    rows = [{"tp": 8, "fp": 0, "fn": 2}, {"tp": 0, "fp": 1, "fn": 0}]
    assert metric(rows) == pytest.approx(16 / 19)
    assert metric([{"tp": 0, "fp": 0, "fn": 0}]) == 0


def test_without_a_largest_sum_there_is_an_estimate_and_never_a_proof() -> None:
    new, old, clusters = sides(1, 1.0, 0.2)
    verdict = examine(Goals((F1,)), PLAN, 0.05, "new", "old", new, old, clusters)
    assert not verdict.accepted and verdict.p is None and "no test" in verdict.test
    assert "how much tp, fp, fn of one row can add up to is not declared" in verdict.sentence
    assert "approximate" in verdict.sentence and "p =" not in verdict.sentence
    assert verdict.interval is not None and verdict.effect is not None
    assert 0 < verdict.interval[0] < verdict.effect < verdict.interval[1]


def test_a_few_rows_have_no_interval_that_contradicts_the_verdict() -> None:
    new, old, clusters = sides(1, 1.0, 0.2, n=12)
    verdict = examine(Goals((F1,)), PLAN, 0.05, "new", "old", new, old, clusters)
    assert not verdict.accepted and verdict.interval is None and "interval 0" not in verdict.sentence


def test_where_nothing_is_better_it_errs_about_as_often_as_its_level() -> None:
    worlds, wrong = 200, 0
    for seed in range(worlds):
        new, old, clusters = sides(seed, 0.6, 0.6)
        metric = ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})
        wrong += paired(metric, new, old, clusters, resamples=300).p <= 0.1
    assert 0 < wrong / worlds <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / worlds)


def test_clusters_are_drawn_whole() -> None:
    def mean(rows: Sequence[Any]) -> float:
        return math.fsum(rows) / len(rows)

    rng = random.Random(2)
    gains = [rng.gauss(0.3, 1) for _ in range(30)]
    rows = [gain for gain in gains for _ in range(10)]
    users = [str(number) for number in range(30) for _ in range(10)]
    zeros = [0.0] * len(rows)
    whole, single = paired(mean, rows, zeros, users), paired(mean, rows, zeros, [str(i) for i in range(300)])
    assert whole.clusters == 30 and single.clusters == 300
    assert whole.interval[1] - whole.interval[0] > 2 * (single.interval[1] - single.interval[0])


def test_too_few_clusters_show_nothing() -> None:
    n = FEWEST - 1
    assert paired(lambda rows: sum(rows) / len(rows), [1.0] * n, [0.0] * n, [str(i) for i in range(n)]).p == 1.0
    with pytest.raises(ValueError, match="as many new"):
        paired(sum, [1.0], [1.0, 2.0], ["a"])


def test_a_champion_that_failed_on_a_row_is_not_accepted() -> None:
    new, old, clusters = sides(1, 0.95, 0.2)
    goals, plan = Goals((replace(F1, most=2),)), replace(PLAN, test="quotient")
    assert examine(goals, plan, 0.05, "new", "old", new, old, clusters).accepted
    failed = examine(goals, plan, 0.05, "new", "old", [None, *new[1:]], old, clusters)
    assert not failed.accepted and "it failed on 1 rows" in failed.sentence


def test_half_a_quotient_is_refused() -> None:
    with pytest.raises(ConfigError, match="belong together"):
        Objective("f1", numerator={"tp": 2})
    with pytest.raises(ConfigError, match="names with weights"):
        Objective("f1", numerator={"tp": "2"}, denominator={"tp": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(("prefers_new", "accepted"), [(True, True), (False, False)])
async def test_a_judge_that_compares_is_asked_in_both_orders(prefers_new: bool, accepted: bool) -> None:
    gate = Gate([f"r{i}" for i in range(60)], Objective("preferred", "maximize", low=0, high=1), total=600)
    plan = gate.plan([1.0] * 20 + [0.0] * 20, left=200, last=True)
    assert plan is not None
    asked = []

    async def judge(row: str, a: str, b: str) -> float:
        asked.append((row, a, b))
        return float((a == "good") == prefers_new)

    assert await gate.examine_pairs(plan, "good", "bad", lambda candidate, row: candidate, judge) is accepted
    assert len(asked) == 2 * plan.pairs and len(set(asked)) == len(asked)
    assert gate.verdicts()[0].effect == (1 if prefers_new else -1)


async def test_a_judge_that_follows_the_order_proves_nothing() -> None:
    gate = Gate([f"r{i}" for i in range(60)], Objective("preferred", "maximize", low=0, high=1), total=600)
    plan = gate.plan([1.0] * 20 + [0.0] * 20, left=200, last=True)
    assert plan is not None
    first = await gate.examine_pairs(plan, "good", "bad", lambda candidate, row: candidate, lambda row, a, b: 1.0)
    assert first is False and gate.verdicts()[0].effect == 0
    with pytest.raises(GateError, match="closed"):
        await gate.examine(plan, "good", "bad", lambda candidate, row: 1.0)
