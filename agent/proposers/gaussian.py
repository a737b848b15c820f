"""The search distribution of CMA-ES, and how it learns from generations.

Hansen 2016, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772): weighted recombination with
negative weights, cumulative step-size adaptation, rank-one and rank-μ updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.surrogates.points import Array

RESAMPLES = 100
"""Draws for one that lies in the unit cube; then the last one is clipped."""
SMALLEST = 1e-7
"""Standard deviation, as a share of the scales, at which it has converged."""
CONDITION = 1e14
"""Condition number of the covariance at which it is no longer of use."""


class Distribution:
    """The search distribution N(mean, sigma² cov) in the unit cube, and how it learns.

    Args:
        mean: (d,) its middle.
        sigma: Its step size.
        cov: (d, d) its shape; the identity by default.
        path_sigma: (d,) evolution path of the step size.
        path_cov: (d,) evolution path of the shape.
        generation: How often it was told.
    """

    def __init__(
        self,
        mean: Array,
        sigma: float,
        cov: Array | None = None,
        path_sigma: Array | None = None,
        path_cov: Array | None = None,
        generation: int = 0,
    ) -> None:
        size = len(mean)
        self.mean, self.sigma, self.generation = mean, sigma, generation
        self.cov = np.eye(size) if cov is None else cov
        self.path_sigma = np.zeros(size) if path_sigma is None else path_sigma
        self.path_cov = np.zeros(size) if path_cov is None else path_cov
        self._axes: tuple[Array, Array] | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it, exactly; of the symmetric matrix the upper triangle."""
        return {
            "mean": self.mean.tolist(),
            "sigma": self.sigma,
            "cov": self.cov[np.triu_indices(len(self.mean))].tolist(),
            "path_sigma": self.path_sigma.tolist(),
            "path_cov": self.path_cov.tolist(),
            "generation": self.generation,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Distribution:
        """The distribution that `to_json` wrote."""
        size = len(data["mean"])
        upper = np.zeros((size, size))
        upper[np.triu_indices(size)] = data["cov"]
        return cls(
            np.array(data["mean"], dtype=float),
            data["sigma"],
            upper + np.triu(upper, 1).T,
            np.array(data["path_sigma"], dtype=float),
            np.array(data["path_cov"], dtype=float),
            data["generation"],
        )

    @property
    def axes(self) -> tuple[Array, Array]:
        """The principal axes as columns of (d, d), and (d,) standard deviations along them, without sigma."""
        if self._axes is None:
            values, vectors = np.linalg.eigh(self.cov)
            self._axes = vectors, np.sqrt(np.maximum(values, 1e-20))
        return self._axes

    @property
    def spread(self) -> float:
        """The largest standard deviation of a coordinate."""
        return float(self.sigma * math.sqrt(self.cov.diagonal().max()))

    def draw(self, rng: np.random.Generator) -> Array:
        """(d,) a point of the unit cube."""
        vectors, lengths = self.axes
        for _ in range(RESAMPLES):
            point: Array = self.mean + self.sigma * (vectors @ (lengths * rng.standard_normal(len(self.mean))))
            if point.min() >= 0.0 and point.max() <= 1.0:
                return point
        return point.clip(0.0, 1.0)

    def shortened(self, point: Array) -> Array:
        """A foreign point, pulled towards the mean as far as it takes to look like a draw (Hansen 2011, eq. 2-4).

        Its Mahalanobis distance becomes at most √d + 2d/(d+2).
        """
        vectors, lengths = self.axes
        size = len(self.mean)
        step = point - self.mean
        distance = float(np.linalg.norm(vectors.T @ step / lengths)) / self.sigma
        allowed = math.sqrt(size) + 2 * size / (size + 2)
        return self.mean + step * min(1.0, allowed / distance) if distance > 0 else self.mean.copy()

    def tell(self, points: Array, foreign: Array) -> None:
        """Learn from a generation (Hansen 2016, figure 6).

        Args:
            points: (m, d) its members, best first.
            foreign: (m,) whether each was not drawn from this distribution; those never get a negative weight.
        """
        count, size = points.shape
        raw = math.log((count + 1) / 2) - np.log(np.arange(1, count + 1))
        good = count // 2
        effective = raw[:good].sum() ** 2 / (raw[:good] ** 2).sum()
        negative = raw[good:].sum() ** 2 / (raw[good:] ** 2).sum()
        rank_one = 2 / ((size + 1.3) ** 2 + effective)
        rank_mu = min(1 - rank_one - 1e-8, 2 * (effective - 2 + 1 / effective) / ((size + 2) ** 2 + effective))
        least = min(
            1 + rank_one / rank_mu, 1 + 2 * negative / (effective + 2), (1 - rank_one - rank_mu) / (size * rank_mu)
        )
        weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), raw * least / -raw[raw < 0].sum())
        weights = np.where(foreign, np.maximum(weights, 0.0), weights)
        damped = (effective + 2) / (size + effective + 5)
        damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (size + 1)) - 1) + damped
        cumulation = (4 + effective / size) / (size + 4 + 2 * effective / size)
        expected = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))

        self.generation += 1
        vectors, lengths = self.axes
        steps = (points - self.mean) / self.sigma
        whitened = steps @ vectors / lengths @ vectors.T
        step = weights[:good] @ steps[:good]
        self.mean = np.clip(self.mean + self.sigma * step, 0.0, 1.0)
        self.path_sigma = (1 - damped) * self.path_sigma + math.sqrt(damped * (2 - damped) * effective) * (
            weights[:good] @ whitened[:good]
        )
        length = float(np.linalg.norm(self.path_sigma))
        self.sigma = min(1.0, self.sigma * math.exp(damped / damping * (length / expected - 1)))
        usual = math.sqrt(1 - (1 - damped) ** (2 * (self.generation + 1))) * (1.4 + 2 / (size + 1)) * expected
        moving = 1.0 if length < usual else 0.0
        self.path_cov = (1 - cumulation) * self.path_cov + (
            moving * math.sqrt(cumulation * (2 - cumulation) * effective) * step
        )
        scaled = weights * np.where(weights >= 0, 1.0, size / ((whitened**2).sum(axis=1) + 1e-8))
        kept = 1 + rank_one * (1 - moving) * cumulation * (2 - cumulation) - rank_one - rank_mu * weights.sum()
        cov = kept * self.cov + rank_one * np.outer(self.path_cov, self.path_cov)
        self._reshape(cov + rank_mu * (steps.T * scaled) @ steps)

    def widen(self, least: Array) -> None:
        """Raise the standard deviation of each coordinate to at least (d,) `least`."""
        factor = np.maximum(1.0, least / (self.sigma * np.sqrt(self.cov.diagonal())))
        if factor.max() > 1.0:
            self._reshape(self.cov * np.outer(factor, factor))

    def _reshape(self, cov: Array) -> None:
        self.cov = (cov + cov.T) / 2
        self._axes = None

    @property
    def over(self) -> bool:
        """Whether nothing more can be expected of it: it is a point, or flat as a needle."""
        lengths = self.axes[1]
        return self.spread < SMALLEST or float(lengths.max() / lengths.min()) ** 2 > CONDITION
