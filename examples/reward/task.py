"""The scorer's side: what a reward is worth is how long the pole stays up that was trained with it."""

from pathlib import Path

import cartpole

HERE = Path(__file__).parent
SEEDS, STEPS = 2, 500


def told(weights, counts, state=None):
    """In words what a policy does."""
    early = sum(count < STEPS for count in counts)
    words = f"the pole falls in {early} of {len(counts)} trials, on average after {sum(counts) / len(counts):.0f} steps"
    named = zip(("position", "speed", "angle", "spin"), weights, strict=True)
    return f"{words}; the force follows " + ", ".join(f"{weight:+.2g} {name}" for name, weight in named)


class Task:
    """Mean steps of 500 that the pole is balanced, over learners with seeds of their own, in trials of the scorer's."""

    entry = "harness:train"
    schema = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}  # noqa: RUF012
    bounds = {"steps": (0.0, 500.0)}  # noqa: RUF012

    def files(self, candidate):
        """The learner and the physics lie beside the reward, which is `reward.py`."""
        return {name: (HERE / name).read_text(encoding="utf-8") for name in ("harness.py", "cartpole.py")}

    def inputs(self, seed, stage):
        """Seeds of the learner; trials have the same one and other numbers of it."""
        offset = 10_000_000 * (stage == "confirm")
        return [] if stage == "smoke" else [offset + 1000 * seed + number for number in range(SEEDS)]

    def score(self, given, output):
        counts = cartpole.balanced(output, [given, 4], steps=STEPS)
        return {"steps": float(counts.mean()), "feedback": told(output, counts.tolist())}
