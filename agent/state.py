"""The state of a run: a fold over its journal. `agent.decide` reads it and nothing else."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.asks import NOISE, Ask, Asks
from agent.curves import KEPT, Curve
from agent.events import (
    RESUMABLE,
    BudgetChanged,
    CallEnded,
    CallStarted,
    CandidateAdmitted,
    CandidateCleared,
    CandidateConvicted,
    CandidateRejected,
    CandidateSuspected,
    CheckEnded,
    CheckStarted,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HintGiven,
    HoldoutFixed,
    LookAsked,
    NoiseMeasured,
    PairJudged,
    ProposalEnded,
    ProposalStarted,
    RaceDecided,
    RaceStarted,
    ReportPlanned,
    ReportReached,
    ReportStarted,
    RowRead,
    RunContinued,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StopRequested,
    ToolEnded,
    ValueBanned,
    ValuePinned,
    VerdictReached,
)
from agent.examination import Examination
from agent.gate.arena import Arena
from agent.gate.pairs import Pairs
from agent.gate.quarantine import SECOND
from agent.gate.race import Race
from agent.halving import Halving
from agent.history import History, Warm
from agent.ledger import KINDS, Budget, Ledger
from agent.looking import LOOK, Looks, Traces
from agent.measuring import Measuring, Unit
from agent.nearness import Known
from agent.problem import Problem
from agent.repeats import Repeats
from agent.settings import Settings
from agent.space import Candidate
from agent.suspects import Suspects
from agent.wishes import Wishes

MARGIN = 1.1
"""How much more than the search's rows the rows of the exam and the report may cost."""
SCOPE = "evaluation-"
"""How the scopes of an evaluation's model calls begin; its number follows."""


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
        self.given, self.warm = started.starts, started.warm
        """Starting points as they were given, and what was taken from an earlier run."""
        self.origin = started.origin
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
        self.steps: dict[int, dict[tuple[str, int, int], ToolEnded]] = {}
        """Tools that open proposals have called, by conversation, turn and index."""
        self.calls: dict[int, CallStarted] = {}
        self.wishes = Wishes()
        """What the person asked of the proposals."""
        self._begin(Problem.from_json(started.problem), Candidate(started.initial))

    def _begin(self, problem: Problem, initial: Candidate) -> None:
        self.problem = problem
        self.history = History(initial, problem.objective, map(Warm.from_json, self.warm.get("points", ())))
        self.known = Known(problem.space, self.history.warm)
        train = problem.split("train")
        self.rows: list[str | None] = [None] if problem.by_rows else [example.id for example in train] or [None]
        """What a candidate is measured on as a whole."""
        self._measuring = Measuring(problem.objectives, [c.name for c in problem.constraints], len(self.rows))
        self.asks = Asks(self.rows)
        self.looks = Looks(self.rows, problem.deterministic)
        """What proposers measure while they work."""
        self.traces = Traces()
        self.memory: Any = None
        """What the proposer wanted to be given back, from the last proposal that ended."""
        self._numbers: dict[int, tuple[str, ...]] = {}
        """Numbers and choices that open proposals may change."""
        self._remembered: tuple[str, ...] = problem.space.numeric
        """Those of the proposal that left the memory."""
        self.barren = 0
        """Proposals in a row that brought no new candidate."""
        self.errors: list[str] = []
        """Failures of the proposer since it last answered."""
        self.exhausted = ""
        """Why the proposer has nothing left, or ""."""
        self.over = ""
        """That whoever makes the candidates wants the search to end, in words, or ""."""
        self.unchecked: deque[tuple[int, dict[str, Any]]] = deque((0, start) for start in self.given)
        """What was proposed and not checked yet, by decision; starting points, of decision 0, are first."""
        self.starting: list[str] | None = []
        """Starting points that are measured; None once somebody was asked for candidates."""
        self.refused: list[tuple[dict[str, Any], str]] = []
        """Starting points that are not measured, and why."""
        self.fresh: deque[str] = deque()
        """Candidates with a first measurement that wait for the race's word."""
        self.contenders: deque[str] = deque()
        self.race: Pairs | None = None
        self.arena = self._arena(problem, initial.id) if problem.by_rows else None
        """Races on rows of data, where there are any; otherwise `fresh`, `contenders` and `race`."""
        rungs = problem.fidelity is not None and len(problem.fidelity.rungs) > 1
        self.halving = Halving(problem.fidelity) if rungs and problem.fidelity is not None else None
        """Who is measured with a part of the effort first; None where everybody is measured in full."""
        self.curves: deque[Curve] = deque(maxlen=KEPT)
        """The newest learning curves that came to their end, where hopeless ones are stopped."""
        self.broken: dict[str, str] = {}
        """Candidates in the arena that cannot be scored, and why."""
        self.suspects = Suspects(problem, self.settings)
        self.gate = Examination(initial.id)
        self.repeats = Repeats(problem, initial.id, self.rows, self.arena)
        self.noise_found: NoiseMeasured | None = None
        self.checking: CheckStarted | None = None
        self.units = 0
        """Measurements of the search; what the gate's took and cost tells of its rows."""
        self.unit_seconds = self.unit_usd = 0.0
        self.asked = dict.fromkeys(("calls", "tokens", "usd"), 0.0)
        """What the measurements of the search have asked of models."""
        self.held_back = dict.fromkeys(("calls", "tokens", "usd"), 0.0)
        """The worst case of the same calls."""
        self.askers = 0
        """How many measurements asked them."""
        self._asking: dict[int, list[tuple[dict[str, float], dict[str, Any]]]] = {}
        """Calls of measurements in flight."""
        self.stop: StopRequested | None = None
        """Why the search is over; the exam follows."""
        self.halt: StopRequested | None = None
        """Why the run rests; a resume goes on where it was."""
        self.paused = False
        """Whether nothing new starts until the user says so; a resume goes on too."""
        self.ended: RunEnded | None = None
        self.repeats.ask(self.asks, self.baseline)

    def _arena(self, problem: Problem, initial: str) -> Arena:
        budget = self.ledger.budget.evaluations
        total = float("inf") if budget is None else budget
        return Arena.of(problem, initial, self.seed, total, Race(gain=self.settings.smallest_gain))

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
        return self.arena.waiting if self.arena is not None else len(self.asks.later) // len(self.rows)

    def left(self) -> dict[str, float]:
        """What proposers are told is left. Exams count as they were planned: what they took tells of their rows."""
        hidden = self.gate.hidden
        return {kind: max(0.0, self.ledger.left(kind) + hidden.get(kind, 0.0)) for kind in KINDS}

    @property
    def total(self) -> float:
        """Evaluations that the whole budget pays for, at the mean price of those so far; infinity without a limit."""
        return self._paid(self.ledger.budget.evaluations or math.inf, lambda kind: getattr(self.ledger.budget, kind))

    @property
    def affordable(self) -> float:
        """Evaluations that what is left pays for; calls under way count with their worst case until they end."""
        flying = self.workers / max(1, self.askers)

        def left(kind: str) -> float:
            return self.ledger.left(kind) - flying * self.held_back[kind]

        return self._paid(self.ledger.left("evaluations"), left)

    def _paid(self, most: float, amount: Callable[[str], float]) -> float:
        for kind, spent in self.asked.items():
            if spent > 0 and getattr(self.ledger.budget, kind) is not None:
                most = min(most, max(0, math.floor(amount(kind) * self.askers / (MARGIN * spent))))
        return most

    @property
    def next_start(self) -> bool:
        """Whether a starting point comes next; it is checked when a slot is free for it."""
        return bool(self.unchecked) and not self.unchecked[0][0]

    @property
    def opening(self) -> bool:
        """Whether starting points are still to be measured, which nobody proposes without knowing.

        On rows, a starting point's race is what is to be known.
        """
        if self.next_start or not self.starting:
            return self.next_start
        if self.arena is not None:
            return any(name in self.arena.lanes for name in self.starting)
        wanted = {ask.candidate for ask in self.asks.later} | {e.candidate for e in self.evaluations.values()}
        return any(name in wanted and self.history[name].state == "queued" for name in self.starting)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self.evaluations and not self.proposals

    @property
    def resting(self) -> bool:
        """Whether it is paused and what was in flight is finished; a proposer may be half way and wait too."""
        return self.paused and not self.evaluations and not self.calls

    def apply(self, event: Event, time: float) -> None:
        """Fold one event, recorded at `time`."""
        # The time between two sessions is nobody's work, and so is a pause once all that was in flight is finished.
        if not isinstance(event, RunResumed) and not self.resting:
            self.ledger.seconds += max(0.0, time - self.last)
            if self.gate.open:
                self.gate.seconds += max(0.0, time - self.last)
        self.last = time
        self.ledger.apply(event)
        self.history.apply(event)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    @property
    def estranged(self) -> bool:
        """Whether the proposer's memory is about other numbers and choices than those that may change now."""
        return self.memory is not None and self._remembered != self.wishes.space(self.problem.space).numeric

    def unanswered(self) -> list[Event]:
        """Questions to accounts and checks that have no answer yet; a resume asks them again."""
        out = self.gate.unanswered()
        if self.checking is not None and "checked" not in self.unchecked[0][1]:
            out.append(self.checking)
        return out

    def next_ask(self) -> Ask | None:
        """The request to start next; None when nothing is wanted."""
        searching = not self.gate.open and self.stop is None
        if searching and self.looks.wanted:
            look = self.looks.wanted[0]
            return Ask(look.candidate, look.example, 0, -1, "search", LOOK, key=f"look {look.proposal} {look.key}")
        if not self.gate.open and self.suspects.next is not None and (searching or self.suspects.last):
            return self.suspects.next
        if self.asks:
            return self.asks.first
        if self.arena is not None and searching and self.ready:
            found = self.arena.next(self.workers)
            if found is not None:
                candidate, row, replicate = found
                return Ask(candidate, row, replicate, -1, "search")
        return None

    def _resumed(self, event: RunResumed) -> None:
        self.resumes += 1
        self.ledger.cut()
        self.calls.clear()
        self.errors = []
        self.halt = None
        self.paused = False
        if "budget" in event.changes:
            self.ledger.budget = Budget(**event.changes["budget"])
            if self.gate.accepted is not None or not self.gate.open:
                self.stop = self.ended = None
                self.over = ""
                self.ledger.closed = False
                self.gate.go_on()
                self.suspects.go_on()
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
        self.steps.clear()
        held = self.gate.held
        self.wishes = self.wishes.fit(problem.space)
        self._begin(problem, start)
        self.gate.exams = held  # an exam's number is its name in the account, so none is used twice

    def _proposal_started(self, event: ProposalStarted) -> None:
        self.proposals[event.id] = event
        self.next_proposal = event.id + 1
        self._numbers[event.id] = self.wishes.space(self.problem.space).numeric
        self.starting = None

    def _row_read(self, event: RowRead) -> None:
        self.reads.setdefault(event.proposal, {})[event.example] = event.row

    def _look_asked(self, event: LookAsked) -> None:
        self.looks.ask(event, self.ledger.evaluations)
        self.leaks += event.leaked

    def _tool_ended(self, event: ToolEnded) -> None:
        self.steps.setdefault(event.proposal, {})[event.conversation, event.turn, event.index] = event

    def _proposal_ended(self, event: ProposalEnded) -> None:
        self.proposals.pop(event.id, None)
        self.reads.pop(event.id, None)
        self.steps.pop(event.id, None)
        self.looks.forget(event.id)
        numbers = self._numbers.pop(event.id, self._remembered)
        self.unchecked.extend((event.id, proposal) for proposal in event.proposals)
        self.barren += 1
        if event.exhausted:
            self.exhausted = event.error or "the proposer has nothing left to propose"
        self.over = event.over or self.over
        if event.error:
            self.errors.append(event.error)
        else:
            self.errors, self.memory = [], event.state
            self._remembered = numbers

    def _admitted(self, event: CandidateAdmitted) -> None:
        self.unchecked.popleft()
        self.checking = None
        self.barren = 0
        if self.starting is not None:
            self.starting.append(event.candidate)
        if self.arena is not None:
            self.arena.enter(event.candidate, event.read, event.parents)
        elif self.halving is not None:
            self.asks.rung(event.candidate, self.halving.rungs[0], climbs=False)
        else:
            self.asks.candidate(event.candidate)

    def _check_started(self, event: CheckStarted) -> None:
        self.checking = event

    def _check_ended(self, event: CheckEnded) -> None:
        self.unchecked[0] = (self.unchecked[0][0], {**self.unchecked[0][1], "checked": [event.check, event.reason]})

    def _rejected(self, event: CandidateRejected) -> None:
        _, refused = self.unchecked.popleft()
        if not event.proposal:
            self.refused.append((refused, event.reason))
        self.leaks += event.reason.startswith("leak:")
        self.checking = None

    def _evaluation_started(self, event: EvaluationStarted) -> None:
        self.evaluations[event.id] = event
        self.next_evaluation = event.id + 1
        if event.stage == LOOK:
            self.looks.begin(event)
        elif event.stage in SECOND:
            self.suspects.begin()
        elif self.asks:
            self.asks.started()
        elif self.arena is not None and event.example is not None:
            self.arena.begin(event.candidate, event.example)

    def _evaluation_ended(self, event: EvaluationEnded) -> None:
        started = self.evaluations.pop(event.id, None)
        if started is None:
            return  # of a reader that does not see when the gate's measurements began
        self._has_asked(event.id)
        if started.purpose == "search" and started.stage not in SECOND:
            self.looks.measured(started, event)
            self.traces.measured(started, event)
        if started.stage == LOOK or _unpaid(event):
            return
        if self.repeats.has(started):
            self.repeats.add(self._measuring.alone(started, event))
        if started.stage == NOISE and self.arena is None:
            return
        unit = self._measuring.add(started, event)
        if unit is None:
            return
        if started.stage in SECOND:
            self._confirmed(unit, event)
            return
        if unit.fidelity < 1:
            self._partly_measured(unit)
            return
        if self.problem.fidelity is not None and self.problem.fidelity.stop:
            self._keep_curve(unit, event)
        if unit.purpose == "search" and not unit.stopped:
            self._count(unit, event)
        if unit.purpose == "gate":
            self.gate.usd += event.output.get("usd", 0.0)
            self.gate.measured(unit)
        elif unit.purpose == "report":
            self.gate.report_measured(unit)
        elif self.arena is not None and unit.example is not None:
            self._row_measured(self.arena, unit)
        else:
            self._search_measured(unit)

    def _has_asked(self, evaluation: int) -> None:
        """What a measurement of the search has asked counts once it is over."""
        calls = self._asking.pop(evaluation, ())
        self.askers += bool(calls)
        for spent, reserved in calls:
            for kind in self.asked:
                self.asked[kind] += spent[kind]
                self.held_back[kind] += reserved.get(kind, 0.0)

    def _count(self, unit: Unit, event: EvaluationEnded) -> None:
        self.units += 1
        self.unit_seconds += unit.seconds
        self.unit_usd += event.output.get("usd", 0.0)

    def _confirmed(self, unit: Unit, event: EvaluationEnded) -> None:
        self._count(unit, event)
        self.suspects.add(unit)

    def _suspected(self, event: CandidateSuspected) -> None:
        self.suspects.suspect(event, self.history, self.rows)

    def _cleared(self, event: CandidateCleared) -> None:
        self.suspects.over(cleared=True)
        if self.fresh and self.fresh[0] == event.candidate and self.history[event.candidate].values is None:
            self.fresh.popleft()
            self.asks.candidate(event.candidate)  # it had no score: it is measured as if for the first time

    def _convicted(self, event: CandidateConvicted) -> None:
        self.suspects.over(cleared=False)
        if self.arena is not None:
            self.broken[event.candidate] = self.history[event.candidate].failure

    def _search_measured(self, unit: Unit) -> None:
        self._tell(unit)
        if unit.candidate == self.history.initial and unit.pair < 0:
            if not self.problem.deterministic:
                self.repeats.add(replace(unit, example=None))
        elif unit.pair < 0:
            self.fresh.append(unit.candidate)
        race = self.race
        if race is not None and unit.pair in race.numbers:
            race.add(unit.pair, unit.candidate, unit.values)
            if race.asked < race.wanted:
                self.asks.pair(race, "search")

    def _keep_curve(self, unit: Unit, event: EvaluationEnded) -> None:
        if unit.purpose == "search" and unit.values is not None and not self.history[unit.candidate].count:
            self.curves.append(Curve.read(self.problem, event.output.get("partials", ())))

    def _partly_measured(self, unit: Unit) -> None:
        assert self.halving is not None
        if unit.values is None:
            self.history.partly(unit, None)
            self.fresh.append(unit.candidate)
            return
        cost = -self.problem.objective.sign * self.problem.compared(unit.values)
        self.history.partly(unit, cost)
        self.halving.add(unit.candidate, unit.fidelity, len(self.problem.violated(unit.values)), cost)

    def _row_measured(self, arena: Arena, unit: Unit) -> None:
        self._tell(unit)
        score = self.problem.compared(unit.values) if unit.values is not None else self.problem.failure
        if score is None:
            self.broken.setdefault(unit.candidate, unit.failure)
        arena.add(unit.candidate, str(unit.example), arena.worst if score is None else score)

    def _noise_told(self, event: NoiseMeasured) -> None:
        self.noise_found = event

    def _tell(self, unit: Unit) -> None:
        mean = self.history.mean_with(self.history[unit.candidate], unit.values)
        self.history.measured(unit, mean is not None and not self.problem.violated(mean))

    def _race_started(self, event: RaceStarted) -> None:
        self.contenders.popleft()
        settings = self.settings
        first = self.asks.next_pair
        self.race = Pairs(event.challenger, event.champion, settings.race_shortest, settings.race_longest, first)
        while self.race.asked < self.race.wanted:
            self.asks.pair(self.race, "search")

    def _race_decided(self, event: RaceDecided) -> None:
        if self.halving is not None and "rank" in event.evidence:
            to = self.halving.ruled(event.candidate, event.evidence["fidelity"])
            if to is not None:
                self.asks.rung(event.candidate, to, climbs=True)
            return
        if self.arena is not None:
            self.broken.pop(event.candidate, None)
            self.arena.decided(event.candidate, event.decision == "promote")
            return
        if self.race is not None and self.race.challenger == event.candidate:
            self.race = None
            self.asks.urgent.clear()
        elif self.fresh and self.fresh[0] == event.candidate:
            self.fresh.popleft()
        else:
            self.contenders.remove(event.candidate)
        if event.decision == "continue":
            self.contenders.append(event.candidate)

    def _exam_planned(self, event: ExamPlanned) -> None:
        count, wanted = max(1, self.units), 2 * event.pairs
        self.gate.planned_usd += wanted * self.unit_usd / count
        self.gate.planned_seconds += wanted * self.unit_seconds / count / self.workers
        for kind, amount in self.asked.items():
            self.gate.planned_asked[kind] += wanted * amount / max(1, self.askers)
        self.gate.plan_made(event)

    def _exam_started(self, event: ExamStarted) -> None:
        self.race = None
        self.asks.clear()
        self.gate.started(event, self.asks, self.problem.deterministic)

    def _report_started(self, event: ReportStarted) -> None:
        self.gate.report_begun(event, self.asks)

    def _call_started(self, event: CallStarted) -> None:
        self.calls[event.id] = event
        self.next_call = event.id + 1

    def _call_ended(self, event: CallEnded) -> None:
        started = self.calls.pop(event.id, None)
        if started is not None and started.scope.startswith(SCOPE):
            spent = event.spent
            tokens = spent.get("input", 0) + spent.get("output", 0)
            amounts = {"calls": 1, "tokens": tokens, "usd": spent.get("usd", 0.0)}
            if started.purpose == "search":
                self._asking.setdefault(int(started.scope.removeprefix(SCOPE).partition("/")[0]), []).append(
                    (amounts, started.reserved)
                )
            else:
                for kind, amount in amounts.items():
                    self.gate.asked[kind] += amount

    def _stop(self, event: StopRequested) -> None:
        if event.reason in RESUMABLE:
            self.halt = event
        elif self.stop is None:
            self.stop = event
            self.looks.drop(f"the search is over: {event.detail or event.reason}", self.ledger.evaluations)

    def _paused(self, event: RunPaused) -> None:
        self.paused = True

    def _continued(self, event: RunContinued) -> None:
        self.paused = False

    def _wished(self, event: Event) -> None:
        self.wishes = self.wishes.told(event, self.history)

    def _budget_changed(self, event: BudgetChanged) -> None:
        self.ledger.budget = Budget(**event.budget)

    def _exam_decided(self, event: ExamDecided) -> None:
        self.gate.decided(event, self.history.champion)

    def _ended(self, event: RunEnded) -> None:
        self.ended = event
        self.ledger.closed = True
        self.looks.drop("the run is over", self.ledger.evaluations)


def _unpaid(event: EvaluationEnded) -> bool:
    """Whether it was not measured because the search's share of a limit is spent, which says nothing about it."""
    return event.purpose == "search" and event.output.get("failure", {}).get("kind") == "unpaid"


_HANDLERS: dict[type[Event], Any] = {
    RunResumed: State._resumed,
    EpochStarted: State._epoch,
    ProposalStarted: State._proposal_started,
    RowRead: State._row_read,
    LookAsked: State._look_asked,
    ToolEnded: State._tool_ended,
    ProposalEnded: State._proposal_ended,
    CandidateAdmitted: State._admitted,
    CandidateRejected: State._rejected,
    CandidateSuspected: State._suspected,
    CandidateCleared: State._cleared,
    CandidateConvicted: State._convicted,
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
    RunPaused: State._paused,
    RunContinued: State._continued,
    HintGiven: State._wished,
    ValuePinned: State._wished,
    ValueBanned: State._wished,
    PairJudged: State._wished,
    BudgetChanged: State._budget_changed,
    ExamDecided: State._exam_decided,
    VerdictReached: lambda state, event: state.gate.reached(event),
    ReportPlanned: lambda state, event: state.gate.report_made(event),
    ReportStarted: State._report_started,
    ReportReached: lambda state, event: state.gate.reported(event),
    RunEnded: State._ended,
}
