"""Whole runs on rows of data: what is claimed, what is not, and what is said about it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError
from agent.evaluators.function import FunctionEvaluator
from agent.gate.checks import LEAKS_ALLOWED, user_check
from agent.goals import Constraint, Direction, Objective
from agent.ledger import Budget
from agent.parameters import Float
from agent.problem import Example, Problem
from agent.proposers.base import Context, Proposal
from agent.results.result import load_state
from agent.texts import Text
from tests.row_support import (
    ACCURACY,
    Ran,
    answered,
    graded,
    luck,
    noisy,
    problem,
    rows,
    run,
    session,
    skill,
    useless,
)

STEPS = "tests.row_support:Steps"
BETTER, FIRST = {"x": 0.3, "kind": "b"}, {"x": -0.6, "kind": "a"}
GAIN = skill(BETTER) - skill(FIRST)


def given(*candidates: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a search that tries these candidates and nothing else."""
    return {"proposer": STEPS, "options": {"candidates": list(candidates)}}


def tried(folder: Path, measure: Callable[..., Any] = answered, budget: int = 400, **more: Any) -> Ran:
    """A run that tries the better candidate."""
    return run(folder / "run", measure, budget=budget, **{**given(BETTER), **more})


# A gain that is there.


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("measure", [answered, graded])
@pytest.mark.parametrize("bounded", [True, False])
def test_a_gain_is_proven_in_either_direction_and_a_loss_never(
    tmp_path: Path, measure: Callable[..., Any], direction: Direction, bounded: bool
) -> None:
    def scored(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return measure(candidate, row) if direction == "maximize" else 1 - measure(candidate, row)

    goal = Objective("score", direction, low=0 if bounded else None, high=1 if bounded else None)
    found = tried(tmp_path, scored, objectives=(goal,))
    assert found.result.status == "proven" and found.result.released == found.result.best
    assert dict(found.result.best) == BETTER
    assert found.verdict["effect"] > 0.2, "a gain is positive in either direction"
    assert (found.verdict["before"] < found.verdict["after"]) is (direction == "maximize")
    low, high = found.verdict["interval"]
    assert low > 0 and (low <= GAIN <= high if bounded else high <= 1)
    assert ("win rate" in found.verdict["test"]) is not bounded
    assert ("range of a score is not declared" in found.result.sentence) is not bounded
    assert found.verdict["test"].startswith("betting") is (bounded and measure is graded)
    assert found.replays((1, 2, 8))

    space = {"x": Float(-1, 1, default=0.3), "kind": found.session.problem.space["kind"]}
    other = run(
        tmp_path / "loss" / "run", scored, budget=400, objectives=(goal,), space=space, **given({**BETTER, "x": -0.9})
    )
    assert other.result.status == "initial" and other.result.best == other.result.initial


def test_a_noisy_evaluator_is_measured_anew_and_its_noise_is_told(tmp_path: Path) -> None:
    found = tried(tmp_path, noisy, budget=600)
    assert found.result.status == "proven"
    (noise,) = found.of("noise.measured")
    assert (
        noise.pairs == 10
        and noise.discordance > 0
        and "gate examples, which the budget pays for out of 100" in noise.sentence
    )
    assert found.replays()


def test_a_budget_whose_exam_would_waste_the_level_is_told_so_before_the_search(tmp_path: Path) -> None:
    told = "an exam of 9 would miss even a gain of 20% of the range, and uses up the level of all 100: 1667 evaluations"
    (noise,) = tried(tmp_path / "small", budget=150).of("noise.measured")
    assert "9 gate examples, which the budget pays for out of 100" in noise.sentence and told in noise.sentence
    (noise,) = tried(tmp_path / "enough", budget=1667).of("noise.measured")
    assert noise.sentence.endswith("with 100 gate examples")


def test_a_search_by_coordinates_finds_and_proves_its_gain_with_several_workers(tmp_path: Path) -> None:
    found = run(tmp_path / "run", budget=1000, workers=4, pause=0.002)
    assert found.result.status == "proven" and skill(found.result.best) > skill(FIRST) + 0.2
    assert found.result.spent["evaluations"] <= 1000
    assert found.session.executor.most == 4  # type: ignore[union-attr]
    assert found.replays((1, 2, 8))


def test_rows_of_one_cluster_are_one_piece_of_evidence(tmp_path: Path) -> None:
    data = [replace(row, cluster=f"user {number // 4}") for number, row in enumerate(rows(400))]
    found = tried(tmp_path, data=data, budget=700)
    val = found.split("val")
    assert {row.cluster for row in val}.isdisjoint(row.cluster for row in found.split("train"))
    (started,) = found.of("exam.started")
    assert started.pairs == len(val)
    assert found.verdict["pairs"] == len({row.cluster for row in val}) < len(val) / 3


def test_a_large_gain_is_examined_before_the_search_is_over(tmp_path: Path) -> None:
    found = run(tmp_path / "run", data=rows(300), budget=2000, workers=2, interim=True, seed=3)
    planned = found.of("exam.planned")
    assert not planned[0].last and planned[-1].last
    assert found.of("exam.decided")[0].accepted
    assert len(found.of("candidate.admitted")) > 20, "the search went on behind it"
    order = [event.type for event in found.events]
    assert order.index("exam.decided") < len(order) / 2
    levels = [event.level for event in found.of("exam.started")]
    assert sum(levels) < 0.05
    assert found.replays((8,))


def test_an_exam_may_stop_as_soon_as_the_gain_is_shown(tmp_path: Path) -> None:
    whole = tried(tmp_path / "whole", interim=False, budget=500)
    early = tried(tmp_path / "early", interim=False, budget=500, sequential=True)
    assert early.result.status == whole.result.status == "proven"
    assert early.verdict["pairs"] < early.verdict["planned"] == whole.verdict["pairs"]
    assert early.replays()


# What is not claimed.


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_is_better_nothing_is_released(tmp_path: Path, seed: int) -> None:
    found = run(tmp_path / "run", useless, budget=500, seed=seed)
    assert found.result.released == found.result.initial
    assert found.result.status in ("initial", "unproven")
    assert not any(event.accepted for event in found.of("exam.decided"))


def test_too_few_rows_are_all_searched_and_nothing_is_proven(tmp_path: Path) -> None:
    found = tried(tmp_path, data=rows(60), budget=300)
    assert found.result.status == "unproven" and found.result.released == found.result.initial
    assert not found.split("val") and not found.of("exam.planned", "exam.started")
    assert "60 labelled examples are too few" in found.result.sentence and "20 more" in found.result.sentence


def test_a_suite_is_compared_exactly_and_pays_for_no_exam(tmp_path: Path) -> None:
    found = tried(tmp_path, data=rows(100), target="suite", budget=320)
    assert found.result.status == "exact" and found.verdict["kind"] == "exact"
    assert not found.of("exam.planned", "exam.started", "holdout.fixed")
    assert found.result.spent["evaluations"] == 203, "two candidates, and three rows again"
    assert not (tmp_path / "accounts.sqlite").exists()


def test_a_wrong_declaration_stops_the_run(tmp_path: Path) -> None:
    calls = itertools.count()

    def drifting(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return float(next(calls) % 2)

    found = tried(tmp_path, drifting, deterministic=True)
    assert found.result.exit_code == 3 and found.result.reason == "evaluator"
    assert "declared deterministic" in found.result.sentence
    assert found.result.spent["evaluations"] == 6, "nothing was spent on a search"


def stumbling(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """The first candidate fails on four of the later questions of ten, and is right on all others."""
    if candidate["kind"] == "a" and row["number"] >= 100 and row["number"] % 10 < 4:
        raise RuntimeError("no answer")
    return 1.0


def test_a_failed_row_of_the_gate_counts_as_a_failure_there(tmp_path: Path) -> None:
    data = [*rows(50), *rows(50, start=100), *rows(50, start=50, split="val"), *rows(50, start=150, split="val")]
    found = tried(tmp_path, stumbling, data=data, budget=500)
    assert found.result.reason != "evaluator", "a row that fails at the start does not end the run"
    assert found.result.status == "proven" and (found.verdict["wins"], found.verdict["losses"]) == (20, 0)
    assert found.verdict["pairs"] == 100 and found.verdict["before"] == 0.8


def test_an_evaluator_that_fails_on_every_row_ends_the_run_at_once(tmp_path: Path) -> None:
    def hopeless(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        raise RuntimeError("no answer at all")

    found = tried(tmp_path, hopeless)
    assert found.result.exit_code == 3 and "no answer at all" in found.result.sentence
    assert found.result.spent["evaluations"] <= 20


def breaking(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """The better candidate fails on four questions of ten, and is right on all others."""
    if candidate["kind"] == "b":
        if row["number"] % 10 < 4:
            raise RuntimeError("no answer")
        return 1.0
    return float(luck("easy", row["number"]) < 0.8)


def test_who_fails_on_rows_is_not_better_for_the_rest(tmp_path: Path) -> None:
    found = tried(tmp_path, breaking)
    assert found.result.status == "initial"
    floored = tried(tmp_path / "floor", breaking, objectives=(Objective("accuracy", "maximize", floor=0.0),))
    assert floored.result.status == "initial"
    high = tried(tmp_path / "high", breaking, objectives=(Objective("accuracy", "maximize", floor=1.0),))
    assert high.result.status == "proven", "what a failure counts is the user's own word"
    costs = (Objective("accuracy", "minimize"),)
    dropped = tried(tmp_path / "costs", lambda c, row: -breaking(c, row), objectives=costs)
    (ruling,) = dropped.of("race.decided")
    assert ruling.decision == "drop" and ruling.reason.startswith("failed: error: RuntimeError")


# Constraints, several objectives, anchors.


def halves() -> list[Example]:
    """Rows that the user has divided: numbers below 100 are train, the others val."""
    return [*rows(100), *rows(100, start=100, split="val")]


def second(on_val: float, before: float = 1.0) -> Callable[..., dict[str, float]]:
    """A second number, which the better candidate has on that share of the gate's rows."""

    def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
        share = before if candidate["kind"] == "a" or row["number"] < 100 else on_val
        return {"accuracy": answered(candidate, row), "second": float(luck("second", row["number"]) < share)}

    return measure


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Constraint("second", min=0.7), 0.75, 0.6),
        (Constraint("second", min=0.7, kind="limit", low=0, high=1), 0.97, 0.75),
        (Constraint("second", kind="noninferior", margin=0.2, low=0, high=1), 1.0, 0.8),
        (Constraint("second", kind="alarm", margin=0.0, low=0, high=1), 1.0, 0.7),
    ],
    ids=lambda item: item.kind if isinstance(item, Constraint) else "",
)
def test_each_kind_of_constraint_lets_pass_or_blocks(
    tmp_path: Path, constraint: Constraint, good: float, bad: float
) -> None:
    passed = tried(tmp_path / "good", second(good), data=halves(), budget=600, constraints=(constraint,))
    assert passed.result.status == "proven"
    assert [check["passed"] for check in passed.verdict["checks"]] == [True]
    blocked = tried(tmp_path / "bad", second(bad), data=halves(), budget=600, constraints=(constraint,))
    assert blocked.result.status == "unproven" and blocked.result.released == blocked.result.initial
    (check,) = blocked.verdict["checks"]
    assert check["kind"] == constraint.kind and not check["passed"] and check["sentence"] in blocked.result.sentence
    assert blocked.verdict["p"] < blocked.verdict["level"], "it is the constraint that blocks"


BOTH = (ACCURACY, Objective("second", "maximize", low=0, high=1, min_effect=0.25))


def test_dominance_asks_that_no_objective_falls(tmp_path: Path) -> None:
    passed = tried(tmp_path / "good", second(1.0), data=halves(), budget=600, objectives=BOTH, claim="dominance")
    assert passed.result.status == "proven"
    blocked = tried(tmp_path / "bad", second(0.7), data=halves(), budget=600, objectives=BOTH, claim="dominance")
    assert not blocked.verdict["accepted"] and blocked.verdict["effect"] > 0.2


def test_a_sum_weighs_what_is_lost_against_what_is_gained(tmp_path: Path) -> None:
    light, heavy = BOTH, (ACCURACY, replace(BOTH[1], weight=10))
    passed = tried(tmp_path / "light", second(0.95), data=halves(), budget=600, objectives=light, claim="sum")
    assert passed.result.status == "proven" and passed.verdict["test"].startswith("betting")
    blocked = tried(tmp_path / "heavy", second(0.5), data=halves(), budget=600, objectives=heavy, claim="sum")
    assert not blocked.verdict["accepted"] and blocked.verdict["effect"] < 0


def test_no_champion_breaks_an_anchor(tmp_path: Path) -> None:
    def measure(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return 1.0 - float(candidate["kind"] == "b") if row["number"] == 7 else answered(candidate, row)

    data = [replace(row, anchor=row.id == "row-7") for row in halves()]
    found = tried(tmp_path / "anchored", measure, data=data)
    assert found.result.status == "initial"
    assert "worse on the anchor row-7" in found.of("race.decided")[-1].reason
    assert tried(tmp_path / "free", measure, data=halves()).result.status == "proven"


# The account.


def test_later_runs_on_the_same_rows_have_less_level_and_new_rows_are_searched(tmp_path: Path) -> None:
    first = run(tmp_path / "a", **_small())
    second_run = run(tmp_path / "b", data=rows(260), **_small())
    third = run(tmp_path / "c", data=rows(260), **_small())
    levels = [found.of("exam.started")[-1].level for found in (first, second_run, third)]
    assert levels[0] > levels[1] > levels[2] and sum(levels) <= 0.05
    assert [found.of("exam.started")[-1].account["run"] for found in (first, second_run, third)] == [1, 2, 3]
    held = {row.id for row in first.split("val")}
    assert {row.id for row in second_run.split("val")} == held == {row.id for row in third.split("val")}
    assert {f"row-{number}" for number in range(200, 260)} <= {row.id for row in second_run.split("train")}


def _small() -> dict[str, Any]:
    return {"budget": 400, **given(BETTER)}


def test_the_report_opens_the_test_rows_and_a_second_opening_says_less(tmp_path: Path) -> None:
    first, again = (run(tmp_path / name, data=rows(400), **{**_small(), "budget": 900}) for name in ("a", "b"))
    reports = [found.of("report.reached")[0].report for found in (first, again)]
    assert [report["opening"] for report in reports] == [1, 2]
    assert reports[0]["confidence"] < reports[1]["confidence"] < 1
    best = first.result.best.id
    for report in reports:
        low, high = report["candidates"][best]["interval"]
        assert low <= report["candidates"][best]["gain"] <= high
        assert low <= GAIN <= high, "the intervals hold what is true"
    widths = [high - low for low, high in (report["candidates"][best]["interval"] for report in reports)]
    assert widths[1] > widths[0]
    measured = {event.example for event in first.of("evaluation.started") if event.purpose == "report"}
    assert measured <= {row.id for row in first.split("test")}
    assert first.replays()


# Checks before anything is measured.

PROMPT = {"x": Float(-1, 1, default=-0.6), "prompt": Text("Answer {question} in one word.")}


def written(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    return answered({"x": candidate["x"], "kind": "b"}, row)


def answers() -> list[Example]:
    """Rows that have answers, each of twelve words of its own."""
    return [replace(row, answer=" ".join(f"w{row.row['number']}x{n}" for n in range(12))) for row in halves()]


def test_a_users_check_refuses_before_a_measurement(tmp_path: Path) -> None:
    def polite(candidate: Mapping[str, Any]) -> str:
        return "" if "please" in candidate["prompt"] else "it does not say please"

    rude, kind = ({"x": 0.3, "prompt": f"Answer {{question}}{word}."} for word in ("", ", please"))
    more = given(rude, kind)
    found = run(tmp_path / "run", written, budget=400, space=PROMPT, checks=(user_check(polite),), **more)
    (refused,) = found.of("candidate.rejected")
    assert refused.reason == "polite: it does not say please"
    assert found.result.status == "proven" and dict(found.result.best) == kind
    assert len({event.candidate for event in found.of("evaluation.started")}) == 2
    assert found.replays((1, 8))


@pytest.mark.parametrize("leaks", [1, LEAKS_ALLOWED + 1])
def test_a_prompt_that_holds_an_answer_is_refused_and_many_bar_the_proof(tmp_path: Path, leaks: int) -> None:
    data = answers()
    held = [row.answer for row in data if row.split == "val"]
    copies = [{"x": 0.3, "prompt": f"Answer {{question}}: {answer}"} for answer in held[:leaks]]
    honest = {"x": 0.3, "prompt": "Answer {question} well."}
    found = run(tmp_path / "run", written, data=data, budget=500, space=PROMPT, **given(*copies, honest))
    refused = found.of("candidate.rejected")
    assert len(refused) == leaks and all(event.reason.startswith("leak: ") for event in refused)
    assert not any(answer in event.reason for event in refused for answer in held)
    assert (found.result.status == "proven") is (leaks <= LEAKS_ALLOWED)
    assert ("repeated held-out answers" in found.result.sentence) is (leaks > LEAKS_ALLOWED)
    again = run(tmp_path / "again", written, data=data, budget=500, space=PROMPT, **given(honest))
    assert (again.result.status == "proven") is (leaks <= LEAKS_ALLOWED), "the rows are known for all runs"


class Peeper:
    """Looks at prompts before it proposes the last one."""

    name = "peeper"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        context.exhausted = True
        *copies, honest = context.options["candidates"]
        for number, values in enumerate(copies):
            with pytest.raises(ConfigError, match="leak: "):
                await context.look(values, [context.problem.split("train")[0].id], key=f"copy {number}")
        return [Proposal(honest, self.name)]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


@pytest.mark.parametrize("leaks", [LEAKS_ALLOWED, LEAKS_ALLOWED + 1])
def test_looks_at_held_out_answers_are_paid_and_counted_as_candidates_are(tmp_path: Path, leaks: int) -> None:
    data = answers()
    held = [row.answer for row in data if row.split == "val"]
    copies = [{"x": 0.3, "prompt": f"Answer {{question}}: {answer}"} for answer in held[:leaks]]
    more = {**given(*copies, {"x": 0.3, "prompt": "Answer {question} well."}), "proposer": f"{__name__}:Peeper"}
    found = run(tmp_path / "run", written, data=data, budget=500, space=PROMPT, **more)
    assert len(found.of("look.asked")) == leaks and not found.of("candidate.rejected")
    assert found.result.spent["evaluations"] == leaks + len(found.of("evaluation.started"))
    assert (found.result.status == "proven") is (leaks <= LEAKS_ALLOWED)
    assert ("repeated held-out answers" in found.result.sentence) is (leaks > LEAKS_ALLOWED)
    assert found.replays()


# Runs that go on, and exams that have to wait.


def test_an_exam_of_a_new_epoch_is_charged_anew(tmp_path: Path) -> None:
    other: dict[str, Any] = {**BETTER, "x": -0.9}
    found = tried(tmp_path, budget=800, **given(BETTER, other))

    def changed(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        return float(candidate["x"] == other["x"])

    again = session(problem(changed), budget=2000)
    settings = {"budget": {"evaluations": 2000}}
    asyncio.run(again.resume(tmp_path / "run", accept_change=True, changes=settings))
    later = Ran(found.result, tmp_path / "run", again)
    first, second = later.of("exam.started")
    assert (first.id, second.id) == (1, 2) and second.level < first.level
    assert second.account["tests"] == 1 and second.account["accepts"] == 1
    assert later.replays()


class Slow:
    """A proposer that thinks until the time is up."""

    name = "slow"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        if context.memory:
            await asyncio.sleep(1.0)
        context.memory = True
        return [Proposal(BETTER, self.name)]

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


def test_the_exam_of_an_exclusive_evaluator_waits_for_the_proposer(tmp_path: Path) -> None:
    chosen = problem()
    alone = replace(chosen, evaluator=FunctionEvaluator(answered, names=["accuracy"], exclusive=True))
    going = session(alone, budget=600, proposer="tests.test_row_runs:Slow")
    going.budget = Budget(evaluations=600, seconds=0.6)
    result = asyncio.run(going.run(tmp_path / "run"))
    assert result.reason == "seconds" and result.status == "proven"
    assert result.verdict is not None and result.verdict["pairs"] == result.verdict["planned"] == 100


def test_what_proposers_are_told_exams_cost_is_worked_out_from_the_search(tmp_path: Path) -> None:
    found = tried(tmp_path, budget=500)
    state = load_state(found.folder, everything=True)
    measured = [event for event in found.of("evaluation.ended") if event.purpose == "search" and event.score]
    assert state.costs.units == len(measured) < found.result.spent["evaluations"] - 100


def test_an_exam_that_may_stop_early_waits_for_its_constraints(tmp_path: Path) -> None:
    def both(candidate: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": float(candidate["kind"] == "b"), "harm": 0.0}

    harm = Constraint("harm", max=0.08, kind="limit", low=0, high=1)
    found = tried(tmp_path, both, budget=500, sequential=True, constraints=(harm,))
    assert found.result.status == "proven", "the gain was shown long before the limit"
    assert found.verdict["pairs"] > 20
