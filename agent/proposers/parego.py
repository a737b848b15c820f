"""ParEGO: Bayesian optimisation of several objectives, each time along another weighing of them.

Knowles 2006, "ParEGO: A Hybrid Algorithm With On-Line Landscape Approximation for Expensive
Multiobjective Optimization Problems" (IEEE Trans. Evol. Comput. 10), section III: a weight vector is
drawn from a lattice, the normalised costs become one by the augmented Tchebycheff function, and a
Gaussian process of that number says where it is expected to improve most. Weighing the largest cost
reaches the parts of a front that bulge inwards too, which no sum does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

from agent.pareto import costs, several
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.gp import Picker
from agent.proposers.lhs import latin
from agent.proposers.options import check_whole, number, read, wrong
from agent.surrogates.acquisition import maximise
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate

CENTRES = 3
"""Points that are best under the drawn weights, around which the search for the next one begins too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        start: Points before the first model of the data, as a Latin hypercube; 0 chooses by the dimension.
        divisions: Steps of the lattice that weights are drawn from; 0 is 10 for two objectives and 4 for more.
        rho: Share of the weighted sum that is added to the largest weighted cost, so that what is better in the
            other objectives alone counts too.
    """

    start: int = 0
    divisions: int = 0
    rho: float = 0.05

    def __post_init__(self) -> None:
        check_whole(self, {"start": 0, "divisions": 0})
        if not number(self.rho) or self.rho < 0:
            raise wrong("rho", self.rho, "a number of at least 0")


class ParEGO:
    """Expected improvement of a randomly weighed cost. Memory: the fitted lengths and noise, to start the next fit."""

    name = "parego"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` points, each for its own weights.

        Raises:
            ConfigError: There is one objective, the space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        goals = several(context.problem, self.name)
        size = len(numeric(context.problem, self.name))
        points = Points.of(context.problem, context.history)
        rng = np.random.default_rng(context.rng.getrandbits(64))
        picker = Picker(context, points)
        enough = options.start or max(4, min(size + 1, 8))
        hyper = (context.memory or {}).get("hyper")
        if len(points) < 2 or len(points) + len(points.pending) < enough:
            for candidate in latin(max(n, enough - len(points)), context.problem.space, context.rng):
                if len(picker.out) < n:
                    picker.add(candidate, f"{self.name}:start", "")
        else:
            table = normalised(context.problem, points)
            divisions = options.divisions or (10 if goals == 2 else 4)
            while len(picker.out) < n:
                weights = lattice(goals, divisions, context.rng)
                weighed = replace(points, y=tchebycheff(table, weights, options.rho))
                surrogate = Surrogate.fit(
                    weighed,
                    context.problem.space,
                    seed=context.decision,
                    hyper=hyper,
                    noisy=not context.problem.exact,
                )
                # Other weights are another landscape with much the same lengths: refitting them for each proposal costs
                # four times as much and covers no more of the front.
                hyper = surrogate.hyper
                waiting = [context.problem.space.encode(proposal.values) for proposal in picker.out]
                surrogate = surrogate.fantasise(np.vstack([points.pending, np.array(waiting).reshape(-1, size)]))
                place = self._best(surrogate, weighed, picker, rng)
                candidate = context.problem.space.decode(place.tolist(), context.champion)
                told = ", ".join(
                    f"{goal.name} {w:.2g}" for goal, w in zip(context.problem.objectives, weights, strict=True)
                )
                if not picker.add(candidate, self.name, f"weights: {told}") and not picker.random(self.name):
                    break
        context.memory = {"hyper": hyper}
        context.exhausted = not picker.out
        return picker.out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        several(problem, self.name)
        numeric(problem, self.name)
        read(Options, options)
        return 0, 0, 0

    def _best(self, surrogate: Surrogate, weighed: Points, picker: Picker, rng: np.random.Generator) -> Array:
        centres = weighed.x[np.argsort(weighed.y, kind="stable")[:CENTRES]]
        place, _ = maximise(
            lambda x: picker.masked(x, surrogate.log_ei(x)),
            picker.grid,
            rng,
            centres=centres,
            width=np.full(weighed.x.shape[1], 0.1),
        )
        return place


def lattice(goals: int, divisions: int, rng: Random) -> Array:
    """(goals,) weights of at least 0 with sum 1, all multiples of 1 / divisions, each such vector equally likely."""
    # Bars between stars: every choice of places for the bars is one way to share `divisions` among the goals.
    bars = sorted(rng.sample(range(divisions + goals - 1), goals - 1))
    edges = [-1, *bars, divisions + goals - 1]
    return np.array([after - before - 1 for before, after in pairwise(edges)]) / divisions


def normalised(problem: Problem, points: Points) -> Array:
    """(n, goals) costs of each point, from 0 (best measured) to 1 (worst measured) in each objective."""
    table = np.array([costs(problem, trial.values or {}) for trial in points.trials])
    low, high = table.min(axis=0), table.max(axis=0)
    out: Array = (table - low) / np.where(high > low, high - low, 1.0)
    return out


def tchebycheff(table: Array, weights: Array, rho: float) -> Array:
    """(n,) augmented Tchebycheff costs of (n, goals) normalised ones: the largest weighted one, and rho of the sum."""
    weighted = table * weights
    out: Array = weighted.max(axis=1) + rho * weighted.sum(axis=1)
    return out
