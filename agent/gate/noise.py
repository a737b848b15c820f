"""Noise first: the initial candidate against itself, and what the budget and the data could show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.gate import levels
from agent.gate.levels import detectable, weight
from agent.gate.standing import percent, pooled

if TYPE_CHECKING:
    from agent.problem import Problem
    from agent.settings import Settings

SAME = 1e-9
"""Relative difference up to which two measurements are the same number."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Repeated measurements, compared.

    Args:
        pairs: Pairs of measurements that were compared.
        sd: Standard deviation of one measurement around its row's mean, in the objective's unit.
        discordance: Share of the pairs that differ.
        differ: The two most different measurements of one row (None: it failed), or None when none differ.
    """

    pairs: int
    sd: float
    discordance: float
    differ: tuple[float | None, float | None] | None

    @classmethod
    def of(cls, groups: Sequence[Sequence[float | None]], problem: Problem, scale: float) -> Noise:
        """From measurements of the same thing; a failure differs from every number.

        Args:
            groups: Measurements by row.
            problem: Says what a failure counts.
            scale: Range of a score.
        """
        pairs = discordant = 0
        squares = freedom = 0.0
        widest: tuple[float, float] | None = None
        for group in groups:
            values = [problem.failure if value is None else value for value in group]
            there = [value for value in values if value is not None]
            for one, two in itertools.pairwise(values):
                pairs += 1
                same = one == two or (one is not None and two is not None and math.isclose(one, two, rel_tol=SAME))
                discordant += not same
                if same or one is None or two is None:
                    continue
                if widest is None or abs(one - two) > abs(widest[0] - widest[1]):
                    widest = one, two
            if len(there) > 1:
                mean = math.fsum(there) / len(there)
                squares += math.fsum((value - mean) ** 2 for value in there)
                freedom += len(there) - 1
        failed = (None, next((value for group in groups for value in group if value is not None), None))
        return cls(
            pairs,
            math.sqrt(squares / freedom) if freedom else 0.0,
            discordant / pairs if pairs else 0.0,
            (widest or failed) if discordant else None,
        )

    def contradiction(self, problem: Problem) -> str:
        """For a problem that is declared deterministic and is not."""
        one, two = ("a failure" if value is None else f"{value:.6g}" for value in self.differ or (None, None))
        return (
            f"the problem is declared deterministic, but the initial candidate gave {one} once and {two} another time"
            f" ({problem.objective.name}); remove deterministic = true, or make the evaluator use its seed"
        )

    def sentence(self, problem: Problem, settings: Settings, units: int, level: float) -> str:
        """What the noise means: the smallest gain that could be shown.

        Args:
            problem: Its objective and target.
            settings: Size of an exam without rows.
            units: Independent rows that the gate has.
            level: Error level of the last exam on them.
        """
        goal = problem.objective
        unit = f" {goal.unit}" if goal.unit else ""
        if problem.exact:
            return "measuring twice gave the same; comparisons are exact"
        if problem.by_rows:
            repeats = "" if problem.deterministic else f"repeats differ on {self.discordance:.0%} of the rows; "
            if not units:
                return f"{repeats}nothing can be proven: {pooled(len(problem.split('train')))}"
            least = detectable(units, level)
            if self.discordance > 0.2:
                noisy = detectable(units, level, self.discordance)
                least = max(least, noisy) if math.isfinite(noisy) else least
            if least >= 1:
                return f"{repeats}no gain at all can be shown with {units} gate examples"
            return f"{repeats}gains under {percent(least)} cannot be shown with {units} gate examples"
        least = smallest_gain(settings.exam_pairs, settings.level * weight(1), self.sd)
        if not math.isfinite(least):
            return f"repeats have a standard deviation of {self.sd:.3g}{unit}; nothing can be shown with so few pairs"
        return (
            f"repeats have a standard deviation of {self.sd:.3g}{unit}; gains under {least:.3g}{unit} cannot be shown"
            f" with {settings.exam_pairs} pairs"
        )


def smallest_gain(pairs: int, level: float, sd: float, power: float = 0.8) -> float:
    """The smallest shift that a sign test shows with this power, for Gaussian noise; infinity when there is none.

    Args:
        pairs: Of the exam.
        level: Its error level.
        sd: Of one measurement; a paired difference has sqrt(2) times as much.
        power: Chance to show it.
    """
    low, high = 0.5, 1.0
    if levels.power(pairs, 1.0, 1.0, level) < power:
        return math.inf
    for _ in range(30):
        middle = (low + high) / 2
        enough = levels.power(pairs, 2 * middle - 1, 1.0, level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return math.sqrt(2) * sd * levels.z(min(high, 1 - 1e-12))
