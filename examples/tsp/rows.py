"""Writes the rows: which cities they are, and how long a good trip is. It takes ten seconds.

python rows.py
"""

import json
from pathlib import Path

from cities import made, reference

SPLITS = {"train": 8, "val": 40, "test": 10}
LIBRARY = ("eil51", "berlin52", "st70", "eil76", "rat99", "kroA100")
CITIES = 50
FOLDER = Path(__file__).parent


def row(split, number):
    """Half of the instances have their cities anywhere, half in groups."""
    kind = "groups" if number % 2 else "any"
    seed = f"{split}-{number}"
    return {"id": seed, "made": seed, "kind": kind, "count": CITIES, "best": reference(made(seed, CITIES, kind))}


if __name__ == "__main__":
    for split, count in SPLITS.items():
        rows = [row(split, number) for number in range(count)]
        (FOLDER / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    rows = [{"id": name, "library": name} for name in LIBRARY]
    (FOLDER / "tsplib.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
