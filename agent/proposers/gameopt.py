"""GameOpt: Bayesian optimisation of many choices as a game between them.

After Bal, Sessa, Mutný and Krause 2025 ("Optimistic Games for Combinatorial Bayesian Optimization with Application
to Protein Design", ICLR, arXiv 2409.18582, section 4): a space of 20^d candidates is too large to maximise an
acquisition function over. So each coordinate is a player that chooses its own value, and all are paid the same: the
upper confidence bound of the surrogate (here the lower one of a cost). From many starts, the players answer each
other in turn until none gains by a change alone, a Nash equilibrium; the best new equilibria are proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from agent.history import History
from agent.parameters import Categorical, Numeric
from agent.problem import Problem
from agent.proposers.base import Context, Proposal, numeric
from agent.proposers.options import check_whole, number, read, wrong
from agent.space import Candidate, Space
from agent.surrogates.blas import one_thread
from agent.surrogates.points import Array, Points
from agent.surrogates.surrogate import Surrogate

SOURCE = "gameopt"
NEAR = 0.01
"""On a noisy problem, points nearer to a known one than this are not proposed."""
DRAWS = 200
"""Draws in a row that were all seen before, after which a finite space counts as used up."""
ROUNDS = 20
"""Rounds of answers from a start; in a round every player answers once. Nearly all starts end in three or four."""


class Payoff(Protocol):
    """What the game needs of a surrogate."""

    def optimistic(self, x: Array, beta: float) -> Array:
        """(m,) optimistic costs at (m, d) places."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set under [proposer.options].

    Args:
        beta: Standard deviations by which the players are optimistic.
        initial: Measured candidates before the first game; until then candidates are random.
        starts: Places that the players start from: the best candidates so far (a third) and random ones.
        resolution: Values that a continuous parameter, or a whole number with more values, is held to.
    """

    beta: float = 1.0
    initial: int = 8
    starts: int = 4
    resolution: int = 20

    def __post_init__(self) -> None:
        check_whole(self, {"initial": 2, "starts": 1, "resolution": 2})
        if not number(self.beta) or self.beta < 0:
            raise wrong("beta", self.beta, "a number of at least 0")


# The game.


def moves(space: Space, resolution: int) -> list[Array]:
    """For each of the d coordinates, the places in [0, 1] that its player may choose: all values, or some bins."""
    out = []
    for name in space.numeric:
        parameter = space[name]
        assert isinstance(parameter, Numeric)
        # Categories have no order, so that none can stand for its neighbours.
        count = parameter.levels if isinstance(parameter, Categorical) else parameter.bins(resolution)
        out.append(np.unique([parameter.encode(parameter.from_bin(i, count)) for i in range(count)]))
    return out


def equilibria(
    cost: Callable[[Array], Array], choices: Sequence[Array], starts: Array, order: Sequence[int], rounds: int = ROUNDS
) -> tuple[Array, Array]:
    """Where best responses from each start come to rest.

    Args:
        cost: From (m, d) places to (m,) costs that all players want to be small.
        choices: For each of the d players, the places it may choose.
        starts: (k, d) places; a player may also stay where its start has it.
        order: The players, in the order in which they answer.
        rounds: At most; a start whose players still move then is left where it is.

    Returns:
        The (k, d) places and their (k,) costs, none above its start's.
    """
    x, values = starts.copy(), cost(starts)
    since = np.zeros(len(x), dtype=int)  # answers in a row that changed nothing
    for _ in range(rounds):
        for player in order:
            playing = np.flatnonzero(since < len(choices))
            if not len(playing):
                return x, values
            options = choices[player]
            tried = np.repeat(x[playing], len(options), axis=0)
            tried[:, player] = np.tile(options, len(playing))
            costs = cost(tried).reshape(len(playing), len(options))
            best = np.argmin(costs, axis=1)
            least = costs[np.arange(len(playing)), best]
            better = least < values[playing]
            moved = playing[better]
            x[moved, player], values[moved] = options[best[better]], least[better]
            since[playing] += 1
            since[moved] = 1
    return x, values


def improved(
    surrogate: Payoff,
    space: Space,
    candidate: Candidate,
    known: Container[str] | History,
    beta: float = 1.0,
    resolution: int = 20,
) -> Candidate:
    """The candidate after single changes that the surrogate says are improvements; itself where there are none.

    In each of at most d rounds the one change that gains most is made. So a candidate that one changed
    coordinate would improve is improved before it is paid for.

    Args:
        surrogate: Gives optimistic costs.
        space: Its d numbers and choices may change; the rest is the candidate's.
        candidate: The one to be improved.
        known: Ids of candidates that are not worth a measurement; the last candidate on the way that is not among
            them is returned, or the given one.
        beta: Standard deviations of optimism.
        resolution: As for `moves`.
    """
    choices = moves(space, resolution)
    if not choices:
        return candidate
    place = np.array(space.encode(candidate))
    player = np.repeat(np.arange(len(choices)), [len(options) for options in choices])
    chosen = np.concatenate(choices)
    out = candidate
    with one_thread():
        value = float(surrogate.optimistic(place[None, :], beta)[0])
        for _ in choices:
            tried = np.repeat(place[None, :], len(player), axis=0)
            tried[np.arange(len(player)), player] = chosen
            costs = surrogate.optimistic(tried, beta)
            best = int(np.argmin(costs))
            if not costs[best] < value:
                break
            place, value = tried[best], float(costs[best])
            step = space.decode(place.tolist(), candidate)
            if step.id not in known:
                out = step
    return out


class GameOpt:
    """One game per call. Memory: what the surrogate fitted, to go on from."""

    name = SOURCE
    needs_model = False

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        """The best new equilibria; their best new neighbours where too few are new; random ones at the beginning.

        Raises:
            ConfigError: The space has no numbers and no choices, or an option is wrong.
        """
        options = read(Options, context.options)
        numeric(context.problem, SOURCE)
        points = Points.of(context.problem, context.history)
        out = _Proposals(context, points)
        if len(points) >= options.initial:
            with one_thread():
                self._play(context, options, points, out, n)
        for _ in range(DRAWS):
            if len(out.made) >= n:
                break
            out.add([context.rng.random() for _ in context.problem.space.numeric], f"{SOURCE}:random", "")
        context.exhausted = not out.made
        return list(out.made.values())

    def forecast(self, problem: Problem, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        """No model is called."""
        read(Options, options)
        numeric(problem, SOURCE)
        return 0, 0, 0

    def _play(self, context: Context, options: Options, points: Points, out: _Proposals, n: int) -> None:
        space = context.problem.space
        rng = np.random.default_rng(context.rng.getrandbits(64))
        surrogate = Surrogate.fit(
            points,
            space,
            seed=int(rng.integers(2**31)),
            hyper=(context.memory or {}).get("hyper"),
            noisy=not context.problem.exact,
        )
        context.memory = {"hyper": surrogate.hyper}
        cost = careful(surrogate.fantasise(points.pending), points, options.beta)
        choices = moves(space, options.resolution)
        good = points.x[np.argsort(points.y, kind="stable")[: max(1, options.starts // 3)]]
        count = max(options.starts, n) - len(good)
        fresh = np.column_stack([rng.choice(places, max(count, 0)) for places in choices])
        rest, values = equilibria(cost, choices, np.vstack([good, fresh]), rng.permutation(len(choices)).tolist())
        for place in rest[np.argsort(values, kind="stable")]:
            if len(out.made) < n:
                out.add(place.tolist(), SOURCE, "an equilibrium of best responses")
        if len(out.made) < n:
            best = rest[int(np.argmin(values))]
            around = np.vstack([_changed(best, player, places) for player, places in enumerate(choices)])
            for place in around[np.argsort(cost(around), kind="stable")]:
                if len(out.made) < n:
                    out.add(place.tolist(), f"{SOURCE}:neighbour", "one change of an equilibrium that is known")


class _Proposals:
    """New candidates, each once and none next to a known one."""

    def __init__(self, context: Context, points: Points) -> None:
        space = context.problem.space
        continuous = any(space[name].levels is None for name in space.numeric)  # type: ignore[attr-defined]
        self._near = (1e-6 if context.problem.exact else NEAR) if continuous else 0.0
        self._known = np.vstack([points.x, points.failed, points.pending])
        self._context = context
        self.made: dict[str, Proposal] = {}

    def add(self, place: list[float], source: str, why: str) -> None:
        candidate = self._context.problem.space.decode(place, self._context.champion)
        if candidate.id in self._context.history or candidate.id in self.made:
            return
        at = np.array(self._context.problem.space.encode(candidate))
        if self._near and len(self._known) and np.abs(self._known - at).max(axis=1).min() <= self._near:
            return
        self._known = np.vstack([self._known, at])
        parents = (self._context.champion.id,) if why else ()
        self.made[candidate.id] = Proposal(candidate, source, why, parents, radius=self._near)


def careful(surrogate: Surrogate, points: Points, beta: float) -> Callable[[Array], Array]:
    """The optimistic cost, and more where candidates fail: each halving of the chance of success counts like the
    distance between the best and the median cost."""
    spread = float(np.median(points.y) - np.min(points.y)) or 1.0

    def cost(x: Array) -> Array:
        out = surrogate.optimistic(x, beta)
        return out - spread * np.log2(surrogate.success(x)) if len(points.failed) else out

    return cost


def _changed(place: Array, player: int, choices: Array) -> Array:
    out = np.repeat(place[None, :], len(choices), axis=0)
    out[:, player] = choices
    return out
