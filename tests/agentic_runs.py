"""A run of the agent with a provider on this machine, in this process or in one that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.ledger import Budget
from agent.parameters import Float
from agent.problem import Problem
from agent.session import Session
from agent.settings import Settings
from agent.space import Space
from tests.fake_provider import Behaviour, Request, structured, tools
from tests.support import Direct

HERE = Path(__file__).parent
NAMES = ("openai-responses:m", "openai-chat:m", "anthropic:m")


def bowl(candidate: Any) -> float:
    with open(os.environ.get("AGENTIC_LOG", os.devnull), "a") as log:
        log.write("measured\n")
    return float((candidate["a"] - 0.3) ** 2 + (candidate["b"] - 0.7) ** 2)


def pause(where: str) -> str:
    """Say that it began, and wait as long as a file is there."""
    folder = Path(os.environ["AGENTIC_LOG"]).parent
    with open(os.environ["AGENTIC_LOG"], "a") as log:
        log.write(f"tool {where}\n")
    while (folder / "hold").exists():
        time.sleep(0.01)
    return f"waited at {where}"


def session(model: str, **given: Any) -> Session:
    """A search of two numbers."""
    problem = Problem(
        name="bowl",
        space=Space({"a": Float(0, 1), "b": Float(0, 1)}),
        evaluator=FunctionEvaluator(bowl, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=True,
        folder=HERE,
        prices={model: {"input": 1.0, "output": 2.0}},
    )
    options = {"tools": ["agentic_runs:pause"], "off": ["python"], "evaluations": 0.5, **given.pop("options", {})}
    settings = {"proposer": "agentic", "models": {"propose": model}, "options": options, **given.pop("settings", {})}
    given.setdefault("budget", Budget(evaluations=6))
    return Session(problem, Settings.from_json(settings), executor=Direct(problem), seed=3, **given)


def heard(request: Request) -> tuple[str, list[str]]:
    """The first message of a conversation, and all answers of tools in it, on any wire."""
    body = request.body
    items = body.get("input") or body["messages"]
    results = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
    results += [str(item["content"]) for item in items if item.get("role") == "tool"]
    for item in items:
        if isinstance(item.get("content"), list):
            results += [str(part["content"]) for part in item["content"] if part.get("type") == "tool_result"]
    first = next(item for item in items if item.get("role") == "user")["content"]
    return first if isinstance(first, str) else json.dumps(first), results


def model(request: Request) -> Behaviour:
    """A function of the conversation alone: it looks around, supposes something, measures, and submits."""
    first, results = heard(request)
    rng = random.Random(first)
    a, b = round(rng.random(), 3), round(rng.random(), 3)
    if not request.body.get("tools"):
        return structured({"proposals": [{"rationale": "no tools here", "changes": {"a": a, "b": b}}]})
    thought = {"thought": "signed thoughts"}
    match len(results):
        case 0:
            return tools(("top", {"n": 3}), ("hypothesis", {"text": f"a = {a} is better"}), **thought)
        case 2:
            return tools(("evaluate", {"changes": {"a": a}}), ("pause", {"where": str(a)}), **thought)
        case 4:
            return tools(("submit", {"changes": {"a": 9}, "rationale": "out of range"}), **thought)
        case _:
            return tools(("submit", {"changes": {"a": a, "b": b}, "rationale": "guess", "hypothesis": 1}), **thought)


def main() -> None:
    """A run in a process of its own: its folder and its model are the arguments."""
    asyncio.run(session(sys.argv[2]).run(Path(sys.argv[1])))
