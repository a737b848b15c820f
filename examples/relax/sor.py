"""Successive over-relaxation (SOR) on shifted Poisson problems, red-black, several omegas at once."""

import math

import numpy as np

SIZE = 20
"""Unknowns along each side of the square."""
TOLERANCE = 1e-6
"""The residual's norm, relative to the right-hand side's, below which a system is solved."""
CAP = 300
"""Iterations after which a solve is given up, unless the caller says otherwise; it then counts as this many."""
SHIFTS = (0.05, 2.0)
"""Range of the shifts c; they are uniform in the logarithm."""


def iterations(shift, seed, omegas, size=SIZE, cap=CAP):
    """How many SOR iterations solve (A + shift · I) x = b from x = 0, for each omega.

    A is the five-point Laplacian on size × size inner points (4 on the diagonal, −1 for each neighbour), b is
    standard normal from `seed`. The red points, like the red squares of a chessboard, only have black neighbours,
    so all red ones are updated at once and then all black ones; the convergence factor is that of the usual order
    (Young 1971, chapter 6).

    Args:
        shift: c, at least 0.
        seed: Of the right-hand side.
        omegas: Relaxation parameters in (0, 2).
        size: Unknowns along each side.
        cap: Iterations after which a solve is given up.

    Returns:
        One number per omega, at most the cap, which is also what a solve that did not converge counts.
    """
    omegas = np.asarray(omegas, dtype=float)
    if not (math.isfinite(shift) and shift >= 0 and np.all((omegas > 0) & (omegas < 2))):
        raise ValueError(f"a shift of at least 0 and omegas in (0, 2) are needed, not {shift!r} and {omegas}")
    b = np.random.default_rng(seed).standard_normal((size, size))
    enough = TOLERANCE * np.linalg.norm(b)
    red = np.indices((size, size)).sum(axis=0) % 2 == 0
    scale = 1.0 / (4.0 + shift)
    steps = [np.where(color, omegas[:, None, None] * scale, 0.0) for color in (red, ~red)]
    x = np.zeros((len(omegas), size + 2, size + 2))  # with a border of zeros: the boundary values
    used = np.full(len(omegas), cap)
    left = np.arange(len(omegas))  # those that are not solved yet
    for number in range(1, cap + 1):
        for step in steps:
            x[:, 1:-1, 1:-1] += step * residual(x, b, shift)
        solved = np.linalg.norm(residual(x, b, shift), axis=(1, 2)) < enough
        if solved.any():
            used[left[solved]] = number
            left, x, steps = left[~solved], x[~solved], [step[~solved] for step in steps]
            if not len(left):
                break
    return used


def residual(x, b, shift):
    """b − (A + shift · I) x, where x carries a border of zeros."""
    inner = x[:, 1:-1, 1:-1]
    return b - (4.0 + shift) * inner + x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]


def place(shift):
    """A shift on [-1, 1], by its logarithm: the context."""
    low, high = map(math.log, SHIFTS)
    return min(1.0, max(-1.0, 2 * (math.log(shift) - low) / (high - low) - 1))


def young(shift, size=SIZE):
    """The omega with the smallest convergence factor, from the spectrum (Young 1954, Trans. AMS 76).

    It is what somebody reaches who knows the eigenvalues; no method here may use it.
    """
    jacobi = 4 * math.cos(math.pi / (size + 1)) / (4 + shift)
    return 2 / (1 + math.sqrt(1 - jacobi**2))


def instances(count, seed):
    """So many systems, each a shift and the seed of its right-hand side."""
    rng = np.random.default_rng([seed, 2310])
    low, high = map(math.log, SHIFTS)
    logs, seeds = rng.uniform(low, high, count), rng.integers(0, 2**31, count)
    return [(float(np.exp(u)), int(s)) for u, s in zip(logs, seeds, strict=True)]
