"""The initial candidate, measured a few times before a run: how long that takes, and how noisy it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.blame import mending
from agent.errors import EvaluatorError
from agent.folds.asks import COMPARED, REPEATED
from agent.gate.noise import Noise

if TYPE_CHECKING:
    from agent.problem import Example
    from agent.session import Session


@dataclass(frozen=True, slots=True)
class Beforehand:
    """What a few measurements say.

    Args:
        seconds: Of one evaluation, without those of starting the worker.
        noise: Of the initial candidate against itself.
        paid: What models were paid for it, in words; "" when none was asked.
    """

    seconds: float
    noise: Noise
    paid: str


async def measured(session: Session) -> Beforehand:
    """One evaluation of the initial candidate, in a worker that has been started.

    Raises:
        EvaluatorError: It cannot be scored.
        ProviderError, PrerequisiteError, BudgetExceeded: A model that the evaluator asks cannot be had or paid.
    """
    starts = 1 if getattr(session.problem.evaluator, "uses", ()) else 2  # models are loaded before the first one
    return await _repeated(session, 1, starts)


async def against_itself(session: Session) -> Beforehand:
    """The initial candidate against itself on a few rows or replicates.

    Raises:
        EvaluatorError, ProviderError, PrerequisiteError, BudgetExceeded: As for `measured`.
    """
    problem = session.problem
    repeats = 2 if problem.deterministic or problem.data else max(2, session.settings.baseline)
    return await _repeated(session, REPEATED if problem.deterministic else COMPARED, repeats)


async def _repeated(session: Session, most: int, repeats: int) -> Beforehand:
    problem = session.problem
    rows: list[Example | None] = [*problem.split("train")[:most]] or [None]
    groups: list[list[float | None]] = []
    seconds: list[float] = []
    failure = detail = ""
    async with session.measuring() as executor:
        for row in rows:
            groups.append([])
            for replicate in range(repeats):
                output = await executor.initial(row, replicate, "replicate")
                seconds.append(output.seconds)
                value = None
                if output.failure is not None:
                    failure, detail = f"{output.failure.kind}: {output.failure.message}", output.failure.detail
                else:
                    try:
                        value = problem.compared(problem.evaluator.score(output).values)
                    except (ValueError, TypeError, KeyError) as error:
                        failure, detail = f"invalid: {error}", ""
                if value is None and (not problem.by_rows or problem.failure is None):
                    break
                groups[-1].append(value)
    if failure and (not problem.by_rows or all(value is None for group in groups for value in group)):
        raise EvaluatorError(
            f"the initial candidate cannot be scored: {failure}",
            hint=mending(problem, failure, detail),
        )
    found = Noise.of(groups, problem, 1.0)
    if not problem.by_rows and problem.data:  # a measurement is the mean over the rows
        found = replace(found, sd=found.sd / math.sqrt(len(problem.data)))
    warm = seconds[1:] or seconds  # the first one starts the worker
    return Beforehand(max(math.fsum(warm) / len(warm), 1e-6), found, executor.till.words)
