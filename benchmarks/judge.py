"""How far a model agrees with people on pairs of answers: agreement, kappa, position bias.

    python benchmarks/judge.py [--model local:smollm2-135m] [--file llmbar_natural_100.jsonl] [--rows 100]
        [--data ../shared/data/pairwise] [--short] [--json FILE]

The rows are LLMBar-Natural or MT-Bench with human majorities; they are read by path and are no part of this repository.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from agent.evaluators.judge import PairJudge
from agent.llm.connect import connect
from agent.llm.types import Completion, ModelRequest
from agent.metrics.calibration import calibrate_pairs

RUBRIC = (
    "The better answer does what the instruction asks, exactly and correctly. Only where both do, the clearer and more"
    " helpful one is better."
)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local:smollm2-135m")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data/pairwise")
    parser.add_argument("--file", default="llmbar_natural_100.jsonl")
    parser.add_argument("--rows", type=int, default=100, help="the first so many")
    parser.add_argument("--short", action="store_true", help="a verdict without a rationale")
    parser.add_argument("--json", type=Path, help="also written here")
    given = parser.parse_args()
    path = given.data / given.file
    if not path.is_file():
        raise SystemExit(f"there is no {path}; name the folder with --data")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][: given.rows]
    items = [(row, row["output_1"], row["output_2"], {1: "a", 2: "b"}[row["label"]]) for row in rows]
    judge = PairJudge(
        rubric=RUBRIC, fields=["instruction"], ties=False, rationale=not given.short, max_output_tokens=400
    )
    model = connect(given.model)
    began = time.monotonic()

    async def ask(request: ModelRequest, role: str) -> Completion:
        return await model.complete(request, seed=0)

    try:
        found = await calibrate_pairs(judge, items, ask)
    finally:
        await model.close()
    seconds = time.monotonic() - began
    how = "without rationale" if given.short else "with rationale"
    print(f"{given.model}, {given.file}, {how}, {seconds:.0f} s\n{found}")
    if given.json:
        out = {"model": given.model, "file": given.file, "rationale": not given.short, "seconds": round(seconds)}
        given.json.write_text(json.dumps({**out, **found.to_json()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
