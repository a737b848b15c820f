"""Learning in words: rows, the two variants, and who writes the next text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agent.config import load
from agent.llm.scripted import Scripted
from agent.session import Session
from tests.examples.support import EXAMPLES, modules

FOLDER = EXAMPLES / "vml"


@pytest.fixture
def example() -> Iterator[tuple[ModuleType, ...]]:
    with modules("vml", "rows", "task", "learner", "learn", "words") as found:
        yield found


def session(proposer: str, task: str, **budget: int) -> Session:
    overrides = {"proposer.name": proposer, "data.file": f"{task}.jsonl", "evaluator.sandbox.unsafe": True}
    overrides |= {"models.propose": "none"} | {f"budget.{name}": value for name, value in budget.items()}
    return Session.of(load(FOLDER, overrides))


def test_the_files_are_what_the_script_writes(example: Any) -> None:
    rows = example[0]
    for name in ("line", "parabola", "sine", "blobs"):
        made = rows.blobs() if name == "blobs" else rows.curve(name)
        there = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [{k: v for k, v in row.items() if k not in ("id", "split")} for row in there] == made
        assert [sum(row["split"] == split for row in there) for split in rows.SPLITS] == [80, 80, 80]
    labels = [row["y"] for row in there if row["split"] == "val"]
    assert sum(labels) == 40  # both classes in every split


def test_an_error_is_bounded_and_small_where_the_prediction_is_near(example: Any) -> None:
    error = example[1].error
    row = {"x": 1, "y": 7.0, "scale": 2.0}
    assert error(row, 7.0) == 0 and error(row, 9.0) == error(row, 5.0) == 0.5
    assert 0.99 < error(row, 1e300) < 1 and error(row, 7.1) < error(row, 7.2)
    assert [error({"x": [0, 0], "y": 1}, given) for given in (1.0, 0.6, 0.4, 0.0, 5.0)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("text", ["3*x + 4", "def predict(x):\n    y = 3 * x\n    return y + 4", "sqrt(9)*x + 4"])
def test_a_formula_and_a_function_are_models_alike(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(text)
    (tmp_path / "harness.py").write_text((FOLDER / "harness.py").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__file__": str(tmp_path / "harness.py")}
    exec((tmp_path / "harness.py").read_text(), names)
    assert names["predict"](2.0) == 10.0


def test_prose_is_refused_before_it_costs_anything() -> None:
    space = load(FOLDER).problem.space
    assert space.candidate({"model": "2*x + 1"})
    with pytest.raises(ValueError, match="line 1"):
        space.candidate({"model": "y grows with x."})
    with pytest.raises(ValueError, match="os"):
        space.candidate({"model": "import os"})


def test_least_squares_takes_the_degree_that_rows_left_out_ask_for(example: Any) -> None:
    learner = example[2]
    x = np.linspace(-3, 1, 40)
    weights = learner.polynomial(x, 3 * x**2 + x + 2 + 0.1 * np.cos(40 * x), 5)
    assert weights[:3] == pytest.approx([2, 1, 3], abs=0.3) and np.abs(weights[3:]).sum() < 0.2
    assert learner.written([2.0, 1.0, 3.0], 1) == "2 + 1*x**1 + 3*x**2"
    assert learner.written([0.5, 1.0, 3.0], 2) == "0.5 + 1*x[0] + 3*x[1] > 0"


async def test_a_fitted_border_is_proven_on_rows_that_it_was_not_fitted_to(example: Any, tmp_path: Path) -> None:
    result = await session("learner:LeastSquares", "blobs").run(tmp_path / "run")
    assert result.status == "proven" and "x[1] > 0" in result.best["model"]


def line_through(request: Any) -> str:
    """A model with a script: the straight line through the first two rows of the prompt that lie apart."""
    rows = re.findall(r"^x = (\S+): (?:predicted \S+, )?it is (\S+)$", request.messages[0].text, re.MULTILINE)
    points = sorted((float(x), float(y)) for x, y in rows)
    (a, b), (c, d) = points[0], points[-1]
    slope = (d - b) / (c - a)
    return json.dumps({"reasoning": f"{len(rows)} rows", "model": f"{b - slope * a:.3f} + {slope:.3f}*x"})


async def test_a_batch_of_rows_is_the_evidence_and_the_gate_reads_others(example: Any, tmp_path: Path) -> None:
    made = session("learner:VML", "line", calls=4)
    made.settings = replace(made.settings, models={"propose": "scripted:test"})
    model = Scripted(line_through)
    made.model = model
    result = await made.run(tmp_path / "run")
    assert result.status == "proven"
    rows = [json.loads(line) for line in (FOLDER / "line.jsonl").read_text(encoding="utf-8").splitlines()]
    train = {str(row["x"]) for row in rows if row["split"] == "train"}
    shown = [re.findall(r"^x = (\S+):", request.messages[0].text, re.MULTILINE) for request in model.requests]
    assert all(len(batch) == 10 for batch in shown)
    assert {x for batch in shown for x in batch} <= train
    assert "predicted" in model.requests[-1].messages[0].text  # what the model made of its rows is shown


async def test_in_words_another_model_reads_the_text(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = example[4]
    reader = Scripted(lambda request: json.dumps({"y": 10.0 if "3 times x" in request.system else 0.0}))
    monkeypatch.setattr(words, "reader", lambda name: reader)
    row = {"x": 2.0, "y": 10.0, "scale": 2.0}
    good = await words.predict({"model": "y is 3 times x, plus 4."}, row)
    bad = await words.predict({"model": "Nobody knows."}, row)
    assert good["error"] == 0 and bad["error"] > 0.8 and "predicted 0, it is 10" in bad["feedback"]
    assert "10" not in json.dumps(reader.requests[0].to_json()["messages"])  # y is not shown


def test_the_table_has_the_median_the_range_and_the_statuses(example: Any) -> None:
    rows = [
        {"task": "line", "proposer": "learner:VML", "error": error, "status": status, "candidates": 4, "calls": 8}
        for error, status in ((0.1, "proven"), (0.4, "unproven"))
    ]
    last = example[3].table(rows)[-1]
    assert last == "| line | VML | 0.250 (0.100 to 0.400) | 1 proven, 1 unproven | 4 | 8 |"
