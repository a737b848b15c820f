"""The scorer's side: tests with their answers, and what a speed-up is worth.

Without more it speeds up `program.py` beside this file. With TRUEGAIN_DATA, a folder that holds
`pie_speedup/problems.jsonl`, and PIE_PROBLEM, a `problem_id` in it, it speeds up that row's slow program. The row's
faster program is never read.
"""

import json
import math
import os
import random
from pathlib import Path

from rewrites import REWRITES, rewritten

HERE = Path(__file__).parent


class Task:
    """log2 of how many times as fast as the initial program, where every answer is right."""

    entry = "harness:run"
    schema = {"type": "string"}  # noqa: RUF012
    bounds = {"log2_speedup": (None, 12.0)}  # noqa: RUF012

    def __init__(self):
        self.row = _row()
        self.program = self.row["slow_program"] if self.row else (HERE / "program.py").read_text(encoding="utf-8")

    def files(self, candidate):
        """Put the program together; the rewrites run here, what they make of it runs in the sandbox."""
        chosen = [name for name in REWRITES if candidate[name] == "yes"]
        harness = (HERE / "harness.py").read_text(encoding="utf-8")
        return {"harness.py": harness, "program.py": rewritten(self.program, chosen)}

    def inputs(self, seed, stage):
        """Tests: of a data row those it has, of our own program new ones for each seed, with answers from a formula."""
        if self.row:
            tests = self.row["tests"][:2] if stage == "smoke" else [*self.row["tests"], *self.row["timing_tests"]]
            return [dict(test) for test in tests]
        rng = random.Random(f"{stage} {seed}")
        sizes = (9, 30) if stage == "smoke" else (40, 160, 200)
        lengths = [[rng.randint(size // 2, size) for _ in range(3)] for size in sizes]
        return [{"stdin": "\n".join(map(str, [*one, 0])) + "\n", "stdout": _answer(one)} for one in lengths]

    def question(self, given):
        """A program is never shown the answer."""
        return given["stdin"]

    def score(self, given, output, usage):
        """Right or wrong, and the time beside that of the initial program."""
        right = output == "\n".join(line.rstrip() for line in given["stdout"].strip().splitlines())
        words = "" if right else f"wrong for {given['stdin'][:80]!r}: {output[:80]!r}"
        reference = usage.seconds if usage.reference is None else usage.reference
        return {"right": float(right), "mine": usage.cost, "initial": reference, "feedback": words}

    def combine(self, scores):
        """Speed counts on the slowest third of the inputs: on the others it is mostly the clock."""
        slow = sorted(scores, key=lambda one: one["initial"])[-max(1, len(scores) // 3) :]
        ratio = sum(one["initial"] for one in slow) / sum(one["mine"] for one in slow)
        return {"passed": sum(one["right"] for one in scores) / len(scores), "log2_speedup": math.log2(ratio)}


def _row():
    folder, problem = os.environ.get("TRUEGAIN_DATA"), os.environ.get("PIE_PROBLEM")
    if not folder or not problem:
        return None
    with (Path(folder) / "pie_speedup" / "problems.jsonl").open(encoding="utf-8") as stream:
        rows = {row["problem_id"]: row for row in map(json.loads, stream)}
    return rows[problem]


def _answer(lengths):
    """What the program has to print, by counting the pieces of 5 and 2 instead of by recursion."""
    total, lines = 0, []
    for length in lengths:
        count = sum((length - 5 * fives) // 2 + 1 for fives in range(length // 5 + 1))
        for step in range(length * 20):
            total = (total * 31 + count + step) % 1000003
        lines.append(f"{count} {total}")
    return "\n".join(lines)
