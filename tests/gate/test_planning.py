"""When an exam is due and how large it is follows from the search alone."""

from __future__ import annotations

import inspect
import math
import random
from typing import Any

import pytest

from agent.gate import planning
from agent.gate.levels import exam_size, power
from agent.gate.planning import DISCORDANT, INTERIM, RESERVE, SHRINK, SPARE, Plan, Seen, choose, plan, reserve

STRONG = Seen.of([1.0] * 30 + [0.0] * 30)
GIVEN: dict[str, Any] = {"rows": 200, "left": 4000, "total": 4000, "level": 0.01, "test": "sign", "scale": 1.0}


def planned(seen: Seen = STRONG, last: bool = False, **given: Any) -> Plan | None:
    return plan(seen, last=last, **{**GIVEN, **given})


def test_what_was_seen_is_a_mean_with_its_error() -> None:
    seen = Seen.of([1.0, 0.0, -1.0, 1.0])
    assert (seen.mean, seen.discordance, seen.pairs, seen.ends) == (0.25, 0.75, 4, True)
    assert seen.error == pytest.approx(math.sqrt((0.75**2 * 2 + 0.25**2 + 1.25**2) / 3 / 4))
    assert not Seen.of([1.0, 0.5]).ends
    assert Seen.of([-d for d in (1.0, 0.0, -1.0, 1.0)]).mean == -seen.mean
    nothing = Seen.of([])
    assert nothing.mean == 0 and nothing.pairs == 0 and nothing.error >= 1


def test_steps_add_up() -> None:
    one, two = Seen.of([1.0, 0.0] * 10), Seen.of([1.0, 0.0, 0.0, 0.0] * 10)
    both = Seen.chain([one, two])
    assert both.mean == pytest.approx(0.75) and both.pairs == 20 and both.ends
    assert both.error == pytest.approx(math.hypot(one.error, two.error))
    assert Seen.chain([one] * 5).discordance == 1.0
    assert not Seen.chain([one, Seen.of([0.5])]).ends


@pytest.mark.parametrize(
    ("seen", "given", "test"),
    [
        (STRONG, {}, "sign"),
        (Seen.of([0.5, 1.0]), {}, "betting"),
        (STRONG, {"margin": 0.05}, "betting"),
        (STRONG, {"bounded": False}, "wins"),
        (STRONG, {"bounded": False, "noise": "gaussian"}, "gaussian"),
        (STRONG, {"null": "exchangeable"}, "exchangeable"),
        (STRONG, {"of_set": True}, "resampling"),
        (STRONG, {"of_set": True, "most": 3.0}, "quotient"),
    ],
)
def test_the_test_is_chosen_before_a_row_of_the_gate_is_read(seen: Seen, given: dict[str, Any], test: str) -> None:
    assert choose(seen, **{"bounded": True, "null": "mean", "noise": "any", "margin": 0.0, **given}) == test
    assert not {"gate", "val", "verdict"} & set(inspect.signature(choose).parameters)


def test_an_interim_exam_is_sized_for_the_gain_less_its_error() -> None:
    found = planned()
    assert found is not None and not found.last
    gain = STRONG.mean - STRONG.error
    assert found.gain == pytest.approx(gain) and found.needed == exam_size(gain, 0.5, 0.01)
    assert found.pairs == math.ceil(SPARE * found.needed)
    assert found.power == pytest.approx(power(found.pairs, gain, 0.5, 0.01)) and found.power > 0.8


def test_a_larger_gain_needs_fewer_rows_and_a_smaller_level_more() -> None:
    weak = Seen.of([1.0] * 20 + [0.0] * 40)
    one, two, three = planned(total=1e6), planned(weak, total=1e6), planned(total=1e6, level=1e-6)
    assert one and two and three
    assert one.pairs < min(two.pairs, three.pairs)


@pytest.mark.parametrize(
    "given",
    [
        {"seen": Seen.of([0.0] * 60)},
        {"seen": Seen.of([-1.0] * 30 + [0.0] * 30)},
        {"seen": Seen.of([1.0, 0.0])},
        {"margin": 0.6},
        {"rows": 20},
        {"left": 40},
        {"total": 300},
        {"previous": 1},
        {"spent": int(INTERIM * 4000)},
    ],
    ids=str,
)
def test_no_interim_exam_without_strong_evidence_rows_and_money(given: dict[str, Any]) -> None:
    assert planned() is not None
    assert planned(**given) is None


def test_interim_exams_have_a_share_of_the_budget_together() -> None:
    found = planned()
    assert found is not None
    total = 2 * found.pairs / INTERIM
    assert planned(total=total + 1) is not None and planned(total=total - 1) is None
    assert planned(total=total + 1, spent=2) is None


def test_a_second_interim_exam_must_have_become_smaller() -> None:
    first = planned()
    assert first is not None
    assert planned(previous=first.needed) is None
    assert planned(previous=math.ceil(first.needed / SHRINK)) is not None


def test_clusters_multiply_the_rows_that_are_needed() -> None:
    one, four = planned(total=1e6), planned(total=1e6, per_unit=4.0)
    assert one and four and four.needed == pytest.approx(4 * one.needed, abs=4)
    assert four.power == pytest.approx(one.power, abs=0.05)


def test_the_last_exam_takes_all_the_rows_that_can_be_paid() -> None:
    whole, poor = planned(last=True), planned(last=True, left=101)
    assert whole and poor and (whole.pairs, poor.pairs) == (200, 50) and whole.last
    assert planned(Seen.of([1.0, 0.0, 0.0]), last=True) is not None, "even weak evidence is examined at the end"
    forever = planned(last=True, left=math.inf)
    assert forever is not None and forever.pairs == 200


def test_the_last_exam_is_not_held_when_it_cannot_show_anything() -> None:
    assert planned(Seen.of([0.0] * 60), last=True) is None
    assert planned(Seen.of([-1.0] * 60), last=True) is None
    assert planned(last=True, margin=STRONG.mean) is None
    rare = Seen.of([1.0] + [0.0] * 59)
    assert planned(rare, last=True, rows=60 * DISCORDANT - 1, left=1e6) is None
    assert planned(rare, last=True, rows=60 * DISCORDANT + 60, left=1e6) is not None
    assert planned(rare, last=True, rows=60 * DISCORDANT + 60, left=1e6, per_unit=3.0) is None, "too few clusters"


def test_a_plan_survives_storage() -> None:
    found = planned()
    assert found is not None and Plan.from_json(found.to_json()) == found


def test_the_reserve_is_what_the_last_exam_needs_and_never_more_than_its_share() -> None:
    given = {"total": 4000.0, "level": 0.01}
    assert reserve(None, rows=0, **given) == 0
    assert reserve(None, rows=50, **given) == 100, "two for each row"
    assert reserve(None, rows=10_000, **given) == int(RESERVE * 4000)
    strong = reserve(STRONG, rows=10_000, **given)
    assert 0 < strong < reserve(None, rows=10_000, **given)
    assert strong >= 2 * exam_size(STRONG.mean - STRONG.error, 0.5, 0.01)
    assert reserve(Seen.of([-1.0] * 20), rows=10_000, **given) == int(RESERVE * 4000)
    assert reserve(None, rows=50, total=math.inf, level=0.01) == 100


def test_search_evidence_of_a_null_world_is_rarely_examined_early() -> None:
    rng, due = random.Random(3), 0
    for _ in range(300):
        seen = Seen.of([rng.choice((-1.0, 0.0, 0.0, 1.0)) for _ in range(40)])
        due += planned(seen) is not None
    assert due <= 3


def test_nothing_of_the_gate_can_be_told_to_a_plan() -> None:
    names = set(inspect.signature(planning.plan).parameters)
    assert names == {
        "seen",
        "rows",
        "left",
        "total",
        "level",
        "last",
        "test",
        "scale",
        "margin",
        "previous",
        "spent",
        "per_unit",
    }, "what is added here must be known to the search, or the guarantee is gone"


def test_more_is_held_back_where_rows_come_in_clusters() -> None:
    seen = planning.Seen(0.5, 0.05, 0.6, 100, True)
    one = planning.reserve(seen, rows=2000, total=1e6, level=0.05)
    four = planning.reserve(seen, rows=2000, total=1e6, level=0.05, per_unit=8.0)
    assert four > one


def test_what_keeps_a_last_exam_from_being_held_is_named() -> None:
    sure = planning.Seen(mean=0.9, error=0.1, discordance=1.0, pairs=20, ends=True)
    poor = planning.lacking(sure, rows=40, left=6)
    assert "budget is too small" in poor and "6 evaluations" in poor and "3 of the 40 held-out rows" in poor
    rare = planning.lacking(
        planning.Seen(mean=0.02, error=0.01, discordance=0.02, pairs=50, ends=True), rows=40, left=1000
    )
    assert "40 held-out rows are too few" in rare and "2% of the rows" in rare and "budget" not in rare
    both = planning.lacking(sure, rows=3, left=0)
    assert "3 held-out rows are too few" in both, "more budget would not help"
    assert "smallest one that counts" in planning.lacking(sure, rows=40, left=1000, margin=0.95)
