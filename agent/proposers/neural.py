"""NeuralUCB: a small network says how good an arm is, and its gradients say how little is known of it.

After Zhou, Li and Gu 2020 ("Neural Contextual Bandits with UCB-based Exploration", ICML, arXiv 1911.04462): the
network f(x) = √m · w₂ · relu(W₁ x) is fitted to the rewards of the arms that were pulled, and the next arm is the one
with the largest f(x) + ν · √(λ gᵀ U⁻¹ g), where g is the gradient of f in its parameters over √m and
U = λ I + Σ g gᵀ over the arms pulled. U is as wide as there are parameters, but the term needs no more than the
inner products of gradients, which have a closed form here: with K those of the arms pulled and k those of x with
them, λ gᵀ U⁻¹ g = k(x, x) − kᵀ (K + λ I)⁻¹ k (matrix inversion lemma). So nothing is approximated, where INSTINCT's
program keeps the diagonal of U alone.
"""

from __future__ import annotations

import numpy as np

from agent.surrogates.points import Array

RATE = 0.01
"""Step of Adam."""


class NeuralUCB:
    """The network after the arms that were pulled. It is fitted from its first weights each time.

    Args:
        x: (n, d) the arms pulled, n ≥ 1.
        y: (n,) their rewards, more is better; any unit.
        weights: (n,) how much each counts, above 0.
        seed: Of the first weights.
        hidden: Width m of the hidden layer; even.
        ridge: λ, above 0.
        steps: Of gradient descent.
    """

    def __init__(
        self, x: Array, y: Array, weights: Array, *, seed: int, hidden: int = 100, ridge: float = 0.1, steps: int = 100
    ) -> None:
        self._centre, spread = float(np.average(y, weights=weights)), float(np.std(y))
        self.scale = spread if spread > 0 else 1.0
        """Standard deviation of the rewards: what f and the bonus are multiplied with."""
        half = hidden // 2
        rng = np.random.default_rng(seed)
        first = rng.normal(0, 1, (half, x.shape[1] + 1))
        second = rng.normal(0, 1, half)
        # Two equal halves with opposite signs: before it learns, the network says 0 everywhere.
        self._first = np.vstack([first, first])
        self._second = np.concatenate([second, -second]) / np.sqrt(hidden)
        self._fit(_wide(x), (y - self._centre) / self.scale, weights / weights.mean(), ridge, steps)
        self._pulled, self._ridge = x, ridge
        self._unit = float(np.mean(np.diag(self._kernel(x, x)))) or 1.0

    def _fit(self, x: Array, y: Array, weights: Array, ridge: float, steps: int) -> None:
        """Adam on the weighted mean of squares, with λ / n times the squared distance to the first weights."""
        start = [self._first.copy(), self._second.copy()]
        moments = [[np.zeros_like(p), np.zeros_like(p)] for p in start]
        for step in range(1, steps + 1):
            now = [self._first, self._second]
            inner = x @ self._first.T
            active = np.maximum(inner, 0)
            miss = 2 * weights * (active @ self._second - y) / len(y)
            slopes = [((miss[:, None] * (inner > 0)) * self._second).T @ x, active.T @ miss]
            for place, (value, slope) in enumerate(zip(now, slopes, strict=True)):
                slope = slope + 2 * ridge / len(y) * (value - start[place])
                one, two = moments[place]
                one += 0.1 * (slope - one)
                two += 0.001 * (slope**2 - two)
                value -= RATE * (one / (1 - 0.9**step)) / (np.sqrt(two / (1 - 0.999**step)) + 1e-8)

    def mean(self, x: Array) -> Array:
        """(k,) the rewards that it expects, in their unit."""
        found: Array = self._centre + self.scale * (np.maximum(_wide(x) @ self._first.T, 0) @ self._second)
        return found

    def bonus(self, x: Array, more: Array | None = None) -> Array:
        """(k,) √(λ gᵀ U⁻¹ g), in the unit of the rewards.

        Args:
            x: (k, d) arms.
            more: (j, d) arms that are pulled already, and whose reward is not known yet.
        """
        pulled = self._pulled if more is None else np.vstack([self._pulled, more])
        inner = self._kernel(pulled, pulled) / self._unit
        inner[np.diag_indices(len(pulled))] += self._ridge
        cross = self._kernel(pulled, x) / self._unit
        own = np.array([self._kernel(row[None], row[None])[0, 0] for row in x]) / self._unit
        left = own - np.sum(cross * np.linalg.solve(inner, cross), axis=0)
        found: Array = self.scale * np.sqrt(np.maximum(left, 0))
        return found

    def _kernel(self, a: Array, b: Array) -> Array:
        """(len(a), len(b)) inner products of gradients."""
        wide_a, wide_b = _wide(a), _wide(b)
        inner_a, inner_b = wide_a @ self._first.T, wide_b @ self._first.T
        gates = ((inner_a > 0) * self._second**2) @ (inner_b > 0).T
        found: Array = gates * (wide_a @ wide_b.T) + np.maximum(inner_a, 0) @ np.maximum(inner_b, 0).T / len(
            self._second
        )
        return found


def _wide(x: Array) -> Array:
    """With a constant, so that a bias is a weight like any other."""
    found: Array = np.hstack([x, np.ones((len(x), 1))])
    return found


def spread(x: Array, taken: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Places of `count` arms that are far from those taken and from each other, drawn as k-means++ draws its centres
    (Arthur and Vassilvitskii 2007): with a chance in proportion to the squared distance.

    Args:
        x: (k, d) arms.
        taken: (n, d) arms that are known already.
        count: At most k.
        rng: For the draws.
    """
    gaps = np.full(len(x), np.inf) if not len(taken) else ((x[:, None] - taken[None]) ** 2).sum(axis=2).min(axis=1)
    out: list[int] = []
    while len(out) < count:
        chances = np.where(np.isfinite(gaps), gaps, 1.0)
        chances[out] = 0
        if not chances.sum() > 0:
            chances = np.ones(len(x))
            chances[out] = 0
        out.append(int(rng.choice(len(x), p=chances / chances.sum())))
        gaps = np.minimum(gaps, ((x - x[out[-1]]) ** 2).sum(axis=1))
    return out


def features(x: Array, most: int = 32) -> Array:
    """The arms in the directions in which they differ most, each around 0, all in one unit.

    Args:
        x: (k, d) vectors of all arms, k ≥ 2.
        most: Directions that are kept.

    Returns:
        (k, min(most, d, k)); the mean squared length of a row is 1.
    """
    centred = x - x.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    out = left[:, :most] * values[:most]
    signs = np.sign(out[np.abs(out).argmax(axis=0), np.arange(out.shape[1])])
    out = out * np.where(signs == 0, 1, signs)
    size = float(np.sqrt((out**2).sum(axis=1).mean()))
    found: Array = out / size if size > 0 else out
    return found
