"""Writes the rows: which task each of them is, and what tuned AdamW and tuned SGD with momentum come to there.

python examples/optimizer-discovery/rows.py
"""

import importlib
import json
import random
import sys
import types

from task import FOLDER, best, made

from agent.code.holes import plain

KNOWN = ("logistic", "mlp", "autoencoder", "quadratic")
NEW = ("linear", "softmax")
"""Kinds of tasks that the search never sees."""
SPLITS = {
    # name: rows, file, the kinds of a row's tasks (one of these lists after the other), features, hidden, steps
    "tiny": (2, "train", [KNOWN], (4, 8), (3, 5), 50),
    "small": (4, "train", [KNOWN], (6, 12), (4, 7), 80),
    "race": (34, "train", [KNOWN], (8, 14), (5, 8), 100),
    "val-b": (120, "val", [(kind,) * 3 for kind in (*KNOWN, *NEW)], (8, 20), (5, 12), 120),
    "test-b": (24, "test", [(kind,) * 3 for kind in (*KNOWN, *NEW)], (16, 32), (10, 20), 300),
}
"""A name is what a group's rows are drawn from. Those of the gate and of the test are a second draw, made when all
settings were fixed: the first one was looked at on the way there."""


def known(name):
    """The text of an update in this folder."""
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def program(text):
    """An update as a function in this process, without a sandbox: only for texts that no model wrote."""
    space = {}
    exec(plain(text), space)
    return space["update"]


def loss(row, draw, update):
    """The smallest loss over the grid that an update comes to on a task."""
    sys.modules["update"] = types.SimpleNamespace(update=update)
    sys.modules.pop("harness", None)
    found = best(row, draw, importlib.import_module("harness").train(made(row, draw)["given"]))
    return float(f"{found:.10g}")


def rows(name):
    """The rows of a group, with what the two come to."""
    number, _, kinds, features, hidden, steps = SPLITS[name]
    rng = random.Random(name)
    rivals = {rival: program(known(file)) for rival, file in (("adamw", "update"), ("sgd", "sgd"))}
    for k in range(number):
        row = {"id": f"{name}-{k}", "kinds": list(kinds[k % len(kinds)]), "features": rng.randint(*features)}
        row |= {"hidden": rng.randint(*hidden), "steps": steps, "batch": rng.choice((8, 16, 32)), "seed": f"{name} {k}"}
        yield row | {
            rival: [loss(row, draw, update) for draw in range(len(row["kinds"]))] for rival, update in rivals.items()
        }


def write():
    """Three files: train has tiny and small tasks too, for the funnel."""
    lines = {}
    for name, (_, file, *_) in SPLITS.items():
        lines.setdefault(file, []).extend(json.dumps(row) + "\n" for row in rows(name))
    for file, text in lines.items():
        (FOLDER / f"{file}.jsonl").write_text("".join(text), encoding="utf-8")


if __name__ == "__main__":
    write()
