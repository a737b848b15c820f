"""The table of the README: who learns which rule, at equal budget.

    python examples/vml/learn.py --seeds 3
    python examples/vml/learn.py --words --task line --proposer learner:VML --proposer opro

Each run is an ordinary one in a folder of its own. Afterwards its best candidate predicts all test rows, proven or
not: that is the error in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent.config import load
from agent.evaluation import Request
from agent.session import Session

HERE = Path(__file__).parent
TASKS = ("line", "parabola", "sine", "blobs")
PROPOSERS = ("learner:Mean", "learner:Draws", "learner:LeastSquares", "opro", "learner:VML", "optoprime")
MODELLED = ("opro", "learner:VML", "optoprime", "textgrad")

RULES = {
    "line": "y is 3 times x, plus 4.",
    "parabola": "y is 3 times the square of x, plus x, plus 2.",
    "sine": "y is the sine of x, plus 2.",
    "blobs": "y is 1 where the sum of the two numbers of x is above 0.3, and else 0.",
}
"""The truth in words, for `learner:Told`: what the model that reads can do at best."""


async def run(
    task: str, proposer: str, seed: int, model: str, words: bool = False, limits: dict[str, int] | None = None
) -> dict[str, Any]:
    """One run, and its best candidate's mean error on the test rows.

    Args:
        limits: Of the budget, by its keys in the problem file, where they are to be others.
    """
    overrides = {"data.file": f"{task}.jsonl", "proposer.name": proposer, "run.seed": seed}
    overrides["models.propose"] = model if proposer in MODELLED else "none"
    overrides |= {f"budget.{kind}": limit for kind, limit in (limits or {}).items()}
    if proposer == "learner:Told":
        overrides["proposer.options"] = {"rule": RULES[task]}
    setup = load(HERE / "words.toml" if words else HERE, overrides)
    with tempfile.TemporaryDirectory() as folder:
        session = Session.of(setup)
        result = await session.run(Path(folder) / "run")
    executor = session.make_executor(setup.settings)
    try:
        test = [row for row in setup.problem.data if row.split == "test"]
        outputs = [
            await executor.submit(Request(result.best, example=row.id, row=row.row, purpose="report")) for row in test
        ]
    finally:
        await executor.close()
    errors = [1.0 if output.failure else output.value["values"]["error"] for output in outputs]
    return {
        "task": task,
        "proposer": proposer,
        "seed": seed,
        "status": result.status,
        "error": statistics.mean(errors),
        "model": result.best["model"],
        "candidates": len(result.trials) - 1,
        "evaluations": result.spent["evaluations"],
        "calls": result.spent["calls"],
        "seconds": result.spent["seconds"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: per task and proposer the median and the range over the seeds."""
    out = ["| task | proposer | error on test rows | status | candidates | model calls |", "|---|---|---|---|---|---|"]
    for task, proposer in dict.fromkeys((row["task"], row["proposer"]) for row in rows):
        group = [row for row in rows if (row["task"], row["proposer"]) == (task, proposer)]
        statuses = [row["status"] for row in group]
        told = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
        cells = [spread([row[name] for row in group], digits) for name, digits in (("candidates", 0), ("calls", 0))]
        error = spread([row["error"] for row in group], 3)
        out.append(f"| {task} | {proposer.removeprefix('learner:')} | {error} | {told} | {' | '.join(cells)} |")
    return out


def spread(values: list[float], digits: int) -> str:
    """The median, and the range where there is one."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=TASKS, help="default: all")
    parser.add_argument("--proposer", action="append", help=f"default: {', '.join(PROPOSERS)}")
    parser.add_argument("--model", default="local:smollm2-135m", help="of the proposers that ask one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--words", action="store_true", help="the variant in words; VML_MODEL names who reads them")
    parser.add_argument("--evaluations", type=int, help="default: the problem's own budget")
    parser.add_argument("--calls", type=int, help="of the model, at most; default: the problem's own budget")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    given = parser.parse_args()
    limits = {name: value for name in ("evaluations", "calls") if (value := getattr(given, name)) is not None}
    rows = []
    for task in given.task or TASKS:
        for proposer in given.proposer or PROPOSERS:
            for seed in range(given.seeds):
                rows.append(asyncio.run(run(task, proposer, seed, given.model, given.words, limits)))
                print(rows[-1], file=sys.stderr)
    print(json.dumps(rows) if given.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
