"""The state of a run: a fold over its journal. `agent.decide` reads it and nothing else."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

from agent.events import (
    CallEnded,
    CallStarted,
    CandidateAdmitted,
    CandidateRejected,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamStarted,
    ProposalEnded,
    ProposalStarted,
    RaceDecided,
    RaceStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    StopRequested,
    VerdictReached,
)
from agent.gate.race import Race
from agent.history import History, Measuring, Unit
from agent.ledger import Budget, Ledger
from agent.problem import Problem
from agent.settings import Settings
from agent.space import Candidate

RESUMABLE = ("interrupted", "terminated", "provider")
"""Reasons to stop that leave the run open: it goes on when the user or the provider lets it."""


class Ask(NamedTuple):
    """A request that is wanted and was not started yet."""

    candidate: str
    example: str | None
    replicate: int
    pair: int
    purpose: str


class State:
    """What the decisions of a run depend on.

    Args:
        started: The run's first event.
        time: When it was recorded, in seconds since 1970.
    """

    def __init__(self, started: RunStarted, time: float) -> None:
        self.run = started.run
        self.seed = started.seed
        self.settings = Settings.from_json(started.settings)
        self.ledger = Ledger(Budget(**started.budget))
        self.fingerprints = started.fingerprints
        self.epoch = 0
        self.begun = self.last = time
        self.resumes = 0
        self.next_evaluation = self.next_proposal = self.next_call = 1
        self.evaluations: dict[int, EvaluationStarted] = {}
        self.proposals: dict[int, ProposalStarted] = {}
        self.calls: dict[int, CallStarted] = {}
        self._begin(Problem.from_json(started.problem), Candidate(started.initial))

    def _begin(self, problem: Problem, initial: Candidate) -> None:
        self.problem = problem
        self.history = History(initial, problem.objective)
        self.rows: list[str | None] = [example.id for example in problem.data] or [None]
        self._measuring = Measuring(problem.objectives, [c.name for c in problem.constraints], len(self.rows))
        self._replicates: dict[str, int] = {}
        self._next_pair = 0
        self.memory: Any = None
        """What the proposer wanted to be given back, from the last proposal that ended."""
        self.barren = 0
        """Proposals in a row that brought no new candidate."""
        self.errors: list[str] = []
        """Failures of the proposer since it last answered."""
        self.exhausted = ""
        """Why the proposer has nothing left, or ""."""
        self.unchecked: deque[tuple[int, dict[str, Any]]] = deque()
        self.urgent: deque[Ask] = deque()
        self.asks: deque[Ask] = deque()
        self.looks: deque[str] = deque()
        """Candidates with a first measurement that wait for the race's word."""
        self.contenders: deque[str] = deque()
        self.race: Race | None = None
        self.exam: ExamStarted | None = None
        self.exam_race: Race | None = None
        self.exam_units: dict[str, list[Unit]] = {}
        self.units = 0
        self.unit_seconds = 0.0
        self.exams = 0
        """Exams that were decided."""
        self.released = initial.id
        self.proof: dict[str, Any] | None = None
        """The verdict that released `released`, or None while that is the initial candidate."""
        self.verdict: dict[str, Any] | None = None
        """The verdict of the exam at hand."""
        self.accepted: bool | None = None
        self.stop: StopRequested | None = None
        """Why the search is over; the exam follows."""
        self.halt: StopRequested | None = None
        """Why the run rests; a resume goes on where it was."""
        self.ended: RunEnded | None = None
        for _ in range(self.baseline):
            self._ask(initial.id)

    @property
    def workers(self) -> int:
        """Evaluations in flight at most."""
        return 1 if self.problem.evaluator.exclusive else self.settings.workers

    @property
    def baseline(self) -> int:
        """Measurements of the initial candidate before the search begins."""
        return 1 if self.problem.deterministic else self.settings.baseline

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self.evaluations and not self.proposals

    def apply(self, event: Event, time: float) -> None:
        """Fold one event, recorded at `time`."""
        if not isinstance(event, RunResumed):  # the time between two sessions is nobody's work
            self.ledger.seconds += max(0.0, time - self.last)
        self.last = time
        self.ledger.apply(event)
        self.history.apply(event)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _ask(self, candidate: str, pair: int = -1, purpose: str = "search") -> None:
        replicate = self._replicates.get(candidate, 0)
        self._replicates[candidate] = replicate + 1
        queue = self.asks if pair < 0 else self.urgent
        queue.extend(Ask(candidate, row, replicate, pair, purpose) for row in self.rows)

    def _ask_pair(self, race: Race, purpose: str) -> None:
        pair = self._next_pair
        self._next_pair += 1
        race.asked += 1
        # Alternating which half goes first cancels a steady drift of the machine.
        halves = (race.challenger, race.champion) if pair % 2 == 0 else (race.champion, race.challenger)
        for candidate in halves:
            self._ask(candidate, pair, purpose)

    def _resumed(self, event: RunResumed) -> None:
        self.resumes += 1
        self.ledger.cut()
        self.calls.clear()
        self.errors = []
        self.halt = None
        if "budget" in event.changes:
            self.ledger.budget = Budget(**event.changes["budget"])
            if self.accepted is not None or (self.exam is None and self.verdict is None):
                self.stop = self.exam = self.exam_race = self.verdict = self.accepted = self.ended = None
                self.exam_units = {}
        if "workers" in event.changes:
            self.settings = replace(self.settings, workers=event.changes["workers"])

    def _epoch(self, event: EpochStarted) -> None:
        # What was measured before belongs to another problem: the search starts again from the champion.
        champion = self.history[self.history.champion].candidate
        problem = Problem.from_json(event.problem)
        try:
            start = problem.space.candidate(champion)
        except ValueError:
            start = problem.initial()
        self.epoch, self.fingerprints = event.epoch, event.fingerprints
        self.evaluations.clear()
        self.proposals.clear()
        self._begin(problem, start)

    def _proposal_started(self, event: ProposalStarted) -> None:
        self.proposals[event.id] = event
        self.next_proposal = event.id + 1

    def _proposal_ended(self, event: ProposalEnded) -> None:
        self.proposals.pop(event.id, None)
        self.unchecked.extend((event.id, proposal) for proposal in event.proposals)
        self.barren += 1
        if event.exhausted:
            self.exhausted = event.error or "the proposer has nothing left to propose"
        if event.error:
            self.errors.append(event.error)
        else:
            self.errors, self.memory = [], event.state

    def _admitted(self, event: CandidateAdmitted) -> None:
        self.unchecked.popleft()
        self.barren = 0
        self._ask(event.candidate)

    def _rejected(self, event: CandidateRejected) -> None:
        self.unchecked.popleft()

    def _evaluation_started(self, event: EvaluationStarted) -> None:
        self.evaluations[event.id] = event
        self.next_evaluation = event.id + 1
        (self.urgent or self.asks).popleft()

    def _evaluation_ended(self, event: EvaluationEnded) -> None:
        started = self.evaluations.pop(event.id)
        unit = self._measuring.add(started, event)
        if unit is None:
            return
        self.units += 1
        self.unit_seconds += unit.seconds
        race = self.race
        if unit.purpose == "gate":
            race = self.exam_race
            self.exam_units.setdefault(unit.candidate, []).append(unit)
        else:
            mean = self.history.mean_with(self.history[unit.candidate], unit.values)
            self.history.measured(unit, mean is not None and not self.problem.violated(mean))
            if unit.pair < 0 and unit.candidate != self.history.initial:
                self.looks.append(unit.candidate)
        if race is not None and unit.pair in race.numbers:
            race.add(unit.pair, unit.candidate, unit.values[self.problem.objective.name] if unit.values else None)
            if race is self.race and race.asked < race.wanted:
                self._ask_pair(race, "search")

    def _race_started(self, event: RaceStarted) -> None:
        self.contenders.popleft()
        settings = self.settings
        first = self._next_pair
        self.race = Race(event.challenger, event.champion, settings.race_shortest, settings.race_longest, first)
        while self.race.asked < self.race.wanted:
            self._ask_pair(self.race, "search")

    def _race_decided(self, event: RaceDecided) -> None:
        if self.race is not None and self.race.challenger == event.candidate:
            self.race = None
            self.urgent.clear()
        elif self.looks and self.looks[0] == event.candidate:
            self.looks.popleft()
        else:
            self.contenders.remove(event.candidate)
        if event.decision == "continue":
            self.contenders.append(event.candidate)

    def _exam_started(self, event: ExamStarted) -> None:
        self.exam = event
        self.race = None
        self.urgent.clear()
        self.asks.clear()
        self.exam_race = Race(event.champion, event.released, event.pairs, event.pairs, self._next_pair)
        while self.exam_race.asked < event.pairs:
            self._ask_pair(self.exam_race, "gate")

    def _call_started(self, event: CallStarted) -> None:
        self.calls[event.id] = event
        self.next_call = event.id + 1

    def _call_ended(self, event: CallEnded) -> None:
        self.calls.pop(event.id, None)

    def _stop(self, event: StopRequested) -> None:
        if event.reason in RESUMABLE:
            self.halt = event
        elif self.stop is None:
            self.stop = event

    def _exam_decided(self, event: ExamDecided) -> None:
        self.accepted = event.accepted
        self.exams += 1
        if event.accepted:
            self.released, self.proof = self.history.champion, self.verdict

    def _verdict(self, event: VerdictReached) -> None:
        self.verdict = event.verdict

    def _ended(self, event: RunEnded) -> None:
        self.ended = event


_HANDLERS: dict[type[Event], Any] = {
    RunResumed: State._resumed,
    EpochStarted: State._epoch,
    ProposalStarted: State._proposal_started,
    ProposalEnded: State._proposal_ended,
    CandidateAdmitted: State._admitted,
    CandidateRejected: State._rejected,
    EvaluationStarted: State._evaluation_started,
    EvaluationEnded: State._evaluation_ended,
    RaceStarted: State._race_started,
    RaceDecided: State._race_decided,
    ExamStarted: State._exam_started,
    CallStarted: State._call_started,
    CallEnded: State._call_ended,
    StopRequested: State._stop,
    ExamDecided: State._exam_decided,
    VerdictReached: State._verdict,
    RunEnded: State._ended,
}
