"""What the folded state of a run does not keep: when each bit came, what each exam had planned, whom the race kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.events import (
    CandidateRejected,
    EpochStarted,
    EvaluationEnded,
    EvaluationStarted,
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    RaceDecided,
    VerdictReached,
)
from agent.ledger import Budget, Ledger

KEPT = (
    "kind",
    "champion",
    "released",
    "accepted",
    "level",
    "planned",
    "pairs",
    "test",
    "before",
    "after",
    "effect",
    "interval",
    "confidence",
    "p",
    "wins",
    "losses",
    "checks",
    "sentence",
)
"""What the record of an exam takes from its verdict."""


class Tally:
    """What happened in a run, in the order it happened; a fold over its events.

    Attributes:
        evaluations: Started so far, each as its share of the full effort.
        bits: Evaluations when it came, and the bit, of each decided exam.
        exams: A record of each verdict, in order.
        path: Candidates that the race kept, in order.
        repeats: Proposals that were refused because they, or points near them, had been seen before.
    """

    def __init__(self) -> None:
        self._ledger = Ledger(Budget())
        self._begin()

    @property
    def evaluations(self) -> float:
        """See above; the ledger counts them."""
        return self._ledger.evaluations

    def _begin(self) -> None:
        self.bits: list[tuple[float, bool]] = []
        self.exams: list[dict[str, Any]] = []
        self.path: list[str] = []
        self.repeats = 0
        self._plan: ExamPlanned | None = None
        self._account: Mapping[str, Any] = {}

    @classmethod
    def of(cls, events: Iterable[Event]) -> Tally:
        """The tally of all these events."""
        out = cls()
        for event in events:
            out.apply(event)
        return out

    def apply(self, event: Event) -> None:
        """Fold one event."""
        if isinstance(event, (EvaluationStarted, EvaluationEnded)):
            self._ledger.apply(event)
        elif isinstance(event, EpochStarted):
            self._begin()  # another problem: nothing of before is compared any more
        elif isinstance(event, RaceDecided) and event.decision == "promote":
            self.path.append(event.candidate)
        elif isinstance(event, CandidateRejected):
            self.repeats += event.reason.startswith(("seen before", "within "))
        elif isinstance(event, ExamPlanned):
            self._plan = event
        elif isinstance(event, ExamStarted):
            self._account = event.account
        elif isinstance(event, VerdictReached):
            self._verdict(event.verdict)
        elif isinstance(event, ExamDecided):
            self.bits.append((self.evaluations, event.accepted))
            if self.exams:
                self.exams[-1]["evaluations"] = self.evaluations
            self._plan, self._account = None, {}

    def _verdict(self, verdict: Mapping[str, Any]) -> None:
        plan = self._plan
        record = {name: verdict.get(name) for name in KEPT}
        record |= {
            "number": len(self.exams) + 1,
            "last": plan is None or plan.last,
            "needed": plan.plan["needed"] if plan is not None else None,
            "expected_power": plan.plan["power"] if plan is not None else None,
            "account": dict(self._account),
            "barred": str(self._account.get("barred", "")),
            "evaluations": self.evaluations,
        }
        self.exams.append(record)
