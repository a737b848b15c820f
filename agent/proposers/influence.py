"""What a segment of a prompt does: the prompt is measured with and without it, on the same rows of train.

The measurements are looks, so they are charged as any measurement of the search.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.errors import BudgetExceeded, ConfigError
from agent.looking import Look
from agent.proposers.base import Context


@dataclass(frozen=True, slots=True)
class Influence:
    """The paired difference that a segment makes to the primary objective, turned so that more is better.

    Args:
        mean: With the segment minus without it.
        error: Standard error of the mean; None where one pair says nothing of it.
        pairs: How many there were; 0 where nothing is measured without the segment.
        needed: Why nothing is measured without it, or "": a check refuses the rest, or every row failed.
    """

    mean: float
    error: float | None
    pairs: int
    needed: str = ""

    def kind(self, tolerance: float) -> str:
        """ "helps", "harms", "inert", or "unclear" where one standard error either way leaves it open.

        Args:
            tolerance: A difference up to this is none.
        """
        if self.needed:
            return "helps"
        if self.error is None:
            return "unclear"
        if self.mean - self.error > tolerance:
            return "helps"
        if self.mean + self.error < -tolerance:
            return "harms"
        return "inert" if abs(self.mean) + self.error <= tolerance else "unclear"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.needed:
            return f"needed: {self.needed}"
        return f"{self.mean:+.3g}" + (f" ± {self.error:.2g}" if self.error else "")


class Ablation:
    """Looks at changed values beside the same looks at the values as they are.

    Args:
        context: Of the decision.
        rows: Of train, where candidates are measured row by row.
        times: How often everything is measured where there are no such rows and it is not exact.
    """

    def __init__(self, context: Context, rows: Sequence[str], times: int) -> None:
        self._context, self._rows = context, list(rows)
        self._times = 1 if rows or context.problem.exact else times
        self._base: list[float | None] = []

    @property
    def each(self) -> int:
        """Evaluations of one look at everything."""
        problem = self._context.problem
        return len(self._rows) or self._times * max(1, len(problem.split("train")))

    async def begin(self, values: Mapping[str, Any]) -> None:
        """Measure the values as they are.

        Raises:
            BudgetExceeded: The search cannot pay for it.
        """
        self._base = await self._scores(values, "base")

    async def without(self, changed: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Influence | None]:
        """For each key and changed values, how much better the values as they are do. None where the budget is out.

        What cannot be measured is recorded.
        """
        found = await asyncio.gather(*(self._one(key, values) for key, values in changed), return_exceptions=True)
        out: list[Influence | None] = []
        for item in found:
            if isinstance(item, BudgetExceeded):
                self._context.reject(f"a segment was not measured: {item.message}", "claps:influence")
                out.append(None)
            elif isinstance(item, BaseException):
                raise item
            else:
                out.append(item)
        return out

    async def _one(self, key: str, values: Mapping[str, Any]) -> Influence:
        try:
            scores = await self._scores(values, key)
        except ConfigError as error:
            return Influence(0.0, None, 0, error.message)
        pairs = [a - b for a, b in zip(self._base, scores, strict=True) if a is not None and b is not None]
        if not pairs:
            why = "without it every measurement fails" if any(a is not None for a in self._base) else ""
            return Influence(0.0, None, 0, why)
        if self._context.problem.exact:
            return Influence(pairs[0], 0.0, 1)
        spread = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else None
        return Influence(statistics.fmean(pairs), spread, len(pairs))

    async def _scores(self, values: Mapping[str, Any], key: str) -> list[float | None]:
        """The primary objective, more is better, of each row or each time; None where it failed."""
        objective, context = self._context.problem.objective, self._context

        def turned(found: Mapping[str, float] | None) -> float | None:
            value = objective.failed if found is None else found[objective.name]
            return None if value is None else objective.sign * value

        if self._rows:
            look = await context.look(values, self._rows, key=key)
            return [turned(row.values) for row in look.rows]
        looks: list[Look] = [await context.look(values, key=f"{key}.{time}") for time in range(self._times)]
        return [turned(look.mean) for look in looks]
