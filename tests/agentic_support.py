"""What the tests of tools and of the agent share: a context without a run."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.history import History
from agent.parameters import Categorical, Float
from agent.problem import Example, Problem
from agent.proposers.base import Context
from agent.space import Space
from agent.texts import Text

Answer = tuple[str, bool]


@dataclass
class Alone(Context):
    """A context that keeps the record of tools itself."""

    record: dict[tuple[str, int, int], tuple[str, Any, Answer]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    async def step(
        self,
        conversation: str,
        turn: int,
        index: int,
        name: str,
        arguments: Mapping[str, Any] | None,
        work: Callable[[str], Awaitable[Answer]],
        notebook: dict[str, Any] | None = None,
    ) -> Answer:
        place = (conversation, turn, index)
        if place not in self.record:
            self.ran.append(name)
            self.record[place] = (name, arguments, await work(f"{conversation}.{turn}.{index}"))
        return self.record[place][2]


def problem(folder: Any = None, rows: Sequence[str] = (), **more: Any) -> Problem:
    """One with a number, a choice and a text."""
    space = Space(
        {
            "x": Float(0, 1, default=0.5),
            "kind": Categorical(("a", "b")),
            "prompt": Text("Answer {question}", placeholders=("question",)),
        }
    )
    given = {"folder": folder} if folder is not None else {}
    return Problem(
        name="small",
        space=space,
        evaluator=FunctionEvaluator("agent.testing:square", names=("loss",)),
        objectives=(Objective("loss", "minimize"),),
        data=tuple(Example(name, {"question": name}, split="train") for name in rows),
        deterministic=True,
        **given,
        **more,
    )


def alone(given: Problem | None = None, **more: Any) -> Alone:
    """A context of a problem of which nothing is measured."""
    given = given or problem()
    return Alone(
        problem=given, history=History(given.initial(), given.objective), rng=random.Random(1), **{"left": {}, **more}
    )


class Talker:
    """A model that answers turn by turn: each entry is a text, tool calls (name, arguments), or an error to raise.

    After the last entry it says nothing of use. `requests` is what it was asked.
    """

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)
        self.requests: list[Any] = []

    async def __call__(self, request: Any) -> Any:
        from agent.llm.structured import Shape
        from agent.llm.types import Completion, ToolCall, Usage

        self.requests.append(request)
        turn = self.turns.pop(0) if self.turns else "I have nothing to say."
        if callable(turn):
            turn = turn(request)
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, Completion):
            return turn
        if isinstance(turn, str):
            reply = Completion(turn, usage=Usage(input=100, output=10))
            return reply if request.schema is None else replace(reply, parsed=Shape(request.schema).read(reply))
        calls = tuple(ToolCall(f"c{len(self.requests)}-{i}", name, given) for i, (name, given) in enumerate(turn))
        return Completion("", tool_calls=calls, stop="tool", usage=Usage(input=100, output=10))

    @property
    def answers(self) -> list[tuple[str, bool]]:
        """What the tools answered, as the last request shows it."""
        return [(item.text, item.is_error) for item in self.requests[-1].messages if item.role == "tool"]
