"""ZO-RankSGD: descent along a gradient that only the order of a few candidates gives.

Tang, Rybin and Chang 2023, "Zeroth-Order Optimization Meets Human Feedback: Provable Learning via Ranking
Oracles" (arXiv 2303.03751), algorithms 1 and 2: Gaussian perturbations of the centre are put in order, each
ordered pair points from the worse one to the better one, and a line search along the mean of those
directions is decided by order too. Costs are compared and never added, so any increasing function of
them gives the same candidates; a person's order will do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import check_whole, number, read, wrong
from agent.space import Candidate
from agent.surrogates.points import Array, Points

SOURCE = "zo-ranksgd"
NEAR = 0.01
"""Candidates keep this distance from what was evaluated, or a tenth of the step where that is smaller."""
LONGEST = 3.0
"""Longest step of a line search, in units of the perturbations' length; each following one is half as long."""
GROW, SHRINK = 1.25, 0.75
"""Of the step, after a round that found something better and after one that did not."""
SMALLEST, LARGEST = 1e-4, 0.5
"""Of the step; below the smallest one it begins again with the first."""
TRIES = 60
"""Draws in a row that gave known candidates, after which a random one is proposed."""
RANDOM = 200
"""Random draws in a row that were all known, after which a finite space counts as used up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        probes: Perturbations that are put in order for one direction, at least 2; by default one more than there
            are numbers and choices, from 4 to 12.
        line: Steps along it that are put in order, at least 1.
        step: First length of a perturbation, as a share of the unit cube's side, above 0 and at most 0.5.
    """

    probes: int | None = None
    line: int = 3
    step: float = 0.25

    def __post_init__(self) -> None:
        if self.probes is not None and (type(self.probes) is not int or self.probes < 2):
            raise wrong("probes", self.probes, "a whole number of at least 2")
        check_whole(self, {"line": 1})
        if not number(self.step) or not 0 < self.step <= LARGEST:
            raise wrong("step", self.step, f"a number above 0 and at most {LARGEST}")


class ZORankSGD:
    """Perturb, order, step along the line, order. Memory: the centre, the step, and the members of the open group."""

    name = SOURCE
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The next `n` members of the open group.

        A member that comes next to a known candidate is that candidate, and costs nothing.

        Raises:
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        numeric(context.problem, SOURCE)
        space = context.problem.space
        walk = _Walk(context, options)
        out: list[Proposal] = []
        made: set[str] = set()
        tries = 0
        while len(out) < n and tries < TRIES:
            walk.advance()
            place, why = walk.next()
            draw = space.decode(place.tolist(), context.champion)
            tries += 1
            radius = min(NEAR, walk.step / 10)
            near = walk.near(draw, radius)
            if near is not None:
                if near not in made:
                    walk.members.append([near, walk.places[near]])
                continue
            made.add(draw.id)
            walk.places[draw.id] = space.encode(draw)
            walk.members.append([draw.id, walk.places[draw.id]])
            tries = 0
            out.append(Proposal(draw, SOURCE, why, walk.parents, radius=radius))
        while len(out) < n:
            new = self._random(context, made)
            if new is None:
                context.exhausted = not out
                break
            made.add(new.id)
            out.append(Proposal(new, f"{SOURCE}:random", "all that lies around the centre is known"))
        context.memory = walk.to_json()
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        numeric(problem, SOURCE)
        read(Options, options)
        return 0, 0, 0

    def _random(self, context: Context, made: set[str]) -> Candidate | None:
        space = context.problem.space
        for _ in range(RANDOM):
            drawn = space.decode([context.rng.random() for _ in space.numeric], context.champion)
            if drawn.id not in context.history and drawn.id not in made:
                return drawn
        return None


class _Walk:
    """The state of one call: read from memory, brought up to date, written back."""

    def __init__(self, context: Context, options: Options) -> None:
        self.points = Points.of(context.problem, context.history)
        self.history, self.options, self.champion = context.history, options, context.champion
        self.rng = np.random.default_rng(context.rng.getrandbits(64))
        size = len(context.problem.space.numeric)
        self.probes = options.probes or min(12, max(4, size + 1))
        self.cost = {trial.id: float(y) for trial, y in zip(self.points.trials, self.points.y, strict=True)}
        self.members: list[list[Any]] = []
        """Of the open group: candidate and its place."""
        self.along: list[float] = []
        """(d,) the direction of the line search; nothing while the centre is perturbed."""
        memory = context.memory
        if memory is None:
            self.step = options.step
            self.centre, self.place = self._best(context.problem)
        else:
            self.step, self.centre, self.place = memory["step"], memory["centre"], memory["place"]
            self.along = list(memory["along"])
            # A member that is not in the history was refused before it was measured.
            self.members = [member for member in memory["members"] if member[0] in self.history]
        self.problem = context.problem
        encode = context.problem.space.encode
        self.places = {trial.id: encode(trial.candidate) for trial in self.history.trials}
        """Of all known candidates."""

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "centre": self.centre,
            "place": self.place,
            "along": self.along,
            "members": self.members,
        }

    @property
    def parents(self) -> tuple[str, ...]:
        return (self.centre,) if self.centre in self.history else ()

    def _best(self, problem: Problem) -> tuple[str, list[float]]:
        """The first in the order of all, and its place."""
        best = self.points.trials[self.points.best].candidate if len(self.points) else self.champion
        return best.id, problem.space.encode(best)

    def key(self, name: str) -> float:
        """Where a candidate stands: only for comparing. What failed stands behind all others."""
        return self.cost.get(name, math.inf)

    def near(self, draw: Candidate, radius: float) -> str | None:
        """The known candidate that a draw is, or comes within a radius of."""
        if draw.id in self.places:
            return draw.id
        apart = np.abs(np.array(list(self.places.values())) - self.problem.space.encode(draw)).max(axis=1)
        nearest = int(apart.argmin())
        return list(self.places)[nearest] if apart[nearest] <= radius else None

    def next(self) -> tuple[Array, str]:
        """(d,) place of the next member, and what it is."""
        centre = np.array(self.place)
        if not self.along:
            draw = self.rng.standard_normal(len(centre)) / math.sqrt(len(centre))
            return np.clip(centre + self.step * draw, 0.0, 1.0), f"a perturbation of length {self.step:.2g}"
        number = len(self.members)
        length = LONGEST * 0.5**number if number < self.options.line else LONGEST * float(self.rng.random())
        told = f"{length * self.step:.2g} along the direction that the order gave"
        return np.clip(centre + length * self.step * np.array(self.along), 0.0, 1.0), told

    def advance(self) -> None:
        """End the open group when all of its members that are due have a place in the order."""
        while True:
            told = [member for member in self.members if self._known(member[0])]
            if len(told) < (self.options.line if self.along else self.probes):
                return
            if self.along:
                self._end()
            else:
                self._turn(told)

    def _known(self, name: str) -> bool:
        """Whether a candidate has a place in the order, the last one of those that failed included."""
        if name not in self.history:
            return False
        trial = self.history[name]
        return trial.values is not None or trial.state in ("dropped", "failed")

    def _turn(self, told: list[list[Any]]) -> None:
        """From the order of the perturbations, the centre among them, to a direction."""
        offsets = np.array([m[1] for m in told]) - np.array(self.place)
        keys = [self.key(m[0]) for m in told]
        if self.centre in self.cost:
            offsets = np.vstack([offsets, np.zeros(len(self.place))])
            keys.append(self.cost[self.centre])
        g = direction(offsets, np.array(keys))
        length = float(np.linalg.norm(g))
        if length > 0:
            self.along, self.members = (g / length).tolist(), []
        else:
            self._end()

    def _end(self) -> None:
        """Go on from the best of all; with longer steps when it is better than the centre was."""
        before = self.key(self.centre)
        self.centre, self.place = self._best(self.problem)
        found = self.key(self.centre) < before
        self.step = min(LARGEST, self.step * (GROW if found else SHRINK))
        if self.step < SMALLEST:
            self.step = self.options.step
        self.along, self.members = [], []


def direction(offsets: Array, keys: Array) -> Array:
    """The estimator of the descent direction from an order.

    Every pair whose order is known adds the offset of the better one less that of the worse one; the sum
    is divided by the number of such pairs. Ties say nothing.

    Source: Tang et al. 2023, equation 5 (with the opposite sign: this points to what is better).

    Args:
        offsets: (m, d) perturbations.
        keys: (m,) numbers of which only the order counts; smaller is better.

    Returns:
        (d,) the direction; zero when nothing is ordered.
    """
    won = (keys[:, None] < keys[None, :]).sum(axis=1)
    lost = (keys[:, None] > keys[None, :]).sum(axis=1)
    pairs = int(won.sum())
    out: Array = (won - lost) @ offsets / max(1, pairs)
    return out
