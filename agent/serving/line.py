"""Requests of another program in a line: the run's guest takes them from one end, and finds room for the answers."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.decide_gate import due
from agent.errors import AgentError
from agent.events import CandidateRejected, ToolEnded
from agent.journal import read
from agent.serving.guest import ANSWER, CLOSED, NOTHING, REQUEST, Guest

if TYPE_CHECKING:
    from agent.loop import Run
    from agent.results.result import Result

LONGEST = 600.0
"""Seconds that an answer is waited for at most; asked again, it is waited for again and paid once."""
WAITING = 1000
"""Requests that may wait."""
MEND = "a person mends the evaluator; then begin a new run"


class Refused(AgentError):
    """A request comes at a time when nothing of the kind is taken."""

    kind = "closed"


class Line:
    """One for a process; all of it happens in the run's loop."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.result: Result | None = None
        self.told = asyncio.Event()
        """Whether somebody was given the result."""
        self._queue: deque[dict[str, Any]] = deque()
        self._asleep = False
        """Whether nothing will change before somebody asks for something."""
        self._known: set[str] = set()
        """Ids of requests that wait or are worked on."""
        self._working: set[str] = set()
        """Ids of what was taken, is no proposal, and was not answered yet."""
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
                request = json.loads(event.text)
                asked[event.proposal, event.turn] = str(request.get("id", ""))
                if request["do"] in ("look", "read") and event.proposal in run.state.proposals:
                    self._working.add(request["id"])
            elif isinstance(event, ToolEnded) and event.name == ANSWER and not event.error:
                self._answers[asked.get((event.proposal, event.turn), "")] = json.loads(event.text)
        # Of a decision that is made again: what it had taken and did not answer.
        open_ones = (number for (proposal, _), number in asked.items() if proposal in run.state.proposals)
        self._known.update(number for number in open_ones if number and number not in self._answers)
        self._working.difference_update(self._answers)
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

    async def take(self, wait: bool) -> dict[str, Any]:
        """The next request, or why there is none; see `agent.serving.guest.Desk`."""
        run = self.run
        assert run is not None
        self._asleep = False
        while True:
            if run.state.halt is not None:
                await run.rest()  # for good: a resume takes it up here
            if run.state.stop is not None or run.state.ended is not None:
                self._asleep = False
                return {"do": CLOSED}
            if self._queue:
                self._asleep = False
                request = self._queue.popleft()
                if request["do"] in ("look", "read"):
                    self._working.add(request["id"])
                return request
            if not wait or due(run.state):  # an exam waits until no decision is open
                self._asleep = False
                return {"do": NOTHING}
            if self._idle and not self._asleep:
                self._asleep = True
                self.changed()
            await run.waits.change()

    @property
    def _idle(self) -> bool:
        """Whether nothing will change before somebody asks for something."""
        state = self._run.state
        return not (self._working or state.evaluations or state.unchecked or state.paused)

    def answered(self, request: Mapping[str, Any], text: str, failed: bool) -> None:
        number = str(request["id"])
        self._known.discard(number)
        self._working.discard(number)
        (self._failures if failed else self._answers)[number] = json.loads(text)
        self.changed()

    @property
    def _run(self) -> Run:
        if self.run is None:
            raise Refused("the run has not begun yet", hint="ask again in a moment")
        return self.run

    @property
    def _open(self) -> bool:
        state = self._run.state
        return state.stop is None and state.halt is None and state.ended is None

    def _put(self, request: dict[str, Any]) -> None:
        if not self._open:
            raise self._closed("the search is over, nothing more is measured")
        if len(self._queue) >= WAITING:
            raise Refused(f"{WAITING} requests wait already", hint="ask again later")
        self._asleep = False
        self._known.add(request["id"])
        self._queue.append(request)
        self.changed()

    def _closed(self, words: str) -> Refused:
        """Why nothing is measured any more."""
        ended = self._run.state.ended
        if ended is not None and ended.reason == "evaluator":
            return Refused(f"the initial candidate cannot be scored: {ended.detail}", hint=MEND)
        return Refused(words, hint="finish gives the verdict")

    async def _until(self, done: Any, wait: float | None) -> None:
        """Return when something holds, the run can do no more for it, or the time is up."""
        run = self._run
        try:
            async with asyncio.timeout(min(LONGEST, LONGEST if wait is None else wait)):
                while not done() and not self._asleep and self.result is None:
                    await run.waits.change()
        except TimeoutError:
            return
