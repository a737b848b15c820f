"""What the tests of commands share."""

from __future__ import annotations

import asyncio
from typing import Any

from agent.evaluation import Output, Request
from agent.evaluators.command import CommandEvaluator
from agent.space import Candidate

PATIENCE = 60.0
"""Seconds after which a test gives up; long, because test machines are busy."""


def produce(evaluator: CommandEvaluator, partials: list[Any] | None = None, **given: Any) -> Output:
    request = Request(Candidate({"x": 2.0}), **given)
    seen = [] if partials is None else partials
    return asyncio.run(asyncio.wait_for(evaluator.produce(request, seen.append), PATIENCE))


def kind(output: Output) -> str:
    assert output.failure is not None, output
    return output.failure.kind
