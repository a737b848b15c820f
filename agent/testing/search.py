"""A run in memory, to drive a proposer with: see `agent.testing.proposers`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.decide import decide
from agent.effects import Doing
from agent.errors import BudgetExceeded
from agent.evaluation import Output
from agent.evaluators.function import FunctionEvaluator
from agent.events import (
    EvaluationEnded,
    EvaluationStarted,
    Event,
    LookAsked,
    ProposalEnded,
    ProposalStarted,
    RunStarted,
    ToolEnded,
)
from agent.goals import Constraint, Direction, Objective
from agent.ledger import KINDS
from agent.llm.types import Completion, ModelRequest
from agent.looking import LOOK
from agent.moments import Moment
from agent.problem import Problem
from agent.proposers.base import Ask, Context, Proposer
from agent.settings import Settings
from agent.space import Candidate, Space
from agent.state import State
from agent.testing import PATIENCE, square
from agent.waits import Waits

Measure = Callable[[Candidate], Mapping[str, float] | None]
"""All numbers of a problem for a candidate; None is a failure."""


class Search:
    """A run in memory: the real decisions, without journal, executor and model gateway.

    Args:
        proposer: Under test.
        space: Of the problem.
        measure: Stands for the evaluator, and is deterministic; gives "value", and "size", which must be at most 1.
        ask: The model, if any.
        budget: Evaluations.
        seed: Of the run.
        options: The proposer's.
        direction: Of "value".
        workers: Candidates that are asked for at once.
        starts: Points that are measured before the proposer is asked.
        trace: What a traced program would tell of a candidate, as `Trace.to_json` writes it.
    """

    def __init__(
        self,
        proposer: Proposer,
        space: Space,
        measure: Measure,
        *,
        ask: Ask | None = None,
        budget: int = 40,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        direction: Direction = "minimize",
        workers: int = 1,
        starts: Iterable[Mapping[str, Any]] = (),
        trace: Callable[[Candidate], Mapping[str, Any]] | None = None,
    ) -> None:
        self.proposer = proposer
        self.measure = measure
        self.ask = ask
        self.trace = trace
        problem = Problem(
            name="search",
            space=space,
            evaluator=FunctionEvaluator(f"agent.testing:{square.__name__}", names=("value", "size")),
            objectives=(Objective("value", direction),),
            constraints=(Constraint("size", max=1.0),),
            deterministic=True,
        )
        started = RunStarted(
            run="search",
            problem=problem.to_json(),
            fingerprints={},
            seed=seed,
            budget={"evaluations": budget},
            settings=Settings(workers=workers, options=options or {}).to_json(),
            initial=problem.initial().values_json,
            starts=[{"values": dict(values), "source": "start"} for values in starts],
        )
        self.state = State(started, 0.0)
        self.events: list[Event] = [started]

    def apply(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        self.state.apply(event, 0.0)

    def run(self) -> State:
        """To the end of the run."""
        asyncio.run(asyncio.wait_for(self._run(), PATIENCE))
        return self.state

    async def _run(self) -> None:
        while self.state.ended is None:
            following = decide(self.state)
            assert following, "the run waits for nothing"
            for event in following:
                self.apply(event)
                if isinstance(event, EvaluationStarted):
                    self._evaluate(event)
                elif isinstance(event, ProposalStarted):
                    await self._propose(event)

    def record(self, event: Event) -> None:
        """Record what a proposer does while it works, and measure what it asks for."""
        self.apply(event)
        while self.state.looks.wanted and (following := decide(self.state)):
            for decided in following:
                self.apply(decided)
                if isinstance(decided, EvaluationStarted):
                    self._evaluate(decided)

    def _evaluate(self, started: EvaluationStarted) -> None:
        state = self.state
        looked = started.stage == LOOK
        known = state.looks.candidate(started.id) if looked else state.history[started.candidate].candidate
        values = self.measure(known)
        output = Output.failed("error", "no value here") if values is None else Output(value={"values": dict(values)})
        score = None if values is None else {"values": dict(values), "feedback": ""}
        told = output.to_json() | ({"trace": self.trace(known)} if self.trace is not None else {})
        self.apply(EvaluationEnded(started.id, started.purpose, told, score))

    def context(self, decision: int = 1) -> Context:
        """What the proposer would be given now."""
        state = self.state
        return Context(
            problem=state.problem,
            history=state.history.freeze(),
            rng=random.Random(f"{state.seed} {decision}"),
            ask=self.ask,
            left={kind: state.ledger.left(kind) for kind in KINDS},
            decision=decision,
            memory=copy.deepcopy(state.memory),
            options=state.settings.options,
            effects=Remembering(self, decision).effects(),
        )

    async def _propose(self, started: ProposalStarted) -> None:
        context, proposals, error = self.context(started.id), [], ""
        try:
            proposals = [proposal.to_json() for proposal in await self.proposer.propose(context, started.n)]
        except BudgetExceeded as caught:
            error, context.exhausted = caught.message, True
        self.apply(ProposalEnded(started.id, proposals, context.rejections, context.memory, error, context.exhausted))


class _Model:
    """Stands for the gateway: `Search.ask` in every role."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def reply(self, request: ModelRequest, *, role: str, scope: str) -> Completion:
        return await self._ask(request)


class _Stand:
    """Stands for `agent.loop.Run`, as far as the effects of a proposer need one."""

    def __init__(self, search: Search) -> None:
        self.state, self.record = search.state, search.record
        self.events = search.events
        self.llm = _Model(search.ask) if search.ask is not None else None
        self.waits = Waits(lambda: None)

    async def rest(self) -> None: ...

    async def alone(self) -> None: ...

    async def turn(self, event: str, *key: object) -> None: ...

    def calling(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def look_check(self, proposal: int, key: str, candidate: Candidate) -> str:
        return ""

    async def carried(self, proposal: int, place: tuple[str, int, int], name: str, arguments: Any) -> bool:
        return False

    async def stored(self, evaluation: int) -> EvaluationEnded:
        return next(e for e in reversed(self.events) if isinstance(e, EvaluationEnded) and e.id == evaluation)


class Remembering(Doing):
    """The effects of a decision in memory."""

    def __init__(self, search: Search, proposal: int) -> None:
        super().__init__(_Stand(search), proposal, Moment.of(search.state))  # type: ignore[arg-type]
        self._events = search.events

    @property
    def done(self) -> int:
        """Looks that were asked for and tools that were run so far."""
        return sum(isinstance(event, (LookAsked, ToolEnded)) for event in self._events)
