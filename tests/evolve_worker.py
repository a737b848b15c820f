"""A run of `evolve` in the sandbox that a test kills: `python -m tests.evolve_worker FOLDER EVALUATIONS [RUN]`.

What is executed and asked is logged beside the runs folder, outside of the run.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from agent import Budget, Code, Programs, optimize
from agent.llm.types import Completion, ModelRequest, Usage

EXECUTED, ASKED = "executed.log", "asked.log"
PLACE = "TRUEGAIN_TEST_PLACE"
THINKS = 0.02
WORKERS = 3


def note(file: str, text: object) -> None:
    """Append a line, in one write."""
    descriptor = os.open(Path(os.environ[PLACE]) / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


class Task:
    """The nearer to 3, the better; `files` is called once for each evaluation."""

    schema: ClassVar = {"type": "number"}

    def inputs(self, seed: int, stage: str) -> list[int]:
        return [] if stage == "smoke" else [3]

    def files(self, candidate: Mapping[str, Any]) -> dict[str, bytes]:
        note(EXECUTED, candidate["program"].split("#")[-1].strip())
        return {}

    def score(self, given: int, output: float) -> float:
        return 100.0 - abs(output - given)


class Model:
    """Says something new to every seed, after a moment."""

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        note(ASKED, seed)
        await asyncio.sleep(THINKS)
        rng = random.Random(seed)
        body = "".join(f"    y = y {rng.choice('+-*')} {rng.randint(1, 9)}\n" for _ in range(rng.randint(0, 3)))
        program = f"def solve(x):\n    y = {rng.random():.6f}\n{body}    return y  # {seed}\n"
        return Completion(f"Another one.\n```python\n{program}```", usage=Usage(input=100, output=50))

    async def close(self) -> None:
        return None


def main(folder: str, evaluations: str, run: str | None = None) -> None:
    """Begin a run, or go on with one."""
    os.environ[PLACE] = folder
    result = optimize(
        Programs("tests.evolve_worker:Task", sandbox={"env": {}}),
        space={"program": Code("def solve(x):\n    return 0.0  # initial\n", entry="solve")},
        objectives="maximize",
        deterministic=True,
        model={"propose": Model()},
        budget=Budget(evaluations=int(evaluations)),
        runs=folder,
        resume=run,
        options={"proposer": "evolve", "workers": WORKERS, "options": {"operators": ["rewrite"], "variants": 0}},
    )
    print(result.status, len(result.trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
