"""What a report tells and the state of a run does not keep: a fold over the events, beside `agent.state`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from agent.events import (
    CallEnded,
    CallStarted,
    CandidateRejected,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    NoiseMeasured,
    ProposalEnded,
    RaceDecided,
    RunStarted,
)
from agent.gate.quarantine import SECOND
from agent.journal import Entry
from agent.looking import LOOK
from agent.results.tally import Tally
from agent.state import State

Shown: TypeAlias = Literal["none", "scores", "whole"]


@dataclass(frozen=True, slots=True)
class Step:
    """The race's word on a candidate, and what had been spent by then.

    Args:
        evaluations: Started so far.
        usd: Dollars spent so far.
        number: The candidate.
        decision: "initial", "promote" or "drop".
        value: Its search score at that moment; None without one.
        feasible: Whether all constraints held.
        reason: The race's words.
    """

    evaluations: float
    usd: float
    number: int
    decision: str
    value: float | None
    feasible: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bit:
    """The gate's bit on an exam, and what had been spent by then."""

    evaluations: float
    usd: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation of a candidate with its output, as the journal has them."""

    started: EvaluationStarted
    ended: EvaluationEnded

    def masked(self, place: int) -> Measured:
        """The same with its score, or the kind of its failure, and nothing else of the row."""
        failure = self.ended.output.get("failure")
        output = {"failure": {"kind": failure.get("kind", "error"), "message": "on a test row"}} if failure else {}
        score = self.ended.score
        ended = replace(self.ended, output=output, score=score and {"values": score["values"], "feedback": ""})
        return Measured(replace(self.started, example=f"test row {place}"), ended)

    @property
    def full(self) -> bool:
        """Whether it says what the candidate is worth: all of the effort, and on the usual inputs."""
        return self.started.fidelity == 1 and self.started.stage not in SECOND

    @property
    def failure(self) -> str:
        """Kind and message of its failure, or ""."""
        found = self.ended.output.get("failure")
        if found is None:
            return "" if self.ended.score is not None else "no score"
        return f"{found.get('kind', 'error')}: {found.get('message', '')}"


@dataclass
class Tape:
    """The fold.

    Args:
        state: Folded from the same events.
        rows: How much of the final report's test rows may be shown: "none" of it, their "scores" without a word of
            what is in them, or "whole", since somebody has opened them. Of the gate's rows nothing ever is.

    Attributes:
        started: The run's first event.
        problem: The problem as JSON, as the newest epoch has it.
        tally: For the standings.
        steps: What became of candidates, in order, with costs.
        bits: Of the exams that were decided.
        measured: Evaluations by candidate: those of the search, and those of the report as far as `rows` lets them.
        rejected: Proposals that were refused, with reason, source and detail.
        errors: Failures of proposers and model calls, word for word.
        served: Calls by (model asked for, model that answered).
    """

    state: State
    started: RunStarted
    rows: Shown = "none"
    problem: Mapping[str, Any] = field(init=False)
    tally: Tally = field(default_factory=Tally)
    served: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._asked: dict[int, str] = {}
        self._open: dict[int, EvaluationStarted] = {}
        self._places: dict[str | None, int] = {}
        self._begin(self.started.problem)

    def _begin(self, problem: Mapping[str, Any]) -> None:
        self.problem = problem
        self.steps: list[Step] = []
        self.bits: list[Bit] = []
        self.measured: dict[str, list[Measured]] = {}
        self.rejected: list[dict[str, Any]] = []
        self.errors: list[str] = []

    @classmethod
    def of(cls, entries: Iterable[Entry], rows: Shown = "none") -> Tape | None:
        """The tape and the state of a journal; None when it has no events yet."""
        out: Tape | None = None
        for entry in entries:
            if out is not None:
                out.state.apply(entry.event, entry.time)
                out.apply(entry.event)
            elif isinstance(entry.event, RunStarted):
                out = cls(State(entry.event, entry.time), entry.event, rows)
        return out

    @property
    def _cost(self) -> tuple[float, float]:
        ledger = self.state.ledger
        return ledger.evaluations, ledger.total.usd + ledger.evaluator_usd

    def apply(self, event: Event) -> None:
        """Fold one event, which the state has folded already."""
        self.tally.apply(event)
        initial = self.state.history.initial
        if isinstance(event, (NoiseMeasured, RaceDecided)) and not self.steps:
            self._step(initial, "initial")
        if isinstance(event, EvaluationStarted):
            self._open[event.id] = event
        elif isinstance(event, EvaluationEnded):
            self._measured(event)
        elif isinstance(event, RaceDecided):
            if event.decision in ("promote", "drop"):
                self._step(event.candidate, event.decision, event.reason)
        elif isinstance(event, ExamDecided):
            self.bits.append(Bit(*self._cost, event.accepted))
        elif isinstance(event, CandidateRejected):
            self.rejected.append({"reason": event.reason, "source": event.source})
        elif isinstance(event, ProposalEnded):
            self.rejected += event.rejections
            if event.error:
                self.errors.append(f"proposer: {event.error}")
        elif isinstance(event, CallStarted):
            self._asked[event.id] = event.model
        elif isinstance(event, CallEnded):
            self._called(event)
        elif isinstance(event, EpochStarted):
            self._open.clear()
            self._begin(event.problem)

    def _step(self, candidate: str, decision: str, reason: str = "") -> None:
        trial = self.state.history[candidate]
        value = self.state.problem.compared(trial.values) if trial.values is not None else None
        self.steps.append(Step(*self._cost, trial.number, decision, value, trial.feasible, reason))

    def _measured(self, event: EvaluationEnded) -> None:
        started = self._open.pop(event.id, None)
        if started is None or started.audience == "gate" or (started.audience == "report" and self.rows == "none"):
            return
        if started.stage == LOOK:
            return  # a proposer's own, which is no score of the candidate
        event = replace(event, output={name: value for name, value in event.output.items() if name != "trace"})
        found = Measured(started, event)
        if started.audience == "report" and self.rows == "scores":
            found = found.masked(self._places.setdefault(started.example, len(self._places) + 1))
        self.measured.setdefault(started.candidate, []).append(found)

    def _called(self, event: CallEnded) -> None:
        asked = self._asked.pop(event.id, "")
        if event.reply is not None:
            key = (asked, str(event.reply.get("model", "")))
            self.served[key] = self.served.get(key, 0) + 1
        if event.error is not None:
            self.errors.append(f"model: {event.error.get('message', '')}")
