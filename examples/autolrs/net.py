"""A small neural network in numpy: scikit-learn's digits, trained by stochastic gradient descent with momentum."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

FITTED, CHOSEN = 1200, 300
"""Images that are fitted, and images whose loss chooses rates; the other 297 are the test images."""
HIDDEN, BATCH, MOMENTUM = 64, 32, 0.9


@cache
def data(split):
    """Images scaled to [0, 1] and their digits: "train", "val" or "test"."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    low, high = {
        "train": (0, FITTED),
        "val": (FITTED, FITTED + CHOSEN),
        "test": (FITTED + CHOSEN, len(x)),
    }[split]
    return x[order[low:high]] / 16.0, y[order[low:high]]


class Network:
    """Two layers, softmax on top. Everything that training changes is copied by `copy`, the batches to come included.

    Args:
        seed: Of the weights and the batches.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        sizes = ((64, HIDDEN), (HIDDEN, 10))
        self.weights = [self.rng.normal(0, np.sqrt(2 / rows), (rows, columns)) for rows, columns in sizes]
        self.weights += [np.zeros(HIDDEN), np.zeros(10)]
        self.speed = [np.zeros_like(weight) for weight in self.weights]

    def copy(self):
        """A checkpoint: it trains on exactly as this one would."""
        other = object.__new__(Network)
        other.rng = np.random.default_rng()
        other.rng.bit_generator.state = self.rng.bit_generator.state
        other.weights = [weight.copy() for weight in self.weights]
        other.speed = [speed.copy() for speed in self.speed]
        return other

    def _forward(self, x):
        first, second, bias, out = self.weights
        hidden = np.maximum(x @ first + bias, 0.0)
        scores = hidden @ second + out
        scores = scores - scores.max(axis=1, keepdims=True)
        return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def step(self, rate):
        """One batch, with this learning rate. A rate that is too large ends in NaN and raises nothing."""
        x, y = data("train")
        rows = self.rng.integers(0, len(x), BATCH)
        with np.errstate(all="ignore"):
            hidden, logs = self._forward(x[rows])
            slope = np.exp(logs)
            slope[np.arange(BATCH), y[rows]] -= 1.0
            slope /= BATCH
            back = slope @ self.weights[1].T * (hidden > 0)
            gradients = [x[rows].T @ back, hidden.T @ slope, back.sum(axis=0), slope.sum(axis=0)]
            for weight, speed, gradient in zip(self.weights, self.speed, gradients, strict=True):
                speed *= MOMENTUM
                speed -= rate * gradient
                weight += speed

    def loss(self, split):
        """Mean cross-entropy in nats; NaN or infinity after a divergence."""
        x, y = data(split)
        with np.errstate(all="ignore"):
            return float(-self._forward(x)[1][np.arange(len(y)), y].mean())

    def accuracy(self, split):
        """Share of the images that are read correctly."""
        x, y = data(split)
        with np.errstate(all="ignore"):
            return float((self._forward(x)[1].argmax(axis=1) == y).mean())
