"""Writes the rows: which instance each of them is. Nothing of an instance itself is in them."""

import json
from pathlib import Path

GENERATED = {"train": (6, 5000), "val": (40, 5000), "test": (5, 5000)}
LIBRARY = {"train": "or1_u120", "val": "or2_u250"}
FOLDER = Path(__file__).parent


def write():
    """Five instances are the test, fitted on others; OR1 and OR2 have 20 each, and larger ones are generated."""
    for split, (count, items) in GENERATED.items():
        made = [{"id": f"{split}-{k}", "weibull": f"{split}-{k}", "items": items} for k in range(count)]
        _file(f"{split}.jsonl", made)
    for split, name in LIBRARY.items():
        _file(f"or_{split}.jsonl", [{"id": f"{name}-{k}", "library": name, "index": k} for k in range(20)])


def _file(name, rows):
    (FOLDER / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write()
