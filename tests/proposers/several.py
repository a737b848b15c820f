"""What the tests of proposers for several objectives share."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.events import CandidateAdmitted
from agent.goals import Constraint, Objective
from agent.history import History
from agent.measuring import Unit
from agent.parameters import Float
from agent.pareto import hypervolume
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, Proposer
from agent.space import Candidate, Space
from agent.testing.proposers import Measure, ProposerContract, Search, rough

Function = Callable[[list[float]], tuple[float, ...] | None]
"""From a place in the unit cube to two costs, and the constraint's value if there is one; None is a failure."""


def zdt1(x: list[float]) -> tuple[float, float]:
    """Its front bulges outwards (Zitzler, Deb and Thiele 2000); the best hypervolume from (1.1, 6) is 6.27."""
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * (1 - math.sqrt(x[0] / g))


def zdt2(x: list[float]) -> tuple[float, float]:
    """Its front bulges inwards, where no weighted sum has its optimum; the best hypervolume is 5.93."""
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * (1 - (x[0] / g) ** 2)


def problem_of(space: Space, constraint: Constraint | None) -> Problem:
    """Two objectives: a is made small, and b, which is told with the opposite sign, large. A constraint is on c."""
    return Problem(
        name="two",
        space=space,
        evaluator=FunctionEvaluator("agent.testing:square", names=("a", "b")),
        objectives=(Objective("a"), Objective("b", "maximize")),
        constraints=(constraint,) if constraint else (),
        deterministic=True,
    )


class Two:
    """A search over two objectives in memory, one candidate at a time."""

    def __init__(
        self,
        proposer: Proposer,
        function: Function,
        *,
        size: int = 5,
        seed: int = 0,
        space: Space | None = None,
        options: Mapping[str, Any] | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        space = space or Space({f"x{number}": Float(0, 1) for number in range(size)})
        self.proposer, self.function, self.seed = proposer, function, seed
        self.problem = problem_of(space, constraint)
        self.options = options or {}
        self.decision, self.memory = 0, None
        first = space.decode([random.Random(seed).random() for _ in space.numeric], space.initial())
        self.history = History(first, self.problem.objective)
        self.measure(first)

    def measure(self, candidate: Candidate) -> None:
        """What the evaluator would say."""
        costs = self.function(self.problem.space.encode(candidate))
        values = None if costs is None else {"a": costs[0], "b": -costs[1], **dict(zip("c", costs[2:], strict=False))}
        feasible = values is not None and not self.problem.violated(values)
        self.history.measured(Unit(candidate.id, 0, 0, "search", values, "" if values else "error: none"), feasible)

    def context(self) -> Context:
        return Context(
            self.problem,
            self.history.freeze(),
            random.Random(f"{self.seed} {self.decision}"),
            decision=self.decision,
            memory=self.memory,
            options=self.options,
        )

    def ask(self, n: int = 1) -> list[Proposal]:
        """Proposals for now."""
        self.decision += 1
        context = self.context()
        proposals = asyncio.run(self.proposer.propose(context, n))
        self.memory = context.memory
        return proposals

    def admit(self, proposal: Proposal) -> Candidate:
        """A proposal as a candidate that waits to be measured."""
        candidate = self.problem.space.candidate(proposal.values)
        assert candidate.id not in self.history, "a known candidate was proposed"
        self.history.apply(CandidateAdmitted(self.decision, candidate.id, candidate.values_json, proposal.source))
        return candidate

    def run(self, evaluations: int) -> Two:
        """Until so many candidates are known."""
        while len(self.history) < evaluations:
            for proposal in self.ask():
                self.measure(self.admit(proposal))
        return self

    @property
    def volume(self) -> float:
        """The hypervolume from (1.1, 6)."""
        good = [t.values for t in self.history.trials if t.values is not None and t.feasible]
        return hypervolume([(values["a"], -values["b"]) for values in good], (1.1, 6.0))


class _WithTwo:
    """A proposer that is shown a second objective, where the contract's problem has one."""

    def __init__(self, inner: Proposer) -> None:
        self.inner = inner
        self.name, self.needs_model = inner.name, inner.needs_model

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        given = context.problem
        context.problem = _with_two(given)
        try:
            return await self.inner.propose(context, n)
        finally:
            context.problem = given

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return self.inner.forecast(_with_two(problem), candidates, options)


def _with_two(problem: Problem) -> Problem:
    return replace(problem, objectives=(*problem.objectives, Objective("other", "maximize")))


class SeveralContract(ProposerContract):
    """The contract of proposers, with a second objective that pulls the other way."""

    def inner(self) -> Proposer:
        """The proposer under test."""
        raise NotImplementedError

    def make(self) -> Proposer:
        return _WithTwo(self.inner())

    def search(self, name: str, measure: Callable[[Space], Measure] = rough, **given: Any) -> Search:
        def both(space: Space) -> Measure:
            one = measure(space)

            def values(candidate: Candidate) -> Mapping[str, float] | None:
                found = one(candidate)
                other = -sum((place - 0.7) ** 2 for place in space.encode(candidate))
                return None if found is None else {**found, "other": other}

            return values

        return super().search(name, both, **given)
