"""The functions that programs are made of. Arrays have shape (runs, weights); a number stands for all of them."""

import numpy as np

TINY = 1e-12


def interp(x, y, k):
    """From x to y: (1 - k) x + k y."""
    return (1 - k) * x + k * y


def debias(x, k, step):
    """What the average x would be without its beginning at zero, after `step` steps with the rate k."""
    return x / (1 - k**step)


def clip(x, most):
    """Cut to the range from -most to most."""
    return np.clip(x, -most, most)


def sign(x):
    """-1, 0 or 1."""
    return np.sign(x)


def root(x):
    """The square root of the size."""
    return np.sqrt(np.abs(x))


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


def norm(x):
    """The root mean square over the weights of each run."""
    return np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + TINY) if np.ndim(x) else np.abs(x)
