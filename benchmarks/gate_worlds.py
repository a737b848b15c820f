"""Worlds for the gate's benchmark: edits of a program whose true quality is known.

A candidate has a score of 0 or 1 on each row. An edit inherits the scores of what it was made from,
flips some, and so moves the true mean; even an edit without any effect flips a fifth of the rows. All
methods see the same edits with the same random numbers, so they are compared in pairs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Generator = np.random.Generator

ROUNDS = 200
"""Proposals of one run at most."""
READ = 3
"""Rows whose traces the proposer reads for each proposal; each costs a call."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """One candidate: its latent scores on all rows, what a judge sees of them, its true mean, rows read to make it."""

    name: str
    scores: Bits
    seen: Bits
    mean: float
    read: tuple[int, ...] = ()
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of worlds.

    Args:
        shifts: How much each edit moves the true mean, shape (rounds,).
        flips: Share of rows that an edit flips.
        start: True mean of the seed.
        judge: Share of scores that the judge gets wrong.
        memorises: Share of the failing rows that it reads which a proposer learns by heart.
    """

    shifts: Callable[[Generator, int], Floats]
    flips: Callable[[Generator, int], Floats] = lambda rng, rounds: np.full(rounds, 0.2)
    start: float = 0.5
    judge: float = 0.0
    memorises: float = 0.0


def mixture(better: float, gain: tuple[float, float], worse: float, loss: tuple[float, float]) -> Callable[..., Floats]:
    """Edits of which some are better by a uniform gain, some worse by a uniform loss, and the rest are null."""

    def shifts(rng: Generator, rounds: int) -> Floats:
        which = rng.random(rounds)
        gains, losses = rng.uniform(*gain, rounds), rng.uniform(*loss, rounds)
        return np.where(which < better, gains, np.where(which < better + worse, -losses, 0.0))

    return shifts


def heldout(rng: Generator, rounds: int) -> Floats:
    """A fifth with exponential gains, two fifths null, two fifths worse."""
    which = rng.random(rounds)
    gains, losses = np.minimum(rng.exponential(0.06, rounds), 0.3), rng.uniform(0.02, 0.2, rounds)
    return np.where(which < 0.2, gains, np.where(which < 0.6, -losses, 0.0))


BETTER = mixture(0.1, (0.05, 0.15), 0.45, (0.05, 0.15))
NOTHING = mixture(0.0, (0.0, 0.0), 0.0, (0.0, 0.0))

KINDS = {
    "null": Kind(NOTHING),
    "harmful": Kind(mixture(0.0, (0.0, 0.0), 0.5, (0.05, 0.15))),
    "gain": Kind(BETTER),
    "rare": Kind(mixture(0.1, (0.05, 0.15), 0.0, (0.0, 0.0))),
    "small": Kind(mixture(0.3, (0.02, 0.06), 0.35, (0.05, 0.15))),
    "heldout": Kind(heldout, lambda rng, rounds: rng.uniform(0.05, 0.4, rounds), start=0.35),
    "judge": Kind(BETTER, judge=0.15),
    "flips .1": Kind(BETTER, lambda rng, rounds: np.full(rounds, 0.1)),
    "flips .4": Kind(BETTER, lambda rng, rounds: np.full(rounds, 0.4)),
    "start .7": Kind(BETTER, start=0.7),
    "memorises": Kind(BETTER, memorises=0.5),
}


class World:
    """One repetition: rows, a seed program, and all edits that will be proposed.

    Args:
        kind: A name in `KINDS`.
        n: Rows of train, and as many of val.
        seed: Of this repetition.
        rounds: Edits.
    """

    def __init__(self, kind: str, n: int, seed: int, rounds: int = ROUNDS) -> None:
        self.kind, self.n, self.seed, self.rounds = KINDS[kind], n, seed, rounds
        rng = np.random.default_rng([seed, n, zlib.crc32(kind.encode())])
        self.shifts = self.kind.shifts(rng, rounds)
        self.flips = np.maximum(self.kind.flips(rng, rounds), np.abs(self.shifts))
        start = rng.random(2 * n) < self.kind.start
        self._draws = rng.random((rounds, 2 * n), dtype=np.float32)
        self._wrong = rng.random((rounds + 1, 2 * n), dtype=np.float32) < self.kind.judge
        self._learned = rng.random((rounds, READ)) < self.kind.memorises
        self.batches = np.argsort(rng.random((rounds, n), dtype=np.float32), axis=1).astype(np.int32)
        """By round: train rows in a random order; the first three are those whose traces are read."""
        self.rng = rng
        self.initial = Program("seed", start, start ^ self._wrong[rounds], self.kind.start)

    def edit(self, number: int, parent: Program, shift: float | None = None) -> Program:
        """The edit with this number, made from any parent.

        The shares of rows that become right and wrong differ by the shift and add up to the flips, as far as there
        are so many wrong and right ones; near the ends of the scale fewer rows flip, and the shift stays.
        """
        delta = float(self.shifts[number]) if shift is None else shift
        delta = min(max(delta, -parent.mean), 1 - parent.mean)
        flips = max(float(self.flips[number]), abs(delta))
        flips = min(flips, 2 * (1 - parent.mean) - delta, 2 * parent.mean + delta)
        up = (flips + delta) / 2 / max(1 - parent.mean, 1e-9)
        down = (flips - delta) / 2 / max(parent.mean, 1e-9)
        scores = parent.scores ^ (self._draws[number] < np.where(parent.scores, down, up))
        reads = self.batches[number, :READ]
        learned = reads[self._learned[number] & ~parent.seen[reads]]
        scores[learned] = True
        seen = scores ^ self._wrong[number]
        return Program(f"edit {number}", scores, seen, parent.mean + delta, tuple(reads.tolist()), parent.name)

    def val(self, program: Program) -> Bits:
        """Its scores on the held-out rows, as the judge sees them."""
        return program.seen[self.n :]

    def train(self, program: Program) -> Bits:
        """Its scores on the rows of the search."""
        return program.seen[: self.n]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended.

    Args:
        best: True mean of what it returns.
        released: True mean of what it claims.
        claimed: Whether it claims anything.
        false: Whether a claim is wrong: what is claimed is not above what it replaces.
        optimism: Score of what it returns on the rows that selected it, less its true mean; nan without one.
        calls: Metric calls.
        proposals: Edits that were proposed.
    """

    best: float
    released: float
    claimed: bool
    false: bool
    optimism: float
    calls: int
    proposals: int
