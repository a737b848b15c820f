"""A run whose proposer asks in batches, in this process or in one of its own that is killed.

python -m tests.batch_runs FOLDER MODEL
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm import bulk, gateway
from agent.parameters import Float
from agent.problem import Problem
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from agent.testing_proposers import instance
from tests.fake_provider import Behaviour, structured
from tests.support import Direct


def bowl(candidate: Any) -> float:
    return float((candidate["a"] - 0.3) ** 2 + (candidate["b"] - 0.7) ** 2)


def session(model: str, **given: Any) -> Session:
    """A search of two numbers by a model that is asked in batches, without the pauses of a real one."""
    gateway.WINDOW, bulk.FIRST = 0.05, 0.02
    problem = Problem(
        name="bowl",
        space=Space({"a": Float(0, 1), "b": Float(0, 1)}),
        evaluator=FunctionEvaluator(bowl, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=True,
        folder=Path(__file__).parent,
        prices={model: {"input": 1.0, "output": 2.0}},
    )
    settings = {"proposer": "evollm", "models": {"propose": model}, "batch": True, **given.pop("settings", {})}
    given.setdefault("budget", Budget(evaluations=16))
    return Session(problem, Settings.from_json(settings), executor=Direct(problem), seed=3, **given)


def model(body: Any) -> Behaviour:
    """A model that fills in the schema it is given, always the same way for the same question."""
    body = getattr(body, "body", body)
    held = body.get("text") or body.get("output_config")
    said = json.dumps([body.get("input"), body.get("messages")])
    return structured(instance(held["format"]["schema"], random.Random(said)))


def main(folder: str, name: str) -> None:
    """The run in a process of its own."""
    asyncio.run(session(name).run(Path(folder)))
