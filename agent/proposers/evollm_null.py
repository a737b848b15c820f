"""The null model of EvoLLM: the mean of the five best points in the LLM's place, and nothing else changed.

What EvoLLM gains over this is what its model adds. With `population = 5` and `sigma = 0.1` the spread is
fixed, as in the usual comparisons on [-5, 5] with sigma 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agent.parameters import Categorical, Numeric
from agent.problem import Problem
from agent.proposers import cards
from agent.proposers.base import Context, numeric
from agent.proposers.evollm import Spread, Strategy
from agent.proposers.options import read
from agent.space import Candidate, canonical

BEST = 5
"""Points that are averaged."""


class EvoLLMNull(Strategy):
    """EvoLLM's loop with an average for a model."""

    name = "evollm-null"
    needs_model = False

    def options(self, given: Mapping[str, Any]) -> Spread:
        return read(Spread, given)

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        self.options(options)
        numeric(problem, self.name)
        return 0, 0, 0

    async def mean(self, context: Context, options: Any, memory: dict[str, Any]) -> tuple[Candidate, str]:
        """The mean of the five best points on each scale; of choices, the most frequent, and of those the best."""
        space = context.problem.space
        best = [trial.candidate for trial in cards.ranked(context)[:BEST]]
        values = best[0].values_json
        for name in space.numeric:
            parameter = space[name]
            assert isinstance(parameter, Numeric)
            if isinstance(parameter, Categorical):
                counts = Counter(canonical(item[name]) for item in best)  # most_common keeps the order: best first
                values[name] = next(v for v in parameter.choices if canonical(v) == counts.most_common(1)[0][0])
            else:
                values[name] = parameter.decode(sum(parameter.encode(item[name]) for item in best) / len(best))
        return Candidate(values), "mean"
