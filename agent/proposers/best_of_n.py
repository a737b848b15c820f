"""Best of N: the initial program, changed once, N times, each time without knowing of the others.

What a search has to beat at equal budget before it may be called one. On some tasks it does as well as evolution
(openevolve issue 100: 0.9924 against 0.9927 on circle packing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.evolution import operators
from agent.problem import Problem
from agent.proposers import programs
from agent.proposers.base import Context, Proposal
from agent.proposers.options import read, wrong


@dataclass(frozen=True, slots=True)
class Options(programs.Options):
    """What a user may set under [proposer.options]: what `agent.proposers.programs.Options` has, and

    Args:
        operator: "rewrite" for whole programs, "edit" for search/replace blocks.
    """

    operator: str = "rewrite"

    def __post_init__(self) -> None:
        programs.Options.__post_init__(self)
        if self.operator not in ("rewrite", "edit"):
            raise wrong("operator", self.operator, "rewrite or edit")


class BestOfN:
    """One independent sample per decision: the prompt holds the initial program and its result, and nothing else."""

    name = "best_of_n"
    needs_model = True
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` samples. What is of no use is recorded.

        Raises:
            BudgetExceeded: A limit keeps it from calling the model.
            ProviderError: The model cannot be reached.
            ConfigError: An option is wrong, or the space has no program.
        """
        options = read(Options, context.options)
        programs.evolvable(context.problem, self.name)
        base = context.history[context.history.initial]
        names = list(operators.codes(context.problem))
        found: dict[str, Proposal] = {}
        for index in range(n):
            name = context.rng.choice(names)
            request = programs.request(context, options, name, options.operator, base)
            source = f"{self.name}:llm:{options.operator}"
            made = await programs.asked(
                context, options, request, "", str(index), source, name, base, (base.id,), lambda candidate: ""
            )
            if made is not None:
                found.setdefault(context.problem.space.candidate(made.values).id, made)
        return list(found.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """Two calls for each candidate, of which the second has the first reply in it as well."""
        return programs.forecast(problem, self.name, candidates, read(Options, options))
