"""The exam of a number that belongs to a whole set of rows: with a test where one can be exact, else an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.gate import resampling
from agent.gate.planning import Plan
from agent.gate.quotient import Quotient
from agent.goals import Judging, Objective

Values = Mapping[str, float]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class OfSet:
    """A number of the whole set with both candidates; `p` is None where there is no test of it."""

    new: float
    old: float
    gain: float
    interval: tuple[float, float] | None
    p: float | None
    beyond: str = ""


def compare(
    problem: Judging, plan: Plan, new: Sequence[Values | None], old: Sequence[Values | None], clusters: Sequence[str]
) -> OfSet:
    """The claim about a quotient of two sums; a larger gain is better."""
    goal = problem.objective
    exact = Quotient.of(goal) if plan.test == "quotient" else None
    if exact is None:
        metric = resampling.ratio(dict(goal.numerator or {}), dict(goal.denominator or {}))
        found = resampling.paired(lambda rows: goal.sign * metric(rows), new, old, clusters, seed=len(new))
        around = found.interval if found.clusters >= resampling.FEWEST else None
        return OfSet(goal.sign * found.new, goal.sign * found.old, found.gain, around, None)
    over = sum(values is not None and not exact.within(values) for values in (*new, *old))
    if over:
        why = f"{over} times the parts of a row were below 0 or added up to more than most = {goal.most:g}"
        after, before = (exact.value(_parts(exact, side, clusters)) for side in (new, old))
        return OfSet(after, before, goal.sign * (after - before), None, 1.0, why)
    one, two = _parts(exact, new, clusters), _parts(exact, old, clusters)
    p = exact.p(one, two, plan.margin * plan.scale)
    after, before = exact.value(one), exact.value(two)
    return OfSet(after, before, goal.sign * (after - before), exact.interval(one, two, CONFIDENCE), p)


def _parts(exact: Quotient, side: Sequence[Values | None], clusters: Sequence[str]) -> list[dict[str, float]]:
    """Means of the parts by cluster; a failed row adds nothing."""
    places: dict[str, list[Values]] = {}
    for values, cluster in zip(side, clusters, strict=True):
        places.setdefault(cluster, []).append(values or {})
    return [
        {name: math.fsum(row.get(name, 0.0) for row in rows) / len(rows) for name in exact.names}
        for rows in places.values()
    ]


def undeclared(goal: Objective) -> str:
    """Why nothing can be proven of a quotient whose parts have no largest sum."""
    parts = ", ".join(dict.fromkeys([*(goal.numerator or {}), *(goal.denominator or {})]))
    return (
        f"how much {parts} of one row can add up to is not declared (most = …), and one row that the sample lacks"
        " could turn the result round"
    )


def too_few(goal: Objective, level: float, n: int) -> str:
    """Where no outcome at all could be shown on so many units; else ""."""
    exact = Quotient.of(goal)
    fewest = exact.fewest(level) if exact is not None else None
    if exact is None or (fewest is not None and n >= fewest):
        return ""
    return f"too few rows for a test at level {level:.2g}" + (f": at least {fewest} are needed" if fewest else "")
