"""Rankings of many candidates from pairs: who is best, and whether anyone is.

Bradley–Terry strengths give an order; the minimax winner tells when there is none, because some
candidates beat each other in a circle. A search that sees nothing but rankings gets its direction
here too. Rankings claim nothing: a release is always a direct comparison with what was released
before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TOLERANCE = 1e-9
"""Differences of win rates and strengths below this are rounding."""
SHORTFALL = 0.01
"""A candidate whose win rate against the minimax mixture is lower than 1/2 by this is no part of its support."""
LARGEST = 31
"""Larger supports are not verified: the weights seldom name all of their members, and it takes seconds."""


def bradley_terry(wins: npt.ArrayLike, prior: float = 0.5, rounds: int = 10_000) -> Array:
    """Strengths of candidates that were compared in pairs: P(i beats j) = e^s_i / (e^s_i + e^s_j).

    Every candidate has `prior` wins and as many losses against an average one on top, so that the
    strengths are finite where one is unbeaten and where groups were never compared.

    Source: the MM iteration of Hunter, MM algorithms for generalized Bradley–Terry models (2004), section 2.

    Args:
        wins: Shape (k, k): how often i beat j; a tie counts half for each.
        prior: Above 0.
        rounds: Most iterations; they end earlier when no strength moves by 1e-9.

    Returns:
        Log strengths, shape (k,), with mean 0.

    Raises:
        ValueError: The matrix is not square, has a negative or no entry, or `prior` is not above 0.
    """
    won = _wins(wins)
    if not prior > 0:
        raise ValueError(f"prior: found {prior!r}, allowed is a number above 0")
    played = won + won.T
    total = won.sum(axis=1) + prior
    strength = np.ones(len(won))
    for _ in range(rounds):
        expected = (played / (strength[:, None] + strength[None, :])).sum(axis=1) + 2 * prior / (strength + 1)
        after = total / expected
        moved = np.abs(np.log(after / strength)).max()
        strength = after
        if moved < TOLERANCE:
            break
    logs: Array = np.log(strength)
    centred: Array = logs - logs.mean()
    return centred


@dataclass(frozen=True, slots=True)
class Winner:
    """The von Neumann (minimax) winner: a mixture of candidates that no candidate beats.

    Args:
        weights: Shape (k,), non-negative, sum 1.
        value: The mixture's win rate minus 1/2 against the candidate that is hardest for it; 0 is the
            best there can be, and what falls short of it is the error of the solution.
        support: The candidates that the mixture needs, in order of number.
    """

    weights: Array
    value: float
    support: tuple[int, ...]


def minimax(wins: npt.ArrayLike, rounds: int = 2000) -> Winner:
    """The minimax winner by multiplicative weights, made exact where its support can be verified.

    The game's payoffs are A = P - 1/2, where P_ij = (wins_ij + 1) / (n_ij + 2). The weights are the
    optimistic ones, which count the last payoff twice; their average over the rounds is the winner.

    Source: Syrgkanis et al., Fast convergence of regularized learning in games (2015), corollary 6: with
    payoffs within ±1/2 and a step of 1 the value is at least -ln k / rounds. The minimax winner as an
    answer to intransitive preferences: Swamy et al., A minimaximalist approach to RLHF (2024).

    Args:
        wins: Shape (k, k): how often i beat j; a tie counts half for each.
        rounds: Iterations, at least 1.

    Raises:
        ValueError: The matrix is not square, has a negative or no entry, or `rounds` is below 1.
    """
    payoffs = _payoffs(_wins(wins))
    if rounds < 1:
        raise ValueError(f"rounds: found {rounds}, allowed is at least 1")
    k = len(payoffs)
    gained, last, average = np.zeros(k), np.zeros(k), np.zeros(k)
    for _ in range(rounds):
        hoped = gained + last
        weights = np.exp(hoped - hoped.max())
        weights /= weights.sum()
        average += weights / rounds
        last = payoffs @ weights
        gained += last
    exact = _exact(payoffs, average)
    weights = average if exact is None else exact
    # An average never drops a candidate altogether. Who is needed does as well as the mixture; who is
    # not loses against it, and keeps no more than the weight of the first rounds.
    needed = weights > TOLERANCE if exact is not None else (weights > 0.1 / k) & (payoffs @ weights > -SHORTFALL)
    return Winner(weights, float((weights @ payoffs).min()), tuple(int(i) for i in np.flatnonzero(needed)))


def _exact(payoffs: Array, average: Array) -> Array | None:
    """The equilibrium on the most heavily weighted candidates, when it is the only one; it is verified, not assumed.

    In a symmetric game without ties the support is unique and of odd size, and the mixture on it makes
    every member indifferent (Fisher and Ryan, Optimal strategies for a generalized "scissors, paper,
    and stone" game, 1992).
    """
    heaviest = np.argsort(-average, kind="stable")
    for size in range(1, min(len(payoffs), LARGEST) + 1, 2):
        chosen = heaviest[:size]
        equations = np.vstack([payoffs[np.ix_(chosen, chosen)], np.ones(size)])
        right = np.append(np.zeros(size), 1.0)
        solution = np.linalg.lstsq(equations, right, rcond=None)[0]
        if solution.min() <= TOLERANCE or np.abs(equations @ solution - right).max() > TOLERANCE:
            continue
        weights = np.zeros(len(payoffs))
        weights[chosen] = solution / solution.sum()
        beaten = np.delete(weights @ payoffs, chosen)
        if (beaten > TOLERANCE).all():  # who ties with the mixture could stand in for a member
            return weights
    return None


@dataclass(frozen=True, slots=True)
class Ranking:
    """An order of candidates, and the circle at its top, if there is one.

    Args:
        order: Candidate numbers, best first.
        strengths: Bradley–Terry log strengths by candidate number, mean 0.
        cycle: Candidates of the minimax support that beat each other in a circle, best first; empty when
            there is no circle. All of them are worth keeping as parents.
    """

    order: tuple[int, ...]
    strengths: tuple[float, ...]
    cycle: tuple[int, ...] = ()

    def sentence(self, names: Sequence[str] | None = None) -> str:
        """The ranking for people; candidates are called by `names`, or by their number."""
        called = [names[i] if names is not None else f"candidate {i}" for i in self.order]
        if not self.cycle:
            return f"{called[0]} ranks first of {len(called)}." if len(called) > 1 else f"{called[0]} is the only one."
        *most, last = (called[self.order.index(i)] for i in self.cycle)
        return (
            f"There is no single best candidate: {', '.join(most)} and {last} beat each other in a circle;"
            " keep all of them as parents."
        )


def rank(wins: npt.ArrayLike, prior: float = 0.5) -> Ranking:
    """Order candidates by Bradley–Terry strength, which finds the best one most often where there is one,
    and say when there is none.

    Args:
        wins: Shape (k, k): how often i beat j; a tie counts half for each.
        prior: As in `bradley_terry`.

    Raises:
        ValueError: As `bradley_terry`.
    """
    strengths = bradley_terry(wins, prior)
    order = [int(i) for i in np.argsort(-strengths.round(6), kind="stable")]
    circle = _circle(_payoffs(_wins(wins)) > TOLERANCE, minimax(wins).support)
    return Ranking(tuple(order), tuple(strengths.tolist()), tuple(i for i in order if i in circle))


def _circle(beats: npt.NDArray[np.bool_], among: Sequence[int]) -> set[int]:
    """The largest set of candidates each of which reaches every other one by a chain of wins within `among`."""
    reach = beats[np.ix_(among, among)]
    for middle in range(len(among)):
        reach = reach | (reach[:, [middle]] & reach[[middle], :])
    groups = [{among[int(j)] for j in np.flatnonzero(reach[i] & reach[:, i])} for i in range(len(among))]
    return max(groups, key=len, default=set())


def from_rankings(rankings: Iterable[Sequence[Hashable]], candidates: Sequence[Hashable]) -> Array:
    """Wins from rankings: in each, every candidate beats those that stand after it.

    The wins of one ranking depend on each other, so they order candidates and prove nothing.

    Args:
        rankings: Candidate ids, best first. One that is not in a ranking was not compared in it.
        candidates: Ids in the order of the matrix's rows, without repetition.

    Returns:
        Shape (k, k): in how many rankings i stands before j.

    Raises:
        ValueError: A ranking names a candidate twice, or an unknown one.
    """
    rows = {candidate: row for row, candidate in enumerate(candidates)}
    if len(rows) != len(candidates):
        raise ValueError("candidates: an id occurs twice")
    wins = np.zeros((len(rows), len(rows)))
    for number, ranking in enumerate(rankings, 1):
        unknown = [item for item in ranking if item not in rows]
        if unknown:
            raise ValueError(f"ranking {number} names {unknown[0]!r}, which is not among the candidates")
        if len(set(ranking)) != len(ranking):
            raise ValueError(f"ranking {number} names a candidate twice")
        placed = [rows[item] for item in ranking]
        for place, better in enumerate(placed):
            wins[better, placed[place + 1 :]] += 1
    return wins


def _wins(wins: npt.ArrayLike) -> Array:
    matrix = np.array(wins, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"wins must be a square matrix with a row for each candidate, not of shape {matrix.shape}")
    np.fill_diagonal(matrix, 0.0)  # nobody plays against itself
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise ValueError("wins must be counts: finite numbers of at least 0")
    return matrix


def _payoffs(wins: Array) -> Array:
    return (wins + 1) / (wins + wins.T + 2) - 0.5


# ---------------------------------------------------------------- search by ranks alone


def ranking_gradient(offsets: npt.ArrayLike, order: Sequence[int], top: int | None = None) -> Array:
    """The direction of improvement that a ranking of perturbations points to; a step along it is θ + γ g.

    The perturbation of rank r (from 0) among the `top` best of m weighs m - 1 - 2r, the pairs that it
    wins minus those that it loses; each of the others weighs -top. The weights sum to zero.

    Source: Tang et al., Zeroth-order optimization meets human feedback (2023), section 3, with weights
    of wins minus losses.

    Args:
        offsets: Shape (m, d), m ≥ 2: the perturbations ξ of the parameters θ that were ranked.
        order: Numbers of perturbations, best first; at least `top` of them.
        top: How many of the best are in order, 1 to m; all that `order` names when None.

    Returns:
        Shape (d,): the sum of the weighted offsets over the number of pairs whose order is known.

    Raises:
        ValueError: Numbers are missing, repeated or out of range.
    """
    points = np.array(offsets, dtype=float)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"offsets must have a row for each of at least two perturbations, not shape {points.shape}")
    m, k = len(points), len(order) if top is None else top
    best = list(order)[:k]
    if not 1 <= k <= m or len(best) != k or len(set(best)) != k or not set(best) <= set(range(m)):
        raise ValueError(f"order must name the {k} best of {m} perturbations, each once, by numbers from 0 to {m - 1}")
    weights = ranking_weights(m, k)
    rest = [i for i in range(m) if i not in set(best)]
    known = k * (k - 1) / 2 + k * (m - k)
    gradient: Array = weights @ points[[*best, *rest]] / known
    return gradient


def ranking_weights(m: int, top: int) -> Array:
    """Pairs won minus pairs lost by rank, shape (m,), when the `top` best of m are in order."""
    return np.array([m - 1 - 2 * r if r < top else -top for r in range(m)], dtype=float)
