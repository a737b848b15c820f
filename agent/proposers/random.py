"""Uniform random search: the baseline that everything else has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.problem import Problem
from agent.proposers.base import Context, Proposal

DRAWS = 200
"""Draws in a row that were all seen before, after which a finite space counts as used up."""


class Random:
    """Independent uniform draws on each parameter's scale (Bergstra and Bengio 2012, JMLR 13)."""

    name = "random"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """`n` new random candidates; fewer, and then exhausted, when the space seems used up."""
        out: list[Proposal] = []
        made: set[str] = set()
        for _ in range(n):
            for _ in range(DRAWS):
                candidate = context.problem.space.sample(context.rng)
                if candidate.id not in context.history and candidate.id not in made:
                    made.add(candidate.id)
                    out.append(Proposal(candidate, "random"))
                    break
            else:
                context.exhausted = True
                break
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        return 0, 0, 0
