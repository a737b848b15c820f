"""Which numbers tell candidates apart in an archive: features of the program, or what the evaluator measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agent.errors import ConfigError
from agent.evolution.features import NAMES
from agent.evolution.grid import Axis, Grid
from agent.problem import Problem

BINS = 8
MOST = 10_000
"""Cells of a grid at the most: an archive has one program in each."""
DEFAULT = ("length", "control")
EDGES = {
    "length": tuple(-2.0 + 0.5 * step for step in range(9)),
    "control": (1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 21.0),
}
"""Of the default axes: a quarter to four times the initial length, in steps of the square root of two; and how many
branches and loops there are."""


def grid(problem: Problem, given: Any = None) -> Grid:
    """The grid that the option `descriptors` asks for.

    Args:
        problem: Its objectives and constraints may be descriptors, by name.
        given: None for the default; a list of names; or a mapping of names to a number of bins, or to
            [low, high, bins]. Without low and high the edges are set once, at quantiles of the first values.

    Raises:
        ConfigError: A name is unknown, or the bins are no bins.
    """
    if given is None:
        given = DEFAULT
    if isinstance(given, str) or not isinstance(given, (Sequence, Mapping)) or not given:
        raise _wrong(given, "a list of names, or a table of names with [low, high, bins]")
    wanted = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    measured = [item.name for item in problem.objectives] + [item.name for item in problem.constraints]
    axes = []
    for name, bins in wanted.items():
        if name not in NAMES and name not in measured:
            raise _wrong(name, f"a feature ({', '.join(NAMES)}) or what is measured ({', '.join(measured)})")
        axes.append(_axis(name, bins))
    made = Grid(axes)
    if made.cells > MOST:
        raise _wrong(dict(wanted), f"at most {MOST} cells in all, here are {made.cells}")
    return made


def _axis(name: str, bins: Any) -> Axis:
    if bins is None and name in EDGES:
        return Axis(name, len(EDGES[name]) + 1, EDGES[name])
    if bins is None:
        return Axis(name, BINS)
    if _whole(bins):
        return Axis(name, bins)
    if isinstance(bins, Sequence) and not isinstance(bins, str) and len(bins) == 3:
        low, high, count = bins
        if _number(low) and _number(high) and low < high and _whole(count):
            return Axis.even(name, low, high, count)
    raise _wrong(bins, f"a number of bins for {name}, or [low, high, bins] with low < high")


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(found: Any, allowed: str) -> ConfigError:
    return ConfigError(f"proposer.options.descriptors: found {found!r}, allowed is {allowed}")
