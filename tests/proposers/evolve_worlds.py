"""Runs in memory for tests of evolution: a problem whose programs are texts with a number in them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent.llm.types import ModelRequest
from agent.parameters import Float
from agent.proposers.base import Proposer
from agent.space import Candidate, Space
from agent.testing.proposers import Search, adviser
from agent.texts import Code, Text

SPACE = Space(
    {
        "program": Code("def solve(x):\n    return x + 0\n", entry="solve", signature="(x)"),
        "prompt": Text("Answer {question}", placeholders=("question",)),
        "rate": Float(0, 1, default=0.25),
    }
)


def number(candidate: Mapping[str, Any]) -> int:
    """The number that a program adds."""
    return int(re.findall(r"x \+ (-?\d+)", candidate["program"])[-1])


def distance(candidate: Candidate) -> Mapping[str, float] | None:
    """How far the number is from 40, below zero throughout; a program that says `raise` fails."""
    if "raise" in candidate["program"]:
        return None
    return {"value": abs(number(candidate) - 40) - 1000.0, "size": 0.0}


def fenced(n: int, lines: str = "") -> str:
    return f"It adds {n}.\n```python\ndef solve(x):\n{lines}    return x + {n}\n```\n"


def edited(old: int, new: int) -> str:
    """A search/replace block."""
    return f"One more.\n<<<<<<< SEARCH\n    return x + {old}\n=======\n    return x + {new}\n>>>>>>> REPLACE\n"


class Climber:
    """A model that adds one to what it is shown, in the form that it is asked for, with a line of its own each time."""

    def __init__(self, seed: int = 0) -> None:
        self.requests: list[ModelRequest] = []
        self._rng = random.Random(seed)

    def __call__(self, request: ModelRequest) -> str:
        self.requests.append(request)
        text = request.messages[0].text
        found = [int(n) for n in re.findall(r"return x \+ (-?\d+)", text)]
        step = self._rng.choice((-1, 1, 2))
        if "SEARCH" in request.system:
            return edited(found[0], found[0] + step)
        return fenced(max(found) + step, f"    # {len(self.requests)}\n")


def search(proposer: Proposer, model: Callable[[ModelRequest], str], **given: Any) -> Search:
    """A run in memory on `SPACE`, unless another space and measure are given."""
    space = given.pop("space", SPACE)
    measure = given.pop("measure", distance)
    return Search(proposer, space, measure, ask=adviser(model), **given)
