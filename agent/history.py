"""What is known about every candidate: a fold over the events that proposers may see."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent.events import (
    CandidateAdmitted,
    CandidateCleared,
    CandidateConvicted,
    CandidateRejected,
    CandidateSuspected,
    Event,
    ProposalEnded,
    RaceDecided,
)
from agent.goals import Objective
from agent.measuring import Unit
from agent.sharedlist import SharedList
from agent.space import Candidate

TrialState = Literal["queued", "measured", "suspected", "racing", "champion", "dropped", "failed"]
"""queued: not measured yet. measured: waits for the race's word. suspected: its score may come from a trick, so it has
none until it was measured again. racing: measured in pairs, or with more of the effort. champion: what the search
builds on. dropped: was not better, was replaced, or was stopped before it had been measured in full (then it has no
values). failed: has no value."""

AGAIN = "again"
"""Reason to measure a program once more that nothing speaks against: what is claimed as exact is measured again."""
SUSPICIOUS = "suspicious: "
"""How the failure of a candidate begins that is more likely a trick than a mistake."""

REMEMBERED = 20
"""Rejections that proposers are told about; older ones are in the journal only."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate and what search knows of it.

    Args:
        number: Order of admission; the initial candidate is 0.
        proposal: The decision it came from; 0 for the initial candidate and the starting points.
        values: Mean of each objective and constraint over its search measurements; None before the first.
        count: Search measurements behind `values`; each is a mean over the data rows.
        feasible: Whether all constraints hold on `values`.
        feedback: The evaluator's words at the last measurement.
        failure: Why it has no value: kind and message.
        reason: Why the race promoted or dropped it.
        read: Examples that were read when it or one of its ancestors was made,
        learned: and those that were read when it was made itself.
        rows: Where candidates are measured row by row: by example, the primary objective (None where it failed)
            and the evaluator's words.
    """

    candidate: Candidate
    number: int
    proposal: int
    source: str
    rationale: str = ""
    parents: tuple[str, ...] = ()
    claim: float | None = None
    state: TrialState = "queued"
    values: dict[str, float] | None = None
    count: int = 0
    feasible: bool = True
    feedback: str = ""
    failure: str = ""
    detail: str = ""
    """Of the last measurement as a whole: the end of a traceback, what was printed, how long it took; "" if nothing."""
    sign: str = ""
    """Of one without a value: why the scorer suspects a trick (`agent.evaluation.Failure.sign`)."""
    reason: str = ""
    read: frozenset[str] = frozenset()
    learned: frozenset[str] = frozenset()
    rows: Mapping[str, tuple[float | None, str]] = field(default_factory=dict)
    partial: Mapping[float, float] = field(default_factory=dict)
    """Costs (smaller is better) by the share of the effort, in (0, 1), that they were measured with."""
    stopped: Mapping[str, float] | None = None
    """Of one whose learning curve left too little hope: `agent.evaluation.Output.stopped`."""
    suspicion: str = ""
    """"" where nothing was ever suspicious, else suspected, cleared, convicted, or forgiven: it had no score, had one
    when it was measured again, and so is measured as if for the first time."""
    held: dict[str, float] | None = None
    """Of one that is suspected: the means that it has if it is cleared. Nothing but its quarantine reads them."""

    @property
    def id(self) -> str:
        return self.candidate.id


@dataclass(frozen=True, slots=True)
class Warm:
    """A point of an earlier run, or of another optimizer: foreign knowledge.

    Proposers may read it, and tell their model of it as such. It is no trial: its score was measured elsewhere, so
    nothing is ever compared with it.

    Args:
        values: A candidate of this run's space.
        score: The primary objective there; None when it failed, or when the goal was another one.
        failed: Whether it had no value or broke a constraint.
        source: Where it comes from, such as "warm:bowl-20250101-120000-ab12".
    """

    values: Candidate
    score: float | None
    failed: bool
    source: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Warm:
        """The point that stands in a run's first event."""
        return cls(Candidate(data["values"]), data["score"], data["failed"], data["source"])


class History:
    """The fold. `freeze` gives proposers a view that later events do not change."""

    def __init__(self, initial: Candidate, objective: Objective, warm: Iterable[Warm] = ()) -> None:
        self.objective = objective
        self.warm = tuple(warm)
        """What is known from before the run; foreign, and no trial."""
        self.initial = initial.id
        self.champion = initial.id
        self.trials = SharedList([Trial(initial, 0, 0, "initial")])
        self.rejections: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self.rejected: dict[str, int] = {}
        self._number: dict[str, int] = {initial.id: 0}
        """By candidate. Views share it: a number that a view does not have yet is no candidate of its."""
        self.told: list[Trial] = []
        """Candidates as they were each time the race gave its word on them, and each time one that has its word was
        measured again; without rows. Who keeps something up to date for every candidate reads what is new here,
        instead of all trials. Views share the list: theirs are the first `heard`."""
        self.heard = 0
        self._is_view = False
        self._views: weakref.WeakSet[History] = weakref.WeakSet()

    @classmethod
    def of(cls, trials: Iterable[Trial], champion: str, objective: Objective) -> History:
        """A history of trials that were made elsewhere, in their order; the first is the initial one.

        Args:
            trials: At least one. They are numbered anew.
            champion: Id of one of them.
            objective: Of the problem.
        """
        first, *more = trials
        made = cls(first.candidate, objective)
        made.trials = SharedList(replace(trial, number=number) for number, trial in enumerate([first, *more]))
        for trial in made.trials:
            made._number.setdefault(trial.id, trial.number)
        made.champion = champion
        return made

    def freeze(self) -> History:
        """A view of now. Cheap: a little is copied, and only when this history changes while the view is in use."""
        view = object.__new__(History)
        view.__dict__.update(self.__dict__)
        view._is_view = True
        self._views.add(view)
        return view

    def _own(self) -> None:
        if self._views:
            self._views = weakref.WeakSet()
            self.trials = self.trials.copy()
            if self._is_view:
                self._number = {trial.id: trial.number for trial in self.trials}
                self.told = self.told[: self.heard]
                self._is_view = False
            self.rejections = deque(self.rejections, maxlen=REMEMBERED)
            self.rejected = dict(self.rejected)

    def __len__(self) -> int:
        return len(self.trials)

    def __contains__(self, candidate: str) -> bool:
        return self._number.get(candidate, len(self.trials)) < len(self.trials)

    def __getitem__(self, candidate: str) -> Trial:
        number = self._number[candidate]
        if number >= len(self.trials):
            raise KeyError(candidate)
        return self.trials[number]

    def _put(self, trial: Trial) -> None:
        self._own()
        self.trials[trial.number] = trial

    def _tell(self, candidate: str) -> None:
        self._own()
        trial = self[candidate]
        self.told.append(replace(trial, rows={}) if trial.rows else trial)
        self.heard += 1

    def apply(self, event: Event) -> None:
        """Fold an event other than a measurement, which comes as a `Unit` through `measured`."""
        if isinstance(event, CandidateAdmitted):
            self._own()
            number = len(self.trials)
            self._number.setdefault(event.candidate, number)  # views rely on it: what they know keeps its number
            self.trials.append(
                Trial(
                    candidate=Candidate(event.values),
                    number=number,
                    proposal=event.proposal,
                    source=event.source,
                    rationale=event.rationale,
                    parents=tuple(event.parents),
                    claim=event.claim,
                    learned=frozenset(event.read),
                    read=frozenset(event.read).union(*(self[name].read for name in event.parents if name in self)),
                )
            )
        elif isinstance(event, CandidateRejected):
            self._own()
            self._reject({"reason": event.reason, "source": event.source, "candidate": event.candidate})
        elif isinstance(event, ProposalEnded):
            if event.rejections:
                self._own()
            for rejection in event.rejections:
                self._reject(rejection)
        elif isinstance(event, RaceDecided):
            self._decided(event)
        elif isinstance(event, CandidateSuspected):
            trial = self[event.candidate]
            if event.reason == AGAIN:
                return  # nothing speaks against it
            words = f"{SUSPICIOUS}{event.evidence}"
            self._put(
                replace(trial, state="suspected", suspicion="suspected", values=None, held=trial.values, failure=words)
            )
        elif isinstance(event, CandidateCleared):
            trial = self[event.candidate]
            if trial.state != "suspected":
                return
            state: TrialState = "queued" if trial.held is None else "measured"
            word = "forgiven" if trial.held is None else "cleared"
            self._put(replace(trial, state=state, suspicion=word, values=trial.held, held=None, failure="", sign=""))
        elif isinstance(event, CandidateConvicted):
            trial = self[event.candidate]
            words = f"{trial.failure or SUSPICIOUS.strip()}; {event.reason}".replace(":; ", ": ")
            gone = replace(trial, state="failed", suspicion="convicted", values=None, held=None, count=0, rows={})
            self._put(replace(gone, failure=words))
            if self.champion == trial.id:  # it was the check at the end: the next best one is what there is
                self._put(replace(gone, failure=words, reason=words))
                self.champion = self.ranked(1)[0].id if self.ranked(1) else self.initial
                why = f"the next best after #{trial.number}" if self.champion != self.initial else ""
                self._put(replace(self[self.champion], state="champion", reason=why))
            self._tell(trial.id)

    def _reject(self, rejection: dict[str, Any]) -> None:
        self.rejections.append(rejection)
        source = str(rejection.get("source", ""))
        self.rejected[source] = self.rejected.get(source, 0) + 1

    def measured(self, unit: Unit, feasible: bool) -> None:
        """Fold a search measurement. `feasible` says whether the constraints hold on the new mean."""
        trial = self[unit.candidate]
        if trial.suspicion == "convicted":
            return
        if trial.state == "suspected":  # of a race on rows, which goes on meanwhile
            if unit.values is not None:
                held = self.mean_with(trial, unit.values)
                self._put(replace(trial, held=held, count=trial.count + 1, feasible=feasible))
            return
        if unit.example is not None:
            value = unit.values[self.objective.name] if unit.values is not None else None
            trial = replace(trial, rows={**trial.rows, unit.example: (value, unit.feedback or unit.failure)})
            self._put(trial)
            if unit.values is None and trial.count:
                return
        if unit.values is None:
            if unit.stopped:
                self._stopped(trial, unit.stopped)
            elif trial.values is None:
                failed = replace(trial, state="failed", failure=unit.failure, detail=unit.detail, sign=unit.sign)
                self._put(failed)
            return
        failed_before = trial.state == "failed" and unit.example is not None  # on another row
        climbed = trial.state == "racing" and trial.values is None
        state = "measured" if trial.state == "queued" or failed_before or climbed else trial.state
        self._put(
            replace(
                trial,
                state=state,
                values=self.mean_with(trial, unit.values),
                count=trial.count + 1,
                feasible=feasible,
                feedback=unit.feedback or trial.feedback,
                detail=unit.detail,
            )
        )
        if not trial.number or state in ("champion", "dropped") or (state == "racing" and trial.count):
            self._tell(trial.id)

    def partly(self, unit: Unit, cost: float | None) -> None:
        """Fold a measurement with a part of the effort; `cost` is small where it is good, None where it failed."""
        trial = self[unit.candidate]
        if cost is None:
            self._put(replace(trial, state="failed", failure=unit.failure, detail=unit.detail))
            return
        costs = {**trial.partial, unit.fidelity: cost}
        self._put(replace(trial, state="measured", partial=costs, feedback=unit.feedback or trial.feedback))

    def _stopped(self, trial: Trial, stopped: Mapping[str, float]) -> None:
        costs = {**trial.partial, round(stopped["step"] / stopped["of"], 9): -self.objective.sign * stopped["value"]}
        self._put(replace(trial, state="measured", partial=costs, stopped=stopped))

    @staticmethod
    def mean_with(trial: Trial, values: dict[str, float] | None) -> dict[str, float] | None:
        """The trial's means after one more measurement, which may have failed."""
        known = trial.held if trial.state == "suspected" else trial.values
        if known is None or values is None:
            return known if values is None else values
        n = trial.count
        return {name: (known[name] * n + value) / (n + 1) for name, value in values.items()}

    def _decided(self, event: RaceDecided) -> None:
        trial = self[event.candidate]
        if event.decision == "promote":
            old = self[self.champion]
            if old.id != trial.id:
                self._put(replace(old, state="dropped" if old.state == "champion" else old.state))
            self._put(replace(trial, state="champion", reason=event.reason))
            self.champion = trial.id
        elif event.decision in ("continue", "climb"):
            self._put(replace(trial, state="racing", reason=event.reason))
        else:
            failed = trial.values is None and (trial.failure or not trial.partial)
            self._put(replace(trial, state="failed" if failed else "dropped", reason=event.reason))
        if event.decision != "climb":
            self._tell(trial.id)

    def ranked(self, limit: int | None = None) -> list[Trial]:
        """Feasible measured trials, best first by their search mean."""
        good = [trial for trial in self.trials if trial.values is not None and trial.feasible]
        name, sign = self.objective.name, self.objective.sign
        good.sort(key=lambda trial: (-sign * (trial.values or {})[name], trial.number))
        return good[:limit]

    def value(self, trial: Trial) -> float:
        """The trial's mean of the primary objective.

        Raises:
            KeyError: It was not measured.
        """
        return (trial.values or {})[self.objective.name]
