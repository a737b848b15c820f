"""The table of the README: who finds which function, with 20 probes of the black box each.

    python examples/find/find.py --seeds 3
    python examples/find/find.py --proposer agentic --model openai:MODEL

Each run is an ordinary one in a folder of its own. Afterwards its best program answers 200 fresh inputs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from boxes import BOXES

from agent.config import load
from agent.evaluation import Request
from agent.journal import read_all
from agent.session import Session

HERE = Path(__file__).parent
PROPOSERS = ("classical:Dots", "classical:Library", "agentic")
FRESH = range(1_000_000, 1_000_005)
"""Seeds of the last 200 inputs."""


async def run(box: str, proposer: str, seed: int, model: str) -> dict[str, Any]:
    """One run on one box, and the share of fresh inputs on which its best program is right."""
    os.environ["FIND_BOX"] = box  # the scorer reads it, in a process of its own
    overrides = {"proposer.name": proposer, "run.seed": seed, "models.propose": model}
    if proposer != "agentic":
        overrides |= {"models.propose": "none", "proposer.options": {}}
    setup = load(HERE, overrides)
    with tempfile.TemporaryDirectory() as folder:
        session = Session.of(setup)
        result = await session.run(Path(folder) / "run")
        tools = [entry.event for entry in read_all(Path(folder) / "run") if entry.event.type == "tool.ended"]
    executor = session.make_executor(setup.settings)
    try:
        outputs = [await executor.submit(Request(result.best, seed=s, purpose="report")) for s in FRESH]
    finally:
        await executor.close()
    return {
        "box": box,
        "proposer": proposer,
        "seed": seed,
        "status": result.status,
        "right": statistics.mean(0.0 if one.failure else one.value["values"]["right"] for one in outputs),
        "program": result.best["program"],
        "probed": sum(len(event.arguments["values"]) for event in tools if event.name == "probe" and not event.error),
        "calls": result.spent["calls"],
        "seconds": result.spent["seconds"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: per box the share of right answers by proposer, as median and range over the seeds."""
    proposers = list(dict.fromkeys(row["proposer"] for row in rows))
    out = [f"| box | {' | '.join(name.removeprefix('classical:') for name in proposers)} |"]
    out.append("|---" * (len(proposers) + 1) + "|")
    for box in dict.fromkeys(row["box"] for row in rows):
        cells = []
        for proposer in proposers:
            group = [row for row in rows if (row["box"], row["proposer"]) == (box, proposer)]
            values = [row["right"] for row in group]
            low, middle, high = (f"{value:.2f}" for value in (min(values), statistics.median(values), max(values)))
            proven = sum(row["status"] == "proven" for row in group)
            cells.append((middle if low == high else f"{middle} ({low} to {high})") + f", {proven}/{len(group)} proven")
        out.append(f"| {box} | {' | '.join(cells)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", action="append", choices=BOXES, help="default: all")
    parser.add_argument("--proposer", action="append", choices=PROPOSERS, help="default: all")
    parser.add_argument("--model", default="local:smollm2-135m", help="of the agent")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    given = parser.parse_args()
    rows = []
    for box in given.box or BOXES:
        for proposer in given.proposer or PROPOSERS:
            for seed in range(given.seeds):
                rows.append(asyncio.run(run(box, proposer, seed, given.model)))
                print(rows[-1], file=sys.stderr)
    print(json.dumps(rows) if given.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
