"""The state of a run: a fold over its journal. `agent.decide` reads it and nothing else.

Here is what there is to know; what each event changes in it is in `agent.folds`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from agent.curves import KEPT, Curve
from agent.events import (
    CallStarted,
    CheckStarted,
    EvaluationStarted,
    Event,
    NoiseMeasured,
    ProposalStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    StopRequested,
    ToolEnded,
)
from agent.folds import HANDLERS
from agent.folds.asks import Ask, Asks
from agent.folds.costs import Costs
from agent.folds.examination import Examination
from agent.folds.repeats import Repeats
from agent.folds.suspects import Suspects
from agent.gate.arena import Arena
from agent.gate.pairs import Pairs
from agent.gate.race import Race
from agent.halving import Halving
from agent.history import History, Warm
from agent.journal import Entry
from agent.ledger import KINDS, Budget, Ledger
from agent.looking import LOOK, Looks, Traces
from agent.measuring import Measuring
from agent.nearness import Known
from agent.problem import Problem
from agent.settings import Settings
from agent.space import Candidate
from agent.wishes import Wishes


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
        for paid in started.origin.get("drafting", ()):
            self.ledger.carry("draft", paid)
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
        self.begin(Problem.from_json(started.problem), Candidate(started.initial))

    def begin(self, problem: Problem, initial: Candidate) -> None:
        """Start without anything measured: at first, and when the person accepts another problem."""
        self.problem = problem
        self.history = History(initial, problem.objective, map(Warm.from_json, self.warm.get("points", ())))
        self.known = Known(problem.space, self.history.warm)
        train = problem.split("train")
        self.rows: list[str | None] = [None] if problem.by_rows else [example.id for example in train] or [None]
        """What a candidate is measured on as a whole."""
        self.measuring = Measuring(problem.objectives, [c.name for c in problem.constraints], len(self.rows))
        self.asks = Asks(self.rows)
        self.looks = Looks(self.rows, problem.deterministic)
        """What proposers measure while they work."""
        self.traces = Traces()
        self.memory: Any = None
        """What the proposer wanted to be given back, from the last proposal that ended."""
        self.numbers: dict[int, tuple[str, ...]] = {}
        """Numbers and choices that open proposals may change."""
        self.remembered: tuple[str, ...] = problem.space.numeric
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
        self.costs = Costs()
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
        return self.costs.total(self.ledger.budget)

    @property
    def affordable(self) -> float:
        """Evaluations that what is left pays for; calls under way count with their worst case until they end."""
        return self.costs.affordable(self.ledger, self.workers)

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
        handler = HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    @property
    def estranged(self) -> bool:
        """Whether the proposer's memory is about other numbers and choices than those that may change now."""
        return self.memory is not None and self.remembered != self.wishes.space(self.problem.space).numeric

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


def folded(state: State | None, entry: Entry) -> State | None:
    """The state with one entry of a journal more; None before the run's first event."""
    if state is not None:
        state.apply(entry.event, entry.time)
        return state
    return State(entry.event, entry.time) if isinstance(entry.event, RunStarted) else None
