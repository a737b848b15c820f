"""The scorer's side: a program is right where it answers as the box does, on inputs that nobody is told."""

import random

from boxes import chosen

INPUTS = 40


class Task:
    """The share of inputs on which a program is right."""

    public = False  # not even the search's inputs: whoever wants to know what the box does has to ask it

    def __init__(self):
        self.box = chosen()
        self.schema = {"type": "number" if self.box.kind == "number" else "string"}

    def inputs(self, seed, stage):
        """Other inputs for each seed and stage."""
        rng = random.Random(f"{stage} {seed}")
        return [self.box.draw(rng) for _ in range(0 if stage == "smoke" else INPUTS)]

    def score(self, given, output):
        return {"right": float(self.box.right(given, output))}
