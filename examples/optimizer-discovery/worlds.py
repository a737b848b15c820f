"""Tasks: what is learned from which rows, made from a row's seed. The rows for the score never leave the scorer."""

import zlib

import numpy as np
from nets import count

LR = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
DECAY = (0.0, 0.03, 0.3)
GRID = [(lr, decay) for lr in LR for decay in DECAY]
"""Learning rates and decays that every optimizer is tried with, on every task: 24 runs at once."""


def world(row):
    """A task: what the program may see under "given", and the rows that score it under "held".

    Args:
        row: With `kind`, `features`, `hidden`, `steps`, `batch` and `seed`.
    """
    rng = np.random.default_rng(zlib.crc32(row["seed"].encode()))
    kind, features, hidden = row["kind"], row["features"], row["hidden"]
    outputs, rows = {"autoencoder": features, "softmax": 3}.get(kind, 1), 200
    if kind == "quadratic":
        basis = np.linalg.qr(rng.normal(size=(features, features)))[0]
        curved = basis * 10.0 ** rng.uniform(-2.5, 0.0, features) @ basis.T
        target = rng.normal(size=(1, features))
        train = held = (curved, target)
    else:
        x, y = _rows(kind, rng, features, 2 * rows)
        train, held = (x[:rows], y[:rows]), (x[rows:], y[rows:])
    size = count(kind, features, hidden, outputs)
    scale = 0.0 if kind in ("quadratic", "linear", "logistic") else 0.3
    shape = (row["steps"], features) if kind == "quadratic" else (row["steps"], row["batch"])
    given = {
        "kind": kind,
        "hidden": hidden,
        "outputs": outputs,
        "x": train[0],
        "y": train[1],
        "start": scale * rng.normal(size=size),
        "draws": 0.1 * rng.normal(size=shape) if kind == "quadratic" else rng.integers(0, rows, size=shape),
        "grid": GRID,
    }
    return {"given": given, "held": held}


def _rows(kind, rng, features, rows):
    """Inputs of different sizes, some of them related, and what follows from them."""
    mixed = rng.normal(size=(rows, features)) @ (np.eye(features) + 0.5 * rng.normal(size=(features, features)))
    x = mixed / mixed.std(axis=0) * 10.0 ** rng.uniform(-1.0, 0.3, features)
    if kind == "linear":  # noise with heavy tails
        return x, x @ rng.normal(size=(features, 1)) + 0.3 * rng.standard_t(3, size=(rows, 1))
    if kind == "logistic":
        logits = x @ rng.normal(size=(features, 1)) * 2.0
        return x, (logits + rng.logistic(size=(rows, 1)) > 0).astype(float)
    if kind == "autoencoder":
        codes = rng.normal(size=(rows, max(2, features // 3)))
        y = np.tanh(codes @ rng.normal(size=(codes.shape[1], features))) + 0.05 * rng.normal(size=(rows, features))
        return y, y
    inner = np.tanh(x @ rng.normal(size=(features, 4)))
    if kind == "softmax":
        logits = 3.0 * inner @ rng.normal(size=(4, 3)) + rng.gumbel(size=(rows, 3))
        return x, np.eye(3)[logits.argmax(axis=1)]
    return x, inner @ rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(rows, 1))
