"""A tool that asks the model of the data what is likely at given numbers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np

from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate
from agent.tools.base import Desk, ToolError
from agent.tools.shared import candidate, goal, number

POINTS = 20


async def surrogate(desk: Desk, points: list[dict[str, Any]]) -> str:
    """What a Gaussian process over all measured candidates expects at given numbers, before anything is paid for.

    Args:
        points: Up to 20 objects of parameter and value; what one leaves out is the champion's.
    """
    context = desk.context
    problem = context.problem
    names = problem.space.numeric
    if not names:
        raise ToolError("the space has no numbers and no choices", hint="ask evaluate or critic instead")
    if not 1 <= len(points) <= POINTS:
        raise ToolError(f"points: found {len(points)}, allowed is 1 to {POINTS}")
    places = [candidate(desk, values) for values in points]
    known = Points.of(problem, context.history)
    if len(known) < 2:
        raise ToolError(f"{len(known)} candidates have a result, and a model needs 2", hint="measure some first")
    x = np.array([problem.space.encode(item) for item in places])
    mean, sd, gain, success = await asyncio.to_thread(_asked, desk, known, x)
    sign = problem.objective.sign
    lines = [
        f"{' '.join(f'{name}={number(item[name])}' for name in names)}: {-sign * m + 0.0:.4g} ± {s:.2g};"
        f" expected improvement {g:.3g}" + (f"; it may fail (chance of a result {c:.2f})" if c < 0.95 else "")
        for item, m, s, g, c in zip(places, mean, sd, gain, success, strict=True)
    ]
    best = problem.compared(known.trials[known.best].values or {})
    other = len(problem.space) - len(names)
    note = f" It knows nothing of the {other} parameters that are no numbers or choices." if other else ""
    head = f"{goal(problem)}; the best so far is {best:.6g}, from {len(known)} measured candidates.{note}"
    return "\n".join([head, *lines])


def _asked(desk: Desk, known: Points, x: Array) -> tuple[Array, Array, Array, Array]:
    """Mean cost, its standard deviation, expected improvement and chance of a result at (m, d) places."""
    context = desk.context
    fitted = Surrogate.fit(
        known, context.problem.space, seed=context.decision, noisy=not context.problem.exact
    ).fantasise(known.pending)
    mean, sd = fitted.predict(x)
    # In the unit of the result, to first order: with the slope of the warp at the best point.
    slope = float(fitted.warp.slope(np.array([fitted.incumbent]))[0])
    gain: Array = np.exp(np.minimum(fitted.log_ei(x), math.log(1e300))) * slope
    return mean, sd, gain, fitted.success(x)
