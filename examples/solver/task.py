"""The scorer's side: a problem is solved when the optimum is right. What it was read as counts for nothing."""

from pathlib import Path


class Task:
    """The share of word problems whose optimum is right, to one part in 10,000."""

    entry = "harness:solve"
    schema = {"type": ["number", "null"]}  # noqa: RUF012
    bounds = {"solved": (0.0, 1.0)}  # noqa: RUF012

    def files(self, candidate):
        """What solves the linear program."""
        return {"harness.py": (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")}

    def inputs(self, seed, stage, row):
        """A row is an input."""
        return [] if stage == "smoke" else [row]

    def question(self, given):
        """A program is never shown the answer."""
        return given["input"]

    def score(self, given, output):
        """Right or wrong."""
        right = output is not None and abs(output - given["target"]) <= 1e-4 * max(1.0, abs(given["target"]))
        words = "" if right else f"{given['input']} Wanted {given['target']}, found {output}."
        return {"solved": float(right), "feedback": words}
