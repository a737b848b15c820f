"""The table of the README: who finds a reward under which the learner balances the pole, at equal budget.

    python examples/reward/measure.py --seeds 3
    python examples/reward/measure.py --who icpl --model openai:MODEL

Afterwards each run's best reward, proven or not, trains ten new learners: their mean steps are in the table.
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
sys.path.append(str(HERE))
WHO = ("initial", "true", "shaped", "draw", "climb", "icpl:script", "icpl:blind", "icpl")
"""`true` and `shaped` are rewards that somebody wrote; `icpl:script` is ICPL with `terms.Writer` in place of a model,
`icpl:blind` the same with the evidence masked, and `icpl` asks the model."""
FRESH = 10


async def run(who: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run, and what its best reward is worth with learners that nobody has seen."""
    import terms

    name, _, script = who.partition(":")
    proposer = {"icpl": "icpl", "draw": "terms:Draw", "climb": "terms:Climb"}.get(name)
    overrides: dict[str, Any] = {"run.seed": seed, "budget.evaluations": given.evaluations}
    overrides |= {"evaluator.sandbox.unsafe": True} if given.unsafe else {}
    overrides |= {"proposer.name": proposer} if proposer else {}
    overrides["models.propose"] = given.model if who == "icpl" else "scripted:terms" if script else "none"
    if who == "icpl":
        overrides["budget.calls"] = given.calls
    setup = load(HERE, overrides)
    session = Session.of(setup, **({"model": terms.Writer(blind=script == "blind")} if script else {}))
    best, out = setup.problem.initial(), {"who": who, "seed": seed, "status": "", "candidates": 0, "calls": 0}
    if proposer:
        with tempfile.TemporaryDirectory() as folder:
            result = await session.run(Path(folder) / "run")
        best, out["status"], out["calls"] = result.best, result.status, result.spent["calls"]
        out |= {"candidates": len(result.trials) - 1, "seconds": round(result.spent["seconds"])}
    elif who != "initial":
        best = setup.problem.space.candidate({"program": {"true": terms.TRUE, "shaped": terms.SHAPED}[who]})
    executor = session.make_executor(setup.settings)
    try:
        asked = [Request(best, seed=10_000 + number, purpose="report", stage="report") for number in range(FRESH)]
        outputs = [await executor.submit(one) for one in asked]
    finally:
        await executor.close()
    steps = [0.0 if one.failure else one.value["values"]["steps"] for one in outputs]
    return {**out, "steps": statistics.mean(steps), "program": best["program"]}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: median and range over the seeds."""
    out = ["| who | steps of 500 | status | candidates | model calls |", "|---|---|---|---|---|"]
    for who in dict.fromkeys(row["who"] for row in rows):
        group = [row for row in rows if row["who"] == who]
        statuses = [row["status"] for row in group if row["status"]]
        told = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
        cells = [spread([row[name] for row in group]) for name in ("candidates", "calls")]
        out.append(f"| {who} | {spread([row['steps'] for row in group])} | {told} | {' | '.join(cells)} |")
    return out


def spread(values: list[float]) -> str:
    """The median, and the range where there is one."""
    low, middle, high = (f"{value:.0f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--who", action="append", choices=WHO, help="default: all")
    parser.add_argument("--model", default="local:smollm2-135m", help="of icpl")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=110)
    parser.add_argument("--calls", type=int, default=20, help="of the model, at most")
    parser.add_argument("--unsafe", action="store_true", help="as of `truegain run`")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    given = parser.parse_args()
    rows = []
    for who in given.who or WHO:
        for seed in range(1 if who in ("initial", "true", "shaped") else given.seeds):
            rows.append(asyncio.run(run(who, seed, given)))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps(rows) if given.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
