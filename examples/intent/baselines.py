"""What nobody has to search for: the initial prompt, one written by hand, and examples drawn blindly.

python baselines.py [--rows FILE] [--split test] [RUN …]        # of runs, the prompts that they ended with instead
"""

import argparse
import asyncio
import json
import random
from pathlib import Path

from agent import load_result
from agent.config import load
from agent.llm.connect import connect

HERE = Path(__file__).resolve().parent
HAND = (
    "Does this person want to play music or to add it to a playlist? Answer with one word, play or add.",
    "A request with the word add or playlist is add, every other one is play. Answer with that one word.",
)
"""Written by hand. The first was tried on a few rows of train and val while this was made, the second on none."""


def candidates(initial, pool, most, runs):
    """Name → values: the bests of runs, or where none is given the baselines."""
    if runs:
        return {f"best of {Path(run).name}": dict(load_result(run).best) for run in runs}
    rng = random.Random(0)
    out = {"initial prompt": initial}
    out |= {f"by hand, {n}": {**initial, "instruction": text} for n, text in enumerate(HAND, 1)}
    for number in range(1, 4):
        drawn = rng.sample(range(pool), most)
        out[f"initial prompt, {most} examples at random, draw {number}"] = {**initial, "demos": drawn}
    return out


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--rows", default=str(HERE / "rows.jsonl"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="local:smollm2-135m")
    given = parser.parse_args()
    problem = load(HERE, {"data.file": str(Path(given.rows).resolve())}).problem
    rows = [example.row for example in problem.split(given.split)]
    demos, evaluator = problem.space["demos"], problem.evaluator
    model = connect(given.model)
    try:
        for name, values in candidates(problem.initial().values_json, len(demos.pool), demos.k, given.runs).items():
            right = 0.0
            for row in rows:
                reply = await model.complete(evaluator.rendering.request(values, row), seed=0)
                right += evaluator.metric.score(reply.text, row)[0]
            print(json.dumps({"prompt": name, "rows": len(rows), "right": round(right / len(rows), 3)}), flush=True)
    finally:
        await model.close()


if __name__ == "__main__":
    asyncio.run(main())
