"""The candidate's side: solves the linear program that the words were read as."""

import math

import numpy as np
from scipy.optimize import LinearConstraint, milp

SECONDS = 1.0


def optimum(made):
    """The optimum of a linear program over amounts of at least 0; None where there is none.

    Args:
        made: With `maximize`, `objective` (amount of each name), `limits` (triples of amounts of each name, "<=" or
            ">=", and a bound) and `whole`, whether only whole amounts count.
    """
    names = sorted({*made["objective"], *(name for limit in made["limits"] for name in limit[0])})
    if not names or not any(made["objective"].values()):
        return None
    sign = -1.0 if made["maximize"] else 1.0
    cost = np.array([sign * made["objective"].get(name, 0.0) for name in names])
    limits = []
    for amounts, way, bound in made["limits"]:
        row = np.array([[amounts.get(name, 0.0) for name in names]])
        limits.append(LinearConstraint(row, *((-np.inf, bound) if way == "<=" else (bound, np.inf))))
    whole = np.full(len(names), int(made["whole"]))
    found = milp(cost, constraints=limits, integrality=whole, options={"time_limit": SECONDS})
    return float(sign * found.fun) if found.fun is not None and math.isfinite(found.fun) else None


def solve(text):
    """Return the optimum of a word problem, or None."""
    from read import read  # here, since rows.py solves without it

    return optimum(read(text))
