"""What the gate found in a run, read after its end: checked against the truth that the tests know."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent import Budget, Float, Objective, Result, optimize
from agent.events import ExamStarted, HoldoutFixed, RunEnded
from agent.gate import levels
from agent.gate.accounts import Accounts
from agent.gate.means import mean_interval
from agent.journal import read_all
from agent.problem import Example
from agent.results.result import load_result, load_state
from agent.results.standings import standings
from agent.results.tally import Tally
from agent.state import State

ROWS = [{"id": f"r{i}", "text": sha256(f"{i}".encode()).hexdigest()} for i in range(360)]


def score(candidate: Any, row: Any) -> float:
    """A row is answered when it is easier than the candidate is good; the best x is 0.7."""
    skill = 0.85 - 0.6 * abs(candidate["x"] - 0.7)
    return float(random.Random(row["id"]).random() < skill)


def loss(candidate: Any, row: Any) -> float:
    return 1 - score(candidate, row)


def run(folder: Path, evaluate: Any = score, direction: Any = "maximize", x: float = 0.1, **more: Any) -> Result:
    options = {"proposer": "coordinate"}
    given = {"data": ROWS, "deterministic": True, "budget": 900, "seed": 3, "options": options, **more}
    goal = Objective("score", direction, low=0, high=1)
    return optimize(
        evaluate, space={"x": Float(0, 1, default=x)}, objectives=[goal], model=None, runs=folder, name="run", **given
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """A run with enough rows for a report."""
    yield run(tmp_path_factory.mktemp("reported"))


def events(result: Result) -> list[Any]:
    return [entry.event for entry in read_all(result.folder)]


def fold(result: Result) -> tuple[State, Tally]:
    return load_state(result.folder, everything=True), Tally.of(events(result))


def mean(candidate: Any, ids: list[str]) -> float:
    rows = {row["id"]: row for row in ROWS}
    return math.fsum(score(candidate, rows[name]) for name in ids) / len(ids)


def test_means_and_gains_are_those_of_the_test_rows(reported: Result) -> None:
    test = [row for event in events(reported) if isinstance(event, HoldoutFixed) for row, _ in event.test]
    read = test[: reported.gate["candidates"][0]["n"]]
    assert len(read) > 20
    for item, candidate in zip(
        reported.gate["candidates"], (reported.initial, reported.released, reported.best), strict=True
    ):
        assert item["source"] == "report"
        assert item["mean"] == pytest.approx(mean(candidate, read))
        low, high = item["interval"]
        assert low < item["mean"] < high
    initial, released, best = reported.gate["candidates"]
    assert (initial["status"], released["status"], best["status"]) == ("initial", "proven", reported.status)
    assert best["gain"] == pytest.approx(best["mean"] - initial["mean"])
    assert best["gain_interval"][0] < best["gain"] < best["gain_interval"][1]
    assert initial["gain"] is None


def test_the_exams_are_told_in_full(reported: Result) -> None:
    gate = reported.gate
    last = gate["exams"][-1]
    assert gate["kind"] == "rows" and gate["tests"] == len(gate["exams"])
    assert gate["accepts"] == sum(exam["accepted"] for exam in gate["exams"]) >= 1
    assert [exam["number"] for exam in gate["exams"]] == list(range(1, gate["tests"] + 1))
    assert last["planned"] >= last["pairs"] >= last["wins"] + last["losses"] > 0
    assert last["sentence"] and last["interval"][0] <= last["effect"] <= last["interval"][1]
    assert all(0 <= exam["expected_power"] <= 1 and exam["needed"] > 0 for exam in gate["exams"])
    assert reported.trials[last["candidate"]].id == last["champion"]


def test_the_level_left_is_what_the_account_gives_the_next_run(reported: Result) -> None:
    started = [event for event in events(reported) if isinstance(event, ExamStarted)]
    alpha = reported.gate["alpha"]
    assert alpha["spent"] == pytest.approx(math.fsum(event.level for event in started))
    fixed = next(event for event in events(reported) if isinstance(event, HoldoutFixed))
    rows = {row["id"]: row for row in ROWS}
    account = Accounts(reported.folder.parent).standing([Example(name, rows[name]) for name, _ in fixed.val], 0.05)
    assert alpha["next"] == pytest.approx(account.next)
    assert alpha["spent"] == pytest.approx(account.spent)
    assert not alpha["exhausted"] and not alpha["sentence"]


def test_a_small_gate_set_is_exhausted_after_one_run_and_the_next_spends_nothing(tmp_path: Path) -> None:
    first, second = (run(tmp_path, data=ROWS[:90], budget=500, seed=night).gate for night in range(2))
    assert first["tests"] == 1 and first["alpha"]["spent"] == pytest.approx(0.05 * 0.75)
    assert first["alpha"]["exhausted"] and "truegain gate new" in first["alpha"]["sentence"]
    assert second["tests"] == 0 and second["alpha"]["spent"] == 0
    assert second["alpha"]["next"] == first["alpha"]["next"]
    assert second["candidates"][-1]["status"] == "unproven" and second["candidates"][-1]["mean"] is None


def test_optimism_is_the_search_score_less_the_held_out_one_and_says_so(reported: Result) -> None:
    found = reported.gate["optimism"]
    trial = reported.trials[found["number"]]
    assert found["search_score"] == pytest.approx((trial.values or {})["score"])
    assert found["gap"] == pytest.approx(found["search_score"] - found["held_out"])
    assert found["held_out"] == pytest.approx(reported.gate["candidates"][-1]["mean"])
    assert "a search score, no result" in found["sentence"]


def test_smaller_is_better_gives_the_mirrored_standings(tmp_path: Path, reported: Result) -> None:
    one, two = reported.gate, run(tmp_path, loss, "minimize").gate
    assert one["optimism"]["gap"] == pytest.approx(two["optimism"]["gap"])
    assert one["optimism"]["held_out"] == pytest.approx(1 - two["optimism"]["held_out"])
    for a, b in zip(one["candidates"], two["candidates"], strict=True):
        assert a["mean"] == pytest.approx(1 - b["mean"])
        assert a["gain"] == pytest.approx(b["gain"])
        assert a["interval"] == pytest.approx([1 - b["interval"][1], 1 - b["interval"][0]])
    assert one["regret"] == pytest.approx(two["regret"])
    assert [exam["effect"] for exam in one["exams"]] == pytest.approx([exam["effect"] for exam in two["exams"]])


def test_regret_is_zero_for_the_best_reported_and_positive_for_another(reported: Result) -> None:
    state, tally = fold(reported)
    assert standings(state, tally)["regret"] == {"best": 0.0, "released": 0.0}
    assert state.gate.report is not None
    found = state.gate.report["candidates"]
    gap = found[state.ended.best]["mean"] - found[state.history.initial]["mean"]  # type: ignore[union-attr]
    state.ended = replace(state.ended, best=state.history.initial)  # type: ignore[type-var]
    assert standings(state, tally)["regret"]["best"] == pytest.approx(gap) and gap > 0


def test_while_a_run_is_open_there_are_the_bits_and_nothing_else(reported: Result) -> None:
    seen = events(reported)
    state, tally = fold(reported)
    state.ended = None
    found = standings(state, tally)
    assert set(found) == {"open", "sentence", "bits"}
    decided = sum(event.type == "exam.decided" for event in seen)
    assert found["bits"] == {"decided": decided, "accepted": reported.gate["accepts"]}
    resumed = Result.of(load_state(reported.folder, [e for e in read_all(reported.folder) if not _end(e)]), Path())
    assert resumed.status == "open"


def _end(entry: Any) -> bool:
    return isinstance(entry.event, RunEnded)


def test_it_is_a_part_of_the_results_json_and_of_the_summary(reported: Result) -> None:
    assert reported.to_json()["gate"] == reported.gate == load_result(reported.folder).gate
    assert reported.saved


def test_pace_counts_evaluations_up_to_the_first_bit_that_accepts(reported: Result) -> None:
    seen, pace = events(reported), reported.gate["anytime"]
    first = next(place for place, event in enumerate(seen) if event.type == "exam.decided" and event.accepted)
    assert pace["first_release"] == sum(event.type == "evaluation.started" for event in seen[:first])
    kept = sum(event.type == "race.decided" and event.decision == "promote" for event in seen)
    assert pace["kept"] == kept > 0
    assert pace["evaluations_per_kept"] == pytest.approx(reported.spent["evaluations"] / kept)


def test_every_proposal_is_accounted_for(reported: Result) -> None:
    made = reported.gate["proposer"]
    parts = ("kept", "dropped", "failed", "rejected", "unfinished")
    assert made["proposals"] == sum(made[name] for name in parts) >= len(reported.trials) - 1
    assert made["reverted"] == 0 and made["calibration"] is None
    state, tally = fold(reported)
    assert state.ended is not None
    later = next(trial.id for trial in state.history.trials if trial.state == "dropped" and trial.id not in tally.path)
    tally.path.append(later)  # kept after the one that was delivered
    assert standings(state, tally)["proposer"]["reverted"] == 1
    state.ended = replace(state.ended, best=state.history.initial)
    assert standings(state, tally)["proposer"]["reverted"] == len(set(tally.path))


def test_claims_are_compared_with_what_was_measured(reported: Result) -> None:
    state, tally = fold(reported)
    measured = [trial for trial in state.history.trials if trial.values is not None][1:3]
    for trial, more in zip(measured, (0.3, -0.1), strict=True):
        state.history._put(replace(trial, claim=(trial.values or {})["score"] + more))
    found = standings(state, tally)["proposer"]["calibration"]
    assert found["claims"] == 2 and found["kept"] == 0.5
    assert found["overclaimed"] == pytest.approx(0.1) and found["error"] == pytest.approx(0.2)


def test_power_is_that_of_the_whole_gate_at_the_level_the_run_began_with(reported: Result) -> None:
    fixed = next(event for event in events(reported) if isinstance(event, HoldoutFixed))
    found = reported.gate["power"]
    level = levels.level(0.05, accepts=0, tests=0, run=1, taken=0, last=True)
    assert [item["gain"] for item in found] == [0.05, 0.1, 0.2]
    for item in found:
        assert (item["units"], item["level"]) == (len(fixed.val), pytest.approx(level))
        assert item["power"] == pytest.approx(levels.power(len(fixed.val), item["gain"], item["discordance"], level))
    assert found[0]["power"] < found[1]["power"] < found[2]["power"]


def test_a_barred_gate_says_why(tmp_path: Path) -> None:
    from agent.opening import open_gate

    first = run(tmp_path, data=ROWS[:200], budget=500)
    assert first.status == "proven" and first.gate["barred"] == ""
    rows = open_gate(first.folder, ROWS[:200])
    assert len(rows) == sum(exam["pairs"] for exam in first.gate["exams"])
    assert math.fsum(item["gain"] for item in rows if item["exam"] == 1) / first.gate["exams"][0]["pairs"] == (
        pytest.approx(first.gate["exams"][0]["effect"])
    )
    second = run(tmp_path, data=ROWS[:200], budget=500, seed=4)
    assert second.status == "unproven" and first.run in second.gate["barred"]
    assert not any(exam["accepted"] for exam in second.gate["exams"])


def test_exact_and_paired_problems_have_standings_too(tmp_path: Path) -> None:
    def bowl(candidate: Any) -> float:
        return float((candidate["x"] - 0.3) ** 2)

    def shaky(candidate: Any, seed: int) -> float:
        return 1 + float((candidate["x"] - 0.3) ** 2) + random.Random(seed).gauss(0, 0.01)

    given: dict[str, Any] = {"space": {"x": Float(0, 1, default=1.0)}, "model": None, "runs": tmp_path}
    exact = optimize(bowl, budget=20, deterministic=True, **given).gate
    assert (exact["kind"], exact["alpha"], exact["optimism"], exact["power"], exact["tests"]) == (
        "exact", None, None, [], 0)  # fmt: skip
    assert exact["candidates"][-1]["source"] == "exact" and exact["candidates"][-1]["status"] == "exact"
    paired = optimize(shaky, budget=Budget(evaluations=90), **given).gate
    assert paired["kind"] == "paired" and paired["tests"] == 1
    assert paired["alpha"]["next"] == pytest.approx(0.05 * levels.weight(1)) and not paired["alpha"]["exhausted"]
    powers = [item["power"] for item in paired["power"]]
    assert powers == sorted(powers) and powers[-1] > 0.99
    assert paired["noise"]["sd"] > 0 and paired["candidates"][-1]["source"] == "exam"


@pytest.mark.parametrize(("n", "p"), [(20, 0.5), (60, 0.9), (200, 0.02)])
def test_the_interval_of_a_mean_covers_it(n: int, p: float) -> None:
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = 0.0
    for k, chance in enumerate(chances):
        low, high = mean_interval(k / n, n, (0, 1)) or (0, 0)
        covered += chance * (low <= p <= high)
    assert covered >= 0.95


def test_the_interval_of_a_mean_in_closed_form_where_there_is_one() -> None:
    # Without a success, n KL(0, q) = -n log(1 - q) = log(2 / 0.05) at the upper end.
    assert mean_interval(0.0, 30, (0, 1)) == pytest.approx([0.0, 1 - 40 ** (-1 / 30)])
    low, high = mean_interval(0.25, 30, (0, 1)) or (0, 0)
    assert mean_interval(-1.5, 30, (-2, 0)) == pytest.approx([2 * low - 2, 2 * high - 2])
    assert mean_interval(0.5, 30, None) is None and mean_interval(0.5, 0, (0, 1)) is None
