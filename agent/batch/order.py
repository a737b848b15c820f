"""In which order a night takes its problems: unfinished runs, then priority, then expected gain per cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.batch.place import Limits

HALF_LIFE = 7.0
"""Nights after which a night counts half."""
PRIOR_GAIN = 0.05
"""What is expected of a problem that nothing is known of, for an equal share of the caps."""


@dataclass(frozen=True, slots=True)
class Past:
    """One night's search of a problem.

    Args:
        age: Nights since then, from 1.
        gain: Relative gain that was proven or exact, from 0 to 1.
        cost: Share of the cap that it used most of.
    """

    age: float
    gain: float
    cost: float


@dataclass(frozen=True, slots=True)
class Place:
    """A problem's place in the order, and why."""

    problem: str
    priority: int
    unfinished: bool
    rate: float
    why: str

    def to_json(self) -> dict[str, Any]:
        rate = round(self.rate, 6)
        return {
            "problem": self.problem,
            "priority": self.priority,
            "unfinished": self.unfinished,
            "gain_per_cost": rate,
            "why": self.why,
        }


def rate(past: Iterable[Past], share: float) -> float:
    """Expected relative gain for each whole cap spent.

    With weights w = 2^(-age / HALF_LIFE), gains g and costs c of past nights, and an equal share s of the caps:

        (PRIOR_GAIN + sum of w g) / (s + sum of w c)

    This is the posterior mean of a rate whose prior is one night that took s and gained PRIOR_GAIN (the conjugate
    form of a gamma prior, with gains as counts and costs as exposures), so a problem that was never tried goes
    before those that have gained less than that, and one that gains nothing falls behind as it costs.

    Args:
        past: Nights on which it was searched.
        share: An equal share of the caps: one over the number of problems.
    """
    gained, paid = PRIOR_GAIN, share
    for night in past:
        weight = 0.5 ** (night.age / HALF_LIFE)
        gained += weight * night.gain
        paid += weight * night.cost
    return gained / paid


def cost(spent: Limits, caps: Limits, share: float) -> float:
    """The share of the cap that a night's search used most of; without caps, an equal share."""
    shares = [spent.get(kind, 0) / cap for kind, cap in caps.items() if cap > 0]
    return max(shares) if shares else share


def relative_gain(before: float | None, after: float | None, effect: float | None) -> float:
    """A gain as a share of the larger of the values before and after, from 0 to 1.

    Args:
        effect: The gain itself, positive when it is one.
    """
    if effect is None or effect <= 0:
        return 0.0
    size = max(abs(before or 0.0), abs(after or 0.0))
    return min(1.0, effect / size) if size > 0 else 1.0


def order(
    problems: Sequence[tuple[str, int]], past: Mapping[str, Sequence[Past]], unfinished: Iterable[str] = ()
) -> list[Place]:
    """The order of a night.

    Args:
        problems: Names with their priorities, in the file's order.
        past: Earlier nights by problem.
        unfinished: Problems whose last run is to be resumed.
    """
    share, open_runs = 1 / max(1, len(problems)), set(unfinished)
    places = []
    for name, priority in problems:
        nights = past.get(name, ())
        value = rate(nights, share)
        why = "its last run is unfinished; " if name in open_runs else ""
        why += f"priority {priority}; expected gain per cost {value:.3g} from "
        why += f"{len(nights)} earlier night{'s' * (len(nights) != 1)}" if nights else "no earlier night"
        places.append(Place(name, priority, name in open_runs, value, why))
    return sorted(places, key=lambda item: (not item.unfinished, -item.priority, -item.rate))
