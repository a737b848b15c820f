"""Writes train.jsonl and val.jsonl: sentences of people who book a table, made of parts by a seed.

python rows.py
"""

import json
import random
from pathlib import Path

PEOPLE = ["{n}", "{n} people", "{n} guests", "{n} of us", "{w}", "{w} people", "{n} adults and {m} children"]
TIMES = ["{h}pm", "{h} pm", "{h}:{q} pm", "{h}:{q}", "{h}.{q}pm", "{h} in the evening", "half past {h}", "noon"]
DATES = [
    "{month} {d}th",
    "{d}th of {month}",
    "tomorrow",
    "next {day}",
    "{day}",
    "in {d} days",
    "{d}/{mm}/2027",
    "tonight",
]
MONTHS = ["January", "March", "May", "August", "October", "December"]
DAYS = ["Monday", "Wednesday", "Friday", "Saturday"]
WORDS = ["two", "three", "four", "five", "six", "eight"]
FRAMES = [
    "A table for {people} at {time} {date}, please.",
    "Could we come {date} at {time}? We are {people}.",
    "book {people} for {time}",
    "We will be {people} {date}.",
    "{date} at {time} would be best",
    "for {people}",
    "{time} is fine, thank you.",
    "Is there room {date}?",
    "I need 2 high chairs for {people}.",
    "Change my booking from last week to {time}, please.",
    "My number is 555 01{q}, and it is for {date}.",
    "Do you have anything vegan?",
    "The one on 5th street, for {people} at {time}.",
]
TRAIN, VAL = 160, 240


def sentence(rng):
    """One row."""

    def fill(pattern):
        return pattern.format(
            n=rng.randint(2, 14),
            m=rng.randint(1, 3),
            w=rng.choice(WORDS),
            h=rng.randint(5, 10),
            q=rng.choice(["00", "15", "30", "45"]),
            d=rng.randint(4, 28),
            mm=rng.randint(1, 12),
            month=rng.choice(MONTHS),
            day=rng.choice(DAYS),
        )

    frame = rng.choice(FRAMES)
    parts = {"people": fill(rng.choice(PEOPLE)), "time": fill(rng.choice(TIMES)), "date": fill(rng.choice(DATES))}
    text = frame.format(**parts, q=rng.choice(["15", "30"]))
    return {"input": text, "slots": {slot: part for slot, part in parts.items() if "{" + slot + "}" in frame}}


def main():
    """Write both files, without a sentence twice."""
    rng, seen, rows = random.Random(0), set(), []
    while len(rows) < TRAIN + VAL:
        row = sentence(rng)
        if row["input"] not in seen:
            seen.add(row["input"])
            rows.append({"id": f"row-{len(rows)}", **row})
    for name, part in (("train", rows[:TRAIN]), ("val", rows[TRAIN:])):
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


if __name__ == "__main__":
    main()
