"""Thresholds with Lagrange multipliers: what breaking a constraint costs while searching, in the goal's own unit.

A candidate that breaks a constraint is never a champion, but a search may pass through it. How dear that is must be
neither free, or the search stays beyond the threshold, nor without bound, or it stays away from where the best feasible
ones are. Dual ascent finds the price: it rises while the candidate that looks best at this price breaks the constraint,
and falls while that keeps it. More than is asked for earns nothing, so that no score is traded for another.

Source: Bertsekas 1999, Nonlinear Programming, 2nd edition, section 4.2 (multipliers) and 4.3 (the exact penalty).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.goals import Constraint, Objective
from agent.history import Trial
from agent.problem import Problem

RATE = 0.5
"""What a multiplier gains when the best candidate is beyond the threshold by a usual deviation or more."""
LEAST = 0.2
"""Share of that which it gains however little that is: a threshold that is nearly kept is not kept."""


@dataclass(frozen=True)
class Multipliers:
    """The price of each constraint, as far as a search has gone. A function of its trials, so nothing has to be kept.

    Args:
        problem: Its goals. Constraints without bounds have no price: an exam decides on them.
        weights: By constraint: usual deviations of the cost for each usual deviation beyond the threshold.
        scales: By constraint, the usual deviation of its value.
        spread: The usual deviation of the cost.
        goal: What is compared, where that is another objective than the problem's.
    """

    problem: Problem
    weights: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    spread: float = 1.0
    goal: Objective | None = None

    @property
    def bounded(self) -> list[Constraint]:
        """The constraints that have a price."""
        return [item for item in self.problem.constraints if item.max is not None or item.min is not None]

    @classmethod
    def of(
        cls, problem: Problem, trials: Iterable[Trial], rate: float = RATE, goal: Objective | None = None
    ) -> Multipliers:
        """The prices after some trials, in the order in which they were admitted; those without a value do not count.

        Args:
            problem: Of the run.
            trials: Of its history.
            rate: Of the ascent, above 0.
            goal: What is compared; the problem's own without it.
        """
        known = [trial.values for trial in trials if trial.values is not None]
        bounded = cls(problem).bounded
        if not known or not bounded:
            return cls(problem, goal=goal)
        scales = {item.name: _deviation([excess(item, values) for values in known]) for item in bounded}
        weights = dict.fromkeys(scales, 0.0)
        prices = cls(problem, weights, scales, _deviation([_goal(problem, values, goal) for values in known]), goal)
        best = known[0]
        for values in known:
            best = min(best, values, key=prices.cost)
            for item in bounded:
                beyond = excess(item, best) / scales[item.name]
                step = min(1.0, max(LEAST, beyond)) if beyond > 0 else max(-1.0, beyond)
                weights[item.name] = max(0.0, weights[item.name] + rate * step)
        return prices

    def cost(self, values: Mapping[str, float]) -> float:
        """What is compared, turned so that smaller is better, and what breaking constraints costs on top."""
        price = math.fsum(
            self.weights[item.name] * max(0.0, excess(item, values)) / self.scales[item.name]
            for item in self.problem.constraints
            if item.name in self.weights
        )
        return _goal(self.problem, values, self.goal) + self.spread * price


def excess(item: Constraint, values: Mapping[str, float]) -> float:
    """How far a value is beyond a threshold, in the constraint's unit; negative when it is within."""
    value = values[item.name]
    beyond = [value - item.max] if item.max is not None else []
    return max(beyond + ([item.min - value] if item.min is not None else []))


def _goal(problem: Problem, values: Mapping[str, float], goal: Objective | None) -> float:
    if goal is not None:
        return -goal.sign * values[goal.name]
    return -problem.objective.sign * problem.compared(values)


def _deviation(numbers: Sequence[float]) -> float:
    """The median distance to the median; where most are equal, the largest distance; 1 where all are."""
    middle = statistics.median(numbers)
    far = [abs(number - middle) for number in numbers]
    return statistics.median(far) or max(far) or 1.0
