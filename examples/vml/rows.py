"""Writes line.jsonl, parabola.jsonl, sine.jsonl and blobs.jsonl: x, the y that belongs to it, and a scale for errors.

python rows.py
"""

import json
import math
import random
import statistics
from pathlib import Path

ROWS = 240
SPLITS = ("train", "val", "test")
"""In turn: the search reads the first, the gate the second, and nobody the third until the end."""
CURVES = {
    "line": (lambda x: 3 * x + 4, 0.0, 2.0, 0.1),
    "parabola": (lambda x: 3 * x * x + x + 2, -3.0, 1.0, 1.0),
    "sine": (lambda x: math.sin(x) + 2, -3.0, 3.0, 0.01),
}
"""Function, lowest and highest x, standard deviation of the noise."""
CENTRES = [(-1.0, -1.0), (1.5, 1.0)]
"""Of the two blobs, whose points scatter by 0.9."""


def curve(name):
    """Rows of a regression; errors are measured in standard deviations of y."""
    function, low, high, noise = CURVES[name]
    rng = random.Random(f"vml {name}")
    rows = []
    for _ in range(ROWS):
        x = round(rng.uniform(low, high), 3)
        rows.append({"x": x, "y": round(function(x) + rng.gauss(0, noise), 3)})
    scale = round(statistics.pstdev(row["y"] for row in rows), 3)
    return [{**row, "scale": scale} for row in rows]


def blobs():
    """Rows of two classes, 0 and 1, in the plane."""
    rng = random.Random("vml blobs")
    rows = []
    for number in range(ROWS):
        label = number % 2
        rows.append({"x": [round(rng.gauss(c, 0.9), 3) for c in CENTRES[label]], "y": label})
    return rows


def main():
    """Write the four files."""
    for name, rows in {**{name: curve(name) for name in CURVES}, "blobs": blobs()}.items():
        lines = [
            json.dumps({"id": f"{name}-{number}", "split": SPLITS[number // 2 % 3], **row}) + "\n"
            for number, row in enumerate(rows)
        ]
        (Path(__file__).parent / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
