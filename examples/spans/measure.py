"""The table of the README: who writes or chooses which patterns, at equal budget.

    python examples/spans/measure.py --seeds 3
    python examples/spans/measure.py --data ../shared/data --proposer reflect --model openai:MODEL

Afterwards each run's best candidate, proven or not, reads test rows: that is the F1 in the table. Without --data those
are 400 sentences made by the script of the rows, from another seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent.config import load
from agent.evaluation import Request
from agent.session import Session

HERE = Path(__file__).parent
PROPOSERS = ("none", "pieces:Learned", "pieces:Edited", "pieces:Drawn", "coordinate", "opro", "reflect")
"""`none` is the initial candidate; `coordinate` chooses among the patterns of problem.toml, the others write."""
CHOOSE, MODELLED = ("coordinate", "random"), ("opro", "reflect", "optoprime", "paraphrase", "crossover")


def test_rows(data: Path | None) -> list[dict[str, Any]]:
    """Rows that no run is given."""
    if data is not None:
        return [json.loads(line) for line in (data / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    sys.path.insert(0, str(HERE))
    from rows import sentence

    lines = [line for name in ("train", "val") for line in (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()]
    used = {json.loads(line)["input"] for line in lines}
    rng, made = random.Random(1), {}
    while len(made) < 400:
        row = sentence(rng)
        if row["input"] not in used:
            made[row["input"]] = row
    return list(made.values())


async def run(proposer: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run, and micro F1 of its best candidate on the test rows."""
    data = given.data / "span_extraction" if given.data else None
    overrides: dict[str, Any] = {"run.seed": seed, "budget.evaluations": given.evaluations}
    overrides |= {"evaluator.sandbox.unsafe": True} if given.unsafe else {}
    overrides |= {f"data.{name}": str((data / f"{name}.jsonl").resolve()) for name in ("train", "val") if data}
    overrides["models.propose"] = given.model if proposer in MODELLED else "none"
    if proposer in MODELLED:
        overrides["budget.calls"] = given.calls
    if proposer != "none":
        overrides["proposer.name"] = proposer
    setup = load(HERE if proposer in CHOOSE else HERE / "patterns.toml", overrides)
    session = Session.of(setup)
    out: dict[str, Any] = {"proposer": proposer, "seed": seed, "status": "initial", "candidates": 0, "calls": 0}
    best = setup.problem.initial()
    if proposer != "none":
        with tempfile.TemporaryDirectory() as folder:
            result = await session.run(Path(folder) / "run")
        best, spent = result.best, result.spent
        out |= {"status": result.status, "candidates": len(result.trials) - 1, "calls": spent["calls"]}
        out |= {"evaluations": spent["evaluations"], "seconds": round(spent["seconds"])}
    executor = session.make_executor(setup.settings)
    counts = dict.fromkeys(("tp", "fp", "fn"), 0.0)
    try:
        for place, row in enumerate(test_rows(data)):
            output = await executor.submit(Request(best, example=f"test-{place}", row=row, purpose="report"))
            # A row that failed finds nothing.
            values = {"fn": len(row["slots"])} if output.failure else output.value["values"]
            counts = {name: count + values.get(name, 0) for name, count in counts.items()}
    finally:
        await executor.close()
    return {**out, "f1": 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"]), "best": best.values_json}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: median and range over the seeds."""
    out = ["| who | F1 on test rows | status | candidates | model calls |", "|---|---|---|---|---|"]
    for proposer in dict.fromkeys(row["proposer"] for row in rows):
        group = [row for row in rows if row["proposer"] == proposer]
        statuses = [row["status"] for row in group]
        told = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
        cells = [spread([row[name] for row in group], digits) for name, digits in (("candidates", 0), ("calls", 0))]
        out.append(f"| {proposer} | {spread([row['f1'] for row in group], 2)} | {told} | {' | '.join(cells)} |")
    return out


def spread(values: list[float], digits: int) -> str:
    """The median, and the range where there is one."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposer", action="append", help=f"default: {', '.join(PROPOSERS)}")
    parser.add_argument("--model", default="local:smollm2-135m", help="of the proposers that ask one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=1500)
    parser.add_argument("--calls", type=int, default=30, help="of the model, at most")
    parser.add_argument("--data", type=Path, help="folder with span_extraction/")
    parser.add_argument("--unsafe", action="store_true", help="as of `truegain run`")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    given = parser.parse_args()
    rows = []
    for proposer in given.proposer or PROPOSERS:
        for seed in range(1 if proposer == "none" else given.seeds):
            rows.append(asyncio.run(run(proposer, seed, given)))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps(rows) if given.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
