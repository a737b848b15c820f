"""What the tests of rungs and learning curves share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from agent import Fidelity, Float, optimize
from agent.replay import replay
from agent.results.result import Result
from tests.support import entries

SPACE = {"x": Float(0, 1, default=0.9), "y": Float(0, 1, default=0.1)}
NINTHS = Fidelity(0.111)
LOW, MIDDLE = NINTHS.rungs[:2]


def bowl(candidate: Any, fidelity: float) -> float:
    """With less effort the bowl looks a little tilted."""
    return (candidate["x"] - 0.3) ** 2 + (candidate["y"] - 0.6) ** 2 + (1 - fidelity) * 0.1 * candidate["x"]


def shaky(candidate: Any, fidelity: float, seed: int, replicate: int) -> float:
    noise = random.Random(f"{sorted(candidate.items())} {seed} {replicate} {fidelity}").gauss(0, 0.03)
    return bowl(candidate, fidelity) + noise


def runner(runs: Any, **more: Any) -> Callable[..., Result]:
    """`optimize` without a model, by random search."""

    def run(evaluate: Any = bowl, **given: Any) -> Result:
        options = {"proposer": "random", "executor": "inline", **given.pop("options", {})}
        defaults = {"space": SPACE, "model": None, "budget": 20, "deterministic": True, **more}
        return optimize(evaluate, **{**defaults, "runs": runs, "options": options, **given})

    return run


def of(result: Result, kind: type) -> list[Any]:
    return [entry.event for entry in entries(result.folder) if isinstance(entry.event, kind)]


def replays(result: Result) -> bool:
    return all(asyncio.run(replay(result.folder, carried))[1] is None for carried in (1, 4))
