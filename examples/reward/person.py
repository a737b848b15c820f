"""For a person who puts rewards in order: a trained policy's trial as a drawing, of which the better one is chosen."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import cartpole
import numpy as np

from agent.evaluators.code_runner import Runner
from agent.sandbox.types import Caps, Job

HERE = Path(__file__).parent
SECONDS, STEPS, EVERY, WIDTH = 20, 500, 25, 41


@cache
def sandbox() -> Runner:
    """One for the process. REWARD_UNSAFE=1 is what --unsafe is elsewhere."""
    return Runner(None, {"workers": 1, "imports": ["numpy"], "unsafe": os.environ.get("REWARD_UNSAFE") == "1"})


def shown(candidate, row):
    """Train with the reward in the sandbox, and draw one trial of the policy: a line for half a second."""
    files = {name: (HERE / name).read_bytes() for name in ("harness.py", "cartpole.py")}
    files["reward.py"] = candidate["program"].encode()
    caps = Caps(seconds=SECONDS, memory_mb=500)
    result = sandbox().run(Job(files, "harness:train", [row["seed"]], caps, imports=("numpy",)))
    if result.status != "ok":
        raise ValueError(f"{result.status}: {result.message}")
    weights = np.array(result.outputs[0], dtype=float)
    if weights.shape != (4,) or not np.isfinite(weights).all():
        raise ValueError("the training gave no policy")
    return drawn(weights, row["seed"])


def drawn(weights, seed):
    """A trial in letters: where the cart is on its track, and how the pole leans."""
    state, lines = cartpole.starts([seed, 4], 1), []
    for number in range(STEPS):
        if cartpole.fallen(state)[0]:
            return "\n".join([*lines, f"it falls after {number} steps"])
        if number % EVERY == 0:
            place = round((float(state[0, 0]) / cartpole.TRACK + 1) / 2 * (WIDTH - 1))
            lean = float(state[2, 0])
            lines.append(
                "." * place + ("|" if abs(lean) < 0.03 else "/" if lean > 0 else "\\") + "." * (WIDTH - 1 - place)
            )
        state = cartpole.step(state, cartpole.force(weights, state))
    return "\n".join([*lines, f"it stands all {STEPS} steps"])


def longer(row, a, b):
    """A program in the person's place, for trying it out: the trial that lasts longer is better."""
    one, two = (len(text.splitlines()) for text in (a, b))
    return 0.5 + 0.5 * ((one > two) - (one < two))
