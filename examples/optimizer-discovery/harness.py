"""The candidate's side: it trains a small network with the program's updates, once for each point of the grid."""

import numpy as np
from nets import gradient
from update import update

LARGEST = 1e6


def train(given):
    """The weights at the end, shape (runs, weights), and which runs came to an end with weights that are numbers.

    The learning rate falls in a straight line to zero, for every program.
    """
    np.seterr(all="ignore")
    runs = len(given["grid"])
    peak, decay = (np.array(column, dtype=float)[:, None] for column in zip(*given["grid"], strict=True))
    w = np.tile(np.asarray(given["start"], dtype=float), (runs, 1))
    m, v, fine = np.zeros_like(w), np.zeros_like(w), np.ones(runs, dtype=bool)
    kind, x, y, draws = given["kind"], given["x"], given["y"], given["draws"]
    for index, draw in enumerate(draws):
        if kind == "quadratic":
            g = gradient(kind, w, x, y) + draw
        else:
            g = gradient(kind, w, x[draw], y[draw], given["hidden"], given["outputs"])
        lr = peak * (1 - index / len(draws))
        w, m, v = (np.broadcast_to(item, g.shape) for item in update(w, g, m, v, lr, decay, index + 1))
        fine &= np.isfinite(w).all(axis=1) & (np.abs(w) < LARGEST).all(axis=1)
        w = np.where(fine[:, None], w, 0.0)
    return {"weights": w, "fine": fine.tolist()}
