"""Writes rows.jsonl: notices as they hang in a house, made of parts by a seed, without a headline.

python rows.py
"""

import json
import random
from pathlib import Path

SPLITS = {"train": 60, "val": 120}
WHEN = ["Monday", "Tuesday", "Thursday", "Friday", "Saturday", "tomorrow", "next week", "tonight"]
PLACES = ["in the north wing", "on floor 3", "at the back gate", "beside the canteen", "in the old hall", "downstairs"]
WHAT = {
    "lift": ["The lift {place} is out of order until {when}.", "From {when} on the lift {place} is being repaired."],
    "choir": ["The choir meets {when} {place}, an hour later.", "Our choir sings {place} {when}; all are welcome."],
    "parcel": [
        "A parcel for flat {n} waits {place} until {when}.",
        "Who expects a parcel? It lies {place} till {when}.",
    ],
    "scarf": ["A grey scarf was found {place}. It is kept until {when}.", "Lost {when} {place}: a red scarf."],
    "water": ["There will be no warm water {place} {when}.", "On account of works the water {place} is cut {when}."],
    "garden": ["The garden {place} is closed {when}.", "Help is wanted {when} for the garden {place}."],
    "printer": [
        "The printer {place} has no toner before {when}.",
        "A new printer comes {when} and will stand {place}.",
    ],
    "coffee": ["Free coffee is served {place} {when}.", "The coffee machine {place} is cleaned {when}."],
    "parking": ["There is no parking {place} {when}.", "Parking {place} costs {n} euros from {when} on."],
    "library": ["The library {place} opens at {n} {when}.", "The library {place} gives books away {when}."],
}
MORE = [
    "Please use the stairs.",
    "Ask at the front desk, room {n}.",
    "We are sorry for the trouble.",
    "Bring a friend and good shoes.",
    "Questions go to the caretaker.",
    "It takes about {n} hours.",
    "",
]


def notice(rng):
    """One row, without its split."""
    about, when = rng.choice(list(WHAT)), rng.choice(WHEN)
    text = f"{rng.choice(WHAT[about])} {rng.choice(MORE)}".strip()
    return {
        "notice": text.format(place=rng.choice(PLACES), when=when, n=rng.randint(2, 40)),
        "about": about,
        "when": when,
    }


def own(seed=0):
    """All rows, without a notice twice."""
    rng, out = random.Random(seed), {}
    while len(out) < sum(SPLITS.values()):
        row = notice(rng)
        out.setdefault(row["notice"], row)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    return [{"id": f"notice-{n}", **row, "split": splits[n]} for n, row in enumerate(out.values())]


if __name__ == "__main__":
    path = Path(__file__).parent / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in own()), encoding="utf-8")
