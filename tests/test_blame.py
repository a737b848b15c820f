"""Whose fault it is that the initial candidate cannot be scored, and what a run tells of a model nobody named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.blame import mending
from agent.config import load
from agent.parameters import Float
from agent.space import Space
from agent.texts import Code
from tests.cli_helpers import call

FILE = """
[evaluator]
code = "task:Task"
deterministic = true
[evaluator.sandbox]
unsafe = true
[[objectives]]
name = "score"
[budget]
evaluations = 12
[space.program]
type = "code"
file = "solve.py"
entry = "solve"
"""
TASK = """
class Task:
    def inputs(self, seed, stage):
        return [2]
    def score(self, given, output):
        return {"score": -abs(output - 5)}
"""
EVALUATOR = "mend the evaluator so that it can score the initial candidate"


def problem(place: Path, program: str, task: str = TASK) -> Path:
    place.mkdir()
    for name, text in {"problem.toml": FILE, "task.py": task, "solve.py": program}.items():
        (place / name).write_text(text)
    return place


@pytest.mark.parametrize(
    ("program", "task", "said"),
    [
        ("def solve(x):\n    return 1 // 0\n", TASK, "mend solve.py, line 2: the initial program fails there"),
        ("def solve():\n    return 1\n", TASK, "mend solve.py: the initial program fails before one of its own lines"),
        ("def solve(x):\n    return x\n", TASK.replace("output - 5", "absent"), EVALUATOR),
    ],
)
def test_a_program_that_fails_is_named_and_the_evaluator_is_not_blamed(
    tmp_path: Path, program: str, task: str, said: str
) -> None:
    place = problem(tmp_path / "p", program, task)
    options = ("--proposer", "random_edits", "--model", "none")
    done = call("run", place, *options, "--runs", tmp_path / "runs", cwd=tmp_path)
    assert done.code == 3 and done.out.splitlines()[-1].startswith(f"Next: {said}"), done.out
    measured = call("estimate", place, "--measure", *options, cwd=tmp_path)
    assert measured.code == 3 and f"fix: {said}" in measured.err


def test_only_the_words_of_a_job_that_ended_blame_a_program() -> None:
    def said(failure: str, detail: str, **space: Any) -> str:
        known: Any = SimpleNamespace(space=Space({**space, "x": Float(0, 1)}), evaluator=SimpleNamespace(spec=None))
        return mending(known, failure, detail)

    crash, code = "error: crash on the smoke inputs: E", Code(default="def f():\n    pass\n")
    assert said(crash, "it took 1 s", p=code).startswith("mend space.p: the initial program fails before")
    assert said(crash, "pkg/a.py:7 f\nmore", p=code).startswith("mend pkg/a.py, line 7: ")
    assert said("invalid: crash of score() on the inputs", "", p=code) == EVALUATOR
    assert said(crash, "solve.py:2 solve") == EVALUATOR


def test_that_nobody_named_the_small_model_is_said_where_it_would_write_programs(tmp_path: Path) -> None:
    place = problem(tmp_path / "p", "def solve(x):\n    return x\n")

    def notes(**given: str) -> tuple[str, ...]:
        return load(place, {name.replace("_", "."): value for name, value in given.items()}).notes

    (said,) = notes(proposer_name="evolve")
    assert said.startswith("No model is named, so evolve asks local:smollm2-135m") and "--model provider:model" in said
    assert not notes(proposer_name="evolve", models_propose="local:smollm2-135m")
    assert not notes(proposer_name="random_edits") and not notes() and not notes(proposer_name="nobody")
    (place / "solve.py").write_text("def solve(x):\n    return 1 // 0\n")  # so no model is ever asked
    told = call("run", place, "--proposer", "evolve", cwd=tmp_path)
    assert told.code == 3 and told.err.count(f"Note: {said}") == 1


def test_the_next_command_has_the_options_of_the_estimate(tmp_path: Path) -> None:
    place = problem(tmp_path / "a b", "def solve(x):\n    return x\n")
    options = ("--proposer", "tree", "--model", "openai:fake", "--set", "run.workers=2")
    done = call("estimate", place, *options, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"Next: truegain run '{place}' {' '.join(options)}"
