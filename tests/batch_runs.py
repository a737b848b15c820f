"""A run whose proposer asks in batches, in this process or in one of its own that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm import bulk, gateway, out_of_sight
from agent.parameters import Float
from agent.problem import Problem
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from agent.testing.proposers import instance
from tests.fake_provider import Behaviour, structured
from tests.support import Direct


def bowl(candidate: Any) -> float:
    return float((candidate["a"] - 0.3) ** 2 + (candidate["b"] - 0.7) ** 2)


def session(model: str, **given: Any) -> Session:
    """A search of two numbers by a model that is asked in batches, without the pauses of a real one."""
    gateway.WINDOW, bulk.FIRST, out_of_sight.FIRST = 0.02, 0.01, 0.01
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


def nursery() -> None:
    """Runs in processes of their own, which are forked from this one: what they import takes seconds.

    For each line of the input (folder, model, environment) it tells the number of a process, which begins after the
    next line, and how it ended.
    """
    import anthropic  # noqa: F401
    import openai  # noqa: F401

    for line in sys.stdin:
        folder, name, environment = json.loads(line)
        pid = os.fork()
        if not pid:
            sys.stdin.readline()
            os.dup2(2, 1)
            os.environ.update(environment)
            asyncio.run(session(name).run(Path(folder)))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
