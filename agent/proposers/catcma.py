"""CatCMA: an evolution strategy for numbers, whole numbers and choices together.

Hamano et al. 2024, "CatCMA: Stochastic Optimization for Mixed-Category Problems" (arXiv 2405.09962):
members are drawn from a Gaussian and from tables of chances at once, and both learn from the same
ranking. `agent.proposers.mixed` holds the mathematics. Restarts, injection, and that failures are never
told, are those of `agent.proposers.cmaes`.
"""

from __future__ import annotations

from agent.problem import Problem
from agent.proposers.base import numeric
from agent.proposers.cmaes import CMAES


class CatCMA(CMAES):
    """CatCMA over the unit cube, from the champion on; on a space of numbers it is CMA-ES."""

    name = "catcma"

    def _space(self, problem: Problem) -> None:
        """Refuse a space without numbers and choices.

        Raises:
            ConfigError: It has none.
        """
        numeric(problem, self.name)
