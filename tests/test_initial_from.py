"""A run that begins with the candidate which an earlier one has released, and what a run tells of how it came about."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.results.result import load_state
from tests.cli_helpers import TOML, call, folder, only_run

RUN = ("--evaluations", 12, "--proposer", "random", "--seed", 1)


def test_the_released_candidate_of_a_run_is_the_initial_one_of_the_next(tmp_path: Path) -> None:
    problem = folder(tmp_path / "p")
    first = call("run", problem, *RUN, "--json", cwd=tmp_path).json
    assert first["status"] == "exact"
    second = call("run", problem, *RUN, "--initial-from", first["run"], "--json", cwd=tmp_path).json
    assert second["initial"] == first["released"] != first["initial"]
    assert load_state(Path(second["folder"])).origin["initial_from"] == first["run"]


def test_it_is_resumed_from_there(tmp_path: Path) -> None:
    problem = folder(tmp_path / "p")
    first = call("run", problem, *RUN, "--json", cwd=tmp_path).json
    second = call("run", problem, *RUN, "--initial-from", "last", "--json", cwd=tmp_path).json
    more = call("resume", second["run"], "--evaluations", 20, "--json", cwd=tmp_path)
    assert more.code == 0, more.err
    assert more.json["initial"] == first["released"]


def test_a_candidate_that_does_not_fit_is_refused_and_named(tmp_path: Path) -> None:
    problem = folder(tmp_path / "p")
    call("run", problem, *RUN, cwd=tmp_path)
    toml = problem / "problem.toml"
    toml.write_text(TOML.replace("low = -1", "low = 0.9").replace("default = 0.5", "default = 0.95"))
    ran = call("run", problem, *RUN, "--initial-from", "last", cwd=tmp_path)
    assert ran.code == 2 and "does not fit the space" in ran.err and "fix:" in ran.err


def test_a_run_knows_the_command_and_the_bytes_it_began_with(tmp_path: Path) -> None:
    problem = folder(tmp_path / "p")
    call("run", problem, *RUN, cwd=tmp_path)
    origin = load_state(only_run(tmp_path / "runs")).origin
    assert origin["command"][:2] == ["truegain", "run"] and "--seed" in origin["command"]
    assert origin["files"] == {"problem.toml": hashlib.sha256((problem / "problem.toml").read_bytes()).hexdigest()}
