"""The gate by itself, for a search of one's own: what it lets out, and when it closes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agent.errors import GateError
from agent.gate.gate import Gate
from agent.gate.levels import level
from agent.goals import Goals, Objective

ACCURACY = Objective("accuracy", "maximize", low=0, high=1)
ROWS = [f"row {n}" for n in range(100)]
STRONG = [1.0] * 15 + [0.0] * 25
SKILLS = {"first": 0.3, "better": 0.8, "best": 0.97}


def answers(candidate: str, row: str) -> float:
    return float(random.Random(row).random() < SKILLS[candidate])


def errors(candidate: str, row: str) -> float:
    return 1.0 - answers(candidate, row)


def gate(goals: Objective | Goals = ACCURACY, **given: Any) -> Gate:
    return Gate(ROWS, goals, **{"total": 4000, **given})


async def last(which: Gate, champion: str, released: str, measure: Any = answers) -> bool:
    plan = which.plan(STRONG, left=1000, last=True)
    assert plan is not None and plan.last
    return await which.examine(plan, champion, released, measure)


@pytest.mark.parametrize(
    ("goal", "measure"), [(ACCURACY, answers), (Objective("error", "minimize", low=0, high=1), errors)]
)
async def test_a_gain_is_accepted_and_a_loss_is_not(goal: Objective, measure: Any) -> None:
    assert await last(gate(goal), "better", "first", measure) is True
    assert await last(gate(goal), "first", "better", measure) is False
    assert await last(gate(goal), "first", "first", measure) is False


async def test_it_may_be_awaited_and_may_fail() -> None:
    async def measure(candidate: str, row: str) -> float | None:
        return None if candidate == "better" else answers(candidate, row)

    which = gate()
    assert await last(which, "better", "first", measure) is False
    (verdict,) = which.verdicts()
    assert verdict.after == 0.0 and verdict.pairs == 100, "failures count as failures"


async def test_each_exam_has_less_and_all_together_no_more_than_alpha() -> None:
    which, levels = gate(total=100_000, alpha=0.05), []
    previous = None
    for number in range(40):
        is_last = number % 3 == 2
        allowed = which.level(is_last)
        plan = which.plan([1.0] * (20 + number) + [0.0] * 20, left=10_000, last=is_last)
        if plan is None:
            continue
        one, two = random.Random(number).sample(sorted(SKILLS), 2)
        accepted = await which.examine(plan, one, two, answers)
        assert which.exams[-1].level == allowed and which.exams[-1].accepted is accepted
        levels.append(allowed)
        previous = plan
    assert previous is not None and len(levels) > 12
    assert sum(levels) <= 0.05


async def test_after_a_last_exam_the_next_one_is_of_a_new_run() -> None:
    which = gate()
    first = which.level(last=True)
    await last(which, "better", "first")
    assert which.level(last=True) < first / 4
    assert which.level(last=True) == level(0.05, accepts=1, tests=1, run=2, taken=0, last=True)
    assert not await last(which, "first", "better")
    assert which.level(last=False) == level(0.05, accepts=1, tests=2, run=3, taken=0, last=False)


async def test_an_interim_exam_is_not_repeated_for_the_same_evidence() -> None:
    which = gate(total=10_000, interim=True)
    plan = which.plan(STRONG, left=5000, last=False)
    assert plan is not None and not plan.last
    assert await which.examine(plan, "better", "first", answers)
    assert which.plan(STRONG, left=5000, last=False) is None
    assert gate(total=10_000).plan(STRONG, left=5000, last=False) is None


async def test_reading_the_verdicts_closes_it() -> None:
    which = gate()
    plan = which.plan(STRONG, left=1000, last=True)
    assert plan is not None
    await which.examine(plan, "better", "first", answers)
    (verdict,) = which.verdicts()
    assert verdict.accepted and verdict.champion == "better" and "Shown" in verdict.sentence
    with pytest.raises(GateError, match="closed") as caught:
        await which.examine(plan, "best", "better", answers)
    assert "new gate" in caught.value.hint
    assert len(which.verdicts()) == 1


async def test_only_the_planned_rows_are_measured() -> None:
    which, asked = gate(), []

    def measure(candidate: str, row: str) -> float:
        asked.append((candidate, row))
        return answers(candidate, row)

    plan = which.plan(STRONG, left=60, last=True)
    assert plan is not None and plan.pairs == 30
    await which.examine(plan, "better", "first", measure)
    assert sorted(asked) == sorted((name, row) for name in ("better", "first") for row in ROWS[:30])


async def test_clusters_are_units() -> None:
    clusters = [f"user {n // 5}" for n in range(100)]
    which = gate(clusters=clusters)
    plan = which.plan(STRONG, left=1000, last=True)
    assert plan is not None
    await which.examine(plan, "best", "first", answers)
    assert which.verdicts()[0].pairs == len(set(clusters[: plan.pairs]))
    with pytest.raises(ValueError, match="one cluster for each row"):
        gate(clusters=["a"])


async def test_several_numbers_and_constraints_come_as_a_mapping() -> None:
    from agent.goals import Constraint

    goals = Goals((ACCURACY,), (Constraint("cost", max=0.5),))

    def measure(candidate: str, row: str) -> dict[str, float]:
        return {"accuracy": answers(candidate, row), "cost": 0.9 if candidate == "best" else 0.1}

    which = gate(goals)
    assert await last(which, "better", "first", measure)
    assert not await last(which, "best", "better", measure)
    assert [v.checks[0]["passed"] for v in which.verdicts()] == [True, False]


async def test_a_margin_is_a_share_of_the_scale() -> None:
    wide = Objective("points", "maximize", low=0, high=100, min_effect=60)
    assert gate(wide).plan([0.5] * 40, left=1000, last=True) is None, "50 points expected, 60 asked"
    assert gate(wide).plan([0.7] * 40, left=1000, last=True) is not None


async def test_null_worlds_are_rarely_claimed() -> None:
    claims = 0
    for world in range(200):
        rng = random.Random(world)
        which = gate(total=4000)
        for number in range(4):
            plan = which.plan(STRONG, left=1000, last=number == 3)
            if plan is not None:
                claims += await which.examine(plan, "a", "b", lambda *_, rng=rng: float(rng.random() < 0.5))
    assert claims / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


async def test_a_declared_range_is_the_scale() -> None:
    assert gate(scale=0.1).scale == 1.0, "with a smaller one a large loss would weigh no more than a small gain"
    assert gate(Objective("accuracy", "maximize"), scale=0.1).scale == 0.1


async def test_all_rows_of_the_clusters_may_be_examined() -> None:
    plan = gate(clusters=[f"user {n // 2}" for n in range(100)]).plan(STRONG, left=1000, last=True)
    assert plan is not None and plan.pairs == 100
