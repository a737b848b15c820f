"""What must hold of the gate as a whole, through its public interface, with measurements held in memory."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import Constraint, Float, Gate, Objective, Race, optimize
from agent.evaluators.function import FunctionEvaluator
from agent.events import EvaluationStarted
from agent.gate import exam, guards, heldout, levels, planning, race, ranking, wealth
from agent.gate.accounts import Accounts
from agent.gate.arena import Arena
from agent.gate.pairs import Pairs
from agent.goals import Direction, Goals
from agent.journal import read, read_all
from agent.llm.scripted import Scripted
from agent.problem import Example, Problem
from agent.space import Space

GOAL = Objective("score", "maximize", low=0, high=1)
ALPHA = 0.05
SIGNS: dict[Direction, int] = {"minimize": -1, "maximize": 1}


def rows_of(n: int, prefix: str = "row") -> list[dict[str, str]]:
    """Rows that are no near-duplicates of each other."""
    rng = random.Random(prefix)
    return [{"id": f"{prefix}{i}", "text": " ".join(f"{rng.getrandbits(40):x}" for _ in range(6))} for i in range(n)]


# 1 and 2: the wealth, and how often it misleads.


def test_the_wealth_is_the_mean_of_direct_products() -> None:
    d = [0.4, -1.0, 1.0, 0.0, 0.7, -0.2, 1.0]
    bets = (np.arange(20_000) + 0.5) / 20_000
    products = np.cumprod([1 + bets * x for x in d], axis=0)
    assert np.exp(wealth.log_wealth(d)) == pytest.approx(products.mean(axis=1), rel=1e-6)


@pytest.mark.parametrize(
    "values", [[1, -1], [0.5, -0.5], [1 / 9] * 9 + [-1], [0] * 8 + [1, -1]], ids=["binary", "graded", "skewed", "ties"]
)
def test_the_wealth_reaches_twenty_in_at_most_one_null_run_of_twenty(values: list[float]) -> None:
    rng = np.random.default_rng(0)
    runs = [wealth.test(rng.choice(values, 100), ALPHA).accepted for _ in range(1000)]
    assert np.mean(runs) <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 1000)


# 3: levels.


def spent(rng: random.Random, tests: int, accepts: int, run: int, taken: int, depth: int) -> float:
    """Levels of all exams that can follow, over both answers of each, when a policy decides which are the last."""
    if depth == 0:
        return 0.0
    last = rng.random() < 0.4
    level = levels.level(ALPHA, accepts=accepts, tests=tests, run=run, taken=taken, last=last)
    after = (run + 1, 0) if last else (run, taken + 1)
    return level + sum(spent(rng, tests + 1, accepts + bit, *after, depth - 1) for bit in (0, 1))


def test_the_levels_of_all_histories_sum_to_at_most_alpha() -> None:
    sums = [spent(random.Random(seed), 0, 0, 1, 0, 9) for seed in range(20)]
    assert max(sums) <= ALPHA and min(sums) > ALPHA / 4


# 4: null runs.


def stops(race_: Race, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """After how many of the pairs in each row of `d` the race ends, and whether it promotes; `Race` for many runs."""
    n = np.arange(1, d.shape[1] + 1)
    size = (race_.prior * race_.weight + np.cumsum(np.abs(d), axis=1)) / (race_.weight + n)
    stake = np.cumsum(np.log1p(np.clip(race_.gain / size, 0.1, 0.6) * d), axis=1)
    over = (stake >= race_.promote) | ((stake <= race_.drop) & (n >= race_.shortest))
    over |= (n >= race_.tied) & (np.cumsum(d != 0, axis=1) == 0)
    over[:, -1] = True
    end = over.argmax(axis=1)
    final = stake[np.arange(len(d)), end]
    return end + 1, np.where(end + 1 < d.shape[1], final >= race_.promote, final > 0)


def null_world(runs: int, n: int, rounds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By round: the champions' scores and their challengers', (runs, 2 n) each; no edit has any true effect."""
    rng = np.random.default_rng(4)
    champions = rng.random((runs, 2 * n)) < 0.5
    for _ in range(rounds):
        challengers = champions ^ (rng.random((runs, 2 * n)) < 0.2)
        yield champions, challengers
        order = rng.permutation(n)
        _, promoted = stops(Race(), challengers[:, order].astype(float) - champions[:, order])
        champions = np.where(promoted[:, None], challengers, champions)
    yield champions, champions


def test_two_hundred_null_rounds_release_nothing_more_often_than_alpha() -> None:
    runs, n = 300, 100
    (first, _), *_, (last, _) = null_world(runs, n, 200)
    assert np.mean(last[:, :n]) > 0.55, "the search itself is fooled: it ends with scores above the true ones"
    released = examined = 0
    for seed, champion in zip(first, last, strict=True):
        gate = Gate([str(i) for i in range(n)], GOAL, total=10_000)
        plan = gate.plan(list(champion[:n].astype(float) - seed[:n]), left=10_000, last=True)
        if plan is None:
            continue
        examined += 1
        scores = {"champion": champion[n:], "seed": seed[n:]}
        released += asyncio.run(gate.examine(plan, "champion", "seed", lambda c, row, s=scores: float(s[c][int(row)])))
    assert examined > 0.9 * runs
    assert released / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_the_races_of_the_null_runs_are_those_of_the_arena() -> None:
    rng = np.random.default_rng(5)
    worlds = rng.choice([-1.0, 0.0, 0.0, 1.0], (60, 40))
    for d, end, promoted in zip(worlds, *stops(Race(), worlds), strict=True):
        rows = [str(i) for i in range(40)]
        arena = Arena(rows, "old", 0, math.inf, scale=1.0)
        arena.enter("new")
        order, count = list(arena.lanes["new"].order), 0
        gains = dict(zip(order, d, strict=True))
        while (found := arena.ruling()) is None:
            wanted = arena.next(1)
            assert wanted is not None
            arena.add(wanted[0], wanted[1], gains[wanted[1]] if wanted[0] == "new" else 0.0)
            count += 1
        assert (found[1].decision == "promote", found[1].evidence["pairs"], count) == (promoted, end, 2 * end)


# 5: the attack.


def boosted(chosen: np.ndarray, queries: np.ndarray) -> float:
    """What a vote of the chosen programs seems to gain on the gate's rows; every program is right by chance."""
    voters = queries[chosen] if chosen.any() else queries[:1]
    return float(np.mean((2 * voters.sum(axis=0) > len(voters)) + 0.5 * (2 * voters.sum(axis=0) == len(voters)))) - 0.5


def test_a_proposer_that_boosts_what_the_gate_accepts_gains_nothing() -> None:
    n, bits, scores = 100, [], []
    plan = planning.Plan(n, False, "sign", 1.0, 0.0, 0.1, 0.5, n, 0.5)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first, queries = rng.random(n) < 0.5, rng.random((40, n)) < 0.5
        gate = Gate([str(i) for i in range(n)], GOAL, total=math.inf)
        told = [
            asyncio.run(gate.examine(plan, query, first, lambda program, row: float(program[int(row)])))
            for query in queries
        ]
        bits.append(boosted(np.array(told), queries))
        scores.append(boosted(queries.mean(axis=1) > 0.5, queries))
    assert np.mean(scores) > 0.1, "whoever reads scores learns the rows by heart"
    assert np.mean(bits) < 0.03


# What the proposer reads and learns by heart is not rewarded.


def test_rows_read_since_the_lines_parted_say_nothing_for_a_challenger() -> None:
    arena = Arena([str(i) for i in range(40)], "old", 0, 1000, scale=1.0)
    arena.enter("a", ["1", "2"], ["old"])
    arena.enter("lost", ["3"], ["old"])
    assert "1" not in arena.lanes["a"].order and "3" in arena.lanes["a"].order
    arena.decided("lost", promoted=False)
    arena.decided("a", promoted=True)
    arena.enter("b", ["2", "4"], ["a"])
    assert {"1", "2", "3", "4"} - set(arena.lanes["b"].order) == {"2", "4"}, (
        "what a learned, b inherits; 2 is read anew"
    )
    arena.enter("c", [], ["lost"])
    assert {"1", "2", "3", "4"} - set(arena.lanes["c"].order) == {"3"}


@pytest.mark.parametrize(("told", "decision"), [(True, "drop"), (False, "promote")])
def test_knowing_the_failing_rows_by_heart_wins_no_race(told: bool, decision: str) -> None:
    arena = Arena([str(i) for i in range(60)], "old", 0, 3000, scale=1.0)
    read = {str(i) for i in range(20)}
    arena.enter("new", read if told else (), ["old"])
    while (found := arena.ruling()) is None:
        wanted = arena.next(1)
        assert wanted is not None
        arena.add(wanted[0], wanted[1], float(wanted[0] == "new" and wanted[1] in read))
    assert found[1].decision == decision


# 6: the proposer.


def test_no_prompt_has_seen_a_held_out_row(tmp_path: Path) -> None:
    data = {name: rows_of(40, name) for name in ("train", "val")}

    def measure(candidate: Any, row: Any) -> tuple[float, str]:
        return float(random.Random(f"{row['text']}").random() < candidate["x"]), f"read {row['id']}: {row['text']}"

    model = Scripted(lambda request: json.dumps({"x": random.Random(request.messages[0].text).random()}))
    result = optimize(measure, space={"x": Float(0, 1, default=0.1)}, data=data, objectives=GOAL, model=model,
                      budget=400, deterministic=True, runs=tmp_path)  # fmt: skip
    heard = json.dumps([[request.system, [m.text for m in request.messages]] for request in model.requests])
    examined = [e.event for e in read_all(result.folder) if isinstance(e.event, EvaluationStarted)]
    assert any(event.purpose == "gate" for event in examined) and model.requests
    seen = json.dumps([entry.event.body() for entry in read(result.folder)])
    for row in data["val"]:
        assert row["id"] not in heard and row["text"] not in heard
        assert row["text"] not in seen and f'"{row["id"]}"' not in seen


# 7: suites that are measured exactly.


def suite(folder: Path, rows: list[Any]) -> Any:
    def measure(candidate: Any, row: Any) -> float:
        return abs(candidate["x"] - 0.3) + row["cost"]

    return optimize(measure, space={"x": Float(-1, 1, default=0.9)}, data=rows, target="suite", model=None,
                    budget=150, deterministic=True, runs=folder)  # fmt: skip


def test_an_exact_suite_is_compared_without_an_exam_in_any_order(tmp_path: Path) -> None:
    rows = [{"id": f"row{i}", "cost": i / 8} for i in range(8)]
    results = [suite(tmp_path / str(turn), order) for turn, order in enumerate((rows, rows[::-1]))]
    for result in results:
        events = [e.event for e in read_all(result.folder)]
        assert result.status == "exact"
        asked = [event for event in events if isinstance(event, EvaluationStarted)]
        assert {event.purpose for event in asked} == {"search"}
        assert not any(event.type.startswith("exam.started") for event in events)
        once = [(event.candidate, event.example) for event in asked if event.replicate == 0]
        assert len(once) == len(set(once)) and len(asked) - len(once) <= 3, "beyond the check of the declaration"
    assert dict(results[0].best) == dict(results[1].best)
    assert results[0].verdict["effect"] == pytest.approx(results[1].verdict["effect"])


# 8: a crash.


def test_an_exam_that_was_begun_stays_charged(tmp_path: Path) -> None:
    rows = [Example(row["id"], row, split="val") for row in rows_of(40)]
    begun = Accounts(tmp_path).begin(run="one", exam=1, rows=rows, alpha=ALPHA, last=True, planned=40)
    again = Accounts(tmp_path).begin(run="one", exam=1, rows=rows, alpha=ALPHA, last=True, planned=40)
    assert again == begun and Accounts(tmp_path).standing(rows, ALPHA).spent == pytest.approx(begun.level)
    other = Accounts(tmp_path).begin(run="two", exam=1, rows=rows[20:], alpha=ALPHA, last=True, planned=20)
    assert other.level < begun.level and other.number_of_run == 2


# 9 and 10: several constraints, and rankings.


def test_the_weakest_evidence_decides_about_several_constraints() -> None:
    assert guards.joint([3.0, 0.5, 7.0]) == 0.5
    n = 60
    gain = {"new": [1.0] * n, "old": [1.0] * (n // 2) + [0.0] * (n // 2)}
    for cost, accepted in ((0.0, True), (0.6, False)):
        limit = Constraint("cost", kind="noninferior", direction="minimize", margin=0.3, low=0, high=1)
        gate = Gate([str(i) for i in range(n)], Goals((GOAL,), (limit,)), total=math.inf)
        plan = planning.Plan(n, True, "sign", 1.0, 0.0, 0.5, 0.5, n, 0.9)

        def measure(name: str, row: str, cost: float = cost) -> dict[str, float]:
            return {"score": gain[name][int(row)], "cost": cost if name == "new" else 0.0}

        assert asyncio.run(gate.examine(plan, "new", "old", measure)) is accepted


def test_rock_paper_scissors_has_no_winner_and_a_ladder_has_one() -> None:
    circle = ranking.minimax([[0, 20, 0], [0, 0, 20], [20, 0, 0]])
    assert circle.weights == pytest.approx([1 / 3] * 3, abs=1e-3)
    strengths = ranking.bradley_terry([[0, 15, 19], [5, 0, 15], [1, 5, 0]])
    assert list(np.argsort(-strengths)) == [0, 1, 2]


# Polarity: what is better is better at every layer, and worse from the other side.


def test_the_race_tells_better_from_worse() -> None:
    better = [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert Race().update(better, 100).decision == "promote"
    assert Race().update([-d for d in better], 100).decision == "drop"


@pytest.mark.parametrize("direction", SIGNS)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_arena_tells_better_from_worse(direction: Direction, swapped: bool) -> None:
    arena = Arena([str(i) for i in range(40)], "old", 0, 1000, sign=SIGNS[direction], scale=1.0)
    arena.enter("new")
    better = SIGNS[direction] > 0
    while (found := arena.ruling()) is None:
        wanted = arena.next(1)
        assert wanted is not None
        arena.add(wanted[0], wanted[1], float((wanted[0] == "new") is (better is not swapped)))
    assert found[1].decision == ("drop" if swapped else "promote")


@pytest.mark.parametrize("direction", SIGNS)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_gate_tells_better_from_worse(direction: Direction, swapped: bool) -> None:
    gate = Gate([str(i) for i in range(60)], Objective("score", direction, low=0, high=1), total=1000)
    plan = gate.plan([1.0, 1.0, 0.0, 1.0] * 10, left=1000, last=True)
    assert plan is not None and gate.plan([-1.0, -1.0, 0.0, -1.0] * 10, left=1000, last=True) is None
    good = "old" if swapped else "new"
    accepted = asyncio.run(
        gate.examine(plan, "new", "old", lambda name, _: float((name == good) is (direction == "maximize")))
    )
    verdict = gate.verdicts()[-1]
    assert accepted is verdict.accepted is (not swapped) and verdict.effect == (-1 if swapped else 1)


@pytest.mark.parametrize("direction", SIGNS)
def test_units_gain_in_the_direction_of_the_objective(direction: Direction) -> None:
    goals = Goals((Objective("score", direction, low=0, high=1),))
    units = heldout.Units.of(goals, [{"score": 0.75}, None], [{"score": 0.25}, {"score": 0.5}], ["a", "b"])
    assert units.gains == ((0.5, -0.5) if direction == "maximize" else (-0.5, -0.5)), "a failure is never a gain"


@pytest.mark.parametrize("direction", SIGNS)
@pytest.mark.parametrize("swapped", [False, True])
def test_comparisons_without_rows_tell_better_from_worse(direction: Direction, swapped: bool) -> None:
    better = SIGNS[direction] * (-1 if swapped else 1)
    old, new = {"value": 5.0}, {"value": 5.0 + better}
    for deterministic in (True, False):
        problem = Problem("x", Space({"x": Float(0, 1)}), FunctionEvaluator("m:f", names=("value",), folder=Path("/")),
                          (Objective("value", direction),), deterministic=deterministic)  # fmt: skip
        if deterministic:
            assert exam.compare(problem, "new", new, "old", old).accepted is not swapped
            assert race.look(problem, new, old).decision == ("drop" if swapped else "promote")
            continue
        pairs = Pairs("new", "old", asked=12)
        for number in range(12):
            pairs.add(number, "new", new)
            pairs.add(number, "old", old)
        verdict = exam.examine(problem, pairs, exam.Plan(12, ALPHA), new, old)
        assert verdict.accepted is not swapped and verdict.effect == (-1 if swapped else 1)
        assert pairs.update(problem).decision == ("drop" if swapped else "promote")


# Whole runs.


def test_thirty_null_runs_claim_almost_nothing(tmp_path: Path) -> None:
    data = {name: rows_of(50, name) for name in ("train", "val")}
    statuses, examined = [], 0
    for seed in range(30):

        async def measure(candidate: Any, row: Any) -> float:
            return float(random.Random(f"{seed} {candidate['x']} {row['id']}").random() < 0.5)  # noqa: B023

        result = optimize(measure, space={"x": Float(0, 1)}, data=data, objectives=GOAL, model=None, budget=400,
                          deterministic=True, seed=seed, runs=tmp_path / str(seed),
                          options={"proposer": "random", "workers": 4})  # fmt: skip
        statuses.append(result.status)
        examined += any(e.event.type == "exam.started" for e in read_all(result.folder))
    assert examined >= 15, "the race is fooled, so that the gate has something to refuse"
    assert sum(status in ("proven", "exact") for status in statuses) <= 4
