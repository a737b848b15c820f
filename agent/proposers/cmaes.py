"""CMA-ES: an evolution strategy that learns the shape of the landscape, for spaces of numbers.

Hansen 2016, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772), with draws outside the unit
cube made again; `agent.proposers.gaussian` holds the mathematics. A fold that has converged, or found
nothing but equal costs, begins anew at a random place with twice the population (Auger and Hansen 2005,
"A Restart CMA Evolution Strategy With Increasing Population Size", CEC).

Failed and infeasible candidates are never told: a draw takes their place. Points that others made enter
by injection (Hansen 2011, "Injecting External Solutions Into CMA-ES", arXiv 1110.4181): only good ones,
with their steps shortened to what the distribution could have drawn, and never as a warning example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.errors import ConfigError
from agent.parameters import Categorical
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.mixed import Mixed
from agent.proposers.options import number, read, wrong
from agent.space import Space
from agent.surrogates.points import Array, Points

TRIES = 30
"""Draws in one call, per member of a population, that may give candidates which are known."""
RANDOM = 200
"""Random draws in a row that were all known, after which a finite space counts as used up."""
NEAR = 0.01
"""Draws keep this distance from what was evaluated, or a hundredth of the spread where that is smaller: in few
dimensions good draws lie close together."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        sigma: First standard deviation, as a share of each scale, from 0.001 to 1.
        population: Members of a generation of the first fold, at least 4; by default 4 + 3 ln d.
    """

    sigma: float = 0.2
    population: int | None = None

    def __post_init__(self) -> None:
        check_spread(self.sigma, self.population)


def check_spread(sigma: Any, population: Any) -> None:
    """Refuse a first spread or a population that no evolution strategy can begin with.

    Raises:
        ConfigError: Names the option.
    """
    if not number(sigma) or not 0.001 <= sigma <= 1:
        raise wrong("sigma", sigma, "a number from 0.001 to 1")
    if population is not None and (type(population) is not int or population < 4):
        raise wrong("population", population, "a whole number of at least 4")


class CMAES:
    """CMA-ES over the unit cube, from the champion on.

    Memory: the distribution; the members of the generation that is open, with the places they were drawn
    at; what of other points was looked at; the best cost of the last generations.
    """

    name = "cmaes"
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """`n` draws. A generation ends when as many of its members as its size have a value.

        A draw that rounds to a candidate with a known value is a member as it is, and costs nothing.

        Raises:
            ConfigError: The space has choices, or no numbers, or an option is wrong.
        """
        options = read(Options, context.options)
        self._space(context.problem)
        fold = _Fold(context, options)
        out: list[Proposal] = []
        made: set[str] = set()
        champion, history = context.champion, context.history
        for _ in range(TRIES * fold.size + n):
            if len(out) == n:
                break
            while fold.step():
                pass
            place = fold.distribution.draw(fold.rng)
            draw = context.problem.space.decode(place.tolist(), champion)
            known = draw.id in history
            fold.members.append([draw.id, place.tolist(), fold.distribution.generation, known])
            if known or draw.id in made:
                continue
            made.add(draw.id)
            spread = fold.distribution.spread
            told = f"generation {fold.distribution.generation} of fold {fold.folds}, spread {spread:.2g}"
            out.append(Proposal(draw, self.name, told, (champion.id,), radius=min(NEAR, spread / 100)))
        context.memory = fold.to_json()
        while len(out) < n:
            # All that lies near is known. What is found elsewhere comes back by injection.
            drawn = (context.problem.space.sample(context.rng) for _ in range(RANDOM))
            new = next((draw for draw in drawn if draw.id not in history and draw.id not in made), None)
            if new is None:
                context.exhausted = True
                break
            made.add(new.id)
            out.append(Proposal(new, f"{self.name}:random", "all draws were known"))
        return out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        read(Options, options)
        self._space(problem)
        return 0, 0, 0

    def _space(self, problem: Problem) -> None:
        """Refuse a space that has more to vary than numbers.

        Raises:
            ConfigError: It has choices, or no numbers.
        """
        for name in numeric(problem, self.name):
            if isinstance(problem.space[name], Categorical):
                raise ConfigError(
                    f"the proposer {self.name} changes numbers only, and {name} is a choice",
                    hint="use proposer = 'catcma', which is made for mixed spaces",
                )


class _Fold:
    """The state of one call: read from memory, brought up to date, written back."""

    def __init__(self, context: Context, options: Options) -> None:
        self.points = Points.of(context.problem, context.history)
        self.space: Space = context.problem.space
        self.history = context.history
        self.options = options
        self.rng = np.random.default_rng(context.rng.getrandbits(64))
        self.place = {trial.id: index for index, trial in enumerate(self.points.trials)}
        self.distribution: Mixed
        self.members: list[list[Any]] = []
        """Of the open generation: candidate, place it was drawn at, generation, whether it was known by then."""
        self.bests: list[float] = []
        self.seen, self.late = 0, list[int]()
        memory = context.memory
        if memory is None:
            size = len(self.space.numeric)
            self.folds, self.size = 0, options.population or 4 + int(3 * math.log(size))
            self._begin(self._start(context))
            return
        self.folds, self.size = memory["folds"], memory["size"]
        self.seen, self.late, self.bests = memory["seen"], memory["late"], list(memory["bests"])
        self.distribution = Mixed.from_json(self.space, memory["distribution"])
        # A member that is not in the history was refused before it was measured.
        self.members = [m for m in memory["members"] if m[0] in self.history and not self.hopeless(m[0])]

    def to_json(self) -> dict[str, Any]:
        return {
            "folds": self.folds,
            "size": self.size,
            "seen": self.seen,
            "late": self.late,
            "bests": self.bests,
            "members": self.members,
            "distribution": self.distribution.to_json(),
        }

    def hopeless(self, candidate: str) -> bool:
        """Whether a known candidate has no value that may be told, now or later."""
        trial = self.history[candidate]
        return candidate not in self.place and (trial.values is not None or trial.state in ("failed", "dropped"))

    def step(self) -> bool:
        """End the generation if its members are all there; says whether it did."""
        own = [member for member in self.members if member[0] in self.place]
        if len(own) < self.size - self.size // 3:
            return False
        injected = self._injected(own)
        if len(own) + len(injected) < self.size:
            return False
        now = self.distribution.generation
        told: list[tuple[float, Array, bool]] = []
        for name, place, generation, _ in own:
            point, stale = np.array(place, dtype=float), generation != now
            told.append((self._cost(name), self.distribution.shortened(point) if stale else point, stale))
        for name in injected:
            point = self.points.x[self.place[name]]
            told.append((self._cost(name), self.distribution.shortened(point), True))
        told.sort(key=lambda item: item[0])
        self.distribution.tell(np.array([point for _, point, _ in told]), np.array([item[2] for item in told]))
        flat = told[0][0] == told[-1][0]
        fresh = bool(injected) or not all(known for *_, known in own)
        self.bests.append(told[0][0])
        del self.bests[: -10 - math.ceil(30 * len(self.space.numeric) / self.size)]
        self.members = [member for member in self.members if member[0] not in self.place]
        self._look()
        if not fresh or self.distribution.over or (flat and self._stagnant()):
            self.folds += 1
            self.size *= 2 if fresh else 1
            self._begin(self.rng.random(len(self.space.numeric)))
        return True

    def _stagnant(self) -> bool:
        full = 10 + math.ceil(30 * len(self.space.numeric) / self.size)
        return len(self.bests) >= full and max(self.bests) == min(self.bests)

    def _start(self, context: Context) -> Array:
        """The champion's place; where it has no value yet, that of the best point."""
        if context.champion.id not in self.place and len(self.points):
            best: Array = self.points.x[self.points.best]
            return best
        return np.array(self.space.encode(context.champion), dtype=float)

    def _begin(self, mean: Array) -> None:
        """A new fold. What was evaluated before is not injected: the start says it already."""
        self.distribution = Mixed.around(self.space, mean, self.options.sigma)
        self.members = []
        self.bests = []
        self._look()

    def _look(self) -> None:
        """From now on, only newer points of others are new; and those that have no value yet."""
        own = {member[0] for member in self.members}
        trials = self.history.trials
        self.late = [t.number for t in trials if t.id not in own and t.id not in self.place and not self.hopeless(t.id)]
        self.seen = len(trials)

    def _injected(self, own: list[list[Any]]) -> list[str]:
        """The best of the others' new points, as far as they are better than the middle of our own members."""
        middle = float(np.median([self._cost(member[0]) for member in own]))
        drawn = {member[0] for member in self.members}
        late = set(self.late)
        new = [
            (self._cost(trial.id), trial.id)
            for trial in self.points.trials
            if (trial.number >= self.seen or trial.number in late) and trial.id not in drawn
        ]
        return [name for cost, name in sorted(new) if cost < middle][: self.size // 3]

    def _cost(self, name: str) -> float:
        return float(self.points.y[self.place[name]])
