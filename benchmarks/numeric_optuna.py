"""The yardstick: Optuna's TPE sampler in a study of its own, from the same first points."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from numeric_worlds import STARTS, World

from agent.errors import PrerequisiteError
from agent.parameters import Categorical, Float, Int
from agent.space import Candidate


def searched(
    world: World, budget: int, seed: int, options: Mapping[str, Any]
) -> tuple[list[float], list[tuple[int, float, float]]]:
    """The regret after each evaluation; and for each suggestion the trials before it, and its seconds of the
    processor and of the clock.

    Args:
        world: To search.
        budget: Evaluations.
        seed: Of the sampler.
        options: Of `TPESampler`, beside its defaults.

    Raises:
        PrerequisiteError: Optuna is missing.
    """
    try:
        import optuna
    except ImportError:
        raise PrerequisiteError("the arm optuna-tpe needs the package optuna", fix="pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, **options))
    for point in (world.space.initial(), *world.starts):
        study.enqueue_trial(point.values_json)
    regrets: list[float] = []
    times: list[tuple[int, float, float]] = []
    best = float("inf")
    for number in range(budget):
        cpu, wall = time.process_time(), time.perf_counter()
        trial = study.ask()
        values = {name: _suggested(trial, name, item) for name, item in world.space.items()}
        if number >= STARTS:
            times.append((number, time.process_time() - cpu, time.perf_counter() - wall))
        found = world.measure(Candidate(values))
        if found is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, found["value"])
            best = min(best, found["value"])
        regrets.append((best - world.floor) / world.span)
    return regrets, times


def _suggested(trial: Any, name: str, item: Any) -> Any:
    if isinstance(item, Categorical):
        return trial.suggest_categorical(name, list(item.choices))
    if isinstance(item, Float):
        return trial.suggest_float(name, item.low, item.high, log=item.log)
    assert isinstance(item, Int)
    return trial.suggest_int(name, item.low, item.high, log=item.log)
