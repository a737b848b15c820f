"""How many evaluations INSTINCT takes to find a good text in a pool, against chance and against masked vectors.

    python benchmarks/instinct.py                       # hashing; two minutes
    python benchmarks/instinct.py --local               # and vectors of the embedded model

A pool of 100 prompts is put together from 24 sentences: twelve pieces of advice in two wordings each. In each world
(a seed) a piece of advice is worth a number drawn at random, whatever its wording; two pieces are worth more together,
and two less. So a text's score is a function of the text alone. Counted are the evaluations until one of the five best
texts was measured. "masked" gives every text a random vector, so that nothing can be learned from the others; "chance"
takes texts in a random order. benchmarks/results/instinct.csv has every single number.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.embeddings import DIMENSIONS  # noqa: E402
from agent.llm.local import LocalModel  # noqa: E402
from agent.llm.types import Completion, ModelRequest  # noqa: E402
from agent.proposers.instinct import Instinct  # noqa: E402
from agent.space import Candidate, Space  # noqa: E402
from agent.testing.search import Search  # noqa: E402
from agent.texts import Text  # noqa: E402

RESULTS = Path(__file__).parent / "results"
ADVICE = (
    ("Work through the problem step by step.", "Go slowly, one step after the other."),
    ("Check the result once more.", "Verify what you found at the end."),
    ("Write down the units of each number.", "Keep track of metres, hours and euros."),
    ("Answer in a single word.", "Be as brief as you can."),
    ("Answer as fast as you can.", "Do not waste time on thinking."),
    ("You are a famous professor.", "You know more than anybody else."),
    ("Thank you very much.", "I am grateful for your help."),
    ("This is important for my career.", "A lot depends on this for me."),
    ("Say which facts you used.", "List what you know first."),
    ("Give an example.", "Show a case where it holds."),
    ("Be polite.", "Choose friendly words."),
    ("Write in capital letters.", "SHOUT THE REPLY."),
)
POOL = 100
GOOD = 5
BUDGET = 60


def pool() -> list[str]:
    """The texts, the same in every world."""
    rng, out = random.Random(0), dict[str, None]()
    while len(out) < POOL:
        chosen = rng.sample(ADVICE, rng.randint(2, 5))
        out[" ".join(rng.choice(wordings) for wordings in chosen)] = None
    return list(out)


def scores(seed: int) -> dict[str, float]:
    """What each text is worth in a world."""
    rng = random.Random(f"world {seed}")
    worth = [rng.gauss(0, 0.1) for _ in ADVICE]
    pairs = [(rng.sample(range(len(ADVICE)), 2), effect) for effect in (0.1, -0.1)]
    out = {}
    for text in pool():
        has = [any(wording in text for wording in wordings) for wordings in ADVICE]
        together = sum(effect for (a, b), effect in pairs if has[a] and has[b])
        out[text] = 0.5 + sum(value for value, there in zip(worth, has, strict=True) if there) + together
    return out


class Vectors:
    """Gives embeddings: the embedded model's, asked for once; or random ones."""

    def __init__(self, kind: str) -> None:
        self.model = LocalModel("smollm2-135m") if kind == "local" else None
        self.known: dict[str, list[int]] = {}

    async def __call__(self, request: ModelRequest) -> Completion:
        texts = [message.text for message in request.messages]
        if self.model is None:
            rngs = [random.Random(hashlib.sha256(text.encode()).digest()) for text in texts]
            vectors = [[rng.randint(-1000, 1000) for _ in range(DIMENSIONS)] for rng in rngs]
            return Completion(json.dumps(vectors), model="masked")
        new = [text for text in texts if text not in self.known]
        if new:
            asked = [message for message in request.messages if message.text in new]
            reply = await self.model.complete(ModelRequest(tuple(asked), max_output_tokens=1, embed=True), seed=1)
            self.known |= dict(zip(new, json.loads(reply.text), strict=True))
        return Completion(json.dumps([self.known[text] for text in texts]), model="smollm2-135m")


def needed(seed: int, arm: str, vectors: Vectors | None) -> int:
    """Evaluations until one of the good texts was measured; one more than the budget where none was."""
    worth = scores(seed)
    good = sorted(worth.values())[-GOOD]
    if arm == "chance":
        order = random.Random(f"chance {seed}").sample(list(worth), POOL)
        return min(next(place for place, text in enumerate(order, 1) if worth[text] >= good), BUDGET + 1)

    def measure(candidate: Candidate) -> Mapping[str, float]:
        return {"value": worth.get(candidate["prompt"], 0.0), "size": 0.0}

    options: dict[str, Any] = {"texts": list(worth), "pool": 2}
    space = Space({"prompt": Text(pool()[0])})
    search = Search(
        Instinct(), space, measure, ask=vectors, budget=BUDGET, seed=seed, options=options, direction="maximize"
    )
    found = search.run().history.trials
    return next((n for n, t in enumerate(found, 1) if t.values and t.values["value"] >= good), BUDGET + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--local", action="store_true", help="with vectors of the embedded model too")
    given = parser.parse_args()
    arms = {"chance": None, "masked": Vectors("masked"), "hashing": None}
    if given.local:
        arms["local:smollm2-135m"] = Vectors("local")
    rows = []
    print(f"evaluations until one of the best {GOOD} of {POOL} texts, {given.seeds} worlds")
    print(f"{'vectors':20}{'median':>8}{'quartiles':>12}{'range':>10}{'seconds':>9}")
    for arm, vectors in arms.items():
        began = time.monotonic()
        values = [needed(seed, arm, vectors) for seed in range(given.seeds)]
        seconds = (time.monotonic() - began) / given.seeds
        low, middle, high = statistics.quantiles(values, n=4)
        spread = f"{low:.0f} to {high:.0f}", f"{min(values)} to {max(values)}"
        print(f"{arm:20}{middle:>8.1f}{spread[0]:>12}{spread[1]:>10}{seconds:>9.1f}", flush=True)
        rows += [{"vectors": arm, "seed": seed, "evaluations": value} for seed, value in enumerate(values)]
        if vectors is not None and vectors.model is not None:
            asyncio.run(vectors.model.close())
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "instinct.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
