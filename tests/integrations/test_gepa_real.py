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

from agent.errors import GateError
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
        subsample_scores_before=[float(before)],
        subsample_scores_after=[float(after)],
    )


def criterion(adapter: Any, calls: int = 5000) -> GateAcceptance:
    return GateAcceptance(adapter, list(range(30)), list(range(100)), max_metric_calls=calls)


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
