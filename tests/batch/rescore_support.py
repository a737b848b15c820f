"""A problem on rows whose evaluator keeps a list of what it measured, and one call of one night."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agent.batch.rescore import Rescore, rescore
from agent.ledger import Budget
from agent.problem import Problem
from agent.settings import Settings
from agent.setup import Setup
from tests.cli_helpers import folder
from tests.row_support import rows as questions

ROWS_TOML = """
[evaluator]
function = "evaluate:measure"
deterministic = true

[space.x]
type = "float"
low = -1
high = 1
default = 0.5

[data]
file = "rows.jsonl"
target = "population"

[[objectives]]
name = "accuracy"
direction = "maximize"
low = 0
high = 1

[budget]
evaluations = 500
"""
ON_ROWS = """
import json, os, pathlib
HERE = pathlib.Path(__file__).parent

def measure(candidate, row):
    with open(HERE / "measured", "a") as file:
        file.write(json.dumps(row["number"]) + "\\n")
    changed = json.loads((HERE / "changed.json").read_text()) if (HERE / "changed.json").exists() else {}
    found = changed.get(str(row["number"]), row["number"] % 7 / 7)
    if found is None:
        raise RuntimeError("the model says nothing")
    return found
"""


def setup(problem: Problem) -> Setup:
    return Setup(problem, Settings.from_json({"proposer": "coordinate", "models": {}}), Budget(evaluations=500), 1)


def again(given: Setup, store: Path, night: object, most: float = 100, **more: Any) -> Rescore:
    """One call of one night, on the initial candidate unless it is said."""
    candidate = more.pop("candidate", given.problem.initial())
    return asyncio.run(rescore(given, candidate, store=store, night=str(night), most=most, **more))


def data_folder(place: Path, count: int = 120, evaluate: str = ON_ROWS) -> Path:
    folder(place, ROWS_TOML, evaluate)
    lines = [json.dumps({"id": item.id, **item.row}) for item in questions(count)]
    (place / "rows.jsonl").write_text("\n".join(lines))
    return place


def measured(place: Path) -> list[int]:
    """The numbers of the rows that the evaluator has measured, in order."""
    return [json.loads(line) for line in (place / "measured").read_text().splitlines()]
