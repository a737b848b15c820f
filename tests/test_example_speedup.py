"""A program made faster by rewrites, each tested and timed in the sandbox."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli_helpers import environment

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "speedup"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The task, imported as where it runs."""
    for name in ("TRUEGAIN_DATA", "PIE_PROBLEM"):
        monkeypatch.delenv(name, raising=False)
    return module("task", monkeypatch)


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "rewrites", raising=False)
    spec = importlib.util.spec_from_file_location(f"speedup_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    sys.modules.pop("rewrites", None)
    return made


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
    task: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made, rewrites = task.Task(), module("rewrites", monkeypatch)
    text = rewrites.rewritten(made.program, [name])
    assert text != rewrites.rewritten(made.program, []) == ast.unparse(ast.parse(made.program)) + "\n"
    for given in made.inputs(1, "smoke"):
        assert printed(text, given["stdin"], monkeypatch) == given["stdout"]


def test_the_wrong_rewrite_is_wrong(task: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task.Task()
    given = made.inputs(1, "smoke")[0]
    text = module("rewrites", monkeypatch).rewritten(made.program, ["halving"])
    assert printed(text, given["stdin"], monkeypatch) != given["stdout"]


def test_names_that_functions_share_stay_global(monkeypatch: pytest.MonkeyPatch) -> None:
    rewrites = module("rewrites", monkeypatch)
    text = "best = 0\ndef up():\n    global best\n    best += 1\nup()\nother = best\nprint(best, other)\n"
    made = rewrites.rewritten(text, ["locals"])
    assert "def main():\n    global best" in made and printed(made, "", monkeypatch) == "1 1"


def test_speed_counts_on_the_slow_inputs(task: ModuleType) -> None:
    scores = [{"right": 1.0, "mine": m, "initial": i} for m, i in [(1.0, 1.0), (0.1, 0.1), (2.0, 8.0)]]
    assert task.Task().combine(scores) == {"passed": 1.0, "log2_speedup": 2.0}


def test_a_run_makes_the_program_faster_and_proves_it(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "agent", "run", str(FOLDER), "--runs", str(tmp_path), "--json"]
    options = ["--proposer", "coordinate", "--evaluations", "34", "--set", "evaluator.sandbox.unsafe=true"]
    options += ["--set", "gate.exam_pairs=6", "--set", "evaluator.timing.repeats=1"]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(FOLDER.parents[1])),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "proven" and result["best"]["caching"] == "yes" and result["best"]["halving"] == "no"


def test_the_rows_of_a_data_set_are_read_and_never_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "pie_speedup" / "problems.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    monkeypatch.setenv("PIE_PROBLEM", "p03164")
    made = module("task", monkeypatch).Task()
    assert len(made.inputs(0, "train")) == 13 and made.row["reference_fast_program"] not in str(
        made.files(dict.fromkeys(("locals", "caching", "reading", "printing", "halving"), "yes"))
    )
