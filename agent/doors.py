"""Where the evaluations of a problem run, and how its models are reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent.evaluation import Executor
from agent.problem import Problem
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.llm.gateway import Llm
    from agent.llm.types import Adapter, Recorder


def executor(problem: Problem, settings: Settings, env: Mapping[str, str] | None) -> Executor:
    """An executor that fits the evaluator.

    Args:
        problem: With its evaluator.
        settings: How much at once, and where.
        env: Environment variables for the evaluator's processes.

    Raises:
        ConfigError, PrerequisiteError: It does not fit, or a package is missing.
    """
    from agent.executors.select import executor_for

    if settings.executor == "dask":
        from agent.executors.dask_reach import installed

        installed()  # before the run has a folder and its first line
    return executor_for(
        problem.evaluator,
        workers=1 if problem.evaluator.exclusive else settings.workers,
        isolate=settings.isolate,
        kind=settings.executor,  # type: ignore[arg-type]
        env=env,
        dask=settings.dask,
    )


def models(
    problem: Problem,
    settings: Settings,
    seed: int,
    *,
    spoken: bool,
    given: Any,
    progress: Callable[[int, int, str], None] | None,
) -> Callable[[Recorder], Llm]:
    """Makes the door to the models, for a run or another recorder.

    Args:
        problem: With the prices of models, where the user gave them.
        settings: Which models.
        seed: Of the run.
        spoken: Whether the proposer asks; else its model is neither connected to nor loaded.
        given: A model object to use instead of those that the settings name, or a mapping of such objects by name.
        progress: As of a `Session`.
    """
    names = {role: name for role, name in settings.models.items() if spoken or role != "propose"}

    def connect(name: str) -> Adapter:
        own = given.get(name) if isinstance(given, Mapping) else given
        if own is not None:
            scripted: Adapter = own
            return scripted
        from agent.llm.connect import connect as by_name

        if name.startswith("local:"):
            return by_name(name, options={"progress": progress})
        mine = settings.base_url is not None and name.startswith("openai")
        return by_name(name, options={"base_url": settings.base_url} if mine else {})

    def told(words: str) -> None:
        if progress is not None:
            progress(0, 0, words)

    def make(run: Recorder) -> Llm:
        from agent.llm.gateway import Llm

        batched = [role for role in settings.batched if role in names]
        return Llm(run, names, connect, problem.prices, seed, batch=batched, told=told)

    return make
