"""What a proposer does to the world while it works: looks, model calls, tools. All of it is journalled.

A decision that was cut off is made again, and everything here gives it what is recorded already, by key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.decide import look_refused
from agent.errors import BudgetExceeded, ConfigError
from agent.events import LookAsked, ToolEnded
from agent.looking import REFUSED, Look, LookRow, Opened, mean
from agent.moments import Moment
from agent.proposers.effects import Effects
from agent.redact import redact
from agent.space import Candidate
from agent.tracing.spans import Trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.llm.types import Completion, ModelRequest
    from agent.loop import Run


class Doing:
    """The effects of one decision; see `agent.proposers.effects.Effects`.

    Args:
        run: That asks.
        proposal: The decision.
        moment: What it may know.
    """

    def __init__(self, run: Run, proposal: int, moment: Moment) -> None:
        self._run, self._proposal = run, proposal
        self._traces, self._before = moment.traces, moment.ended

    def effects(self) -> Effects:
        """What the proposer is given of it: functions, since this knows the run, and the run what the gate keeps."""
        return Effects(self.trace, self.look, self.looked, self.consult, self.step)

    def looked(self, begin: str) -> int:
        """Evaluations that looks have taken whose keys begin so."""
        return self._run.state.looks.taken(self._proposal, begin)

    async def trace(self, candidate: str, example: str | None) -> tuple[Trace, str | None] | None:
        """The trace of a candidate's newest measurement that had ended at the decision, and its row."""
        found = self._traces.latest(candidate, self._before, example)
        if found is None:
            return None
        number, row = found
        trace = _trace((await self._run.stored(number)).output)
        return None if trace is None else (trace, row)

    async def look(self, candidate: Candidate, examples: list[str], key: str, most: float) -> Look:
        """What a measurement says; see `Context.look`."""
        run, place = self._run, (self._proposal, key)
        if place not in run.state.looks.open:
            await self._ask(candidate, examples, key, most)
        look = run.state.looks.open[place]
        if look.asked.candidate != candidate.id or look.asked.examples != examples:
            raise ConfigError(
                f"the look {key!r} of this decision was at other values or rows", hint="give each look its own key"
            )
        while not look.over:
            await run.waits.change()
        if look.asked.check:
            raise ConfigError(f"{REFUSED}{look.asked.check}", hint="change them")
        if look.refused:
            limit = run.state.ledger.budget.evaluations
            raise BudgetExceeded("evaluations", limit or 0, look.spent, message=f"nothing was measured: {look.refused}")
        return await self._found(look)

    async def _ask(self, candidate: Candidate, examples: list[str], key: str, most: float) -> None:
        run, place = self._run, (self._proposal, key)
        values = candidate.values_json
        if redact(values) != values:
            raise ConfigError(
                "the values hold what looks like a key or a credential", hint="take it out; the journal would mask it"
            )
        check = await run.look_check(self._proposal, key, candidate)
        await run.rest()
        await run.alone()
        await run.turn("look.asked", *place)
        if place in run.state.looks.open:
            return  # asked twice at once
        asked = LookAsked(self._proposal, key, candidate.id, values, examples, check)
        if not check or asked.leaked:  # a leak costs an evaluation: without one, nothing is said of it either
            refused = look_refused(run.state, self._proposal, candidate.id, examples, most)
            asked = replace(asked, check="" if refused else check, refused=refused)
        run.record(asked)

    async def _found(self, look: Opened) -> Look:
        rows = []
        for row in look.rows:
            ended = await self._run.stored(look.results[row])
            failure = ended.output.get("failure")
            text = "" if failure is None else f"{failure.get('kind', 'error')}: {failure.get('message', '')}"
            score = ended.score or {}
            rows.append(
                LookRow(
                    example=row,
                    values=score.get("values"),
                    feedback=score.get("feedback", ""),
                    failure=text,
                    seconds=ended.output.get("seconds", 0.0),
                    trace=_trace(ended.output),
                )
            )
        problem = self._run.state.problem
        floors = dict.fromkeys((item.name for item in problem.constraints), None)
        floors = {**{item.name: item.failed for item in problem.objectives}, **floors}
        return Look(look.asked.candidate, dict(look.asked.values), tuple(rows), mean(rows, floors))

    async def ask(self, request: ModelRequest) -> Completion:
        """A model call in the proposer's own role."""
        if self._run.state.steps.get(self._proposal):
            await self._run.rest()
        return await self._call(request, "propose", f"proposal-{self._proposal}")

    async def consult(self, request: ModelRequest, role: str, key: str) -> Completion:
        """A model call in another role; see `Context.consult`."""
        if self._run.llm is None:
            raise ConfigError("this run has no model to ask", hint="name one with --model provider:model")
        await self._run.rest()
        known = role in self._run.state.settings.models
        return await self._call(request, role if known else "propose", f"proposal-{self._proposal}/{key}")

    async def _call(self, request: ModelRequest, role: str, scope: str) -> Completion:
        llm = self._run.llm
        assert llm is not None
        async with self._run.calling():
            return await llm.reply(request, role=role, scope=scope)

    async def step(
        self,
        conversation: str,
        turn: int,
        index: int,
        name: str,
        arguments: Mapping[str, Any] | None,
        work: Callable[[str], Awaitable[tuple[str, bool]]],
        after: Callable[[], tuple[list[str], dict[str, Any]]],
    ) -> tuple[str, bool, list[str], dict[str, Any]]:
        """A tool's answer, the rows that count as read by it, and its notes; see `Context.step`."""
        run, place = self._run, (conversation, turn, index)
        given = None if arguments is None else dict(arguments)
        steps = run.state.steps
        if place not in steps.get(self._proposal, {}) and not await run.carried(self._proposal, place, name, given):
            await run.rest()
            began = asyncio.get_running_loop().time()
            text, error = await work(step_key(*place))
            seconds = round(asyncio.get_running_loop().time() - began, 6)
            ended = ToolEnded(self._proposal, conversation, turn, index, name, given, text, error, seconds, *after())
            run.record(ended)
        done = steps[self._proposal][place]  # as it is stored, without keys and credentials
        return done.text, done.error, done.reads, done.notes


def step_key(conversation: str, turn: int, index: int) -> str:
    """What names a tool call in its decision."""
    return f"{conversation}.{turn}.{index}"


def _trace(output: Mapping[str, Any]) -> Trace | None:
    data = output.get("trace")
    try:
        return Trace.from_json(data) if data else None
    except (ValueError, TypeError, AttributeError):
        return None  # it came from a process that candidates run in


@asynccontextmanager
async def calling(run: Run) -> AsyncIterator[None]:
    """While a model is called. Beside an exclusive evaluator nothing of ours computes, so its looks are waited for."""
    state, waits = run.state, run.waits
    while state.problem.evaluator.exclusive and (state.evaluations or state.looks.wanted):
        await waits.change()
    waits.calling += 1
    try:
        yield
    finally:
        waits.calling -= 1
        waits.changed()


async def alone(run: Run) -> None:
    """Wait until no model is called, where nothing may compute beside the evaluator."""
    while run.state.problem.evaluator.exclusive and run.waits.calling:
        await run.waits.change()
