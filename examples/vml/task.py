"""The formula variant: the text is a formula or a function in Python, and predicts by running in the sandbox."""

from pathlib import Path


def error(row, given):
    """How far off a prediction is, from 0 to 1: right or wrong for a class, and for a number d / (d + scale).

    d is the distance, and the scale the standard deviation of y: half a point for one of them, whatever y is.
    """
    if "scale" not in row:
        return float(not -0.5 <= given - row["y"] <= 0.5)
    distance = min(abs(given - row["y"]), 1e9)
    return distance / (distance + row["scale"])


def words(row, given):
    """What a learner is told of a row."""
    return f"x = {row['x']}: predicted {given:.4g}, it is {row['y']}"


class Task:
    """Each row of the data is one prediction."""

    entry = "harness:predict"
    schema = {"type": "number"}  # noqa: RUF012

    def files(self, candidate):
        """What reads the formula, which lies beside it as `model.py`."""
        return {"harness.py": (Path(__file__).parent / "harness.py").read_text(encoding="utf-8")}

    def inputs(self, seed, stage, row):
        return [] if stage == "smoke" else [row]

    def question(self, given):
        """The model never sees y."""
        return given["x"]

    def score(self, given, output):
        return {"error": error(given, output), "feedback": words(given, output)}
