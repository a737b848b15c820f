"""Where requests of another program wait until the run takes them, and where their answers are found again."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.decide import search_free
from agent.decide_gate import due
from agent.errors import AgentError, BudgetExceeded, ConfigError
from agent.events import CandidateRejected, ToolEnded
from agent.journal import read
from agent.redact import redact
from agent.serving.guest import ANSWER, CLOSED, NOTHING, REQUEST, Guest
from agent.serving.views import candidate_view, goals
from agent.space import digest

if TYPE_CHECKING:
    from agent.history import Trial
    from agent.loop import Run
    from agent.result import Result

LONGEST = 600.0
"""Seconds that an answer is waited for at most; asked again, it is waited for again and paid once."""
WAITING = 1000
"""Requests that may wait."""
IDS = 1000
"""Rows of train that are named."""


class Refused(AgentError):
    """A request comes at a time when nothing of the kind is taken."""

    kind = "closed"


class Desk:
    """One for a process; all of it happens in the run's loop."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.result: Result | None = None
        self.told = asyncio.Event()
        """Whether somebody was given the result."""
        self._queue: deque[dict[str, Any]] = deque()
        self._known: set[str] = set()
        """Ids of requests that wait or are worked on."""
        self._answers: dict[str, Any] = {}
        self._failures: dict[str, dict[str, Any]] = {}
        self._refusals: dict[str, str] = {}
        """By candidate: why it was not admitted."""

    def attach(self, run: Run) -> None:
        """Serve a run that is about to be driven; what was answered before is known from its journal."""
        assert isinstance(run.proposer, Guest)
        self.run, run.proposer.desk = run, self
        asked: dict[tuple[int, int], str] = {}
        for entry in read(run.journal.folder):
            event = entry.event
            if isinstance(event, CandidateRejected):
                self._refusals[event.candidate] = event.reason
            elif isinstance(event, ToolEnded) and event.name == REQUEST:
                asked[event.proposal, event.turn] = str(json.loads(event.text).get("id", ""))
            elif isinstance(event, ToolEnded) and event.name == ANSWER and not event.error:
                self._answers[asked.get((event.proposal, event.turn), "")] = json.loads(event.text)
        # Of a decision that is made again: what it had taken and did not answer.
        open_ones = (number for (proposal, _), number in asked.items() if proposal in run.state.proposals)
        self._known.update(number for number in open_ones if number and number not in self._answers)
        run.observers = (*run.observers, self._seen)

    def _seen(self, event: Any, state: Any) -> None:
        if isinstance(event, CandidateRejected):
            self._refusals[event.candidate] = event.reason

    def over(self, result: Result) -> None:
        """The run has ended or rests."""
        self.result = result
        self.changed()

    def changed(self) -> None:
        """Let all look again."""
        assert self.run is not None
        self.run.waits.changed()

    # What the guest calls.

    async def take(self, wait: bool) -> dict[str, Any]:
        """The next request, or why there is none; see `agent.serving.guest.Desk`."""
        run = self.run
        assert run is not None
        while True:
            if run.state.halt is not None:
                await run.rest()  # for good: a resume takes it up here
            if run.state.stop is not None or run.state.ended is not None:
                return {"do": CLOSED}
            if self._queue:
                return self._queue.popleft()
            if not wait or due(run.state):  # an exam waits until no decision is open
                return {"do": NOTHING}
            await run.waits.change()

    def answered(self, request: Mapping[str, Any], text: str, failed: bool) -> None:
        number = str(request["id"])
        self._known.discard(number)
        (self._failures if failed else self._answers)[number] = json.loads(text)
        self.changed()

    # What clients ask for. All may raise AgentError or ValueError.

    def problem(self) -> dict[str, Any]:
        """What is optimized, and what is left to the search."""
        run = self._run
        problem = run.state.problem
        train = [example.id for example in problem.split("train")]
        return {
            "run": run.state.run,
            "name": problem.name,
            "description": problem.description,
            "space": problem.space.spec(),
            "initial": problem.initial().values_json,
            **goals(problem),
            "by_rows": problem.by_rows,
            "examples": {"count": len(train), "ids": train[:IDS]},
            "open": self._open,
            "left": self._left(),
        }

    def best(self) -> dict[str, Any]:
        """The candidate that the search builds on; after the end, what the gate says."""
        state = self._run.state
        if self.result is not None and self.result.status != "open":
            return self._verdict()
        return {"status": "open", "champion": candidate_view(state, state.history[state.history.champion])}

    async def evaluate(self, body: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Measure values: on rows of train by name, compared with nothing; without rows as a candidate of the run.

        Args:
            body: values; examples, key, rationale, wait (seconds).
            by: Who asks, for the candidate's source.

        Raises:
            ConfigError, ValueError: The values are not of the space, or a check refuses them.
            BudgetExceeded: The search has not that much left.
            Refused: The search is over.
        """
        values, examples = body["values"], body.get("examples")
        state = self._run.state
        if redact(values) != values:
            raise ConfigError(
                "the values hold what looks like a key or a credential", hint="take it out; the journal would mask it"
            )
        candidate = state.problem.space.candidate(values)
        if examples is None and not body.get("apart"):
            request = {"do": "propose", "id": candidate.id, "values": candidate.values_json, "by": by}
            if body.get("rationale"):
                request["rationale"] = body["rationale"]
            return await self._candidate(candidate.id, request, body.get("wait"))
        rows = self._rows(examples or [])
        return await self._asked({"do": "look", "values": candidate.values_json, "examples": rows}, body, by)

    async def rows(self, body: Mapping[str, Any], by: str) -> dict[str, Any]:
        """The content of rows of train. What is proposed later is raced on others, as far as there are any."""
        return await self._asked({"do": "read", "examples": self._rows(body["examples"])}, body, by)

    async def finish(self, wait: float | None = None) -> dict[str, Any]:
        """End the search; the exam follows, and the verdict."""
        if self._open and not any(request["do"] == "finish" for request in self._queue):
            self._queue.append({"do": "finish", "id": "finish"})
            self.changed()
        await self._until(lambda: self.result is not None, wait)
        if self.result is None:
            return {"status": "open", "hint": "the exam is being held; ask again"}
        if self.result.status == "open":
            raise Refused("the run was stopped before its end", hint=f"truegain resume goes on: {self.result.detail}")
        return self._verdict()

    # Helpers.

    @property
    def _run(self) -> Run:
        if self.run is None:
            raise Refused("the run has not begun yet", hint="ask again in a moment")
        return self.run

    @property
    def _open(self) -> bool:
        state = self._run.state
        return state.stop is None and state.halt is None and state.ended is None

    def _left(self) -> dict[str, Any]:
        free = search_free(self._run.state) if self._open else 0.0
        return {"evaluations": None if free == float("inf") else int(free)}

    def _rows(self, names: Any) -> list[str]:
        known = {example.id for example in self._run.state.problem.split("train")}
        # One answer to what is held out and to what there is not: it tells nobody which rows exist.
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"there is no row {str(name)[:60]!r} to measure on",
                    hint="take ids of training rows (`examples` of the problem)",
                )
        return list(dict.fromkeys(names))

    def _put(self, request: dict[str, Any]) -> None:
        if not self._open:
            raise Refused("the search is over, nothing more is measured", hint="finish gives the verdict")
        if len(self._queue) >= WAITING:
            raise Refused(f"{WAITING} requests wait already", hint="ask again later")
        self._known.add(request["id"])
        self._queue.append(request)
        self.changed()

    async def _until(self, done: Any, wait: float | None) -> None:
        """Return when something holds, the run can do no more for it, or the time is up."""
        run = self._run
        try:
            async with asyncio.timeout(min(LONGEST, LONGEST if wait is None else wait)):
                while not done() and self.result is None:
                    await run.waits.change()
        except TimeoutError:
            return

    async def _asked(self, request: dict[str, Any], body: Mapping[str, Any], by: str) -> dict[str, Any]:
        number = digest([request, str(body.get("key", ""))])
        request = {**request, "id": number, "by": by}
        if number not in self._answers and number not in self._known:
            self._failures.pop(number, None)
            self._put(request)
        await self._until(lambda: number in self._answers or number in self._failures, body.get("wait"))
        if number in self._answers:
            return {"state": "measured", **self._answers[number], "left": self._left()}
        if number in self._failures:
            raise _error(self._failures[number])
        return self._later()

    async def _candidate(self, name: str, request: dict[str, Any], wait: float | None) -> dict[str, Any]:
        state = self._run.state

        def settled() -> Trial | None:
            trial = state.history[name] if name in state.history else None  # noqa: SIM401  (it is no dict)
            over = trial is not None and (not trial.number or trial.state in ("champion", "dropped"))
            return trial if over else None

        if name not in state.history and name not in self._known:
            self._refusals.pop(name, None)
            self._put(request)
        await self._until(lambda: settled() is not None or name in self._refusals, wait)
        if name in state.history:
            self._known.discard(name)
            found = candidate_view(state, state.history[name])
            return {**found, **({} if settled() is not None else self._later()), "left": self._left()}
        if name in self._refusals:
            self._known.discard(name)
            raise ConfigError(f"it is not measured: {self._refusals[name]}", hint="change the values")
        return self._later()

    def _later(self) -> dict[str, Any]:
        if self.result is not None or not self._open:
            raise Refused("the search ended before it was measured", hint="finish gives the verdict")
        return {
            "state": "waiting",
            "hint": "it is not measured yet; ask again with the same values, which costs nothing",
        }

    def _verdict(self) -> dict[str, Any]:
        from agent.serving.views import result_view

        assert self.result is not None
        return result_view(self.result)


def _error(found: Mapping[str, Any]) -> AgentError:
    message, hint = str(found.get("message", "")), str(found.get("hint", ""))
    if found.get("kind") == "budget":
        return BudgetExceeded(
            "evaluations", 0, 0, message=message, hint=hint or "what is left stands in `left` of each answer"
        )
    return ConfigError(message, hint=hint)
