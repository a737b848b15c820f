"""Writes train.jsonl and val.jsonl: word problems of our own, made of parts by a seed, each with its optimum.

python rows.py
"""

import json
import random
from pathlib import Path

from harness import optimum

TRAIN, VAL = 24, 80
MAKERS = [
    ("A carpenter", "chair", "table", ("wood", "units"), ("work", "hours")),
    ("A bakery", "loaf", "cake", ("flour", "grams"), ("oven", "minutes")),
    ("A potter", "bowl", "vase", ("clay", "pounds"), ("glaze", "ounces")),
    ("A tailor", "coat", "scarf", ("wool", "meters"), ("sewing", "minutes")),
]
MOVERS = [
    ("van", "truck", "boxes"),
    ("boat", "ferry", "guests"),
    ("bike", "cart", "parcels"),
    ("donkey", "camel", "bags"),
]
FEEDERS = [
    ("pill", "shake", "iron", "zinc"),
    ("apple", "bun", "sugar", "fiber"),
    ("bar", "soup", "salt", "protein"),
]
PLURAL = {"loaf": "loaves", "scarf": "scarves", "ferry": "ferries", "box": "boxes"}


def many(word):
    """More than one of them."""
    return PLURAL.get(word, word + "s")


def making(rng):
    """Two products, two resources, the largest profit."""
    who, a, b, (first, one), (second, two) = rng.choice(MAKERS)
    (u, v), (w, z) = [[rng.randint(2, 9) for _ in range(2)] for _ in range(2)]
    p, q, limit, other = rng.randint(5, 30), rng.randint(5, 30), rng.randint(100, 400), rng.randint(100, 400)
    needs = rng.choice(
        [
            f"Each {a} takes {u} {one} of {first} and {w} {two} of {second}. "
            f"Each {b} takes {v} {one} of {first} and {z} {two} of {second}.",
            f"A {a} requires {u} {one} of {first} and {w} {two} of {second}, while a {b} requires {v} {one} of {first} "
            f"and {z} {two} of {second}.",
        ]
    )
    has = rng.choice(
        [
            f"There are {limit} {one} of {first} and {other} {two} of {second} available.",
            f"At most {limit} {one} of {first} and at most {other} {two} of {second} can be used.",
            f"The stock is {limit} {one} of {first} and {other} {two} of {second}.",
        ]
    )
    rows = [([u, v], "<=", limit), ([w, z], "<=", other)]
    more = ""
    if rng.random() < 0.5:
        least = rng.randint(2, 8)
        more = f" At least {least} {many(b)} must be made."
        rows.append(([0, 1], ">=", least))
    gain = rng.choice(
        [
            f"The profit per {a} is ${p} and the profit per {b} is ${q}.",
            f"Each {a} brings a profit of ${p} and each {b} ${q}.",
        ]
    )
    text = f"{who} makes {many(a)} and {many(b)}. {needs} {has}{more} {gain} How many of each maximize the profit?"
    return text, True, [p, q], rows


def moving(rng):
    """Two vehicles: a load to carry, at the least cost, or as much as can be for the money."""
    a, b, load = rng.choice(MOVERS)
    u, p, v, q = rng.randint(3, 12), rng.randint(4, 15), rng.randint(12, 30), rng.randint(12, 40)
    trips = f"A {a} can carry {u} {load} and costs ${p}. A {b} can carry {v} {load} and costs ${q}."
    if rng.random() < 0.5:
        need, top = rng.randint(100, 300), rng.randint(3, 9)
        end = rng.choice(
            [
                f"At least {need} {load} must be carried, and at most {top} {many(b)} can be used. How many of each "
                "minimize the total cost?",
                f"There are {need} {load} to carry and no more than {top} {many(b)}. Minimize the total cost.",
            ]
        )
        return f"{trips} {end}", False, [p, q], [([u, v], ">=", need), ([0, 1], "<=", top)]
    money, least = rng.randint(200, 600), rng.randint(2, 9)
    end = f"There is ${money} to spend, and at least {least} {many(a)} must be used. How many of each maximize the "
    return f"{trips} {end}number of {load}?", True, [u, v], [([p, q], "<=", money), ([1, 0], ">=", least)]


def feeding(rng):
    """Two foods: enough of two things, as cheap or as few as can be."""
    a, b, first, second = rng.choice(FEEDERS)
    (u, v), (w, z) = [[rng.randint(2, 9) for _ in range(2)] for _ in range(2)]
    p, q, need, other = rng.randint(2, 9), rng.randint(2, 9), rng.randint(50, 200), rng.randint(50, 200)
    has = f"One {a} has {u} units of {first} and {w} units of {second}; one {b} has {v} units of {first} and {z} units "
    want = rng.choice(
        [
            f"of {second}. A guest needs at least {need} units of {first} and at least {other} units of {second}.",
            f"of {second}. A minimum of {need} units of {first} and {other} units of {second} is needed.",
        ]
    )
    rows = [([u, v], ">=", need), ([w, z], ">=", other)]
    if rng.random() < 0.5:
        return f"{has}{want} A {a} costs ${p} and a {b} ${q}. Minimize the cost.", False, [p, q], rows
    times = rng.choice([2, 3])
    word = "twice" if times == 2 else "three times"
    rows.append(([1, -times], ">=", 0))
    last = f" There must be at least {word} as many {many(a)} as {many(b)}. Minimize the number of {many(a)} and "
    return f"{has}{want}{last}{many(b)} in all.", False, [1, 1], rows


def main():
    """Write both files, without a problem twice."""
    rng, seen, rows = random.Random(0), set(), []
    while len(rows) < TRAIN + VAL:
        text, largest, gains, limits = rng.choice((making, moving, feeding))(rng)
        names = ["a", "b"]
        made = {
            "maximize": largest,
            "objective": dict(zip(names, gains, strict=True)),
            "limits": [[dict(zip(names, each, strict=True)), sign, bound] for each, sign, bound in limits],
            "whole": True,
        }
        found = optimum(made)
        if text not in seen and found is not None:
            seen.add(text)
            rows.append({"id": f"problem-{len(rows)}", "input": text, "target": found})
    for name, part in (("train", rows[:TRAIN]), ("val", rows[TRAIN:])):
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


if __name__ == "__main__":
    main()
