"""Numbers of a whole set of outputs: told beside the claim at the end of a run, on train and test, never on val."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import Text, load_result, optimize
from agent.results.result import Result
from tests.cli_helpers import call
from tests.prompt_support import TEMPLATE, Task, rows

SPACE = {"instruction": Text("Double it.")}
SPLITS = {"train": rows(40), "val": rows(30, 200), "test": rows(20, 400)}


def run(runs: Path, **given: Any) -> Result:
    more = {"space": SPACE, "data": SPLITS, "budget": 300, "model": {"task": Task()}, **given}
    options = {"proposer": "tests.prompt_support:Careful", "workers": 8, **more.pop("options", {})}
    return optimize(TEMPLATE, runs=runs, options=options, **more)


def spread(outputs: Sequence[str | None], rows: Sequence[Any]) -> float:
    """How many different answers there are."""
    return float(len(set(outputs)))


def test_a_number_of_all_outputs_is_in_the_report_and_says_that_it_is_not_claimed(tmp_path: Path) -> None:
    result = run(tmp_path, metric="exact_match", metric_options={"over": spread})
    found = result.whole
    assert found is not None and found["name"] == "spread"
    assert set(found) == {"name", "note", "train", "test"}, "val is told to nobody"
    # The initial prompt says "I do not know" to two thirds; the best one has another answer to each row.
    count = found["test"]["rows"]
    assert 15 <= count <= 20 and found["test"]["best"] == count > found["test"]["initial"]
    assert "claimed is exact_match" in found["note"]
    assert f"on {count} test rows" in result.sentence and "claimed is exact_match" in result.sentence
    assert (
        load_result(result.folder).whole == found == json.loads((result.folder / "summary.json").read_text())["whole"]
    )
    shown = call("show", result.run, "--runs", tmp_path, cwd=tmp_path)
    assert "spread over all outputs, for which nothing is claimed" in shown.out
    assert "spread over all outputs" in (result.folder / "summary.md").read_text()


def test_macro_f1_is_told_beside_the_accuracy_that_is_claimed(tmp_path: Path) -> None:
    result = run(tmp_path, metric="macro_f1")
    found = result.whole
    assert result.problem.objective.name == "accuracy" and found is not None and found["name"] == "macro_f1"
    assert found["test"]["best"] == 1.0 and "accuracy of single rows" in result.sentence


def test_a_function_that_raises_costs_its_number_alone(tmp_path: Path) -> None:
    def broken(outputs: Sequence[str | None], rows: Sequence[Any]) -> float:
        raise RuntimeError("no library")

    result = run(tmp_path, metric="exact_match", metric_options={"over": broken})
    assert result.status == "proven" and result.whole is not None
    assert result.whole["test"]["error"] == "RuntimeError: no library"
    assert "not computed on test: RuntimeError: no library" in result.sentence


def test_an_ordinary_metric_has_none(tmp_path: Path) -> None:
    result = run(tmp_path, metric="exact_match", budget=150)
    assert result.whole is None and not (result.folder / "whole.json").exists()
    assert "whole" not in json.loads((result.folder / "summary.json").read_text())
