"""Bayesian optimisation with a Gaussian process, over the whole space or in a trust region around the best point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.lhs import latin
from agent.proposers.options import check_whole, number, read, wrong
from agent.space import Candidate
from agent.surrogates.acquisition import Grid, maximise
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate

NEAR = 0.01
"""On a noisy problem, points nearer to an evaluated one than this are not proposed."""
FINE = 1e-6
"""The same where measuring is exact."""
CHECKED = 64
"""Of the places that are tried together, those whose nearness is looked at."""
TRIES = 200
"""Random draws in a row that are all known, after which a finite space counts as used up."""
CENTRES = 3

Chosen = tuple[Array, str]
"""A place in the unit cube, and why it was chosen."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        acquisition: "ei" (logarithm of the expected improvement) or "ucb" (the most optimistic cost).
        beta: For "ucb": standard deviations.
        start: Points before the first model of the data; 0 chooses by the dimension.
    """

    acquisition: str = "ei"
    beta: float = 2.0
    start: int = 0

    def __post_init__(self) -> None:
        if self.acquisition not in ("ei", "ucb"):
            raise wrong("acquisition", self.acquisition, "ei or ucb")
        if not number(self.beta) or self.beta < 0:
            raise wrong("beta", self.beta, "a number of at least 0")
        check_whole(self, {"start": 0})


class GP:
    """Expected improvement, or an upper confidence bound, over the whole space. Memory: the fitted lengths and noise.

    Source: Jones, Schonlau and Welch 1998, "Efficient Global Optimization of Expensive Black-Box Functions".
    """

    name = "gp"
    needs_model = False
    local: ClassVar[bool] = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """Up to `n` points; each counts with what is expected there when the next one is chosen.

        Raises:
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        size = len(numeric(context.problem, self.name))
        memory: dict[str, Any] = dict(context.memory or {})
        points = Points.of(context.problem, context.history)
        rng = np.random.default_rng(context.rng.getrandbits(64))
        picker = Picker(context, points)
        enough = options.start or max(4, min(size + 1, 8))
        if len(points) < 2 or len(points) + len(points.pending) < enough:
            for candidate in latin(max(n, enough - len(points)), context.problem.space, context.rng):
                if len(picker.out) < n:
                    picker.add(candidate, f"{self.name}:start", "")
            while len(picker.out) < n and picker.random(self.name):
                pass
        else:
            surrogate = Surrogate.fit(
                points,
                context.problem.space,
                seed=context.decision,
                hyper=memory.get("hyper"),
                noisy=not context.problem.exact,
            )
            memory["hyper"] = surrogate.hyper
            region = Region.of(memory.get("region"), context, points) if self.local else None
            surrogate = surrogate.fantasise(points.pending)
            while len(picker.out) < n:
                place, why = self._choose(surrogate, points, options, region, picker, rng)
                candidate = context.problem.space.decode(place.tolist(), context.champion)
                if not picker.add(candidate, self.name, why) and not picker.random(self.name):
                    break
                if len(picker.out) < n:
                    last = context.problem.space.encode(picker.out[-1].values)
                    surrogate = surrogate.fantasise(np.array([last]))
            if region is not None:
                memory["region"] = region.to_json(context.decision)
        context.memory = memory
        context.exhausted = not picker.out
        return picker.out

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        numeric(problem, self.name)
        read(Options, options)
        return 0, 0, 0

    def _choose(
        self,
        surrogate: Surrogate,
        points: Points,
        options: Options,
        region: Region | None,
        picker: Picker,
        rng: np.random.Generator,
    ) -> Chosen:
        ucb = options.acquisition == "ucb"

        def score(x: Array) -> Array:
            plain = -surrogate.optimistic(x, options.beta) if ucb else surrogate.log_ei(x)
            return picker.masked(x, plain)

        best = points.x[np.argsort(points.y, kind="stable")[:CENTRES]]
        size = points.x.shape[1]
        if region is None:
            place, _ = maximise(score, picker.grid, rng, centres=best, width=np.full(size, 0.1))
        else:
            low, high = region.box(best[0], surrogate.lengths)
            place, _ = maximise(score, picker.grid, rng, low=low, high=high, centres=best[:1], width=(high - low) / 8.0)
        mean, sd = surrogate.predict(place[None, :])
        sign = picker.context.problem.objective.sign
        return place, f"expected {-sign * mean[0]:.4g} ± {sd[0]:.2g}"


class TrustRegion(GP):
    """The same inside a box around the best point, which grows with success and shrinks without.

    Source: Eriksson et al. 2019, "Scalable Global Optimization via Local Bayesian Optimization" (TuRBO),
    section 2, with expected improvement in the place of Thompson sampling, which needs fewer draws.
    """

    name = "trust"
    local = True


@dataclass
class Region:
    """The box: its side in units of the cube, and how its last points fared."""

    side: float = 0.8
    wins: int = 0
    losses: int = 0

    @classmethod
    def of(cls, memory: Mapping[str, Any] | None, context: Context, points: Points) -> Region:
        """The box after the points of the last decision that used it."""
        if memory is None:
            return cls()
        region = cls(memory["side"], memory["wins"], memory["losses"])
        made = [t for t in context.history.trials if t.proposal == memory["decision"] and t.source.startswith("trust")]
        for trial in made:
            if trial.state == "queued":
                continue
            better = trial.state == "champion" or trial.reason.startswith(("better", "first"))
            region.tell(better, points.x.shape[1])
        return region

    def tell(self, better: bool, size: int) -> None:
        """One more point of the box was measured."""
        if better:
            self.wins, self.losses = self.wins + 1, 0
        else:
            self.wins, self.losses = 0, self.losses + 1
        if self.wins >= 2:
            self.side, self.wins = min(1.6, 2 * self.side), 0
        if self.losses >= max(3, size // 2):
            self.side, self.losses = self.side / 2, 0
        if self.side < 2**-7:  # nothing more to find here at this resolution; look wider again
            self.side = 0.8

    def box(self, centre: Array, lengths: Array) -> tuple[Array, Array]:
        """Its corners around a place: longer where the kernel is longer."""
        weights = np.clip(lengths / np.exp(np.mean(np.log(lengths))), 0.2, 5.0)
        half = weights * self.side / 2
        return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)

    def to_json(self, decision: int) -> dict[str, Any]:
        return {"side": self.side, "wins": self.wins, "losses": self.losses, "decision": decision}


class Picker:
    """Gathers new candidates.

    Args:
        context: Says which are known.
        points: Those that were evaluated.
    """

    def __init__(self, context: Context, points: Points) -> None:
        self.context = context
        self.grid = Grid(context.problem.space)
        self.out: list[Proposal] = []
        self._made: set[str] = set()
        known = [group for group in (points.x, points.failed, points.pending, points.stopped) if len(group)]
        self._known = np.vstack(known) if known else np.zeros((0, self.grid.size))
        self._discrete = bool((self.grid.levels > 0).all())
        self.near = 0.0 if self._discrete else FINE if context.problem.exact else NEAR

    def masked(self, x: Array, values: Array) -> Array:
        """Scores, with those of the highest places next to evaluated ones put far below all others."""
        if not len(self._known) or (self.near <= FINE and not self._discrete):
            return values  # the acquisition itself is lowest there
        high = np.argsort(-values, kind="stable")[:CHECKED]
        nearest = np.abs(x[high, None, :] - self._known[None, :, :]).max(axis=2).min(axis=1)
        out = values.copy()
        out[high[nearest <= self.near + 1e-9]] -= 1e6
        return out

    def add(self, candidate: Candidate, source: str, why: str) -> bool:
        """Take a candidate, unless it is known or next to one that is: it would be refused."""
        if candidate.id in self.context.history or candidate.id in self._made:
            return False
        place = np.array([self.context.problem.space.encode(candidate)])
        if self.near and len(self._known) and np.abs(self._known - place).max(axis=1).min() <= self.near:
            return False
        self._made.add(candidate.id)
        parents = () if source.endswith((":start", ":random")) else (self.context.history.champion,)
        self.out.append(Proposal(candidate, source, why, parents, radius=self.near))
        self._known = np.vstack([self._known, place])
        return True

    def random(self, source: str) -> bool:
        """Take a random candidate; False when the space seems used up."""
        space = self.context.problem.space
        for _ in range(TRIES):
            drawn = space.decode([self.context.rng.random() for _ in space.numeric], self.context.champion)
            if self.add(drawn, f"{source}:random", "what the model of the data chose is known"):
                return True
        return False
