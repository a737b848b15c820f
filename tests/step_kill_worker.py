"""Lives of a run that works in steps, which `tests.test_step_kills` ends; else as in `tests.kill_worker`.

python -m tests.step_kill_worker

workers, seed, evaluations, calls    of the run
fuse, late                           it kills itself `late` seconds after so many measurements and replies of a script
url                                  of a server that speaks as OpenAI does; without one the model is a script
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.evaluators.function import FunctionEvaluator
from agent.goals import Objective
from agent.ledger import Budget
from agent.llm.types import Completion, ModelRequest
from agent.problem import Problem
from agent.session import Session
from agent.settings import Settings
from agent.space import Candidate, Space
from tests import kill_worker, stepper
from tests.support import SPACE, loss


class Burning(kill_worker.Asked):
    """A script that burns down the fuse."""

    async def complete(self, request: ModelRequest, *, seed: int | None) -> Completion:
        stepper.burn()
        return await super().complete(request, seed=seed)


async def measured(candidate: Any, seed: int, replicate: int) -> float:
    kill_worker.note(kill_worker.EXECUTED, Candidate(candidate).id, replicate, seed)
    stepper.burn()
    await asyncio.sleep(kill_worker.RNG.uniform(0, 0.003))
    return loss(candidate, seed, replicate, noise=0.05 if stepper.NOISY else 0.0)


def session(life: Mapping[str, Any]) -> Session:
    stepper.NOISY = life["noisy"]
    stepper.FUSE[:] = life.get("fuse", 0), life.get("late", 0.0)
    problem = Problem(
        name="bowl",
        space=Space(SPACE),
        evaluator=FunctionEvaluator(measured, names=("value",)),
        objectives=(Objective("value"),),
        deterministic=not life["noisy"],
        folder=Path(__file__).parent,
    )
    budget = Budget(evaluations=life["evaluations"], calls=life["calls"])
    if url := life.get("url"):
        os.environ["OPENAI_API_KEY"] = "sk-test-0123456789abcdef0123456789"
        models = {"propose": "openai-chat:fake-1"}
        spoken = Settings(models=models, workers=life["workers"], proposer=stepper.NAME, base_url=url)
        return Session(problem, spoken, budget, seed=life["seed"])
    settings = Settings(models={"propose": "scripted:test"}, workers=life["workers"], proposer=stepper.NAME)
    return Session(problem, settings, budget, seed=life["seed"], model=Burning(stepper.model))


if __name__ == "__main__":
    if "sdk" in sys.argv:
        import openai  # noqa: F401  # once, and not in each life
    kill_worker.session = session
    kill_worker.main()
