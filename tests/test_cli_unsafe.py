"""Programs where the sandbox is too weak: refused, unless the user asks for it, and then the records say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.journal import read_all
from agent.sandbox import layers
from tests.cli_helpers import Ran, call, folder

TOML = """
[evaluator]
code = "evaluate:Task"
deterministic = true

[evaluator.sandbox]
seconds = 60
layers = {layers}

[space.gain]
type = "int"
low = 0
high = 3
default = 3

[[objectives]]
name = "loss"

[budget]
evaluations = 5

[proposer]
name = "coordinate"
"""
TASK = """
class Task:
    entry = "solve:solve"
    def files(self, candidate):
        return {"solve.py": f"def solve(x): return x * {candidate['gain']}"}
    def inputs(self, seed, stage):
        return [1, 2]
    def score(self, given, output):
        return float(abs(output - given))
"""
WEAK = '["rlimits"]'
REFUSED = "this machine does not keep candidate code from reading and changing your files, using the network"


def problem(place: Path, wanted: str = WEAK) -> Path:
    return folder(place / "p", TOML.format(layers=wanted), TASK)


def events(place: Path, kind: str) -> list[Any]:
    (run,) = [path for path in (place / "runs").iterdir() if (path / "journal.sqlite").exists()]
    return [entry.event for entry in read_all(run) if entry.event.type == kind]


def refused(ran: Ran) -> None:
    error = ran.json["error"]
    assert ran.code == 69 and error["kind"] == "prerequisite"
    assert REFUSED in error["message"] and "--unsafe" in error["hint"] and "bubblewrap" in error["hint"]


@pytest.mark.parametrize("command", ["run", "estimate"])
def test_weak_layers_are_refused_before_anything_is_written(tmp_path: Path, command: str) -> None:
    refused(call(command, problem(tmp_path), "--runs", tmp_path / "runs", "--json", cwd=tmp_path))
    assert not list(tmp_path.rglob("journal.sqlite")) and not list(tmp_path.rglob("solve.py"))


def test_who_asks_for_it_gets_it_and_the_records_say_so(tmp_path: Path) -> None:
    place = problem(tmp_path)
    ran = call("run", place, "--runs", tmp_path / "runs", "--unsafe", "--json", cwd=tmp_path)
    assert ran.code == 0 and ran.json["status"] == "exact", ran.err
    assert "Unsafe: nothing here keeps candidate code from reading and changing your files, or using the" in ran.err
    (started,) = events(tmp_path, "run.started")
    assert started.origin["sandbox"] == {
        "layers": ["process", "rlimits"],
        "unsafe": True,
        "not_stopped": ["reading and changing your files", "using the network", "starting processes without end"],
    }
    outputs = [event.output for event in events(tmp_path, "evaluation.ended")]
    assert outputs and all(output["layers"] == ["process", "rlimits"] for output in outputs)
    (run,) = (tmp_path / "runs").glob("*-*")
    again = ("resume", run, "--runs", tmp_path / "runs", "--evaluations", "9", "--json")
    refused(call(*again, cwd=tmp_path))
    assert len(events(tmp_path, "run.resumed")) == 0
    assert call(*again, "--unsafe", cwd=tmp_path).code == 0, "it is the same problem with and without"
    (resumed,) = events(tmp_path, "run.resumed")
    assert "sandbox" not in resumed.changes, "it is the one that the run began with"


def test_a_measurement_that_is_killed_tells_its_layers_too(tmp_path: Path) -> None:
    place = problem(tmp_path)
    (place / "evaluate.py").write_text(TASK.replace("return float", "while given == 2: pass\n        return float"))
    ran = call(
        *("run", place, "--runs", tmp_path / "runs", "--unsafe", "--json", "--set", "evaluator.timeout=2"),
        cwd=tmp_path,
    )
    assert ran.code == 3, ran.err
    outputs = [event.output for event in events(tmp_path, "evaluation.ended")]
    assert [(output["failure"]["kind"], output["layers"]) for output in outputs][-1] == (
        "timeout",
        ["process", "rlimits"],
    )


def test_the_problem_file_may_ask_for_it_too(tmp_path: Path) -> None:
    place = problem(tmp_path, WEAK + "\nunsafe = true")
    estimate = call("estimate", place, "--runs", tmp_path / "runs", "--json", cwd=tmp_path)
    assert any("nothing here keeps candidate code from reading" in note for note in estimate.json["notes"])
    rows = {row["check"]: row for row in call("doctor", place, "--json", cwd=tmp_path).json["checks"]}
    assert not rows["sandbox"]["ok"] and not rows["sandbox"]["needed"] and rows["evaluator"]["ok"]
    assert rows["sandbox"]["found"].endswith("starting processes without end: process, rlimits")
    (place / "problem.toml").write_text(TOML.format(layers=WEAK))
    rows = {row["check"]: row for row in call("doctor", place, "--json", cwd=tmp_path).json["checks"]}
    assert REFUSED in rows["problem"]["found"] and "--unsafe" in rows["problem"]["fix"] and "evaluator" not in rows


@pytest.mark.skipif(layers.require(layers.chosen(None)) is not None, reason="a sandbox layer is missing here")
def test_a_run_that_goes_on_where_less_protects_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = problem(tmp_path)
    (place / "problem.toml").write_text((place / "problem.toml").read_text().replace(f"layers = {WEAK}", ""))
    assert call("run", place, "--runs", tmp_path / "runs", "--json", cwd=tmp_path).code == 0
    (started,) = events(tmp_path, "run.started")
    assert "unsafe" not in started.origin["sandbox"] and "process" in started.origin["sandbox"]["layers"]
    monkeypatch.setattr(layers, "chosen", lambda wanted: ("process",))  # as on another machine
    (run,) = (tmp_path / "runs").glob("*-*")
    again = ("resume", run, "--runs", tmp_path / "runs", "--evaluations", "9", "--json")
    refused(call(*again, cwd=tmp_path))
    assert call(*again, "--unsafe", cwd=tmp_path).code == 0, "the answers are no others for that"
    (resumed,) = events(tmp_path, "run.resumed")
    assert resumed.changes["sandbox"]["layers"] == ["process"] and resumed.changes["sandbox"]["unsafe"] is True


def test_a_layer_that_does_not_exist_is_named(tmp_path: Path) -> None:
    ran = call("run", problem(tmp_path, '["wall"]'), "--runs", tmp_path / "runs", "--json", cwd=tmp_path)
    assert ran.code == 2 and "no layer 'wall'" in ran.json["error"]["message"]


def test_what_runs_no_programs_has_nothing_to_tell(tmp_path: Path) -> None:
    place = folder(tmp_path / "p")
    ran = call("run", place, "--runs", tmp_path / "runs", "--unsafe", "--json", cwd=tmp_path)
    assert ran.code == 2 and "is for programs" in ran.json["error"]["message"]
    assert call("run", place, "--runs", tmp_path / "runs", cwd=tmp_path).code == 0
    (run,) = (tmp_path / "runs").glob("*-*")
    assert call("resume", run, "--runs", tmp_path / "runs", "--evaluations", "14", cwd=tmp_path).code == 0
    (resumed,) = events(tmp_path, "run.resumed")
    assert set(resumed.changes) == {"budget"}
    (started,) = events(tmp_path, "run.started")
    assert "sandbox" not in started.origin
    assert not any("layers" in event.output for event in events(tmp_path, "evaluation.ended"))
