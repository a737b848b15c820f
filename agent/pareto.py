"""The Pareto front of a search, and how much of the objectives' space it covers.

Everything here is a pure function of costs: points in which each coordinate is better when it is
smaller. It needs no numpy, so that reading a run stays light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import le
from typing import Any, TypeAlias

from agent.errors import ConfigError
from agent.evaluation import LARGEST
from agent.goals import Judging
from agent.history import Trial

Point: TypeAlias = tuple[float, ...]
"""Costs of one candidate, one for each objective; smaller is better."""

MARGIN = 0.01
"""How far beyond the worst value the default reference lies, as a share of the measured range."""
LIMIT = 5
"""Objectives at most: the exact hypervolume takes time that grows fast with their number."""


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def nondominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Places of the points that no other one dominates, in their order; equal points stay together."""
    # In lexicographic order a point can only be dominated by an earlier one, and then by one that is kept.
    kept: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: tuple(points[i])):
        if not any(dominates(points[other], points[place]) for other in kept):
            kept.append(place)
    return sorted(kept)


def hypervolume(points: Iterable[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume of what the points dominate and the reference bounds; points beyond the reference add nothing.

    Two objectives are swept; with more, the objective that comes last is sliced off point by point and
    what earlier points cover of each slice is taken away.

    Source: While, Bradstreet and Barone, A fast way of calculating exact hypervolumes (2012), sections
    III and IV (exclusive volumes over limit sets, with slicing of the last objective).

    Args:
        points: Costs, each of shape (k,) with k from 1 to 5.
        reference: Shape (k,): a point that is worse than what should count.

    Raises:
        ValueError: The shapes differ, or there are more than 5 objectives.
    """
    size = len(reference)
    if not 1 <= size <= LIMIT:
        raise ValueError(f"the hypervolume needs 1 to {LIMIT} objectives, not {size}")
    inside: list[Point] = []
    for point in points:
        if len(point) != size:
            raise ValueError(f"a point has {len(point)} coordinates and the reference {size}")
        if all(x < bound for x, bound in zip(point, reference, strict=True)):
            inside.append(tuple(point))
    return _volume(inside, tuple(reference))


def _front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one dominates, each once."""
    kept: list[Point] = []
    for point in sorted(set(points)):  # who dominates comes first
        if not any(all(map(le, other, point)) for other in kept):
            kept.append(point)
    return kept


def _volume(points: Sequence[Point], reference: Point) -> float:
    """The hypervolume of points that all dominate the reference."""
    if len(reference) == 1:
        return reference[0] - min(points)[0] if points else 0.0
    if len(reference) == 2:
        # From left to right, each point that is lower than all before adds a strip.
        ceiling, total = reference[1], 0.0
        for x, y in sorted(points):
            if y < ceiling:
                total += (reference[0] - x) * (ceiling - y)
                ceiling = y
        return total
    below, total = reference[:-1], 0.0
    # From the worst slice to the best: what later points share with a point's box begins where that box does.
    ordered = sorted(_front(points), key=lambda point: point[-1], reverse=True)
    for place, point in enumerate(ordered):
        head = point[:-1]
        box = math.prod(bound - x for bound, x in zip(below, head, strict=True))
        shared = [tuple(map(max, head, other)) for other in ordered[place + 1 :]]
        total += (reference[-1] - point[-1]) * (box - _volume(shared, below))
    return total


def crowding(points: Sequence[Sequence[float]]) -> list[float]:
    """How far apart a point's neighbours on the front are: the sum over objectives, each as a share of its range.

    The ends of an objective are infinitely far.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II (2002), section III-B.
    """
    out = [0.0] * len(points)
    for k in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: (points[i][k], i))
        span = points[order[-1]][k] - points[order[0]][k]
        out[order[0]] = out[order[-1]] = math.inf
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            out[place] += (points[after][k] - points[before][k]) / span if span else 0.0
    return out


def costs(goals: Judging, values: Mapping[str, float]) -> Point:
    """The objectives of a candidate, turned so that smaller is better."""
    return tuple(-goal.sign * values[goal.name] for goal in goals.objectives)


@dataclass(frozen=True)
class Front:
    """The non-dominated feasible trials of a search.

    It is what the search measured; a place on it is no claim.

    Args:
        trials: By their first objective, best first.
        crowding: Of each of them; see `crowding`.
        reference: By objective, in its own unit: what is worse does not count.
        hypervolume: In the product of the objectives' units; None where no float holds it.
        share: The same as a share of the box between the reference and the best value of each objective on the
            front, from 0 to 1; 1 when one trial is best in all of them.
    """

    trials: tuple[Trial, ...]
    crowding: tuple[float, ...]
    reference: dict[str, float]
    hypervolume: float | None
    share: float

    def __contains__(self, trial: object) -> bool:
        return isinstance(trial, Trial) and any(trial.number == item.number for item in self.trials)

    def to_json(self) -> dict[str, Any]:
        """The front as plain JSON; a crowding distance without end is None."""
        return {
            "reference": self.reference,
            "hypervolume": self.hypervolume,
            "share": self.share,
            "trials": [
                {
                    "number": trial.number,
                    "candidate": trial.id,
                    "values": trial.values,
                    "crowding": gap if math.isfinite(gap) else None,
                    "parameters": trial.candidate.values_json,
                }
                for trial, gap in zip(self.trials, self.crowding, strict=True)
            ],
        }


def front(goals: Judging, trials: Iterable[Trial], reference: Mapping[str, float] | None = None) -> Front:
    """The Pareto front of trials.

    Args:
        goals: Two to five objectives.
        trials: Of a history; those without a value and those that break a constraint do not count.
        reference: By objective, in its own unit. By default the worst value among the feasible trials and 1 % of
            their range beyond it.

    Raises:
        ConfigError: There is one objective or more than five, or the reference does not give each a finite number.
    """
    size = len(goals.objectives)
    if not 2 <= size <= LIMIT:
        raise ConfigError(
            f"a Pareto front needs 2 to {LIMIT} objectives, and there {'is' if size == 1 else 'are'} {size}",
            hint="declare another objective" if size < 2 else "turn some of them into constraints",
        )
    good = [(costs(goals, t.values), t) for t in trials if t.values is not None and t.feasible]
    points = [point for point, _ in good]
    kept = sorted(nondominated(points), key=lambda i: (points[i], good[i][1].number))
    best = [points[i] for i in kept]
    bound = _given(goals, reference) if reference is not None else _worst(points, size)
    ideal = tuple(min(column) for column in zip(*best, strict=True)) if best else bound
    span = [high - low for high, low in zip(bound, ideal, strict=True)]
    share, volume = 0.0, math.prod(span)
    if all(width > 0 for width in span):
        # In units of the box, so that objectives of any size can be multiplied.
        scaled = [tuple((x - low) / w for x, low, w in zip(p, ideal, span, strict=True)) for p in best]
        share = min(1.0, hypervolume(scaled, (1.0,) * size))
    return Front(
        trials=tuple(good[i][1] for i in kept),
        crowding=tuple(crowding(best)),
        reference={g.name: -g.sign * b + 0.0 for g, b in zip(goals.objectives, bound, strict=True)},
        hypervolume=(share * volume if math.isfinite(volume) else None) if share else 0.0,
        share=share,
    )


def _worst(points: Sequence[Point], size: int) -> Point:
    out = []
    for column in zip(*points, strict=True):
        low, high = min(column), max(column)
        out.append(high + MARGIN * ((high - low) or abs(high) or 1.0))
    return tuple(out) if out else (0.0,) * size


def _given(goals: Judging, reference: Mapping[str, float]) -> Point:
    names = [goal.name for goal in goals.objectives]
    for name in reference:
        if name not in names:
            raise ConfigError(f"reference: there is no objective {name!r}", hint=f"there are {', '.join(names)}")
    for name in names:
        value = reference.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
            raise ConfigError(
                f"reference: {name}: found {value!r}, allowed is a finite number",
                hint="give each objective a value that is worse than what should count",
            )
    return costs(goals, reference)


def several(goals: Judging, proposer: str) -> int:
    """How many objectives there are, for a proposer that needs more than one.

    Raises:
        ConfigError: There is one; names proposers for it.
    """
    if len(goals.objectives) < 2:
        raise ConfigError(
            f"the proposer {proposer} weighs several objectives, and there is one",
            hint="declare another objective, or use proposer = 'gp' or 'tpe', which search one",
        )
    return len(goals.objectives)
