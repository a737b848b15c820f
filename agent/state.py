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
    CheckEnded,
    CheckStarted,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HoldoutFixed,
    NoiseMeasured,
    ProposalEnded,
    ProposalStarted,
    RaceDecided,
    RaceStarted,
    ReportPlanned,
    ReportReached,
    ReportStarted,
    RowRead,
    RunEnded,
    RunResumed,
    RunStarted,
    StopRequested,
    VerdictReached,
)
from agent.examination import Examination
from agent.gate.arena import Arena
from agent.gate.pairs import Pairs
from agent.gate.race import Race
from agent.history import History, Measuring, Unit
from agent.ledger import KINDS, Budget, Ledger
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
    stage: str = "full"


NOISE = "noise"
"""Stage of the measurements that compare the initial candidate with itself."""
REPEATED, COMPARED = 3, 10
"""Rows that are measured twice at the start: to refute that measuring is deterministic, and to learn the noise."""


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
        self.more_checks = bool(started.checks)
        """Whether candidates must pass checks that need more than the space."""
        self.leaks = 0
        """Candidates that were refused because they repeat held-out answers."""
        self.epoch = 0
        self.begun = self.last = time
        self.resumes = 0
        self.next_evaluation = self.next_proposal = self.next_call = 1
        self.evaluations: dict[int, EvaluationStarted] = {}
        self.proposals: dict[int, ProposalStarted] = {}
        self.reads: dict[int, dict[str, Any]] = {}
        """Rows that open proposals have read, with their content."""
        self.calls: dict[int, CallStarted] = {}
        self._begin(Problem.from_json(started.problem), Candidate(started.initial))

    def _begin(self, problem: Problem, initial: Candidate) -> None:
        self.problem = problem
        self.history = History(initial, problem.objective)
        train = problem.split("train")
        self.rows: list[str | None] = [None] if problem.by_rows else [example.id for example in train] or [None]
        """What a candidate is measured on as a whole."""
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
        self.race: Pairs | None = None
        self.arena = self._arena(problem, initial) if problem.by_rows else None
        """Races on rows of data, where there are any; otherwise `looks`, `contenders` and `race`."""
        self.broken: dict[str, str] = {}
        """Candidates in the arena that cannot be scored, and why."""
        self.gate = Examination(initial.id)
        self.noise: dict[str | None, list[float | None]] = {}
        """The compared number of the initial candidate, measured again and again, by row."""
        self.noise_found: NoiseMeasured | None = None
        self.checking: CheckStarted | None = None
        self.units = 0
        self.unit_seconds = 0.0
        self.stop: StopRequested | None = None
        """Why the search is over; the exam follows."""
        self.halt: StopRequested | None = None
        """Why the run rests; a resume goes on where it was."""
        self.ended: RunEnded | None = None
        self._ask_initial(initial.id)

    def _arena(self, problem: Problem, initial: Candidate) -> Arena:
        bounds, budget = problem.bounds, self.ledger.budget.evaluations
        return Arena(
            [example.id for example in problem.split("train")],
            initial.id,
            seed=self.seed,
            budget=float("inf") if budget is None else budget,
            sign=problem.objective.sign,
            scale=bounds[1] - bounds[0] if bounds is not None else None,
            anchors=[example.id for example in problem.data if example.anchor and example.split == "train"],
            repeatable=not problem.deterministic,
            race=Race(gain=self.settings.smallest_gain),
        )

    def _ask_initial(self, initial: str) -> None:
        """What is measured before the search: the initial candidate, and some of it again."""
        if self.arena is not None:
            rows: list[str | None] = list(self.arena.race_set[: REPEATED if self.problem.deterministic else COMPARED])
            self.asks.extend(Ask(initial, row, 0, -1, "search", NOISE) for row in rows)
        else:
            for _ in range(self.baseline):
                self._ask(initial)
            rows = self.rows[:REPEATED] if self.problem.deterministic else []
        self.asks.extend(Ask(initial, row, 1, -1, "search", NOISE) for row in rows)

    def _repeats(self, started: EvaluationStarted) -> bool:
        """Whether this is one of the measurements of a row that are compared to see the noise."""
        if started.candidate != self.history.initial or started.purpose != "search" or started.pair >= 0:
            return False
        if self.arena is not None:
            return started.stage == NOISE
        return self.problem.deterministic and started.replicate <= 1 and started.example in self.rows[:REPEATED]

    @property
    def workers(self) -> int:
        """Evaluations in flight at most."""
        return 1 if self.problem.evaluator.exclusive else self.settings.workers

    @property
    def baseline(self) -> int:
        """Measurements of the initial candidate before the search begins."""
        return 1 if self.problem.deterministic else self.settings.baseline

    @property
    def ready(self) -> bool:
        """Whether the initial candidate was measured and the noise is known, so that the search may begin."""
        if self.noise_found is not None:
            return not self.noise_found.wrong
        # A wrong declaration stops the run when it shows; the search need not wait for that.
        return self.problem.exact and self.history[self.history.initial].count >= self.baseline

    @property
    def released(self) -> str:
        """The last candidate that the gate accepted, or the initial one."""
        return self.gate.released

    @property
    def waiting(self) -> int:
        """Candidates that were admitted and not measured yet."""
        return self.arena.waiting if self.arena is not None else len(self.asks) // len(self.rows)

    def left(self) -> dict[str, float]:
        """What proposers are told is left. Exams count as they were planned: what they took tells of their rows."""
        gate = self.gate
        hidden = {"usd": gate.usd - gate.planned_usd, "seconds": gate.seconds - gate.planned_seconds}
        return {kind: max(0.0, self.ledger.left(kind) + hidden.get(kind, 0.0)) for kind in KINDS}

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self.evaluations and not self.proposals

    def apply(self, event: Event, time: float) -> None:
        """Fold one event, recorded at `time`."""
        if not isinstance(event, RunResumed):  # the time between two sessions is nobody's work
            self.ledger.seconds += max(0.0, time - self.last)
            if self.gate.open:
                self.gate.seconds += max(0.0, time - self.last)
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

    def unanswered(self) -> list[Event]:
        """Questions to accounts and checks that have no answer yet; a resume asks them again."""
        gate = self.gate
        out: list[Event] = []
        if gate.planned is not None and gate.exam is None:
            out.append(gate.planned)
        if (
            gate.exam is not None
            and gate.verdict is not None
            and gate.verdict["kind"] == "rows"
            and gate.accepted is None
        ):
            out.append(VerdictReached(gate.verdict))
        if gate.report_planned is not None and gate.report_started is None:
            out.append(gate.report_planned)
        if self.checking is not None and "checked" not in self.unchecked[0][1]:
            out.append(self.checking)
        return out

    def next_ask(self) -> Ask | None:
        """The request to start next; None when nothing is wanted."""
        if self.urgent or self.asks:
            return (self.urgent or self.asks)[0]
        if self.arena is not None and not self.gate.open and self.stop is None and self.ready:
            found = self.arena.next(self.workers)
            if found is not None:
                candidate, row, replicate = found
                return Ask(candidate, row, replicate, -1, "search")
        return None

    def _ask_pair(self, race: Pairs, purpose: str) -> None:
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
            if self.gate.accepted is not None or not self.gate.open:
                self.stop = self.ended = None
                self.gate.go_on()
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
        self.reads.clear()
        self._begin(problem, start)

    def _proposal_started(self, event: ProposalStarted) -> None:
        self.proposals[event.id] = event
        self.next_proposal = event.id + 1

    def _row_read(self, event: RowRead) -> None:
        self.reads.setdefault(event.proposal, {})[event.example] = event.row

    def _proposal_ended(self, event: ProposalEnded) -> None:
        self.proposals.pop(event.id, None)
        self.reads.pop(event.id, None)
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
        self.checking = None
        self.barren = 0
        if self.arena is not None:
            self.arena.enter(event.candidate, self.history[event.candidate].read)
        else:
            self._ask(event.candidate)

    def _check_started(self, event: CheckStarted) -> None:
        self.checking = event

    def _check_ended(self, event: CheckEnded) -> None:
        self.unchecked[0] = (self.unchecked[0][0], {**self.unchecked[0][1], "checked": [event.check, event.reason]})

    def _rejected(self, event: CandidateRejected) -> None:
        self.unchecked.popleft()
        self.leaks += event.reason.startswith("leak:")
        self.checking = None

    def _evaluation_started(self, event: EvaluationStarted) -> None:
        self.evaluations[event.id] = event
        self.next_evaluation = event.id + 1
        if self.urgent or self.asks:
            (self.urgent or self.asks).popleft()
        elif self.arena is not None and event.example is not None:
            self.arena.begin(event.candidate, event.example)

    def _evaluation_ended(self, event: EvaluationEnded) -> None:
        started = self.evaluations.pop(event.id, None)
        if started is None:
            return  # of a reader that does not see when the gate's measurements began
        if self._repeats(started):
            self._noise_measured(self._measuring.alone(started, event))
        if started.stage == NOISE and self.arena is None:
            return
        unit = self._measuring.add(started, event)
        if unit is None:
            return
        self.units += 1
        self.unit_seconds += unit.seconds
        if unit.purpose == "gate":
            self.gate.usd += event.output.get("usd", 0.0)
            self.gate.measured(unit)
        elif unit.purpose == "report":
            self.gate.report_measured(unit)
        elif self.arena is not None and unit.example is not None:
            self._row_measured(self.arena, unit)
        else:
            self._search_measured(unit)

    def _search_measured(self, unit: Unit) -> None:
        self._tell(unit)
        if unit.candidate == self.history.initial and unit.pair < 0:
            if not self.problem.deterministic:
                self._noise_measured(replace(unit, example=None))
        elif unit.pair < 0:
            self.looks.append(unit.candidate)
        race = self.race
        if race is not None and unit.pair in race.numbers:
            race.add(unit.pair, unit.candidate, unit.values)
            if race.asked < race.wanted:
                self._ask_pair(race, "search")

    def _row_measured(self, arena: Arena, unit: Unit) -> None:
        self._tell(unit)
        score = self.problem.compared(unit.values) if unit.values is not None else self.problem.failure
        if score is None:
            self.broken.setdefault(unit.candidate, unit.failure)
        arena.add(unit.candidate, str(unit.example), 0.0 if score is None else score)

    def _noise_measured(self, unit: Unit) -> None:
        value = self.problem.compared(unit.values) if unit.values is not None else None
        self.noise.setdefault(unit.example, []).append(value)

    def _noise_told(self, event: NoiseMeasured) -> None:
        self.noise_found = event

    def _tell(self, unit: Unit) -> None:
        mean = self.history.mean_with(self.history[unit.candidate], unit.values)
        self.history.measured(unit, mean is not None and not self.problem.violated(mean))

    def _race_started(self, event: RaceStarted) -> None:
        self.contenders.popleft()
        settings = self.settings
        first = self._next_pair
        self.race = Pairs(event.challenger, event.champion, settings.race_shortest, settings.race_longest, first)
        while self.race.asked < self.race.wanted:
            self._ask_pair(self.race, "search")

    def _race_decided(self, event: RaceDecided) -> None:
        if self.arena is not None:
            self.broken.pop(event.candidate, None)
            self.arena.decided(event.candidate, event.decision == "promote")
            return
        if self.race is not None and self.race.challenger == event.candidate:
            self.race = None
            self.urgent.clear()
        elif self.looks and self.looks[0] == event.candidate:
            self.looks.popleft()
        else:
            self.contenders.remove(event.candidate)
        if event.decision == "continue":
            self.contenders.append(event.candidate)

    def _exam_planned(self, event: ExamPlanned) -> None:
        count, wanted = max(1, self.ledger.evaluations), 2 * event.pairs
        self.gate.planned_usd += wanted * self.ledger.evaluator_usd / count
        self.gate.planned_seconds += wanted * self.unit_seconds / max(1, self.units) / self.workers
        self.gate.plan_made(event)

    def _exam_started(self, event: ExamStarted) -> None:
        self.race = None
        self.urgent.clear()
        self.asks.clear()
        pairs = self.gate.started(event, self._next_pair)
        if self.gate.planned is None:
            while pairs.asked < event.pairs:
                self._ask_pair(pairs, "gate")
            return
        self._next_pair += event.pairs
        pairs.asked = event.pairs
        for number, (row, _) in zip(pairs.numbers, self.gate.val[: event.pairs], strict=False):
            halves = (event.champion, event.released) if number % 2 == 0 else (event.released, event.champion)
            for candidate in halves:
                if self.problem.deterministic and (candidate, row) in self.gate.known:
                    pairs.add(number, candidate, self.gate.known[candidate, row])
                else:
                    self.urgent.append(Ask(candidate, row, event.id, number, "gate"))

    def _report_started(self, event: ReportStarted) -> None:
        planned = self.gate.report_planned
        self.gate.report_started = event
        if planned is not None:
            for row, _ in self.gate.test[: planned.rows]:
                self.urgent.extend(Ask(candidate, row, 0, -1, "report") for candidate in planned.candidates)

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
        self.gate.decided(event, self.history.champion)

    def _ended(self, event: RunEnded) -> None:
        self.ended = event


_HANDLERS: dict[type[Event], Any] = {
    RunResumed: State._resumed,
    EpochStarted: State._epoch,
    ProposalStarted: State._proposal_started,
    RowRead: State._row_read,
    ProposalEnded: State._proposal_ended,
    CandidateAdmitted: State._admitted,
    CandidateRejected: State._rejected,
    EvaluationStarted: State._evaluation_started,
    EvaluationEnded: State._evaluation_ended,
    RaceStarted: State._race_started,
    RaceDecided: State._race_decided,
    HoldoutFixed: lambda state, event: state.gate.fixed(event),
    NoiseMeasured: State._noise_told,
    CheckStarted: State._check_started,
    CheckEnded: State._check_ended,
    ExamPlanned: State._exam_planned,
    ExamStarted: State._exam_started,
    CallStarted: State._call_started,
    CallEnded: State._call_ended,
    StopRequested: State._stop,
    ExamDecided: State._exam_decided,
    VerdictReached: lambda state, event: state.gate.reached(event),
    ReportPlanned: lambda state, event: state.gate.report_made(event),
    ReportStarted: State._report_started,
    ReportReached: lambda state, event: state.gate.reported(event),
    RunEnded: State._ended,
}
