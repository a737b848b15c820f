"""A program made faster by rewrites, each tested and timed in the sandbox."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.examples.support import EXAMPLES, modules, ran

FOLDER = EXAMPLES / "speedup"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in ("TRUEGAIN_DATA", "PIE_PROBLEM"):
        monkeypatch.delenv(name, raising=False)
    with modules("speedup", "task") as (made,):
        yield made


@pytest.fixture
def rewrites() -> Iterator[ModuleType]:
    with modules("speedup", "rewrites") as (made,):
        yield made


def printed(text: str, given: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What our own program prints, here; rows of a data set run in the sandbox alone."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(text, "program", "exec"), {"__name__": "__main__"})
    return out.getvalue().strip()


def test_the_formula_gives_what_the_program_prints(task: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task.Task()
    for given in made.inputs(3, "smoke"):
        assert printed(made.program, given["stdin"], monkeypatch) == given["stdout"]
    assert made.inputs(3, "train") == made.inputs(3, "train") != made.inputs(4, "train")
    assert made.inputs(3, "confirm") != made.inputs(3, "train")


@pytest.mark.parametrize("name", ["locals", "caching", "reading", "printing"])
def test_a_rewrite_changes_the_program_and_not_its_answers(
    task: ModuleType, rewrites: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = task.Task()
    text = rewrites.rewritten(made.program, [name])
    assert text != rewrites.rewritten(made.program, []) == ast.unparse(ast.parse(made.program)) + "\n"
    for given in made.inputs(1, "smoke"):
        assert printed(text, given["stdin"], monkeypatch) == given["stdout"]


def test_the_wrong_rewrite_is_wrong(task: ModuleType, rewrites: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task.Task()
    given = made.inputs(1, "smoke")[0]
    text = rewrites.rewritten(made.program, ["halving"])
    assert printed(text, given["stdin"], monkeypatch) != given["stdout"]


def test_names_that_functions_share_stay_global(rewrites: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "best = 0\ndef up():\n    global best\n    best += 1\nup()\nother = best\nprint(best, other)\n"
    made = rewrites.rewritten(text, ["locals"])
    assert "def main():\n    global best" in made and printed(made, "", monkeypatch) == "1 1"


def test_speed_counts_on_the_slow_inputs(task: ModuleType) -> None:
    scores = [{"right": 1.0, "mine": m, "initial": i} for m, i in [(1.0, 1.0), (0.1, 0.1), (2.0, 8.0)]]
    assert task.Task().combine(scores) == {"passed": 1.0, "log2_speedup": 2.0}


def test_a_run_makes_the_program_faster_and_proves_it(tmp_path: Path) -> None:
    options = ["--proposer", "coordinate", "--evaluations", "34", "--set", "evaluator.sandbox.unsafe=true"]
    options += ["--set", "gate.exam_pairs=6", "--set", "evaluator.timing.repeats=1"]
    result = ran("speedup", tmp_path, *options)
    assert result["status"] == "proven" and result["best"]["caching"] == "yes" and result["best"]["halving"] == "no"


def test_the_rows_of_a_data_set_are_read_and_never_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "pie_speedup" / "problems.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    monkeypatch.setenv("PIE_PROBLEM", "p03164")
    with modules("speedup", "task") as (task,):
        made = task.Task()
        assert len(made.inputs(0, "train")) == 13 and made.row["reference_fast_program"] not in str(
            made.files(dict.fromkeys(("locals", "caching", "reading", "printing", "halving"), "yes"))
        )
