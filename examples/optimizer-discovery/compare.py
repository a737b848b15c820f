"""The table of the README: who finds which optimizer, at equal budget.

    python examples/optimizer-discovery/compare.py --seeds 3 --log runs.jsonl

Each run is an ordinary one in a folder of its own, with error accounts of its own, and ends with the gate's verdict on
rows of val. Afterwards its best program is measured on all test tasks, proven or not, beside the fixed programs. With
--log a run that has ended is a line of a file, and is not made again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from rows import known, loss, program  # noqa: E402
from task import LIMIT  # noqa: E402

from agent.config import load  # noqa: E402
from agent.session import Session  # noqa: E402

PROPOSERS = ("discover:RegularisedEvolution", "discover:Mutants", "discover:RandomPrograms", "tune")
FIXED = {"AdamW": "update", "SGD with momentum": "sgd", "Lion": "lion"}


def gains(text: str, split: str) -> list[float]:
    """The gain of a program over the better of tuned AdamW and tuned SGD, for each row of a split."""
    update, out = program(text), []
    for line in (HERE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found = [loss(row, draw, update) for draw in range(len(row["kinds"]))]
        better = [min(pair) for pair in zip(row["adamw"], row["sgd"], strict=True)]
        ratios = (math.log(b / f) if math.isfinite(f) else -LIMIT for b, f in zip(better, found, strict=True))
        out.append(statistics.mean(max(-LIMIT, min(LIMIT, ratio)) for ratio in ratios))
    return out


async def run(proposer: str, seed: int, evaluations: int | None) -> dict[str, Any]:
    """One run, and its best program's mean gain on the test tasks."""
    overrides: dict[str, Any] = {"proposer.name": proposer, "run.seed": seed, "gate.report": False}
    if evaluations is not None:
        overrides["budget.evaluations"] = evaluations
    with tempfile.TemporaryDirectory() as folder:
        result = await Session.of(load(HERE, overrides)).run(Path(folder) / "run")
    text = result.best["program"]
    told = [trial.rationale.partition("; ")[2] for trial in result.trials if "; " in trial.rationale]
    found = result.verdict or {}
    return {
        "proposer": proposer,
        "seed": seed,
        "status": result.status,
        **{key: found.get(key) for key in ("before", "after", "interval", "p", "pairs")},
        "test": statistics.mean(gains(text, "test")),
        "candidates": len(result.trials) - 1,
        "evaluations": result.spent["evaluations"],
        "seconds": result.spent["seconds"],
        "sentence": result.sentence,
        "told": told[-1] if told else "",
        "program": text,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a line for each run."""
    out = [
        "| proposer | seed | verdict | gain on the gate's tasks | its difference, with interval | on test tasks | "
        "raced | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gate, differs = "no exam", ""
        if row["before"] is not None:
            gate = f"{row['before']:+.3f} to {row['after']:+.3f} ({row['pairs']} rows)"
            differs = f"{row['after'] - row['before']:+.3f}"
            differs += f" ({row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})" if row["interval"] else ""
        cells = (row["proposer"].removeprefix("discover:"), row["seed"], row["status"], gate, differs)
        more = (f"{row['test']:+.3f}", row["candidates"], f"{row['seconds']:.0f}")
        out.append(f"| {' | '.join(map(str, (*cells, *more)))} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposer", action="append", help=f"default: {', '.join(PROPOSERS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, help="default: the problem's own budget")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    parser.add_argument("--log", type=Path, help="a file with a line for each run; those in it are not made again")
    given = parser.parse_args()
    rows = []
    if given.log and given.log.is_file():
        rows = [json.loads(line) for line in given.log.read_text(encoding="utf-8").splitlines()]
    done = {(row["proposer"], row["seed"]) for row in rows}
    for seed in range(given.seeds):
        for proposer in given.proposer or PROPOSERS:
            if (proposer, seed) in done:
                continue
            rows.append(asyncio.run(run(proposer, seed, given.evaluations)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if given.log:
                with given.log.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    rows.sort(key=lambda row: (row["proposer"], row["seed"]))
    fixed = {name: statistics.mean(gains(known(file), "test")) for name, file in FIXED.items()}
    if given.json:
        print(json.dumps({"runs": rows, "fixed": fixed}))
        return
    print("\n".join([*table(rows), "", *(f"{name}: {gain:+.3f}" for name, gain in fixed.items())]))


if __name__ == "__main__":
    main()
