"""With the real package `gepa`: our gate inside of it, its evaluators in front of us, and the world of noise.

TRUEGAIN_GEPA names a Python that has gepa and numpy; without it, these are skipped.
The criterion alone is tested everywhere.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.errors import ConfigError, GateError
from agent.integrations.gepa_gate import GateAcceptance

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("TRUEGAIN_GEPA", "")
real = pytest.mark.skipif(not PYTHON, reason="TRUEGAIN_GEPA names no Python with gepa")


class Coins:
    """An adapter whose candidates are right with the chance that their text says."""

    def __init__(self, seed: int) -> None:
        self.rng, self.calls = random.Random(seed), 0

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        self.calls += len(batch)
        scores = [float(self.rng.random() < float(candidate["p"])) for _ in batch]
        return SimpleNamespace(outputs=scores, scores=scores, trajectories=None)


class State:
    """What the criterion reads of GEPA's state."""

    def __init__(self, parent: str) -> None:
        self.program_candidates = [{"p": parent}, {"p": "0.0"}]
        self.program_full_scores_val_set = [float(parent), 0.0]
        self.total_num_evals = 0

    def increment_evals(self, count: int) -> None:
        self.total_num_evals += count


def proposal(text: str, before: int, after: int) -> Any:
    return SimpleNamespace(
        candidate={"p": text},
        parent_program_ids=[1, 0],
        subsample_scores_before=[1.0] * before,
        subsample_scores_after=[1.0] * after,
    )


def criterion(adapter: Any, calls: int = 5000) -> GateAcceptance:
    return GateAcceptance(adapter, list(range(30)), list(range(100, 200)), max_metric_calls=calls)


def test_a_gain_is_accepted_and_paid_for() -> None:
    adapter, state = Coins(1), State("0.5")
    gate = criterion(adapter)
    assert gate.should_accept(proposal("0.95", 1, 2), state)
    assert gate.accepted == [{"p": "0.95"}]
    assert state.total_num_evals == adapter.calls == gate.metric_calls > 60
    (verdict,) = gate.verdicts()
    assert verdict.accepted
    with pytest.raises(GateError):
        gate.should_accept(proposal("0.95", 1, 2), state)


def test_candidates_that_are_no_better_are_not_accepted() -> None:
    state = State("0.6")
    gate = criterion(Coins(2), calls=10**6)
    accepted = [gate.should_accept(proposal("0.6", 1, 2), state) for _ in range(100)]
    assert sum(accepted) == 0
    assert "gain" in gate.reject_reason(None, state) or "exam" in gate.reject_reason(None, state)


def test_what_did_no_better_on_the_minibatch_costs_nothing() -> None:
    adapter, state = Coins(3), State("0.5")
    gate = criterion(adapter)
    assert not gate.should_accept(proposal("0.95", 2, 2), state)
    assert adapter.calls == 0
    assert gate.reject_reason(None, state) == "no better on the minibatch"


def test_it_never_measures_beyond_the_budget() -> None:
    adapter, state = Coins(4), State("0.5")
    gate = criterion(adapter, calls=59)
    assert not gate.should_accept(proposal("0.95", 1, 2), state)
    assert adapter.calls == 0
    assert "budget" in gate.reject_reason(None, state)


class Asked:
    """An adapter whose score is set by the question and the candidate, so that a copied row says the same again."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        draws = [random.Random(f"{self.seed} {row['question']} {candidate['p']}") for row in batch]
        return SimpleNamespace(scores=[float(draw.random() < 0.5) for draw in draws])


def questions(first: int, count: int, copies: int = 1) -> list[dict[str, Any]]:
    return [{"id": n, "question": f"What is {n // copies} and 1?"} for n in range(first, first + count)]


@pytest.mark.parametrize("told", [False, True])
def test_copies_among_the_rows_are_no_separate_evidence(told: bool) -> None:
    """All candidates are equally good. Ten copies of a question, or ten questions about one document, count once."""
    rows = questions(1000, 100, copies=10)
    documents = [row["question"] for row in rows] if told else None
    if told:
        for row in rows:
            row["asked"] = row["id"]  # so that no two rows look alike
    accepted = 0
    for seed in range(20):
        gate = GateAcceptance(Asked(seed), questions(0, 60), rows, max_metric_calls=10**5, clusters=documents)
        accepted += any(gate.should_accept(proposal(f"new {n}", 0, 1), State("0.5")) for n in range(15))
    assert accepted <= 2


def test_rows_that_the_search_sees_are_refused() -> None:
    screen = [*questions(0, 30), {"id": "other", "question": "What is 1007 and 1?"}]
    with pytest.raises(ConfigError, match=r"1 of 31 rows of screen .* n = 30\n") as raised:
        GateAcceptance(Asked(1), screen, questions(1000, 100), max_metric_calls=1000)
    assert "take their copies out of rows" in raised.value.hint
    with pytest.raises(ConfigError, match="for the exams"):
        GateAcceptance(Asked(1), screen, [], max_metric_calls=1000)
    with pytest.raises(ConfigError, match="found 2, and there are 100 rows"):
        GateAcceptance(Asked(1), questions(0, 9), questions(1000, 100), max_metric_calls=9, clusters=["a", "b"])


class Graded:
    """An adapter that gives each candidate the scores of a list, in turn."""

    def __init__(self, **scores: list[float]) -> None:
        self.scores, self.calls = scores, 0

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        given = self.scores[candidate["p"]]
        self.calls += len(batch)
        return SimpleNamespace(scores=[given[row % len(given)] for row in batch])


@pytest.mark.parametrize("wrong", [70.0, -20.0, float("nan")])
def test_a_score_out_of_range_is_told_instead_of_cut(wrong: float) -> None:
    state = State("0.5")
    state.program_candidates = [{"p": "old"}, {"p": "old"}]
    gate = criterion(Graded(old=[0.6], new=[0.9] * 19 + [wrong]))
    with pytest.raises(ConfigError, match=f"the score {wrong:g}, and allowed is 0 to 1") as raised:
        gate.should_accept(proposal("new", 1, 2), state)
    assert "score_range=(0, 100)" in raised.value.hint
    assert not gate.accepted


def test_scores_of_another_range_are_told_from_gepas_own_rows_at_no_cost() -> None:
    adapter, state = Graded(old=[60.0], new=[70.0]), State("0.5")
    state.program_candidates = [{"p": "old"}, {"p": "old"}]
    seen = proposal("new", 0, 0)
    seen.subsample_scores_before, seen.subsample_scores_after = [60.0], [70.0]
    with pytest.raises(ConfigError, match="score_range"):
        criterion(adapter).should_accept(seen, state)
    assert adapter.calls == 0
    ranged = GateAcceptance(
        adapter, list(range(30)), list(range(100, 200)), max_metric_calls=5000, score_range=(0, 100)
    )
    assert ranged.should_accept(seen, state)


def benchmark(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "noise_world.py"), "--json", "--seeds", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_claimed_of_equal_candidates() -> None:
    (run,) = benchmark("--candidates", "30")["runs"]
    assert run["status"] in ("initial", "unproven")
    assert run["candidates"] == 30
    assert "no gain" in run["sentence"] or "Not shown" in run["sentence"]


@real
def test_gepa_reports_a_gain_where_there_is_none() -> None:
    _, theirs = benchmark("--candidates", "30", "--gepa", PYTHON)["runs"]
    assert theirs["side"] == "gepa"
    assert theirs["true"] == 0
    assert theirs["claimed"] > 0


INSIDE = """
import sys, json
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/benchmarks")
import gepa, noise_world
from agent.integrations.gepa_gate import GateAcceptance
planted = float(sys.argv[2])
world = noise_world.World(1, 30, planted)
world.propose_new_texts = None
gate = GateAcceptance(world, noise_world.rows("train"), noise_world.rows("gate"), max_metric_calls=20000)
result = gepa.optimize(
    seed_candidate=noise_world.SEED, trainset=noise_world.rows("train"), valset=noise_world.rows("val"), adapter=world,
    custom_candidate_proposer=lambda *a: {"instructions": "version 15"} if planted else world.propose(*a),
    acceptance_criterion=gate, max_metric_calls=20000, seed=1, logger=SimpleNamespace(log=lambda message: None),
    stop_callbacks=[lambda state: state.i >= 30],
)
print(json.dumps({"pool": len(result.candidates), "accepted": gate.accepted, "calls": result.total_metric_calls}))
"""


@real
@pytest.mark.parametrize("planted", [0.0, 0.35])
def test_our_gate_as_a_criterion_of_gepa(planted: float) -> None:
    done = subprocess.run([PYTHON, "-c", INSIDE, str(ROOT), str(planted)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["pool"] == 1 + len(found["accepted"])
    assert bool(found["accepted"]) == bool(planted)
    assert all(texts == {"instructions": "version 15"} for texts in found["accepted"])


ANYTHING = """
import sys, json
sys.path.insert(0, sys.argv[1])
import gepa.optimize_anything as oa
from agent.integrations.gepa_adapter import AnythingAdapter
def evaluator(candidate, example):
    oa.log("seen", example)
    return float(len(candidate)), {"hint": "longer"}
adapter = AnythingAdapter(evaluator, None, text=True, rows=True)
found = adapter.evaluate([7], {"candidate": "abc"}, True)
print(json.dumps([found.scores, found.trajectories]))
"""


@real
def test_what_an_evaluator_logs_is_side_information() -> None:
    done = subprocess.run([PYTHON, "-c", ANYTHING, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[3.0], [{"log": "seen 7\n", "hint": "longer"}]]
