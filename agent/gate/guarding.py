"""What an exam finds about the constraints: each by its kind, all at the exam's own level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agent.goals import Constraint, Judging

Values = Mapping[str, float]
ALARM = 0.2
"""An alarm stops an equal candidate in at most this share of cases."""


def findings(
    goals: Judging, level: float, new: Sequence[Values | None], old: Sequence[Values | None], clusters: Sequence[str]
) -> list[dict[str, Any]]:
    """One finding for each constraint: name, kind, passed, sentence.

    Args:
        goals: With the constraints.
        level: Of the exam; intersection–union needs no correction for their number.
        new: The champion's values by row; a row on which it failed counts as the worst value where there is a range.
        old: The released candidate's.
        clusters: By row; averaged first.
    """
    return [_finding(item, level, new, old, clusters) for item in goals.constraints]


def _finding(
    item: Constraint, level: float, new: Sequence[Values | None], old: Sequence[Values | None], clusters: Sequence[str]
) -> dict[str, Any]:
    after = _means(item, new, clusters)
    if not after:
        passed, text = False, f"{item.name} has no value"
    elif item.kind == "bound":
        mean = math.fsum(after.values()) / len(after)
        passed = item.holds(mean)
        text = f"{item.name} is {mean:.4g} ({item})"
    else:
        passed, text = _shown(item, level, after, _means(item, old, clusters))
    return {"name": item.name, "kind": item.kind, "passed": passed, "sentence": text}


def _shown(item: Constraint, level: float, after: Mapping[str, float], before: Mapping[str, float]) -> tuple[bool, str]:
    from agent.gate import guards

    low, high = item.low or 0.0, item.high or 0.0
    scale = high - low
    if item.kind == "limit":
        found = []
        if item.max is not None:
            found.append(guards.limit(list(after.values()), item.max, low, high, level))
        if item.min is not None:
            found.append(guards.limit(list(after.values()), item.min, low, high, level, at_most=False))
    else:
        sign = 1 if item.direction == "maximize" else -1
        d = [sign * (value - before[unit]) / scale for unit, value in after.items() if unit in before]
        if item.kind == "noninferior":
            found = [guards.noninferior(d, item.margin / scale, level)]
        else:
            found = [guards.alarm([x + item.margin / scale for x in d], ALARM)]
    return all(f.passed for f in found), "; ".join(f"{item.name}: {f.sentence}" for f in found)


def _means(item: Constraint, values: Sequence[Values | None], clusters: Sequence[str]) -> dict[str, float]:
    """By cluster; a failed row counts as the worst value of the range, and is left out where there is none."""
    worst = _worst(item)
    by_cluster: dict[str, list[float]] = {}
    for row, cluster in zip(values, clusters, strict=True):
        value = worst if row is None else row[item.name]
        if value is not None:
            if item.low is not None and item.high is not None:
                value = min(max(value, item.low), item.high)
            by_cluster.setdefault(cluster, []).append(value)
    return {cluster: math.fsum(all_) / len(all_) for cluster, all_ in by_cluster.items()}


def _worst(item: Constraint) -> float | None:
    if item.kind in ("noninferior", "alarm"):
        return item.low if item.direction == "maximize" else item.high
    return item.high if item.max is not None else item.low
