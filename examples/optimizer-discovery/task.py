"""The scorer's side: what a program learned, on rows that it never saw."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from nets import losses
from worlds import world

FOLDER = Path(__file__).parent
LIMIT = 0.5
"""A gain counts up to this, and so does a loss: a factor of 1.65 in the loss."""


class Task:
    """How much smaller the loss is than that of the better of tuned AdamW and tuned SGD: the logarithm of the ratio."""

    entry = "harness:train"
    schema = {  # noqa: RUF012
        "type": "object",
        "properties": {"weights": {}, "fine": {"type": "array", "items": {"type": "boolean"}}},
        "required": ["weights", "fine"],
        "additionalProperties": False,
    }

    def files(self, candidate):
        """What calls the program, and what it is made of."""
        return {name: (FOLDER / name).read_text(encoding="utf-8") for name in ("harness.py", "nets.py", "ops.py")}

    def inputs(self, seed, stage, row):
        """A row is a few tasks; their gains are averaged."""
        return [] if stage == "smoke" else [{"row": row, "draw": draw} for draw in range(len(row["kinds"]))]

    def question(self, given):
        """All but the rows that score it."""
        return made(**given)["given"]

    def score(self, given, output):
        """The best point of the grid counts, as for those that it is compared with."""
        row, draw = given["row"], given["draw"]
        found = best(row, draw, output)
        if math.isinf(found):
            return {"gain": -LIMIT, "over_sgd": -LIMIT}
        gain = [max(-LIMIT, min(LIMIT, math.log(other / found))) for other in (row["adamw"][draw], row["sgd"][draw])]
        return {"gain": min(gain), "over_sgd": gain[1]}


def best(row, draw, output):
    """The smallest loss that a run came to on the held-out rows; infinite where none came to one.

    Raises:
        ValueError: The weights are not those of the network.
    """
    task = made(row, draw)
    given, weights, fine = task["given"], output["weights"], output["fine"]
    shape = (len(given["grid"]), len(given["start"]))
    if not isinstance(weights, np.ndarray) or weights.shape != shape or len(fine) != shape[0]:
        raise ValueError(f"weights of shape {shape} are wanted, and a word for each run")
    with np.errstate(all="ignore"):
        found = losses(given["kind"], weights, *task["held"], given["hidden"], given["outputs"])
        if given["kind"] == "quadratic":  # beside what noise leaves, or a lucky last step would be all that counts
            start = losses(given["kind"], np.asarray([given["start"]]), *task["held"])[0]
            found = found / start + 1e-3
    usable = [float(loss) for loss, ok in zip(found, fine, strict=True) if ok and math.isfinite(loss)]
    return min(usable, default=math.inf)


def made(row, draw):
    """A task of a row."""
    sizes = (row[name] for name in ("features", "hidden", "steps", "batch"))
    return _made(row["kinds"][draw], *sizes, f"{row['seed']} {draw}")


@lru_cache(maxsize=512)
def _made(kind, features, hidden, steps, batch, seed):
    sizes = {"features": features, "hidden": hidden, "steps": steps, "batch": batch}
    return world({"kind": kind, "seed": seed, **sizes})
