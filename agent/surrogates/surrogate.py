"""A Gaussian process over the unit cube: what is likely to be found at a place where nothing was measured.

Matérn-5/2 kernel with a length for each coordinate; two different categories are one unit apart. Costs are
warped by a monotone function when that makes the data more likely, so that a few huge values do not
decide everything. Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", sections
2.2 (posterior), 4.2 (kernel) and 5.4.1 (likelihood and its gradient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from agent.parameters import Categorical
from agent.space import Space
from agent.surrogates.blas import one_thread
from agent.surrogates.kernel import JITTER, WARPS, Hyper, Warp, distances, fitted, matern
from agent.surrogates.points import Array, Points

LARGEST = 300
"""Points that are kept; of more, the best half and a random part of the rest."""


class Surrogate:
    """The posterior after n evaluated points. Use `fit`.

    Args:
        x: (n, d) places in the unit cube.
        y: (n,) costs.
        counts: (n,) measurements behind each cost; the noise variance is divided by them.
        choices: (d,) whether a coordinate is a category.
        hyper: Fitted values.
        safety: The same model of failures: cost 0 where a candidate got a value, 1 where it failed; None without any.
    """

    def __init__(
        self, x: Array, y: Array, counts: Array, choices: Array, hyper: Hyper, safety: Surrogate | None = None
    ) -> None:
        self.x, self.y, self.counts, self.choices = x, y, counts, choices
        self._safety = safety
        self._hyper = hyper
        self.warp = Warp.of(y, hyper.share)
        self._scale = np.exp(-np.array(hyper.lengths))
        z = self.warp.forward(y)
        kernel = matern(distances(x, x, self._scale, choices))
        kernel[np.diag_indices(len(x))] += math.exp(hyper.noise) / counts + JITTER
        lower = np.linalg.cholesky(kernel)
        self._inverse = np.linalg.inv(lower)
        ones = self._inverse @ np.ones(len(x))
        white = self._inverse @ z
        self._mean = float(ones @ white / (ones @ ones))
        self._white = white - self._mean * ones
        self._variance = max(float(self._white @ self._white) / len(x), 1e-12)
        self._alpha = self._inverse.T @ self._white
        self.incumbent = float(np.min(z))
        """Smallest cost, in the model's units."""

    @classmethod
    def fit(
        cls,
        points: Points,
        space: Space,
        *,
        seed: int = 0,
        hyper: Mapping[str, Any] | None = None,
        noisy: bool = True,
    ) -> Surrogate:
        """Fit lengths, noise and warp by their posterior's mode, or go on from an earlier fit.

        Args:
            points: At least two of them must have a value.
            space: Says which coordinates are categories.
            seed: Which points are left out when there are more than 300.
            hyper: `hyper` of an earlier surrogate of the same space. It is used as it is until a tenth more
                points are there.
            noisy: Whether measuring twice can give two values; otherwise the noise is next to nothing.

        Raises:
            ValueError: Fewer than two points have a value.
        """
        if len(points) < 2:
            raise ValueError("a surrogate needs two evaluated points")
        with one_thread():
            return cls._fit(points, space, seed, hyper, noisy)

    @classmethod
    def _fit(cls, points: Points, space: Space, seed: int, hyper: Mapping[str, Any] | None, noisy: bool) -> Surrogate:
        choices = np.array([isinstance(space[name], Categorical) for name in space.numeric])
        kept = _kept(points.y, seed)
        x, y, counts = points.x[kept], points.y[kept], points.counts[kept]
        known = Hyper.from_json(hyper) if hyper is not None else None
        safety = cls._failures(x, points.failed, choices, known.failures if known is not None else None)
        found = known
        if known is None or known.due(len(points), x.shape[1]):
            start = known if known is not None and len(known.lengths) == x.shape[1] else None
            found = fitted(x, y, counts, choices, start, noisy, len(points), WARPS)
        assert found is not None
        found = replace(found, failures=safety._hyper if safety is not None else None)
        return cls(x, y, counts, choices, found, safety)

    @classmethod
    def _failures(cls, x: Array, failed: Array, choices: Array, known: Hyper | None) -> Surrogate | None:
        """The model of failures, with lengths of its own: a region that fails need not be as smooth as the cost."""
        if not len(failed):
            return None
        failed = failed[-LARGEST:]
        both, told = np.vstack([x, failed]), np.repeat([0.0, 1.0], [len(x), len(failed)])
        ones = np.ones(len(both))
        if known is None or known.due(len(both), x.shape[1]):
            known = fitted(both, told, ones, choices, None, True, len(both), (math.inf,))
        return cls(both, told, ones, choices, known)

    @property
    def hyper(self) -> dict[str, Any]:
        """What was fitted, as JSON, for the next fit."""
        return self._hyper.to_json()

    @property
    def prior_sd(self) -> float:
        """Standard deviation far from all points, in the model's units."""
        return math.sqrt(self._variance)

    @property
    def lengths(self) -> Array:
        """(d,) lengths of the kernel, in units of the cube."""
        out: Array = 1.0 / self._scale
        return out

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at (m, d) places, in the model's units (warped and standardised)."""
        cross = matern(distances(x, self.x, self._scale, self.choices))
        mean = self._mean + cross @ self._alpha
        explained = np.einsum("ij,ij->i", *(cross @ self._inverse.T,) * 2)
        return mean, np.sqrt(self._variance * np.maximum(1.0 - explained, 1e-12))

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Median and standard deviation (to first order) of the cost at (m, d) places."""
        mean, sd = self.posterior(x)
        return self.warp.back(mean), sd * self.warp.slope(mean)

    def optimistic(self, x: Array, beta: float = 2.0) -> Array:
        """The cost that is `beta` standard deviations better than expected, at (m, d) places (lower confidence bound).

        Source: Srinivas et al. 2010, "Gaussian Process Optimization in the Bandit Setting", section 3.
        """
        mean, sd = self.posterior(x)
        return self.warp.back(mean - beta * sd)

    def log_ei(self, x: Array, best: float | None = None) -> Array:
        """Logarithm of the expected improvement over the best cost, times the chance not to fail, at (m, d) places.

        Source: Ament et al. 2023, "Unexpected Improvements to Expected Improvement", section 4.1.

        Args:
            x: Places.
            best: What is to be improved, in the model's units; by default the smallest observed.
        """
        mean, sd = self.posterior(x)
        goal = self.incumbent if best is None else best
        return log_h((goal - mean) / sd) + np.log(sd) + np.log(self.success(x))

    def success(self, x: Array) -> Array:
        """Chance, in (0, 1], that a candidate at (m, d) places does not fail, from what happened nearby."""
        if self._safety is None:
            return np.ones(len(x))
        mean, sd = self._safety.predict(x)
        out: Array = np.clip(_normal((0.5 - mean) / np.maximum(sd, 0.1)), 1e-6, 1.0)
        return out

    def fantasise(self, x: Array) -> Surrogate:
        """The posterior as if (m, d) places had been measured and gave what is expected ("kriging believer").

        Source: Ginsbourger, Le Riche and Carraro 2010, section 3.2.
        """
        if not len(x):
            return self
        mean, _ = self.posterior(x)
        return Surrogate(
            np.vstack([self.x, x]),
            np.concatenate([self.y, np.maximum(self.warp.back(mean), float(np.min(self.y)))]),
            np.concatenate([self.counts, np.ones(len(x))]),
            self.choices,
            self._hyper,
            self._safety,
        )


def log_h(t: Array) -> Array:
    """log(phi(t) + t * Phi(t)), stable for very negative t (Ament et al. 2023, equation 9)."""
    out = np.empty_like(t)
    usual = t > -5.0
    near = t[usual]
    out[usual] = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * _normal(near))
    far = np.minimum(t[~usual], -5.0)
    # Asymptotic series of Mills' ratio: phi(t) (1/t^2 - 3/t^4 + 15/t^6).
    out[~usual] = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(far**-2 - 3 * far**-4 + 15 * far**-6)
    return out


def _normal(t: Array) -> Array:
    """The standard normal distribution function."""
    return 0.5 * np.array([math.erfc(-value / math.sqrt(2.0)) for value in t.ravel()]).reshape(t.shape)


def _kept(y: Array, seed: int) -> Any:
    if len(y) <= LARGEST:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    half = LARGEST // 2
    rest = np.random.default_rng(seed).choice(order[half:], LARGEST - half, replace=False)
    return np.sort(np.concatenate([order[:half], rest]))
