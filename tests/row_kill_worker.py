"""Lives on rows that `tests.test_row_kills` ends; everything else is as in `tests.kill_worker`.

python -m tests.row_kill_worker

workers, seed    of the run
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.ledger import Budget
from agent.parameters import Categorical
from agent.problem import Example, Problem
from agent.session import Session
from agent.settings import Settings
from agent.space import Candidate, Space
from tests import kill_worker
from tests.row_support import ACCURACY, luck, rows

SKILL = {"a": 0.05, "b": 0.65, "c": 0.98}
CANDIDATES = [{"kind": "b"}, {"kind": "c"}]


async def measured(candidate: Any, row: Any, seed: int, replicate: int) -> float:
    kill_worker.note(kill_worker.EXECUTED, Candidate(candidate).id, f"row-{row['number']}", replicate)
    await asyncio.sleep(kill_worker.RNG.uniform(0, 0.0012))
    return float(luck("easy", row["number"]) < SKILL[candidate["kind"]])


def data() -> list[Example]:
    """Rows for a search, an exam and a report."""
    return [*rows(50), *rows(80, start=50, split="val"), *rows(30, start=130, split="test")]


def session(life: Mapping[str, Any]) -> Session:
    """A run with an interim exam, a last one and a report, and not much of a search between them."""
    problem = Problem(
        name="questions",
        space=Space({"kind": Categorical(list(SKILL))}),
        evaluator=FunctionEvaluator(measured, names=("accuracy",)),
        objectives=(ACCURACY,),
        data=tuple(data()),
        deterministic=True,
        target="population",
        folder=Path(__file__).parent,
    )
    options = {"candidates": CANDIDATES}
    settings = Settings(
        models={}, workers=life["workers"], proposer="tests.row_support:Steps", options=options, interim=True
    )
    return Session(problem, settings, Budget(evaluations=4000), seed=life["seed"])


if __name__ == "__main__":
    kill_worker.session = session
    kill_worker.main()
