"""The examples as a newcomer runs them, with the real embedded model where they use one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.beforehand import measured
from agent.cli.run import session_of
from agent.config import load

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PROBLEMS = ["starter", "sqlite", "relax", "autolrs", "sklearn/forest", "sklearn/mlp"]


@pytest.mark.parametrize("name", PROBLEMS)
async def test_every_example_scores_its_initial_candidate(name: str) -> None:
    session = session_of(load(EXAMPLES / name))
    session.check()
    assert (await measured(session)).seconds > 0


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_space_and_the_evaluator_agree_on_names_and_defaults(name: str) -> None:
    problem = load(EXAMPLES / name).problem
    text = (EXAMPLES / name / "evaluate.py").read_text(encoding="utf-8")
    if name.startswith("sklearn"):
        assert "**candidate" in text
    else:
        assert all(parameter in text for parameter in problem.space)
    if name == "sqlite":
        assert sum(parameter.startswith("idx_") for parameter in problem.space) == 12
        assert problem.evaluator.exclusive


def test_the_sqlite_example_runs_to_its_end_with_the_embedded_model(tmp_path: Path) -> None:
    budget = ["--evaluations", "75", "--set", "gate.exam_pairs=6", "--seed", "1"]
    command = [sys.executable, "-P", "-m", "agent", "run", str(EXAMPLES / "sqlite"), "--runs", str(tmp_path), "--json"]
    done = subprocess.run([*command, *budget], capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["status"] in ("proven", "unproven", "initial")
    assert result["spent"]["calls"] > 0 and result["spent"]["tokens"]["output"] > 0
    assert result["spent"]["evaluations"] <= 75
    folder = Path(result["folder"])
    best = json.loads((folder / "best" / "candidate.json").read_text())
    assert best["candidate"] == result["best"] and best["status"] == result["status"]
    assert result["status"] in (folder / "summary.md").read_text()
    if result["verdict"]:
        low, high = result["verdict"]["ratio_interval"]
        assert low <= result["verdict"]["ratio"] <= high
    again = [sys.executable, "-P", "-m", "agent", "replay", str(folder), "--workers", "4", "--json"]
    replayed = subprocess.run(again, capture_output=True, text=True, timeout=100, cwd=tmp_path, check=True)
    assert json.loads(replayed.stdout)["equal"]


def test_a_forest_is_reported_on_rows_that_no_search_saw(tmp_path: Path) -> None:
    best = tmp_path / "candidate.json"
    best.write_text(json.dumps({"candidate": load(EXAMPLES / "sklearn/forest").problem.initial().values_json}))
    script = EXAMPLES / "sklearn" / "forest" / "evaluate.py"
    done = subprocess.run([sys.executable, str(script), str(best)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "test_accuracy 0.9298" in first and second.endswith("test_accuracy 0.9298")
