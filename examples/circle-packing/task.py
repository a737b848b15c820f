"""The scorer's side: a layout is checked exactly, and worth the sum of its radii."""

import math

from exact import fault, total

COUNT = 26


class Task:
    """Circles in the unit square."""

    entry = "pack:pack"
    schema = {  # noqa: RUF012
        "type": "array",
        "minItems": COUNT,
        "maxItems": COUNT,
        "items": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}},
    }
    # By area: the squares of the radii sum to 1/pi at most, and equal radii have the largest sum.
    bounds = {"radii": (0.0, math.sqrt(COUNT / math.pi))}  # noqa: RUF012

    def inputs(self, seed, stage):
        """How many circles; there is only one question."""
        return [] if stage == "smoke" else [COUNT]

    def score(self, given, output):
        """The sum of the radii of a valid layout; any other one has no score."""
        if wrong := fault(output):
            raise ValueError(wrong)
        return {"radii": total(output)}
