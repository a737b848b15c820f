"""Numbers of a whole set of outputs: told beside the claim at the end of a run, on train and test, never on val."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent import ConfigError, Demos, Text, load_result, optimize
from agent.journal import read_all
from agent.pools import overlap
from agent.result import Result
from tests.cli_helpers import call
from tests.prompt_support import TEMPLATE, Task, rows

SPACE = {"instruction": Text("Double it.")}
SPLITS = {"train": rows(40), "val": rows(30, 200), "test": rows(20, 400)}


def run(runs: Path, **given: Any) -> Result:
    more = {"space": SPACE, "data": SPLITS, "budget": 300, "model": {"task": Task()}, **given}
    options = {"proposer": "tests.prompt_support:Careful", "workers": 8, **more.pop("options", {})}
    template = TEMPLATE + "{demos}" * ("demos" in more["space"])
    return optimize(template, runs=runs, options=options, **more)


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


# Pools of examples.


def test_copies_and_near_copies_of_rows_are_found_in_a_pool() -> None:
    held = rows(5, 200)
    near = {**held[1], "question": held[1]["question"].replace(":", " :").upper()}
    assert overlap([rows(1)[0], held[0], near], held) == [1, 2]
    assert overlap(rows(20), held) == [] and overlap([], held) == [] and overlap(held, []) == []


def test_a_candidate_never_shows_a_row_that_is_held_out(tmp_path: Path) -> None:
    everything = rows(150)
    space = {**SPACE, "demos": Demos(everything, k=2)}
    given = {"space": space, "data": everything, "metric": "exact_match", "model": {"task": Task()}, "budget": 400}
    result = run(tmp_path, **given, starts=[{"demos": [place]} for place in range(0, 150, 15)])
    begun = [trial for trial in result.trials if trial.source == "start"]
    assert 1 < len(begun) < 9, "about half of the rows are held out"
    refused = [entry.event for entry in read_all(result.folder) if entry.event.type == "candidate.rejected"]
    assert sum("held-out rows, which no prompt may show" in event.reason for event in refused) == 10 - len(begun)


def test_a_pool_of_held_out_rows_alone_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    train, val, task = rows(40), rows(100, 200), Task()
    for pool, default, hint in ((val, (), "add rows of train"), (train + val, (60,), "begin with no examples")):
        space = {**SPACE, "demos": Demos(pool, k=2, default=default)}
        with pytest.raises(ConfigError, match="held out") as found:
            run(tmp_path, space=space, data={"train": train, "val": val}, metric="exact_match", model={"task": task})
        assert hint in found.value.hint and not task.requests
