"""What others do with the same rows and edits: stylised acceptance rules, not the packages themselves.

Each takes a world and a budget of metric calls. Reading traces costs three calls a proposal, and a
score that is known costs nothing again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from gate_worlds import READ, Bits, Outcome, Program, World

from agent.gate.levels import kt

ALPHA = 0.05
Z = 1.6448536269514722
FUTILE = math.log(0.2)
"""The strict gate gives a candidate up when its wealth has fallen so far."""

Accept = Callable[[Bits, Bits, World, Program, Program], bool]


def _end(world: World, best: Program, optimism: float, calls: int, proposals: int) -> Outcome:
    claimed = best is not world.initial
    false = claimed and best.mean <= world.initial.mean
    return Outcome(best.mean, best.mean, claimed, false, optimism, calls, proposals)


def _score(world: World, program: Program) -> float:
    return float(world.val(program).mean())


def _each(world: World, budget: float, accept: Accept, per_proposal: int) -> Outcome:
    """Every candidate is scored on the valset and accepted or not."""
    best, calls, proposals = world.initial, per_proposal, 0
    for number in range(world.rounds):
        if calls + READ + per_proposal > budget:
            break
        calls += READ + per_proposal
        proposals += 1
        found = world.edit(number, best)
        if accept(world.val(found), world.val(best), world, found, best):
            best = found
    return _end(world, best, _score(world, best) - best.mean, calls, proposals)


def greedy(world: World, budget: float) -> Outcome:
    """Accept what has the larger mean on the valset."""
    return _each(world, budget, lambda new, old, *_: int(new.sum()) > int(old.sum()), world.n)


def t_test(world: World, budget: float) -> Outcome:
    """A paired one-sided t-test at .05 for each candidate."""
    nu = world.n - 1
    bar = Z + (Z**3 + Z) / (4 * nu) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * nu**2)

    def accept(new: Bits, old: Bits, *_: object) -> bool:
        mean, error = _paired(new, old)
        return mean > 0 and mean > bar * error

    return _each(world, budget, accept, world.n)


def ladder(world: World, budget: float) -> Outcome:
    """Blum and Hardt's parameter-free Ladder: a gain of more than one standard error."""

    def accept(new: Bits, old: Bits, *_: object) -> bool:
        mean, error = _paired(new, old)
        return mean > error

    return _each(world, budget, accept, world.n)


def _paired(new: Bits, old: Bits) -> tuple[float, float]:
    d = new.astype(float) - old
    return float(d.mean()), float(d.std(ddof=1)) / math.sqrt(d.size)


def thresholdout(world: World, budget: float) -> Outcome:
    """Dwork et al.: the valset answers with noise, and only where the train rows disagree with it."""
    sigma = 0.45 / math.sqrt(world.n)
    rng = np.random.default_rng([world.seed, 1])

    def accept(new: Bits, old: Bits, world: World, found: Program, best: Program) -> bool:
        held = float(new.mean()) - float(old.mean())
        seen = float(world.train(found).mean()) - float(world.train(best).mean())
        noise = rng.normal(0, sigma, 2)
        answer = held + noise[1] if abs(seen - held) > 4 * sigma + noise[0] else seen
        return answer > sigma

    return _each(world, budget, accept, 2 * world.n)


def argmax(world: World, budget: float) -> Outcome:
    """Many edits of the seed; the one with the largest mean on the valset is taken."""
    best, most, calls, proposals = world.initial, int(world.val(world.initial).sum()), world.n, 0
    for number in range(world.rounds):
        if calls + READ + world.n > budget:
            break
        calls += READ + world.n
        proposals += 1
        found = world.edit(number, world.initial)
        if int(world.val(found).sum()) > most:
            best, most = found, int(world.val(found).sum())
    return _end(world, best, most / world.n - best.mean, calls, proposals)


def minibatch(world: World, budget: float, size: int) -> Outcome:
    """GEPA's rule: strictly better on a minibatch, then the whole valset; the parent has the best mean there."""
    best, most, calls, proposals = world.initial, int(world.val(world.initial).sum()), world.n, 0
    known = np.zeros(world.n, bool)
    size = min(size, world.n)
    for number in range(world.rounds):
        rows = world.batches[number, :size]
        fresh = 0 if size == READ else int((~known[rows]).sum())
        if calls + READ + size + fresh > budget:
            break
        known[rows] = True
        calls += READ + size + fresh
        proposals += 1
        found = world.edit(number, best)
        if int(found.seen[rows].sum()) <= int(best.seen[rows].sum()):
            continue
        if calls + world.n > budget:
            break
        calls += world.n
        if int(world.val(found).sum()) > most:
            best, most = found, int(world.val(found).sum())
            known[:] = False
            known[rows] = True
    return _end(world, best, most / world.n - best.mean, calls, proposals)


@lru_cache(maxsize=8)
def _wealth(n: int) -> np.ndarray:
    """Logarithm of the wealth after u wins (row) and v losses (column), with the uniform mixture of bets."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    bets, parts = (nodes + 1) / 2, np.log(weights / 2)
    counts = np.arange(n + 1)
    terms = counts[:, None, None] * np.log1p(bets) + counts[None, :, None] * np.log1p(-bets) + parts
    top = terms.max(axis=2)
    found: np.ndarray = np.log(np.exp(terms - top[..., None]).sum(axis=2)) + top
    return found


def strict(world: World, budget: float) -> Outcome:
    """Every candidate must pass a sequential test at its share of .05, with the levels over all bits."""
    best, calls, proposals, accepts = world.initial, 0, 0, 0
    table, known = _wealth(min(world.n, 200)), 0
    for number in range(world.rounds):
        found = world.edit(number, best)
        bar = -math.log(ALPHA / ((number + 1) * (number + 2)) * kt(accepts, number))
        d = world.val(found).astype(int) - world.val(best)
        wins, losses = np.cumsum(d > 0), np.cumsum(d < 0)
        edge = table.shape[0] - 1
        path = table[np.minimum(wins, edge), np.minimum(losses, edge)]
        over = (path >= bar) | (path <= FUTILE)
        last = int(np.argmax(over)) + 1 if over.any() else world.n
        cost = READ + last + max(0, last - known)
        if calls + cost > budget:
            break
        calls += cost
        proposals += 1
        known = max(known, last)
        if path[last - 1] >= bar:
            best, accepts, known = found, accepts + 1, last
    return _end(world, best, _score(world, best) - best.mean, calls, proposals)


PEERS: dict[str, Callable[[World, float], Outcome]] = {
    "greedy full valset": greedy,
    "GEPA-like mb3": lambda world, budget: minibatch(world, budget, 3),
    "GEPA-like mb8": lambda world, budget: minibatch(world, budget, 8),
    "GEPA-like mb20": lambda world, budget: minibatch(world, budget, 20),
    "argmax of N": argmax,
    "t-test each": t_test,
    "Thresholdout": thresholdout,
    "Ladder": ladder,
    "strict e-gate each": strict,
}
GREEDY = ("greedy full valset", "GEPA-like mb3", "GEPA-like mb8", "GEPA-like mb20")
