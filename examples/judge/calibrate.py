"""How far the initial and the best rubric of a run agree with people on pairs that the run was not given.

python examples/judge/calibrate.py RUN_FOLDER --file ../shared/data/pairwise/llmbar_natural_100.jsonl --rows 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agent.llm.connect import connect
from agent.llm.types import Completion, ModelRequest
from agent.metrics.calibration import Calibration, calibrate_pairs

HERE = Path(__file__).parent
sys.path.append(str(HERE))


async def calibrated(rubric: str, rows: list[dict[str, Any]], model: Any) -> Calibration:
    """Agreement, kappa and position bias of the model with a rubric."""
    from judging import judge_of

    async def ask(request: ModelRequest, role: str) -> Completion:
        return await model.complete(request, seed=0)

    items = [(row, row["output_1"], row["output_2"], "ab"[row["label"] - 1]) for row in rows]
    return await calibrate_pairs(judge_of(rubric), items, ask)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run that has ended")
    parser.add_argument("--file", type=Path, required=True, help="labelled pairs")
    parser.add_argument("--rows", type=int, default=100, help="the first so many")
    parser.add_argument("--model", default="local:smollm2-135m", help="the judge")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.file.read_text(encoding="utf-8").splitlines()][: given.rows]
    best = json.loads((given.run / "best" / "candidate.json").read_text(encoding="utf-8"))["candidate"]["rubric"]
    from agent.config import load

    model = connect(given.model)
    try:
        for name, rubric in (("initial", load(HERE).problem.initial()["rubric"]), ("best", best)):
            print(f"{name}: {rubric}\n{await calibrated(rubric, rows, model)}\n")
    finally:
        await model.close()


if __name__ == "__main__":
    asyncio.run(main())
