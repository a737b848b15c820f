"""Circles in the unit square with a large sum of radii: rows that are shaken, then improved by SLSQP."""

import numpy as np
from scipy.optimize import minimize


def pack(count):
    """Return `count` lists of centre and radius: the best of some starts."""
    seed = tune(0, 0, 9999)
    starts = tune(3, 1, 8)
    rows = tune(5, 3, 7)
    shake = tune(0.1, 0.0, 0.2)
    shift = tune(0.0, 0.0, 1.0)  # of every second row, in half steps
    radius = tune(0.05, 0.01, 0.09)
    each = np.array_split(np.arange(count), rows)
    places = [
        ((k + 0.5 + shift * (number % 2) / 2) / (len(row) + shift / 2), (number + 0.5) / rows)
        for number, row in enumerate(each)
        for k in range(len(row))
    ]
    rng = np.random.default_rng(seed)
    best = np.zeros((count, 3))
    for _ in range(starts):
        start = np.clip(np.array(places) + rng.normal(0.0, shake, (count, 2)), 0.02, 0.98)
        x, y, r = improved(start[:, 0], start[:, 1], np.full(count, radius))
        r = np.maximum(0.0, r - max(0.0, -gaps(x, y, r).min()) - 1e-12)  # valid in every digit, not nearly
        if r.sum() > best[:, 2].sum():
            best = np.stack([x, y, r], axis=1)
    return best.tolist()


def gaps(x, y, r):
    """How far circles are from one another and from the sides; not negative where a layout is valid."""
    i, j = np.triu_indices(len(x), 1)
    between = np.hypot(x[i] - x[j], y[i] - y[j]) - r[i] - r[j]
    return np.concatenate([between, x - r, 1 - x - r, y - r, 1 - y - r])


def improved(x, y, r):
    """A local optimum of the sum of the radii, by sequential quadratic programming."""
    n = len(x)
    i, j = np.triu_indices(n, 1)
    pair, one, each = np.arange(len(i)), np.eye(n), np.arange(n)

    def slopes(z):
        dx, dy = z[i] - z[j], z[n + i] - z[n + j]
        far = np.maximum(np.hypot(dx, dy), 1e-12)
        out = np.zeros((len(i) + 4 * n, 3 * n))
        out[pair, i], out[pair, j] = dx / far, -dx / far
        out[pair, n + i], out[pair, n + j] = dy / far, -dy / far
        out[pair, 2 * n + i] = out[pair, 2 * n + j] = -1.0
        for side, (start, sign) in enumerate(((0, 1), (0, -1), (n, 1), (n, -1))):
            out[len(i) + side * n + each, start + each] = sign
        out[len(i) :, 2 * n :] = -np.tile(one, (4, 1))
        return out

    downhill = np.concatenate([np.zeros(2 * n), -np.ones(n)])
    found = minimize(
        lambda z: -z[2 * n :].sum(),
        np.concatenate([x, y, r]),
        jac=lambda z: downhill,
        bounds=[(0.0, 1.0)] * (2 * n) + [(0.0, 0.5)] * n,
        constraints={"type": "ineq", "fun": lambda z: gaps(z[:n], z[n : 2 * n], z[2 * n :]), "jac": slopes},
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-10},
    )
    return found.x[:n], found.x[n : 2 * n], found.x[2 * n :]


def tune(value, *rest, **more):
    """A number that may be changed: where the search runs a program, the value stands in its place."""
    return value
