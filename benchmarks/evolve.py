"""How fast evolution goes, and whether it stays so: a scripted model, and programs that do next to nothing.

    python benchmarks/evolve.py [--evaluations 10000] [--workers 4] [--inline] [--json]
    python benchmarks/evolve.py --think 1.0 --workers 4 --evaluations 62

The first command measures what an iteration takes at the 100th and at the last one: prompt, call, edit, checks,
journal, and the program in the sandbox; `--inline` leaves the sandbox out, so that what remains is ours. With `--think`
the model answers after so many seconds, and the time is compared with that of the pauses alone: calls /
workers, rounded up, x pause.

It ends with 1 when a target is missed: 150 evaluations a second with the sandbox; no more CPU time of our own for each
of the last thousand than for each of the first (times `--slack`, since the machine has other work too); 98 % of the
ideal. Every run adds a line to results/evolve.csv, with the machine's load beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent import Budget, Code, Programs, optimize  # noqa: E402
from agent.llm.types import Completion, ModelRequest, Usage  # noqa: E402

RESULTS = Path(__file__).with_name("results") / "evolve.csv"
RATE, SHARE, STRETCH = 150.0, 0.98, 1000
START = "def solve(x):\n    return 0.0\n"


class Task:
    """The nearer to 3, the better."""

    schema: ClassVar = {"type": "number"}

    def inputs(self, seed: int, stage: str) -> list[float]:
        return [] if stage == "smoke" else [3.0]

    def score(self, given: float, output: float) -> float:
        return 100.0 - (output - given) ** 2


def inline(candidate: Mapping[str, Any]) -> float:
    """What the task gives, without running anything: the first number of the program."""
    return 100.0 - (float(candidate["program"].partition("y = ")[2].partition("\n")[0] or 0.0) - 3.0) ** 2


class Model:
    """Answers at once, or after a pause, with a program that is new to the run; keeps when it was asked."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.began: list[float] = []
        self.spent: list[float] = []
        self.ended: list[float] = []

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        self.began.append(time.perf_counter())
        self.spent.append(time.process_time())
        number = len(self.began)
        if self.pause:
            await asyncio.sleep(self.pause)
        rng = random.Random(number)
        lines = "".join(
            f"    y = y {rng.choice('+-*')} {rng.choice(['x', 'y', '2'])}\n" for _ in range(rng.randint(0, 4))
        )
        program = f"def solve(x):\n    y = {3 + rng.gauss(0, 1):.9f}\n{lines}    z{number} = y\n    return z{number}\n"
        self.ended.append(time.perf_counter())
        return Completion(f"Version {number}.\n```python\n{program}```", usage=Usage(input=200, output=60))

    async def close(self) -> None:
        return None


def measure(evaluations: int, workers: int, pause: float, is_inline: bool) -> dict[str, Any]:
    """One run; times in seconds."""
    model = Model(pause)
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        result = optimize(
            inline if is_inline else Programs("evolve:Task"),
            space={"program": Code(START, entry="solve", signature="(x)")},
            objectives="maximize",
            deterministic=True,
            model={"propose": model},
            budget=Budget(evaluations=evaluations),
            runs=place,
            options={
                "proposer": "evolve",
                "workers": workers,
                "options": {"operators": ["rewrite", "cross", "fix"], "variants": 0},
            },
        )
        whole = time.perf_counter() - began
        tried = len(result.trials)
    stamps, calls = model.began, len(model.began)
    stretch = min(STRETCH, calls // 4)
    first = min(100, stretch)

    def rate(at: int) -> float:
        return stretch / (stamps[at + stretch - 1] - stamps[at])

    def cpu(at: int) -> float:
        return 1000 * (model.spent[at + stretch - 1] - model.spent[at]) / stretch

    loop = model.ended[-1] - stamps[0]
    ideal = math.ceil(calls / workers) * pause
    return {
        "evaluations": evaluations,
        "candidates": tried,
        "calls": calls,
        "workers": workers,
        "pause": pause,
        "sandbox": not is_inline,
        "seconds": round(whole, 2),
        "rate_first": round(rate(first), 1),
        "rate_last": round(rate(calls - stretch), 1),
        "own_cpu_ms_first": round(cpu(first), 2),
        "own_cpu_ms_last": round(cpu(calls - stretch), 2),
        "share_of_ideal": round(ideal / loop, 4) if pause else None,
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "load": round(os.getloadavg()[0], 1),
        "processors": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--think", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--inline", action="store_true", help="without the sandbox")
    parser.add_argument("--slack", type=float, default=1.25)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    found = measure(given.evaluations, given.workers, given.think, given.inline)
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as file:
        table = csv.DictWriter(file, list(found))
        if new:
            table.writeheader()
        table.writerow(found)
    if given.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name.rjust(18)} {value}" for name, value in found.items()))
    if given.think:
        return 0 if found["share_of_ideal"] >= SHARE else 1
    grown = found["own_cpu_ms_last"] > given.slack * found["own_cpu_ms_first"]
    return 1 if grown or (not given.inline and min(found["rate_first"], found["rate_last"]) < RATE) else 0


if __name__ == "__main__":
    sys.exit(main())
