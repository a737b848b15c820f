"""Stops a measurement whose learning curve is hopeless, wherever it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent import curves
from agent.evaluation import Executor, Failure, Output, Request
from agent.events import EvaluationStarted
from agent.looking import LOOK
from agent.state import State

log = logging.getLogger(__name__)


def watch(state: State, started: EvaluationStarted) -> Watched | None:
    """Who watches an evaluation; None where it goes on to its end whatever comes of it.

    Watched are first measurements with the full effort, of all candidates but the initial one and each
    `curves.UNWATCHED`th.
    """
    fidelity = state.problem.fidelity
    if fidelity is None or not fidelity.stop or started.fidelity < 1:
        return None
    if started.purpose != "search" or started.pair >= 0 or started.stage == LOOK:
        return None
    if not state.history[started.candidate].number:
        return None
    if state.history[started.candidate].number % curves.UNWATCHED == 0:
        return None
    known = curves.Watch(state.problem, fidelity.full, fidelity.doubt, state.curves)
    return Watched(known, lambda: state.history[state.history.champion].values)


class Watched:
    """One evaluation under watch.

    Args:
        watch: Reads its learning curve.
        champion: Gives the champion's means, which may change meanwhile.
    """

    def __init__(self, watch: curves.Watch, champion: Callable[[], Mapping[str, float] | None]) -> None:
        self._watch = watch
        self._champion = champion
        self._work: asyncio.Task[Output] | None = None
        self._stopped: dict[str, float] | None = None
        self._partials: list[Any] = []

    async def submit(self, executor: Executor, request: Request) -> Output:
        """The output of the request; of one that was stopped, a failure with the partial results there are."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._work = asyncio.ensure_future(executor.submit(request, self._partial))
        try:
            return own(await self._work)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped is None or (task is not None and task.cancelling()):
                raise  # the run itself is being stopped
        # It may have come further until it heard; what it took is what counts.
        of = self._stopped["of"]
        stopped = {**self._stopped, "step": min(max(self._stopped["step"], self._watch.curve.step), of)}
        return Output(
            failure=Failure("hopeless", curves.hopeless(self._stopped)),
            partials=tuple(self._partials),
            seconds=loop.time() - began,
            stopped=stopped,
        )

    def _partial(self, value: Any) -> None:
        if len(self._partials) < MOST:
            self._partials.append(value)
        if self._stopped is not None:
            self._watch.curve.add(self._watch.problem, value)
            return
        self._stopped = self._watch.hopeless(value, self._champion())
        if self._stopped is not None and self._work is not None:
            self._work.cancel()


MOST = 1000
"""Partial results that are kept of an evaluation that was stopped."""


def own(output: Output) -> Output:
    """An output without what only the watch may say."""
    return replace(output, stopped=None) if output.stopped is not None else output


def told(state: State, started: EvaluationStarted, output: Output) -> None:
    """Warn once when learning curves are to be used and the initial candidate shows none."""
    fidelity = state.problem.fidelity
    if fidelity is None or not fidelity.stop or started.id != 1 or output.failure is not None:
        return
    curve = curves.Curve.read(state.problem, output.partials)
    if len(curve) < curves.FEWEST or (curve.of is None and fidelity.full is None):
        what = "reported too few partial results" if len(curve) < curves.FEWEST else "did not say of how many steps"
        log.warning(
            f"fidelity.stop has nothing to go by: the initial candidate {what}. The evaluator calls"
            f' partial({{"{state.problem.objective.name}": …, "step": 12, "of": 40}}) as it goes'
        )
