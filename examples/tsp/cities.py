"""Cities: made by a seed, or TSPLIB's where they are at hand; and how long a round trip is."""

import json
import math
import os
import random
from functools import lru_cache
from pathlib import Path

SIDE = 1000


def made(seed, count, kind):
    """Places in a square as whole numbers: anywhere, or in groups."""
    rng = random.Random(f"cities {kind} {seed}")
    centres = [(rng.uniform(0.1, 0.9) * SIDE, rng.uniform(0.1, 0.9) * SIDE) for _ in range(5)]

    def place():
        if kind == "any":
            return [rng.randrange(SIDE), rng.randrange(SIDE)]
        centre = rng.choice(centres)
        return [min(SIDE, max(0, round(rng.gauss(middle, SIDE / 15)))) for middle in centre]

    return [place() for _ in range(count)]


@lru_cache(maxsize=1)
def library():
    """TSPLIB's instances by name, from the folder that TRUEGAIN_DATA names."""
    folder = os.environ.get("TRUEGAIN_DATA")
    if not folder:
        raise FileNotFoundError("TRUEGAIN_DATA names no folder; it must hold tsp/instances.json")
    return {one["name"]: one for one in json.loads((Path(folder) / "tsp" / "instances.json").read_text("utf-8"))}


def distance(a, b):
    """As TSPLIB's EUC_2D: rounded to a whole number."""
    return int(math.dist(a, b) + 0.5)


def length(cities, trip):
    """Of the round trip."""
    return sum(distance(cities[a], cities[b]) for a, b in zip(trip, [*trip[1:], trip[0]], strict=True))


def improved(between, trip):
    """The trip without crossings and with each short piece where it costs least (2-opt and Or-opt), in place."""
    count, better = len(trip), True
    while better:
        better = False
        for i in range(count - 1):
            for j in range(i + 2, count if i else count - 1):
                a, b, c, d = trip[i], trip[i + 1], trip[j], trip[(j + 1) % count]
                if between[a][c] + between[b][d] < between[a][b] + between[c][d]:
                    trip[i + 1 : j + 1] = reversed(trip[i + 1 : j + 1])
                    better = True
        for size in (1, 2, 3):
            for i in range(count):
                turned = trip[i:] + trip[:i]
                piece, rest = turned[:size], turned[size:]
                gap = between[rest[-1]][piece[0]] + between[piece[-1]][rest[0]] - between[rest[-1]][rest[0]]
                cost, k, way = min(
                    (between[rest[k]][p[0]] + between[p[-1]][rest[k + 1]] - between[rest[k]][rest[k + 1]], k, way)
                    for k in range(len(rest) - 1)
                    for way, p in ((1, piece), (-1, piece[::-1]))
                )
                if cost < gap:
                    trip[:] = rest[: k + 1] + piece[::way] + rest[k + 1 :]
                    better = True
    return trip


def reference(cities, tries=12, seed=0):
    """The shortest of some improved trips: about the optimum, which nobody knows for cities that were just made."""
    between = [[distance(a, b) for b in cities] for a in cities]
    rng, best = random.Random(seed), None
    for _ in range(tries):
        trip = list(range(len(cities)))
        rng.shuffle(trip)
        found = length(cities, improved(between, trip))
        best = found if best is None else min(best, found)
    return best
