"""Exams on held-out rows: units, tests, verdicts, and the final report."""

from __future__ import annotations

import math
import random
import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.gate import planning, wealth
from agent.gate.evidence import sign_test
from agent.gate.heldout import TESTS, Units, examine, interval, report, settled, shown
from agent.gate.planning import Plan
from agent.gate.verdict import Verdict
from agent.goals import Claim, Constraint, Direction, Goals, Objective

GOOD = Objective("good", "maximize", low=0, high=1)
ERROR = Objective("good", "minimize", low=0, high=1)
OPEN = Objective("good", "maximize")
PLAN = Plan(100, True, "sign", 1.0, 0.0, 0.2, 0.3, 50, 0.9)
Row = dict[str, float] | None


def column(values: Sequence[float | None], name: str = "good") -> list[Row]:
    return [None if value is None else {name: value} for value in values]


def units(new: Sequence[float | None], old: Sequence[float | None], goal: Objective = GOOD, **more: Any) -> Units:
    clusters = more.pop("clusters", [str(n) for n in range(len(new))])
    return Units.of(Goals((goal,)), column(new), column(old), clusters, **more)


def verdict(
    new: Sequence[float | None], old: Sequence[float | None], goal: Objective = GOOD, level: float = 0.05, **more: Any
) -> Verdict:
    goals = Goals((goal,), more.pop("constraints", ()))
    clusters = more.pop("clusters", [str(n) for n in range(len(new))])
    plan = replace(PLAN, **{"pairs": len(new), **more.pop("plan", {})})
    return examine(goals, plan, level, "new", "old", column(new), column(old), clusters, **more)


BETTER = ([1.0, 0.0, 1.0, 0.0, 0.0] * 10, [0.0] * 50)
"""Twenty wins, no loss, thirty ties."""
JUDGED = ("sign", "betting", "exchangeable", "gaussian", "wins")
"""Tests of single rows."""


# Units.


def test_gains_are_positive_where_the_new_one_is_better_in_either_direction() -> None:
    assert units([1.0, 0.0], [0.0, 1.0]).gains == (1.0, -1.0)
    assert units([1.0, 0.0], [0.0, 1.0], ERROR).gains == (-1.0, 1.0)


def test_rows_of_a_cluster_are_averaged_first_and_stand_where_the_first_stood() -> None:
    found = units([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], clusters=["a", "b", "a", "a"])
    assert found.new == (1.0, 0.0) and found.old == (pytest.approx(1 / 3), 0.0)
    assert found.gains == (pytest.approx(2 / 3), 0.0)


def test_a_failed_row_counts_as_the_worst_and_never_as_nothing() -> None:
    assert units([None, 1.0], [1.0, None]).gains == (-1.0, 1.0)
    assert units([None, 0.0], [0.0, None], ERROR).gains == (-1.0, 1.0), "a failure is the highest error"
    assert units([None], [0.4], replace(GOOD, floor=0.3)).gains == (pytest.approx(-0.1),)
    assert units([None], [0.4], OPEN).gains == (-0.4,), "larger is better, so a failure is 0"
    assert units([None, 1.0], [0.4, 2.0], Objective("good", "minimize")).gains == (1.0,), "it has no value at all"


def test_scores_beyond_their_declared_range_count_as_its_ends() -> None:
    assert units([7.0, -3.0], [0.5, 0.5]).gains == (0.5, -0.5)


def test_differences_are_shares_of_the_scale() -> None:
    goal = replace(GOOD, high=10)
    assert units([10.0, 0.0], [5.0, 5.0], goal).differences(10.0) == [0.5, -0.5]
    assert units([9.0, 0.0], [0.0, 9.0], OPEN).differences(2.0) == [1.0, -1.0], "cut where the range was too small"


# Whether a gain is shown.


def test_the_exact_sign_test_counts_wins_and_losses() -> None:
    better = units(*BETTER)
    accepted, p = shown(better, PLAN, 0.05)
    assert accepted and p == pytest.approx(0.5**20)
    assert shown(better, PLAN, 0.5**20)[0] and not shown(better, PLAN, 0.5**20 * 0.99)[0]
    worse = units(*reversed(BETTER))
    assert shown(worse, PLAN, 0.05) == (False, pytest.approx(1.0))
    assert shown(units([], []), PLAN, 0.05) == (False, 1.0)


def test_there_is_a_name_for_every_test() -> None:
    assert set(JUDGED) <= set(TESTS) <= set(typing.get_args(planning.Test))


@pytest.mark.parametrize("test", JUDGED)
def test_every_test_accepts_the_better_and_never_the_worse(test: str) -> None:
    rng = random.Random(2)
    new, old = [float(rng.random() < 0.8) for _ in range(60)], [float(rng.random() < 0.2) for _ in range(60)]
    plan = replace(PLAN, test=test)  # type: ignore[arg-type]
    assert shown(units(new, old), plan, 0.01)[0]
    assert not shown(units(old, new), plan, 0.5)[0]
    assert not shown(units(new, new), plan, 0.5)[0], "equal candidates are no gain"


@pytest.mark.parametrize("test", ["betting", "wins", "exchangeable", "gaussian"])
def test_a_margin_must_be_passed(test: str) -> None:
    rng = random.Random(4)
    new, old = [0.5 + 0.02 * rng.gauss(0, 1) for _ in range(80)], [0.3] * 80
    for margin, accepted in ((0.1, True), (0.3, False)):
        assert shown(units(new, old), replace(PLAN, test=test, margin=margin), 0.05)[0] is accepted  # type: ignore[arg-type]


def test_a_win_is_a_gain_beyond_the_margin() -> None:
    mixed = units([0.5] * 50 + [0.8] * 30, [0.3] * 80)
    plan = replace(PLAN, test="wins", margin=0.3)
    assert not shown(mixed, plan, 0.05)[0], "thirty wins against fifty losses"
    assert shown(mixed, replace(plan, margin=0.1), 0.05)[0]


@pytest.mark.parametrize("test", ["sign", "betting", "wins", "exchangeable"])
def test_where_nothing_is_better_little_is_shown(test: str) -> None:
    rng, plan, shows, worlds = random.Random(7), replace(PLAN, test=test), 0, 400  # type: ignore[arg-type]
    for _ in range(worlds):
        pairs = [rng.choice(((0.0, 1.0), (1.0, 0.0), (1.0, 1.0))) for _ in range(40)]
        shows += shown(units([a for a, _ in pairs], [b for _, b in pairs]), plan, 0.1)[0]
    assert shows / worlds <= 0.1 + 3 * math.sqrt(0.09 / worlds)


def test_an_exam_that_may_stop_early_pays_for_looking() -> None:
    def after(wins: int) -> Units:
        return units([1.0] * wins, [0.0] * wins)

    needed = next(wins for wins in range(1, 60) if settled(after(wins), PLAN, 0.05))
    fixed = next(wins for wins in range(1, 60) if shown(after(wins), PLAN, 0.05)[0])
    assert fixed < needed < 20
    assert not settled(units([0.0] * 50, [1.0] * 50), PLAN, 0.05)
    assert not settled(units([], []), PLAN, 0.05)
    assert settled(after(30), replace(PLAN, test="betting"), 0.05)
    assert not settled(after(30), replace(PLAN, test="exchangeable"), 0.05), "that test is for one look"


def test_stopping_early_claims_falsely_no_more_often_than_allowed() -> None:
    rng, claims, worlds = random.Random(11), 0, 300
    plan = replace(PLAN, pairs=60)
    for _ in range(worlds):
        new: list[float] = []
        old: list[float] = []
        for _ in range(60):
            a, b = rng.choice(((0.0, 1.0), (1.0, 0.0)))
            new.append(a)
            old.append(b)
            if settled(units(new, old), plan, 0.1):
                claims += 1
                break
    assert claims / worlds <= 0.1 + 3 * math.sqrt(0.09 / worlds)


def test_an_exam_that_may_stop_early_has_no_second_chance_at_its_end() -> None:
    wins = next(n for n in range(50, 100) if sign_test(n, 100 - n) <= 0.05)
    new, old = [1.0] * wins + [0.0] * (100 - wins), [0.0] * wins + [1.0] * (100 - wins)
    assert verdict(new, old).accepted
    late = verdict(new, old, sequential=True)
    assert not late.accepted and late.p is not None and late.p > 0.05, "its looks have used up the level"


def test_who_fails_where_no_failure_is_declared_proves_nothing() -> None:
    costs = Objective("good", "minimize")
    wins = [0.0] * 40
    assert verdict(wins, [1.0] * 40, costs, plan={"test": "wins"}).accepted
    failed = verdict([*wins[:-1], None], [1.0] * 40, costs, plan={"test": "wins"})
    assert not failed.accepted and "it failed on 1 rows" in failed.sentence
    assert verdict(wins, [*[1.0] * 39, None], costs, plan={"test": "wins"}).accepted, "the other may fail"


# The verdict.


def test_a_verdict_says_what_was_shown() -> None:
    found = verdict(*BETTER)
    assert found.accepted and found.kind == "rows" and (found.wins, found.losses, found.pairs) == (20, 0, 50)
    assert (found.before, found.after, found.effect) == (0.0, 0.4, 0.4)
    assert found.interval is not None and 0 < found.interval[0] < 0.4 < found.interval[1]
    assert found.p == pytest.approx(sign_test(20, 0)) and found.test == "exact sign test on 50 rows"
    assert "0.4 better" in found.sentence and "Shown: better on 20 and worse on 0 of 50" in found.sentence


@pytest.mark.parametrize("goal", [GOOD, ERROR])
def test_polarity(goal: Objective) -> None:
    new, old = BETTER if goal is GOOD else (BETTER[1], BETTER[0])
    right, wrong = verdict(new, old, goal), verdict(old, new, goal)
    assert right.accepted and not wrong.accepted
    assert right.effect == pytest.approx(0.4) and wrong.effect == pytest.approx(-0.4)
    assert "better" in right.sentence and "0.4 worse" in wrong.sentence
    assert (right.after, right.before) == (wrong.before, wrong.after)


def test_an_undecided_exam_is_no_gain() -> None:
    found = verdict([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    assert not found.accepted and found.effect == 0.5 and "Not shown" in found.sentence


def test_a_constraint_blocks_what_is_better() -> None:
    rows = [{"good": value, "cost": 0.9} for value in BETTER[0]]
    old = [{"good": value, "cost": 0.1} for value in BETTER[1]]
    clusters = [str(n) for n in range(50)]
    for most, accepted in ((1.0, True), (0.5, False)):
        goals = Goals((GOOD,), (Constraint("cost", max=most),))
        found = examine(goals, replace(PLAN, pairs=50), 0.05, "new", "old", rows, old, clusters)
        assert found.accepted is accepted and found.checks[0]["passed"] is accepted
        assert ("cost is 0.9" in found.sentence) is not accepted


def test_an_account_that_is_barred_proves_nothing() -> None:
    found = verdict(*BETTER, account={"barred": "the gate's rows were opened", "tests": 3})
    assert not found.accepted and "the gate's rows were opened" in found.sentence
    assert found.account["tests"] == 3
    assert verdict(*BETTER, account={"tests": 3}).accepted


def test_without_a_declared_range_it_is_the_share_of_rows() -> None:
    new, old = [float(10 * n + 5) for n in range(30)], [float(10 * n) for n in range(30)]
    found = verdict(new, old, OPEN, plan={"test": "wins", "scale": 300.0})
    assert found.accepted and "100% more of them got better than worse" in found.sentence
    assert found.effect == 1.0 and found.interval is not None and 0.5 < found.interval[0] < found.interval[1] <= 1.0
    mixed = verdict([1e6, *old[1:]], [0.0, *new[1:]], OPEN, plan={"test": "wins", "scale": 300.0})
    assert not mixed.accepted and mixed.effect is not None and mixed.effect < 0, "one huge gain is one row"


def test_a_verdict_that_stopped_early_is_at_its_level() -> None:
    found = verdict([1.0] * 10, [0.0] * 10, sequential=True, plan={"pairs": 10})
    assert found.accepted and found.p == 0.05 and found.pairs == 10


def test_nothing_measured_is_no_gain() -> None:
    found = verdict([], [])
    assert not found.accepted and found.effect is None and "nothing could be measured" in found.sentence


BOTH = (GOOD, Objective("safe", "maximize", low=0, high=1, min_effect=0.2))


@pytest.mark.parametrize(
    ("claim", "safe", "accepted"),
    [
        ("primary", 0.0, True),
        ("sum", 0.0, False),
        ("sum", 0.9, True),
        ("dominance", 0.0, False),
        ("dominance", 1.0, True),
    ],
)
def test_what_several_objectives_claim(claim: Claim, safe: float, accepted: bool) -> None:
    rng = random.Random(1)
    old: list[Row] = [{"good": 0.2, "safe": 1.0} for _ in range(80)]
    new: list[Row] = [{"good": 0.8 + 0.1 * rng.random(), "safe": safe} for _ in range(80)]
    scale = 2.0 if claim == "sum" else 1.0
    plan = replace(PLAN, pairs=80, test="betting", scale=scale)
    clusters = [str(n) for n in range(80)]
    found = examine(Goals(BOTH, (), claim), plan, 0.05, "new", "old", new, old, clusters)
    assert found.accepted is accepted
    turned = examine(Goals(BOTH, (), claim), plan, 0.05, "old", "new", old, new, clusters)
    assert not (found.accepted and turned.accepted)


def test_dominance_of_equal_candidates_is_no_gain() -> None:
    same: list[Row] = [{"good": 0.5, "safe": 0.5} for _ in range(200)]
    clusters = [str(n) for n in range(200)]
    plan = replace(PLAN, pairs=200, test="betting")
    assert not examine(Goals(BOTH, (), "dominance"), plan, 0.05, "a", "b", same, same, clusters).accepted


# Intervals and the report.


def test_an_interval_holds_the_mean_and_turns_with_the_direction() -> None:
    rng = random.Random(8)
    new, old = [rng.random() for _ in range(60)], [rng.random() / 2 for _ in range(60)]
    one, other = interval(units(new, old), 1.0), interval(units(old, new), 1.0)
    assert one is not None and other is not None
    assert one[0] < sum(units(new, old).gains) / 60 < one[1]
    assert one == (pytest.approx(-other[1], abs=0.01), pytest.approx(-other[0], abs=0.01))
    wide = interval(units(new, old), 1.0, 0.999)
    assert wide is not None and wide[0] < one[0] and wide[1] > one[1]
    assert interval(units([], []), 1.0) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, missed, worlds = random.Random(5), 0, 300
    for _ in range(worlds):
        new = [float(rng.random() < 0.7) for _ in range(50)]
        old = [float(rng.random() < 0.4) for _ in range(50)]
        found = interval(units(new, old), 1.0)
        assert found is not None
        missed += not found[0] <= 0.3 <= found[1]
    assert missed / worlds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_report_gives_gains_over_the_initial_candidate(direction: Direction) -> None:
    goal = Objective("good", direction, low=0, high=1)
    up, down = column([0.9] * 30), column([0.4] * 30)
    best, first = (up, down) if direction == "maximize" else (down, up)
    found = report(Goals((goal,)), 1.0, 0.02, {"first": first, "best": best}, "first", [str(n) for n in range(30)])
    assert found["rows"] == 30 and found["confidence"] == pytest.approx(0.98)
    assert found["candidates"]["first"]["gain"] is None and found["candidates"]["first"]["interval"] is None
    told = found["candidates"]["best"]
    assert told["gain"] == pytest.approx(0.5) and told["interval"][0] <= 0.5 <= told["interval"][1]
    assert told["mean"] == pytest.approx(0.9 if direction == "maximize" else 0.4) and told["units"] == 30


def test_a_report_counts_clusters_and_failures() -> None:
    clusters = ["a"] * 10 + ["b"] * 10
    first, best = column([0.5] * 20), column([1.0] * 10 + [None] * 10)
    found = report(Goals((GOOD,)), 1.0, 0.05, {"first": first, "best": best}, "first", clusters)
    assert found["candidates"]["best"] == {**found["candidates"]["best"], "units": 2, "mean": 0.5, "gain": 0.0}


def test_the_dominance_uses_the_last_wealth_and_not_the_largest() -> None:
    up_then_down = [1.0] * 12 + [0.0] * 40
    new: list[Row] = [{"good": value, "safe": 1.0} for value in up_then_down]
    old: list[Row] = [{"good": 0.0 if n < 12 else 1.0, "safe": 1.0} for n in range(52)]
    assert max(wealth.log_wealth([a["good"] - b["good"] for a, b in zip(new, old, strict=True) if a and b])) > 3
    plan = replace(PLAN, pairs=52, test="betting")
    found = examine(Goals(BOTH, (), "dominance"), plan, 0.05, "n", "o", new, old, [str(n) for n in range(52)])
    assert not found.accepted
