"""Writes rows: what people say to a music player, with what they want. Made of parts by a seed, or read from SNIPS.

python rows.py                                                 # rows.jsonl, our own sentences
python rows.py --snips FOLDER --to snips.jsonl                 # two of the seven intents of SNIPS, from its folder
"""

import argparse
import json
import random
from pathlib import Path

SPLITS = {"train": 80, "val": 100, "test": 60}
"""Sentences of our own that are drawn for each."""
REPEATED = ("own-22", "own-151")
"""They nearly repeat a row of test, so a run would leave them out."""
INTENTS = {"PlayMusic": "play", "AddToPlaylist": "add"}
"""Of SNIPS, and what they are called here."""
PLAY = [
    "play {song}",
    "Play {song} by {artist}",
    "play some {genre} music",
    "Can you play {artist} from the year {year}?",
    "please play the best of {artist}",
    "Play me a song from {year} on {app}.",
    "use {app} to play {genre}",
    "I want you to play {artist} in the {room}",
    "play the list {list} in the {room}",
    "play everything that {artist} recorded in {year}",
    "let me hear {song} by {artist}",
    "{genre} music in the {room}, please",
]
ADD = [
    "add {song} to my {list} playlist",
    "Add {artist} to {list}",
    "add this track to the playlist {list}",
    "Please add the album {song} to my list {list}.",
    "add {song} by {artist} to {list}",
    "Could you add one more by {artist} to {list}?",
    "I want you to add {artist} to the list called {list}",
    "add something {genre} from {year} to {list}",
    "add the {year} record of {artist} to my playlist on {app}",
    "with {app}, add this tune to my {genre} playlist",
    "put {song} on my {list} playlist",
    "{artist} belongs on my playlist {list}",
]
PARTS = {
    "song": [
        f"{one} {two}"
        for one in ("Paper", "Silver", "Late", "Northern", "Broken", "Slow")
        for two in ("Lanterns", "Harbour", "Tuesday", "Orchard", "Engine", "Staircase")
    ],
    "artist": ["Mara Quill", "The Tin Otters", "Ivo Sand", "Delta Pilgrims", "Nell Harrow", "Osk", "Juno Vale Trio"],
    "genre": ["folk", "swing", "techno", "baroque", "reggae", "ambient", "punk"],
    "list": [
        f"{one} {two}"
        for one in ("Rainy", "Kitchen", "Road", "Sunday", "Office", "Running")
        for two in ("Mornings", "Mix", "Hours", "Classics", "Miles", "Gold")
    ],
    "room": ["kitchen", "garage", "bathroom", "garden"],
    "year": [str(year) for year in range(1961, 2024, 3)],
    "app": ["Tunebox", "Earwig", "Radiola"],
}


def sentence(rng):
    """One row, without its split."""
    answer = rng.choice(["play", "add"])
    text = rng.choice(PLAY if answer == "play" else ADD).format(**{name: rng.choice(PARTS[name]) for name in PARTS})
    return {"text": text, "choices": ["play", "add"], "answer": answer}


def own(seed=0):
    """All rows of our own, without a sentence twice."""
    rng, out = random.Random(seed), {}
    while len(out) < sum(SPLITS.values()):
        row = sentence(rng)
        out.setdefault(row["text"].lower(), row)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    rows = [{"id": f"own-{n}", **row, "split": splits[n]} for n, row in enumerate(out.values())]
    return [row for row in rows if row["id"] not in REPEATED]


def snips(folder):
    """The rows of the two intents: its training file to search on, its test file for the gate."""
    out = []
    for name, split in (("train", "train"), ("test", "val")):
        for line in (Path(folder) / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["target"] in INTENTS:
                asked = {"text": row["input"], "choices": ["play", "add"], "answer": INTENTS[row["target"]]}
                out.append({"id": row["id"], **asked, "split": split})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snips", metavar="FOLDER", help="with train.jsonl and test.jsonl: id, input, target")
    parser.add_argument("--to", metavar="FILE", default=str(Path(__file__).parent / "rows.jsonl"))
    given = parser.parse_args()
    rows = snips(given.snips) if given.snips else own()
    Path(given.to).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"wrote {given.to}: {len(rows)} rows")


if __name__ == "__main__":
    main()
