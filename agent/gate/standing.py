"""What a gate set can still show, in sentences for people."""

from __future__ import annotations

import math
from functools import lru_cache

from agent.gate.levels import power

PLAUSIBLE, DIFFERING = 0.2, 0.25
"""A large gain, and the share of rows on which two candidates then differ at least."""
MINIMUM = 80
"""Labelled examples below which none are held back; as in `agent.datasets.data`."""


@lru_cache(maxsize=256)
def exhausted(units: int, level: float) -> bool:
    """Whether even a large gain would be missed more often than shown."""
    return units > 0 and power(units, PLAUSIBLE, DIFFERING, level) < 0.5


def exhausted_sentence(units: int, level: float) -> str:
    """What to do about it. A new gate is made of rows that no run has seen, and of no fewer than `MINIMUM`."""
    return (
        f"the gate is exhausted: at the level that is left for these rows ({level:.1e}) {units} of them would miss"
        f" even a gain of {PLAUSIBLE:.0%} of the range; add {MINIMUM} examples to the data, or more, and open a new"
        " gate with truegain gate new"
    )


def wasteful_sentence(units: int, most: int, evaluations: int) -> str:
    """What to say before an exam of so few of a gate's `most` units that it would miss even a large gain.

    Args:
        units: That the budget pays for.
        most: That there are.
        evaluations: A budget that pays for all of them.
    """
    return (
        f"an exam of {units} would miss even a gain of {PLAUSIBLE:.0%} of the range, and uses up the level of all"
        f" {most}: {evaluations} evaluations would pay for all"
    )


def pooled(rows: int, units: int | None = None) -> str:
    """Why there is no gate.

    Args:
        rows: Labelled examples.
        units: Independent ones among them; all of them by default.
    """
    units = rows if units is None else units
    if units < MINIMUM:
        what = f"{rows} labelled examples" + (f" in {units} clusters" if units < rows else "")
        return (
            f"{what} are too few to hold any back, so all of them were searched; with"
            f" {MINIMUM - units} more, some are kept for an exam (or say target = suite, if these rows are the goal)"
        )
    return "no examples are held back for an exam"


def percent(share: float) -> str:
    """A share of a score's range in hundredths of it."""
    return f"{math.ceil(100 * share - 1e-9)} % of the score's range"
