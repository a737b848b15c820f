"""Decides a run again from its journal: the same events must come out.

Proposers really run, and get the recorded replies; evaluations give the recorded outputs. What came
from outside (outputs, replies, interruptions) is delivered in the recorded order, however many
workers carry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.decide import decide
from agent.effects import step_key
from agent.events import (
    RESUMABLE,
    BatchEnded,
    BatchStarted,
    BatchSubmitted,
    CallEnded,
    CallRefused,
    CallRetried,
    CallStarted,
    CheckEnded,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamStarted,
    HoldoutFixed,
    LookAsked,
    ProposalEnded,
    ProposalStarted,
    ReportStarted,
    RowRead,
    RunContinued,
    RunPaused,
    RunResumed,
    RunStarted,
    StopRequested,
    ToolEnded,
    from_json,
    person,
)
from agent.folds.costs import SCOPE
from agent.journal import Entry, read, read_all
from agent.loop import Run
from agent.moments import Moment, fold, lean, replies
from agent.problem import Problem
from agent.proposers.table import load, talks
from agent.recorded import Difference, Memory, Nowhere, RecordedModel
from agent.space import Candidate
from agent.wall import ROWS, ended, opened

DELIVERED = (CallRetried, BatchStarted, BatchSubmitted, BatchEnded, RunPaused, RunContinued, *person.EVENTS)
"""Events that no decision leads to, and no task of a replay."""
OUTSIDE = (*RESUMABLE, "finished", "seconds", "calls", "tokens", "usd")
"""Reasons to stop that come from outside; the others are decided."""


class _Stray(Exception):
    """The replay left the recorded path."""


class Replay(Run):
    """A run whose outside is its own journal.

    Args:
        entries: The journal.
        workers: Outputs and replies carried at once; the result must not depend on it.
        begin: Events that are folded instead of replayed, as a resume would.
        folder: Where traces are, when the entries have none; it is only read.
    """

    def __init__(self, entries: Iterable[Entry], workers: int = 1, begin: int = 1, folder: Path | None = None) -> None:
        self.recorded_entries = list(entries)
        first = self.recorded_entries[0].event
        assert isinstance(first, RunStarted)
        self._memory = Memory()
        self._slots = asyncio.Semaphore(workers)
        self._outputs = {e.event.id: e.event for e in self.recorded_entries if isinstance(e.event, EvaluationEnded)}
        self._folder = folder
        self._seqs = {e.event.id: e.seq for e in self.recorded_entries if isinstance(e.event, EvaluationEnded)}
        recorded = [entry.event for entry in self.recorded_entries]
        self._steps = {_identity(event): event for event in recorded if isinstance(event, ToolEnded)}
        self._checks = {(e.proposal, e.key): e.check for e in recorded if isinstance(e, LookAsked)}
        self._scopes = {event.id: event.scope for event in recorded if isinstance(event, CallStarted)}
        self._tools: set[tuple[int, tuple[str, int, int]]] = set()
        """Tools that were called. None is run: what it did is delivered."""
        reads = (entry.event for entry in self.recorded_entries if isinstance(entry.event, RowRead))
        self._read = {(event.proposal, event.example): event.row for event in reads}
        self._moments: dict[int, Moment] = {}
        self._moved = asyncio.Event()
        problem = Problem.from_json(first.problem)
        proposer = load(str(first.settings["proposer"]), problem.folder)
        spoken = talks(proposer) and "propose" in first.settings["models"]  # as in a session
        super().__init__(
            self._memory,  # type: ignore[arg-type]
            problem,
            Nowhere(),
            proposer,
            self._make_llm if spoken else None,
            clock=self._time,
        )
        self._begin(begin)

    @staticmethod
    def _starts_work(event: Event) -> bool:
        return isinstance(event, EvaluationStarted)  # what accounts and checks said is delivered

    def _begin(self, begin: int) -> None:
        if begin < len(self.recorded_entries) and isinstance(self.recorded_entries[begin].event, HoldoutFixed):
            begin += 1
        folded = self.recorded_entries[:begin]
        self.state, self._moments = fold(folded)
        self._memory.events.extend(entry.event for entry in folded)
        self._replies = replies(folded)
        if self.llm is not None:
            self.llm = self._make_llm(self)
        self._launch = [(started, self._moments[started.id]) for started in self.state.proposals.values()]
        self._launch += [(started, None) for started in self.state.evaluations.values()]

    def _until_deadline(self) -> float | None:
        return None  # that the time was up is recorded; our own clock says nothing

    def _time(self) -> float:
        place = min(len(self._memory.events), len(self.recorded_entries) - 1)
        return self.recorded_entries[place].time

    def _next(self) -> Event | None:
        place = len(self._memory.events)
        return self.recorded_entries[place].event if place < len(self.recorded_entries) else None

    def _make_llm(self, run: Run) -> Any:
        from agent.llm.gateway import Llm, wire_seed

        first = self.recorded_entries[0].event
        assert isinstance(first, RunStarted)
        ended = {e.event.id: e.event for e in self.recorded_entries if isinstance(e.event, CallEnded)}
        known: dict[int, list[CallEnded]] = {}  # in order: a call that stopped the run is made again after a resume
        here = len(self._memory.events)
        open_ends = {e.event.id for e in self.recorded_entries[here:] if isinstance(e.event, CallEnded)}
        for place, entry in enumerate(self.recorded_entries):
            call = entry.event
            if isinstance(call, CallStarted) and call.id in open_ends and (place >= here or call.batch):
                seed = wire_seed(first.seed, call.scope, call.key, call.ordinal)
                known.setdefault(seed, []).append(ended[call.id])
        return Llm(run, first.settings["models"], lambda name: RecordedModel(known), seed=first.seed)

    async def turn(self, event: str, *key: object) -> None:
        """Wait until the journal has this event next."""
        while _identity(self._next()) != (event, *key):
            if event == RowRead.type and key[1] in self.state.reads.get(key[0], {}):  # type: ignore[call-overload]
                return  # a tool, which is not run, has read it
            if self._next() is None:
                raise _Stray
            self._moved.clear()
            await self._moved.wait()

    def record(self, event: Event) -> None:
        if isinstance(event, CallRetried):
            return  # how often a server had to be asked is not decided; the recorded ones are delivered
        recorded = self._next()
        if isinstance(event, CallStarted) and isinstance(recorded, CallStarted) and event.request == recorded.request:
            event = recorded  # with what was reserved at the prices of its time
        if isinstance(event, CallEnded) and isinstance(recorded, CallEnded) and _words(recorded) == _words(event):
            event = recorded  # with its own timing and bill
        super().record(event)
        self._moved.set()

    def _append(self, event: Event, time: float | None = None) -> None:
        super()._append(event, time)
        if isinstance(event, ProposalStarted):
            self._moments[event.id] = Moment.of(self.state)

    async def _evaluate(self, started: EvaluationStarted) -> None:
        async with self._slots:
            await asyncio.sleep(0)
        if started.id in self._outputs:
            await self.turn("evaluation.ended", started.id)
            self.record(self._outputs[started.id])
        else:  # it was never measured: the journal ends, or was cut off, before
            await asyncio.Event().wait()

    async def rest(self) -> None:
        return None  # the recorded order says when something begins

    async def alone(self) -> None:
        return None

    def calling(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def look_check(self, proposal: int, key: str, candidate: Candidate) -> str:
        return self._checks.get((proposal, key), "")

    async def stored(self, evaluation: int) -> EvaluationEnded:
        if self._folder is None:
            return self._outputs[evaluation]
        found = next(read(self._folder, after=self._seqs[evaluation] - 1)).event
        assert isinstance(found, EvaluationEnded)
        return found

    async def carried(self, proposal: int, place: tuple[str, int, int], name: str, arguments: Any) -> bool:
        self._tools.add((proposal, place))
        identity = (ToolEnded.type, proposal, *place)
        if identity not in self._steps:
            await asyncio.Event().wait()  # it was cut off before it answered
        await self.turn(*identity)
        self.record(replace(self._steps[identity], name=name, arguments=arguments))
        return True

    def _of_tool(self, event: Event | None) -> bool:
        """Whether it is what a tool did that was called, and so will not come by itself."""
        if isinstance(event, RowRead):
            done = self.state.steps.get(event.proposal, {})
            return any(proposal == event.proposal and place not in done for proposal, place in self._tools)
        if isinstance(event, LookAsked):
            name = f"proposal-{event.proposal}/{event.key}"
        elif isinstance(event, (CallStarted, CallRefused)):
            name = event.scope
        elif isinstance(event, CallEnded):
            name = self._scopes[event.id]
        else:
            return False
        beginnings = (f"proposal-{proposal}/{step_key(*place)}" for proposal, place in self._tools)
        return any(name.startswith(head) and not name[len(head) :][:1].isdigit() for head in beginnings)

    async def row(self, proposal: int, example: str) -> Any:
        if (proposal, example) not in self._read:
            await asyncio.Event().wait()  # it was cut off before it read
        return self._read[proposal, example]

    def _deliver(self) -> bool:
        """Record the next event if it came from outside and no task of ours will bring it."""
        event = self._next()
        steered = isinstance(event, StopRequested) and event.reason in OUTSIDE
        outside = steered or isinstance(event, DELIVERED)
        if outside or self._answers(event) or self._of_tool(event) or self._asked(event):
            assert event is not None
            Run.record(self, event)
        elif isinstance(event, (RunResumed, EpochStarted)):
            self._take_over(event)
        else:
            return False
        self._moved.set()
        return True

    def _answers(self, event: Event | None) -> bool:
        """Whether it is what an account or a check answered, and was asked for."""
        gate = self.state.gate
        if isinstance(event, ExamStarted):
            return gate.planned is not None and gate.exam is None
        if isinstance(event, ExamDecided):
            return gate.verdict is not None and gate.verdict["kind"] == "rows"
        if isinstance(event, ReportStarted):
            return gate.report_planned is not None
        return isinstance(event, CheckEnded) and self.state.checking is not None

    def _asked(self, event: Event | None) -> bool:
        """Whether it is a model call of an evaluation, which is not measured again."""
        scope = self._scopes.get(event.id, "") if isinstance(event, CallEnded) else getattr(event, "scope", "")
        return isinstance(event, (CallStarted, CallRefused, CallEnded)) and scope.startswith(SCOPE)

    def _take_over(self, event: Event) -> None:
        # As `resume` does in a new process: what was in flight is begun again, with the replies that were paid for.
        for task in self._tasks:
            task.cancel()
        self._launch.clear()
        self._tools.clear()
        self._replies = replies(self.recorded_entries[: len(self._memory.events)])
        if self.llm is not None:
            self.llm = self._make_llm(self)
        open_proposals, open_evaluations = list(self.state.proposals.values()), list(self.state.evaluations.values())
        self._append(event)
        following = self._next()
        if isinstance(following, EpochStarted):
            self._append(following)
            fixed = self._next()
            if isinstance(fixed, HoldoutFixed):
                self._append(fixed)
        else:
            self._launch = [(started, self._moments[started.id]) for started in open_proposals]
            self._launch += [(started, None) for started in open_evaluations]
        while events := decide(self.state):
            for decided in events:
                self._append(decided)

    async def replayed(self) -> list[Event]:
        """The events that come out, in order."""
        while events := decide(self.state):
            for event in events:
                self._append(event)
        while self._next() is not None and self._agrees():
            if self._launch:
                await self._start_effects()
                continue
            if self._deliver():
                continue
            before = len(self._memory.events), len(self._tools)
            for _ in range(1000):  # tasks hand over in a bounded number of steps; then nothing more will come
                await asyncio.sleep(0)
                if (len(self._memory.events), len(self._tools)) != before or self._launch:
                    break
            else:
                break
        await self._abandon()
        return list(self._memory.events)

    def _agrees(self) -> bool:
        place = len(self._memory.events)
        return self._memory.events[-1].body() == self.recorded_entries[place - 1].event.body()


def _identity(event: Event | None) -> tuple[object, ...]:
    if isinstance(event, (CallStarted, CallRefused)):
        return "call.started", event.scope, event.key, event.ordinal
    if isinstance(event, (CallEnded, EvaluationEnded, ProposalEnded)):
        return event.type, event.id
    if isinstance(event, RowRead):
        return event.type, event.proposal, event.example
    if isinstance(event, LookAsked):
        return event.type, event.proposal, event.key
    if isinstance(event, ToolEnded):
        return event.type, event.proposal, event.conversation, event.turn, event.index
    if isinstance(event, StopRequested):
        return event.type, event.reason
    return (event.type,) if event is not None else ()


def _words(ended: CallEnded) -> Any:
    if ended.reply is None:
        return None
    return {name: value for name, value in ended.reply.items() if name not in ("seconds", "usd")}


def compare(recorded: list[Entry], events: list[Event]) -> Difference | None:
    """The first place where two lists of events differ, or None."""
    for place in range(max(len(recorded), len(events))):
        old = recorded[place].event if place < len(recorded) else None
        new = events[place] if place < len(events) else None
        if old is None or new is None or old.type != new.type or old.body() != new.body():
            return Difference(place + 1, _plain(old), _plain(new))
    return None


def _plain(event: Event | None) -> dict[str, Any] | None:
    return None if event is None else {"type": event.type, **json.loads(event.body())}


def _told(event: dict[str, Any] | None, over: bool) -> dict[str, Any] | None:
    """An event as far as it may be shown: the gate's after the end, and its rows not before they are opened."""
    if event is None:
        return None
    known = from_json(event["type"], {name: value for name, value in event.items() if name != "type"})
    if known.audience == "search" or (over and not isinstance(known, ROWS)):
        return event
    return {"type": event["type"], "hidden": "rows of the gate" if over else "the gate's until the run has ended"}


async def replay(folder: Path, workers: int = 1) -> tuple[int, Difference | None]:
    """Replay a run folder.

    Args:
        folder: Of the run; it is only read.
        workers: Outputs and replies carried at once.

    Returns:
        The number of recorded events, and the first difference, or None when all are equal. Of events that the
        gate keeps to itself the difference tells the type alone.

    Raises:
        StoreError: The journal cannot be read.
    """
    entries = [lean(entry) for entry in read_all(folder)]
    events = await Replay(entries, workers, folder=folder).replayed()
    difference = compare(entries, events)
    if difference is not None and not opened(folder):
        recorded, replayed = (_told(event, ended(folder)) for event in (difference.recorded, difference.replayed))
        difference = Difference(difference.seq, recorded, replayed)
    return len(entries), difference
