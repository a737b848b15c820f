"""The benchmark of examples with programs: rows once each, and tables that say what was not run."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "code_examples.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("code_examples", FILE)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["code_examples"] = made
    spec.loader.exec_module(made)
    return made


def test_what_is_there_is_not_measured_again_and_the_rest_is_added(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []
    limits: set[tuple[int, int]] = set()

    def run(name: str, arm: str, seed: int, model: str, calls: int, tokens: int) -> dict[str, Any]:
        asked.append((name, arm, seed))
        limits.add((calls, tokens))
        out = {"example": name, "arm": arm, "seed": seed, "unseen": 0.25 + seed * seed, "seconds": 3 + seed}
        if arm != "initial":
            out |= {"candidates": 40 + seed, "failed": seed, "search": 0.5}
        return out | ({"model": model, "calls": calls, "used": 2, "evaluations": 33} if arm in benchmark.MODELS else {})

    monkeypatch.setattr(benchmark, "run", run)
    path = tmp_path / "found.csv"
    monkeypatch.setattr(sys, "argv", ["x", "--example", "hash", "--example", "spans", "--csv", str(path)])
    benchmark.main()
    assert len(asked) == len(set(asked)) == (1 + 3 * 4) + (1 + 3 * 3), "without programs there are no islands"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(asked)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    benchmark.main()
    assert asked[-1] == ("spans", "tune", 2) and len(asked) == len(rows) + 1
    text = capsys.readouterr().out
    assert "| the initial program |  | 0.25 |  |  |  |  |" in text
    assert "| `tune`, its numbers alone | 3 | 1.25 (0.25 to 4.25) | 0.5 | 41 | 1 | 4 |" in text
    assert "| `evolve` | | not run |" in text
    more = ["--model", "local:smollm2-135m", "--seeds", "1", "--arm", "evolve", "--calls", "20", "--tokens", "300"]
    monkeypatch.setattr(sys, "argv", [*sys.argv, *more])
    benchmark.main()
    assert asked[-1] == ("hash", "evolve", 0), "spans have no program to evolve"
    assert limits == {(0, 0), (20, 300)}
    words = "`evolve` with local:smollm2-135m: 33 evaluations, 2 of 20 replies were programs to measure | 1 | 0.25 |"
    assert words in capsys.readouterr().out


def test_all_arms_have_one_budget_and_hold_no_exam_on_rows(benchmark: ModuleType) -> None:
    for name, example in benchmark.EXAMPLES.items():
        for arm in benchmark.ARMS:
            made = benchmark.setup(name, arm, 1, "none")
            assert made.settings.proposer == benchmark.ARMS[arm][0]
            assert made.budget.evaluations == example.evaluations and made.seed == 1
            assert (made.problem.target == "population") == (name == "spans")


def test_the_limits_of_a_model_are_for_its_arms_alone(benchmark: ModuleType) -> None:
    asked = benchmark.setup("hash", "evolve", 0, "local:smollm2-135m", 20, 300)
    assert asked.budget.calls == 20 and asked.settings.options["max_output_tokens"] == 300
    chance = benchmark.setup("hash", "tune", 0, "local:smollm2-135m", 20, 300)
    assert chance.budget.calls is None and "max_output_tokens" not in chance.settings.options
    assert chance.budget.evaluations == asked.budget.evaluations


def test_the_tables_of_the_readmes_are_those_of_what_is_measured(benchmark: ModuleType) -> None:
    rows = benchmark.known(benchmark.CSV)
    for name in benchmark.EXAMPLES:
        text = (benchmark.ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
        assert benchmark.table(name, rows) in text, "python benchmarks/code_examples.py --table --write"
    before, after = "# A\n\n", "\n\nWhat it says.\n"
    for old in ("| 9 evaluations | x |\n|---|---|\n| tune | 1 |", "| 9 evaluations | x |"):
        assert benchmark.written(before + old + after, "| new |\n| 2 |") == f"{before}| new |\n| 2 |{after}"
