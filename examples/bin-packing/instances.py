"""Instances of online bin packing: generated ones, and OR-Library's where they are at hand; and how to pack them."""

import json
import math
import os
import random
from pathlib import Path

CAPACITY = 100


def weibull(seed, count=5000, shape=3.0, scale=45.0):
    """Sizes that follow a Weibull distribution, as whole numbers from 1 to 100 in bins of 100.

    Source: Romera-Paredes et al. 2024, Nature 625, "Mathematical discoveries from program search with large language
    models", the bin-packing instances: samples are cut at 100, then rounded.
    """
    rng = random.Random(f"weibull {seed}")
    drawn = (scale * (-math.log(1.0 - rng.random())) ** (1.0 / shape) for _ in range(count))
    return {"name": f"weibull-{seed}", "capacity": CAPACITY, "items": [max(1, round(min(100.0, one))) for one in drawn]}


def library(name):
    """OR-Library's instances of a file such as `or1_u120`, from the folder that TRUEGAIN_DATA names."""
    folder = os.environ.get("TRUEGAIN_DATA")
    if not folder:
        raise FileNotFoundError("TRUEGAIN_DATA names no folder; it must hold bin_packing/or1_u120.json and the others")
    return json.loads((Path(folder) / "bin_packing" / f"{name}.json").read_text(encoding="utf-8"))


def packed(instance, rows):
    """Pack the items one after the other, each into the bin of the highest priority, and count the bins.

    Args:
        instance: With `capacity` and `items`.
        rows: By size, the priority of a bin with each room from that size to the capacity; of two equals the bin with
            less room is taken. An empty bin is always at hand.
    """
    capacity = instance["capacity"]
    order = {
        size: sorted(range(size, capacity + 1), key=lambda room, r=row, s=size: (-r[room - s], room))
        for size, row in rows.items()
    }
    free = [0] * (capacity + 1)
    free[capacity] = len(instance["items"])
    for size in instance["items"]:
        for room in order[size]:
            if free[room]:
                free[room] -= 1
                free[room - size] += 1
                break
    return len(instance["items"]) - free[capacity]


def excess(instance, rows):
    """Bins beyond the least that the sizes need together (L1), in percent of it."""
    least = math.ceil(sum(instance["items"]) / instance["capacity"])
    return 100.0 * (packed(instance, rows) - least) / least
