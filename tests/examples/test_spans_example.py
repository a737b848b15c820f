"""Regular expressions in the sandbox, scored by span F1."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from agent.cli.run import session_of
from agent.config import load
from agent.evaluation import Request
from agent.space import Candidate
from tests.examples.support import EXAMPLES, modules, ran

FOLDER = EXAMPLES / "spans"


def run(folder: Path, *options: str) -> dict[str, Any]:
    return ran("spans", folder, "--proposer", "coordinate", "--set", "evaluator.sandbox.unsafe=true", *options)


def test_the_rows_are_what_the_script_writes() -> None:
    lines = [line for name in ("train", "val") for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 400 and len({row["input"] for row in rows}) == 400
    assert all(part in row["input"] for row in rows for part in row["slots"].values())
    rng = random.Random(0)
    with modules("spans", "rows") as (script,):
        made = script.sentence(rng)
    assert {"id": "row-0", **made} == rows[0]


def test_a_slot_that_was_made_up_counts_against() -> None:
    with modules("spans", "task") as (module,):
        task = module.Task()
    row = {"input": "six at 7 pm", "slots": {"people": "six", "time": "7 pm"}}
    assert task.question(row) == "six at 7 pm"
    scored = task.score(row, {"people": "six", "date": "7"})
    assert (scored["tp"], scored["fp"], scored["fn"], scored["f1"]) == (1, 1, 1, 0.5)
    assert task.score({"input": "hello", "slots": {}}, {})["f1"] == 1.0
    assert task.score({"input": "hello", "slots": {}}, {"date": "hello"})["f1"] == 0.0


async def test_a_pattern_that_runs_away_fails_and_the_others_score() -> None:
    setup = load(FOLDER, {"evaluator.sandbox.unsafe": True, "evaluator.sandbox.seconds": 1.0})
    executor = session_of(setup).make_executor(setup.settings)
    space, row = setup.problem.space, {"input": "a table for 7 at 8 pm", "slots": {"people": "7", "time": "8 pm"}}
    start = space.initial().values_json
    try:
        good = await executor.submit(Request(Candidate({**start, "time": r"\d+ ?pm"}), example="a", row=row))
        slow = await executor.submit(Request(Candidate({**start, "people": "(.+)+(.+)+x!"}), example="a", row=row))
        again = await executor.submit(Request(Candidate({**start, "time": r"\d+ ?pm"}), example="a", row=row))
        own = await executor.submit(Request(Candidate({**start, "people": "((a+)+)+$"}), example="a", row=row))
    finally:
        await executor.close()
    assert good.failure is None and good.value["values"]["f1"] == 1.0 == again.value["values"]["f1"]
    assert slow.failure is not None and slow.failure.kind == "timeout" and "smoke" in slow.failure.message
    assert "((a+)+)+$" in setup.problem.space["people"].choices, "the README's pattern of exponential time"
    assert own.failure is not None and own.failure.kind == "timeout" and "smoke" in own.failure.message


def test_a_run_proves_the_gain_on_sentences_that_nobody_searched_on(tmp_path: Path) -> None:
    result = run(tmp_path, "--evaluations", "500")
    assert result["status"] == "proven"
    assert result["best"] != result["released"] or result["best"]["time"] != r"\d+:\d+"


def test_on_the_rows_of_a_data_set(tmp_path: Path) -> None:
    data = os.environ.get("TRUEGAIN_DATA")
    if not data or not (Path(data) / "span_extraction" / "train.jsonl").is_file():
        pytest.skip("the shared data is not here: TRUEGAIN_DATA names no folder with it")
    names = ("train", "val")
    options = [o for n in names for o in ("--set", f"data.{n}={Path(data) / 'span_extraction' / n}.jsonl")]
    assert run(tmp_path, "--evaluations", "300", *options)["spent"]["evaluations"] <= 300
