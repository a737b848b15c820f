"""Small networks: loss and gradient for several runs at once, each with weights of its own.

Weights have shape (runs, weights). Everything is written out, so that no framework is needed and a hundred steps take
some milliseconds.
"""

import numpy as np


def count(kind, features, hidden, outputs):
    """How many weights a network has."""
    if kind in ("quadratic", "linear", "logistic"):
        return features
    return features * hidden + hidden + hidden * outputs + outputs


def _split(w, features, hidden, outputs):
    runs, ends = len(w), np.cumsum([features * hidden, hidden, hidden * outputs])
    first, bias, second, last = np.split(w, ends, axis=1)
    return first.reshape(runs, features, hidden), bias[:, None], second.reshape(runs, hidden, outputs), last[:, None]


def _forward(kind, w, x, hidden, outputs):
    """Activations of the hidden layer, (runs, rows, hidden), and outputs, (runs, rows, outputs)."""
    if kind in ("linear", "logistic"):
        return None, (w @ x.T)[:, :, None]
    first, bias, second, last = _split(w, x.shape[1], hidden, outputs)
    inner = x @ first + bias
    inner = np.maximum(inner, 0.0) if kind == "softmax" else np.tanh(inner)
    return inner, inner @ second + last


def losses(kind, w, x, y, hidden=0, outputs=1):
    """The mean loss of each run, shape (runs,).

    Args:
        kind: quadratic, linear, logistic, mlp, autoencoder or softmax.
        w: Weights.
        x: Rows (rows, features); of a quadratic the matrix of curvatures.
        y: Targets (rows, outputs); classes as 0 and 1; of a quadratic where its minimum lies.
        hidden: Width of the hidden layer.
        outputs: Width of the last one.
    """
    if kind == "quadratic":
        away = w - y
        return 0.5 * np.einsum("rp,rp->r", away @ x, away)
    _, out = _forward(kind, w, x, hidden, outputs)
    if kind == "logistic":
        return np.mean(np.logaddexp(0.0, out) - y * out, axis=(1, 2))
    if kind == "softmax":
        top = out.max(axis=2, keepdims=True)
        logs = top + np.log(np.exp(out - top).sum(axis=2, keepdims=True))
        return np.mean(np.sum(y * (logs - out), axis=2), axis=1)
    return 0.5 * np.mean(np.square(out - y), axis=(1, 2))


def gradient(kind, w, x, y, hidden=0, outputs=1):
    """The gradient of `losses`, shape (runs, weights)."""
    if kind == "quadratic":
        return (w - y) @ x
    inner, out = _forward(kind, w, x, hidden, outputs)
    if kind == "logistic":
        back = 0.5 * (1.0 + np.tanh(0.5 * out)) - y
    elif kind == "softmax":
        back = np.exp(out - out.max(axis=2, keepdims=True))
        back = (back / back.sum(axis=2, keepdims=True) - y) * outputs
    else:
        back = out - y
    back = back / (len(x) * outputs)
    if inner is None:
        return back[:, :, 0] @ x
    second = _split(w, x.shape[1], hidden, outputs)[2]
    slope = inner > 0 if kind == "softmax" else 1.0 - np.square(inner)
    middle = (back @ second.transpose(0, 2, 1)) * slope
    runs = len(w)
    parts = [x.T @ middle, middle.sum(axis=1), inner.transpose(0, 2, 1) @ back, back.sum(axis=1)]
    return np.concatenate([part.reshape(runs, -1) for part in parts], axis=1)
