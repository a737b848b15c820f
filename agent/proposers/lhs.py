"""Latin hypercube designs: as random as random search, and even in every single parameter."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import read, wrong
from agent.space import Candidate, Space

SOURCE = "lhs"
LARGEST = 10
"""Points of a design for each parameter, at most, when the user says nothing."""
KNOWN = 200
"""Points in a row that were all known, after which a finite space counts as used up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        points: Points of a design, at least 2; by default the evaluations that are left, at most ten for each
            parameter.
    """

    points: int | None = None

    def __post_init__(self) -> None:
        if self.points is not None and (type(self.points) is not int or self.points < 2):
            raise wrong("points", self.points, "a whole number of at least 2")


class LatinHypercube:
    """One design after another. Memory: the places of the open design that were not proposed yet."""

    name = SOURCE
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The next `n` points of the design that were not seen before; a new design begins where one ends.

        Raises:
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        size = len(numeric(context.problem, SOURCE))
        memory = context.memory or {"design": 0, "rest": []}
        number, rest = int(memory["design"]), list(memory["rest"])
        out: list[Proposal] = []
        made: set[str] = set()
        known = 0
        while len(out) < n:
            if not rest:
                left = context.left.get("evaluations", float("inf"))
                points = options.points or int(max(2, n, min(LARGEST * size, left)))
                number, rest = number + 1, places(points, size, context.rng)
            candidate = context.problem.space.decode(rest.pop(0), context.champion)
            if candidate.id not in context.history and candidate.id not in made:
                known = 0
                made.add(candidate.id)
                out.append(Proposal(candidate, SOURCE, f"design {number}"))
                continue
            known += 1
            if known == KNOWN:
                context.exhausted = True
                break
        context.memory = {"design": number, "rest": rest}
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        read(Options, options)
        numeric(problem, SOURCE)
        return 0, 0, 0


def places(count: int, size: int, rng: random.Random) -> list[list[float]]:
    """A Latin hypercube in the unit cube (McKay, Beckman and Conover 1979, Technometrics 21, section 2).

    Args:
        count: Points.
        size: Coordinates. The points' values in each lie in `count` equal cells, one in each cell.
        rng: Chooses the cells, and the place in each.
    """
    columns = []
    for _ in range(size):
        cells = list(range(count))
        rng.shuffle(cells)
        columns.append([(cell + rng.random()) / count for cell in cells])
    return [list(row) for row in zip(*columns, strict=True)]


def latin(count: int, space: Space, rng: random.Random) -> list[Candidate]:
    """A Latin hypercube of candidates; what is no number and no choice stays at its default.

    In a small space two of them may be equal.

    Args:
        count: Candidates.
        space: With at least one number or choice.
        rng: The randomness.
    """
    base = space.initial()
    return [space.decode(place, base) for place in places(count, len(space.numeric), rng)]
