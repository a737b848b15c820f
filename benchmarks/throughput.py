"""How fast a run on prompts goes: 500 examples × 40 candidates, a task model in this process that takes 250 ms, 64 at
once.

    python benchmarks/throughput.py [--rows 500] [--candidates 40] [--pause 0.25] [--workers 64] [--json]

The ideal time is that of the task model's pauses alone: calls × pause / 64. The run must stay within 1.15 times of it,
and under 400 MB. It ends with 1 when one of the two does not hold. No more than 64 calls are under way at once, which
is the most that the limiter of an endpoint lets through; with more workers than that the others prepare the next ones.

On a machine that does other things too, time tells of those. Before the run the same pauses are made by a plain loop
with a semaphore (a tenth of them, at least 500), for the time that they take here without a run; and the CPU time of
the whole process is told for each call. At 64 at once a call may take 3.9 ms of one core in all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent import Budget, Text, optimize  # noqa: E402
from agent.llm.types import Completion, ModelRequest, Usage  # noqa: E402
from agent.proposers.base import Context, Proposal  # noqa: E402

RATIO, MEGABYTES, CONCURRENCY = 1.15, 400, 64


class Task:
    """Answers after a pause, right for some prompts and rows."""

    def __init__(self, pause: float) -> None:
        self.pause, self.calls, self.running, self.most = pause, 0, 0, 0

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.pause)
        self.running -= 1
        text = request.messages[-1].text
        number = int(text.rsplit(" ", 1)[-1])
        return Completion(
            str(2 * number if (number + len(text)) % 3 else 0), usage=Usage(input=len(text) // 4, output=2)
        )

    async def close(self) -> None:
        return None


class Versions:
    """A proposer that writes one more version of the instruction each time."""

    name = "versions"
    needs_model = False
    texts = True

    async def propose(self, context: Context, n: int) -> list[Proposal]:
        made = context.decision * 1000
        return [Proposal({"instruction": f"Double it, version {made + k}."}, self.name) for k in range(n)]

    def forecast(self, problem: Any, candidates: int, options: Mapping[str, Any]) -> tuple[int, int, int]:
        return 0, 0, 0


async def plain(calls: int, pause: float, at_once: int) -> float:
    """Seconds of as many pauses in a loop of asyncio, and nothing else."""
    free = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with free:
            await asyncio.sleep(pause)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(calls)))
    return time.perf_counter() - began


def measure(rows: int, candidates: int, pause: float, workers: int) -> dict[str, Any]:
    """One run on a suite of rows, on which every candidate is measured in full; times in seconds."""
    data = [{"question": f"item {n * 7919 % 9973}: double {n}", "answer": str(2 * n)} for n in range(rows)]
    at_once = min(CONCURRENCY, workers)
    few = max(500, rows * candidates // 10)
    bare = asyncio.run(plain(few, pause, at_once)) / (math.ceil(few / at_once) * pause)
    task, spent, load = Task(pause), time.process_time(), os.getloadavg()[0]
    repeats = min(rows, 3)  # the initial candidate's, which show whether measuring is deterministic
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        result = optimize(
            "{instruction}\n{question}",
            space={"instruction": Text("Double it.")},
            data=data,
            target="suite",
            deterministic=True,
            metric="exact_match",
            model={"task": task},
            budget=Budget(evaluations=rows * candidates + repeats),
            options={"proposer": f"{Path(__file__).stem}:Versions", "workers": workers},
            runs=place,
        )
        seconds = time.perf_counter() - began
    used = time.process_time() - spent
    ideal = math.ceil(task.calls / at_once) * pause
    return {
        "candidates": sum(trial.values is not None for trial in result.trials),
        "calls": task.calls,
        "most_at_once": task.most,
        "seconds": round(seconds, 2),
        "ideal_seconds": round(ideal, 2),
        "ratio": round(seconds / ideal, 4),
        "plain_ratio": round(bare, 4),
        "cpu_seconds": round(used, 2),
        "cpu_ms_per_call": round(1000 * used / task.calls, 3),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast a run on prompts goes.")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=CONCURRENCY)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    found = measure(given.rows, given.candidates, given.pause, given.workers)
    if given.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['candidates']} candidates, {found['calls']} calls: {found['seconds']} s, ideal"
            f" {found['ideal_seconds']} s, {found['ratio']} times (allowed {RATIO}; a plain loop here"
            f" {found['plain_ratio']}), {found['cpu_ms_per_call']} ms of CPU a call; {found['megabytes']} MB (allowed"
            f" {MEGABYTES}); load of the machine {found['load'][0]} to {found['load'][1]}"
        )
    return 0 if found["ratio"] <= RATIO and found["megabytes"] < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
