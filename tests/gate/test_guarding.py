"""What an exam finds about constraints, by their kind."""

from __future__ import annotations

from typing import Any

import pytest

from agent.gate.guarding import findings
from agent.goals import Constraint, Direction, Goals, Objective

GOAL = Objective("good", "maximize", low=0, high=1)
RANGE: dict[str, Any] = {"low": 0, "high": 1}
Row = dict[str, float] | None


def rows(share: float, count: int = 100) -> list[Row]:
    """Ones on that share of the rows, and zeros, evenly mixed."""
    return [{"safe": float(int((n + 1) * share) > int(n * share))} for n in range(count)]


def finding(item: Constraint, new: list[Row], old: list[Row] | None = None, level: float = 0.01) -> dict[str, Any]:
    clusters = [str(n) for n in range(len(new))]
    (found,) = findings(Goals((GOAL,), (item,)), level, new, old if old is not None else new, clusters)
    assert (found["name"], found["kind"]) == (item.name, item.kind) and item.name in found["sentence"]
    return found


def test_a_bound_is_about_the_mean_that_was_observed() -> None:
    assert finding(Constraint("safe", min=0.5), rows(0.5))["passed"]
    assert not finding(Constraint("safe", min=0.51), rows(0.5))["passed"]
    assert finding(Constraint("safe", max=0.5), rows(0.5))["passed"]
    assert not finding(Constraint("safe", max=0.49), rows(0.5))["passed"]


@pytest.mark.parametrize(("share", "passed"), [(1.0, True), (0.75, False), (0.5, False)])
def test_a_limit_must_be_shown(share: float, passed: bool) -> None:
    assert finding(Constraint("safe", min=0.7, kind="limit", **RANGE), rows(share))["passed"] is passed
    turned = Constraint("safe", max=0.3, kind="limit", **RANGE)
    assert finding(turned, rows(1 - share))["passed"] is passed


def test_a_limit_on_both_sides_asks_for_both() -> None:
    both = Constraint("safe", min=0.2, max=0.8, kind="limit", **RANGE)
    assert finding(both, rows(0.5))["passed"]
    assert not finding(both, rows(0.95))["passed"] and not finding(both, rows(0.05))["passed"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("new", "passed"), [(0.9, True), (1.0, True), (0.6, False)])
def test_noninferiority_excludes_a_loss_beyond_the_margin(direction: Direction, new: float, passed: bool) -> None:
    item = Constraint("safe", kind="noninferior", direction=direction, margin=0.2, **RANGE)
    after, before = (new, 0.9) if direction == "maximize" else (1 - new, 0.1)
    assert finding(item, rows(after), rows(before))["passed"] is passed


def test_noninferiority_needs_enough_rows() -> None:
    item = Constraint("safe", kind="noninferior", margin=0.2, **RANGE)
    assert not finding(item, rows(0.9, 5), rows(0.9, 5))["passed"], "five equal rows exclude little"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_an_alarm_is_for_strong_harm_only(direction: Direction) -> None:
    item = Constraint("safe", kind="alarm", direction=direction, **RANGE)
    better, worse = (1.0, 0.7) if direction == "maximize" else (0.0, 0.3)
    assert not finding(item, rows(worse), rows(better))["passed"]
    assert finding(item, rows(better), rows(worse))["passed"] and finding(item, rows(better))["passed"]
    assert finding(item, rows(worse, 4), rows(better, 4))["passed"], "four rows are no proof of harm"
    loose = Constraint("safe", kind="alarm", direction=direction, margin=0.5, **RANGE)
    assert finding(loose, rows(worse), rows(better))["passed"], "it may lose that much"


def failing(share: float) -> list[Row]:
    """Two rows of five fail."""
    return [None if n % 5 in (0, 2) else row for n, row in enumerate(rows(share))]


def test_a_failed_row_is_the_worst_there_is() -> None:
    broken = failing(1.0)
    assert not finding(Constraint("safe", min=0.7, **RANGE), broken)["passed"]
    assert not finding(Constraint("safe", max=0.3, **RANGE), failing(0.0))["passed"]
    assert not finding(Constraint("safe", kind="noninferior", margin=0.2, **RANGE), broken, rows(1.0))["passed"]
    up = Constraint("safe", kind="alarm", direction="minimize", **RANGE)
    assert not finding(up, failing(0.0), rows(0.0))["passed"]
    assert finding(Constraint("safe", min=0.9), broken)["passed"], "without a range there is no worst value"


def test_what_has_no_value_at_all_does_not_pass() -> None:
    found = finding(Constraint("safe", min=0.0), [None] * 5)
    assert not found["passed"] and "has no value" in found["sentence"]


def test_rows_of_a_cluster_are_one_value() -> None:
    new: list[Row] = [*({"safe": value} for value in (1.0, 0.0, 0.0, 1.0)), {"safe": 1.0}]
    for least, passed in ((0.75, True), (0.76, False)):
        (found,) = findings(Goals((GOAL,), (Constraint("safe", min=least),)), 0.01, new, new, [*"aaaa", "b"])
        assert found["passed"] is passed, "the mean of a half and a whole"


def test_values_beyond_the_range_count_as_its_ends() -> None:
    wild: list[Row] = [{"safe": 1e6}] + [{"safe": 0.0}] * 9
    assert not finding(Constraint("safe", min=0.5, **RANGE), wild)["passed"]


def test_a_smaller_level_asks_for_more() -> None:
    item, data = Constraint("safe", min=0.7, kind="limit", **RANGE), rows(0.9, 60)
    assert finding(item, data, level=0.1)["passed"] and not finding(item, data, level=1e-9)["passed"]


def test_each_constraint_has_a_finding_and_none_is_none() -> None:
    items = (Constraint("safe", min=0.1), Constraint("fast", max=1.0))
    new: list[Row] = [{"safe": 0.5, "fast": 2.0}] * 10
    clusters = [str(n) for n in range(10)]
    assert [f["passed"] for f in findings(Goals((GOAL,), items), 0.01, new, new, clusters)] == [True, False]
    assert findings(Goals((GOAL,)), 0.01, new, new, clusters) == []
