"""A problem and measurements of it, for races."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Constraint, Direction, Objective
from agent.parameters import Float
from agent.problem import Problem
from agent.space import Space

SIGNS: dict[Direction, int] = {"minimize": -1, "maximize": 1}


def problem(direction: Direction = "minimize", deterministic: bool = False, **goal: Any) -> Problem:
    """One number and one constraint; nothing of it is ever measured."""
    return Problem(
        name="race",
        space=Space({"x": Float(0, 1)}),
        evaluator=FunctionEvaluator("evaluate:measure", names=("value",), folder=Path("/nowhere")),
        objectives=(Objective("value", direction, **goal),),
        constraints=(Constraint("size", max=1),),
        deterministic=deterministic,
    )


def values(value: float, size: float = 0.0) -> dict[str, float]:
    """What one measurement gave."""
    return {"value": value, "size": size}
