"""The Gaussian process's kernel, the warp of its costs, and how both are fitted.

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", sections 4.2 (kernel) and 5.4.1
(likelihood and its gradient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.surrogates.points import Array

JITTER = 1e-8
LENGTH_PRIOR = (math.sqrt(2.0) - 1.0, 1.2)
"""Mean, before half the logarithm of the dimension is added, and deviation of the logarithm of a length.

After Hvarfner, Hellsten and Nardi 2024 (arXiv 2402.02229), section 4.2, with shorter lengths, as few points are spent.
"""
LENGTH_RANGE = (math.log(0.02), math.log(50.0))
NOISE_RANGE = (math.log(1e-7), math.log(1.0))
WARPS = (math.inf, 1.0, 0.1, 0.01)
"""Scales of the warp that are tried, as shares of the median cost above the best; infinity is no warp."""
STEPS, AGAIN = 30, 8
"""Steps of the first fit and of a fit that starts from an earlier one."""


@dataclass(frozen=True)
class Warp:
    """z = log(1 + (cost - low) / scale), or the cost itself where the scale is infinite; then standardised."""

    low: float
    scale: float
    mean: float
    sd: float

    @classmethod
    def of(cls, y: Array, share: float) -> Warp:
        """The warp that fits costs (n,): its scale is a share of the way from their least to their median."""
        low, middle = float(np.min(y)), float(np.median(y))
        scale = share * (middle - low) if middle > low else math.inf
        plain = cls(low, scale if scale > 0 else math.inf, 0.0, 1.0)
        z = plain.forward(y)
        return cls(low, plain.scale, float(np.mean(z)), float(np.std(z)) or 1.0)

    def forward(self, y: Array) -> Array:
        """Costs in the model's units."""
        z = np.log1p(np.maximum(y - self.low, 0.0) / self.scale) if math.isfinite(self.scale) else y - self.low
        out: Array = (z - self.mean) / self.sd
        return out

    def back(self, z: Array) -> Array:
        """The model's units as costs."""
        plain = z * self.sd + self.mean
        if math.isfinite(self.scale):
            plain = self.scale * np.expm1(np.minimum(plain, 300.0))
        return plain + self.low

    def slope(self, z: Array) -> Array:
        """Derivative of `back`."""
        if not math.isfinite(self.scale):
            return np.full(np.shape(z), self.sd)
        out: Array = self.sd * self.scale * np.exp(np.minimum(z * self.sd + self.mean, 300.0))
        return out

    def logjacobian(self, y: Array) -> float:
        """Logarithm of the determinant of the derivative of `forward`, so that likelihoods can be compared."""
        total = -len(y) * math.log(self.sd)
        if math.isfinite(self.scale):
            total -= float(np.sum(np.log(self.scale + np.maximum(y - self.low, 0.0))))
        return total


@dataclass(frozen=True)
class Hyper:
    """What is fitted: logarithms of the d lengths and of the noise variance, and the warp's scale as a share."""

    lengths: tuple[float, ...]
    noise: float
    share: float
    size: int
    """Points it was fitted to."""
    failures: Hyper | None = None
    """The same for the model of where candidates fail."""

    def to_json(self) -> dict[str, Any]:
        share = self.share if math.isfinite(self.share) else None
        out = {"lengths": list(self.lengths), "noise": self.noise, "share": share, "size": self.size}
        return out if self.failures is None else {**out, "failures": self.failures.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hyper:
        share = math.inf if data["share"] is None else float(data["share"])
        failures = cls.from_json(data["failures"]) if data.get("failures") is not None else None
        return cls(tuple(data["lengths"]), float(data["noise"]), share, int(data["size"]), failures)

    def due(self, size: int, dimension: int) -> bool:
        """Whether it is to be fitted again: a tenth more points are there."""
        return len(self.lengths) != dimension or size >= self.size + max(3, self.size // 10)


def distances(a: Array, b: Array, scale: Array, choices: Array) -> Array:
    """(m, n) squared distances in units of the lengths."""
    plain = np.logical_not(choices)
    left, right = a[:, plain] * scale[plain], b[:, plain] * scale[plain]
    out = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2.0 * left @ right.T
    for place in np.flatnonzero(choices):
        out += (a[:, place, None] != b[None, :, place]) * scale[place] ** 2
    clipped: Array = np.maximum(out, 0.0)
    return clipped


def matern(squared: Array) -> Array:
    """The Matérn kernel of smoothness 5/2, of squared distances of any shape."""
    root = np.sqrt(5.0 * squared)
    out: Array = (1.0 + root + (5.0 / 3.0) * squared) * np.exp(-root)
    return out


def fitted(
    x: Array,
    y: Array,
    counts: Array,
    choices: Array,
    known: Hyper | None,
    noisy: bool,
    size: int,
    warps: Sequence[float],
) -> Hyper:
    """The mode of lengths and noise under each warp that is tried, and the best of them."""
    d = x.shape[1]
    prior = LENGTH_PRIOR[0] + 0.5 * math.log(d)
    parts = np.array([(x[:, k, None] - x[None, :, k]) ** 2 if not choices[k] else (x[:, k, None] != x[None, :, k]) * 1.0
                      for k in range(d)])  # fmt: skip
    found: list[tuple[float, Hyper]] = []
    floor = NOISE_RANGE[0]
    for share in warps:
        warp = Warp.of(y, share)
        start = np.full(d + 1, prior - 0.7)
        start[d] = math.log(1e-2) if noisy else floor
        steps = STEPS
        if known is not None:
            start = np.array([*known.lengths, known.noise])
            steps = AGAIN
        theta, value = _climb(start, parts, warp.forward(y), counts, prior, noisy, steps)
        total = value + warp.logjacobian(y)
        found.append((total, Hyper(tuple(float(t) for t in theta[:d]), float(theta[d]), share, size)))
    return max(found, key=lambda item: item[0])[1]


def _climb(
    theta: Array, parts: Array, z: Array, counts: Array, prior: float, noisy: bool, steps: int
) -> tuple[Array, float]:
    """The best point and its log posterior: resilient backpropagation (Riedmiller and Braun 1993)."""
    d = len(theta) - 1
    low = np.array([LENGTH_RANGE[0]] * d + [NOISE_RANGE[0]])
    high = np.array([LENGTH_RANGE[1]] * d + [NOISE_RANGE[1]])
    theta = np.clip(theta, low, high)
    step = np.full(d + 1, 0.3)
    before = np.zeros(d + 1)
    best, best_value = theta, -math.inf
    for _ in range(steps):
        value, slope = log_posterior(theta, parts, z, counts, prior)
        if value > best_value:
            best, best_value = theta, value
        if not noisy:
            slope[d] = 0.0
        same = slope * before
        step = np.clip(np.where(same > 0, step * 1.3, np.where(same < 0, step * 0.5, step)), 1e-3, 1.0)
        before = np.where(same < 0, 0.0, slope)
        theta = np.clip(theta + np.sign(before) * step, low, high)
    return best, best_value


def log_posterior(theta: Array, parts: Array, z: Array, counts: Array, prior: float) -> tuple[float, Array]:
    """Log posterior of lengths and noise, up to a constant, and its gradient; mean and variance are integrated out."""
    d, n = len(theta) - 1, len(z)
    weights = np.exp(-2.0 * theta[:d])
    squared = np.tensordot(weights, parts, axes=1)
    root = np.sqrt(5.0 * squared)
    decay = np.exp(-root)
    kernel = (1.0 + root + (5.0 / 3.0) * squared) * decay
    noise = math.exp(theta[d]) / counts
    kernel[np.diag_indices(n)] += noise + JITTER
    try:
        lower = np.linalg.cholesky(kernel)
    except np.linalg.LinAlgError:
        return -math.inf, np.zeros(d + 1)
    inverse = np.linalg.inv(lower)
    ones, white = inverse @ np.ones(n), inverse @ z
    mean = float(ones @ white / (ones @ ones))
    rest = white - mean * ones
    variance = max(float(rest @ rest) / n, 1e-12)
    alpha = inverse.T @ rest
    value = -0.5 * n * math.log(variance) - float(np.sum(np.log(np.diag(lower))))
    # Of each kernel entry: half of (alpha alpha' / variance - inverse of the kernel).
    outer = np.outer(alpha, alpha) / variance - inverse.T @ inverse
    slope = np.empty(d + 1)
    # dk/dlog(length) = (5/3) (1 + root) exp(-root) * weight * part
    common = outer * ((5.0 / 3.0) * (1.0 + root) * decay)
    slope[:d] = 0.5 * weights * np.tensordot(parts, common, axes=([1, 2], [0, 1]))
    slope[d] = 0.5 * float(np.sum(np.diag(outer) * noise))
    off = (theta[:d] - prior) / LENGTH_PRIOR[1]
    value -= 0.5 * float(off @ off)
    slope[:d] -= off / LENGTH_PRIOR[1]
    # A weak pull towards little noise.
    away = (theta[d] - math.log(1e-4)) / 4.0
    return value - 0.5 * away**2, slope - np.append(np.zeros(d), away / 4.0)
