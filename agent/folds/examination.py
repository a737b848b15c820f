"""The part of a run's state that belongs to the gate: exams, verdicts, and the final report. A fold, like the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.events import (
    Event,
    ExamDecided,
    ExamPlanned,
    ExamStarted,
    HoldoutFixed,
    ReportPlanned,
    ReportReached,
    ReportStarted,
    VerdictReached,
)
from agent.folds.asks import Asks
from agent.gate.pairs import Pairs
from agent.gate.planning import Plan
from agent.measuring import Unit

Row = tuple[str, str]
"""Id and cluster of an example."""


@dataclass
class Examination:
    """What the gate's decisions depend on.

    Args:
        released: The last candidate that the gate accepted; the initial one at first.
        val: Rows of the gate, in the order in which exams use them; empty in a reader that may not see them.
        test: Rows of the final report.
        standing: What the rows' account said when the run began: tests, accepts, run.
        planned: An exam that waits for its level.
        exam: The exam under way, or the last one while its verdict waits.
        last: Whether the exam at hand is the one at the end of the search.
        pairs: Its measurements.
        verdict: Of the exam at hand.
        accepted: The bit of the last exam, once it is there.
        exams: Exams that were decided.
        taken: Interim exams among them.
        spent: Evaluations that interim exams were charged.
        previous: Rows that the last interim exam needed.
        pairs_seen: (champion, released) of the exams so far; no pair is examined twice.
        verdicts: All of them.
        proof: The one that released `released`, or None while that is the initial candidate.
        usd: What exams cost, and
        seconds: how long they took, which nobody but the ledger may know; beside what was planned for them.
        known: Gate measurements by candidate and row, used again where measuring is deterministic.
    """

    released: str
    val: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    standing: dict[str, Any] = field(default_factory=dict)
    planned: ExamPlanned | None = None
    exam: ExamStarted | None = None
    last: bool = True
    pairs: Pairs | None = None
    verdict: dict[str, Any] | None = None
    accepted: bool | None = None
    exams: int = 0
    taken: int = 0
    spent: int = 0
    previous: int | None = None
    pairs_seen: set[tuple[str, str]] = field(default_factory=set)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    proof: dict[str, Any] | None = None
    usd: float = 0.0
    seconds: float = 0.0
    planned_usd: float = 0.0
    planned_seconds: float = 0.0
    asked: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("calls", "tokens", "usd"), 0.0))
    planned_asked: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("calls", "tokens", "usd"), 0.0))
    known: dict[tuple[str, str], Mapping[str, float] | None] = field(default_factory=dict)
    report_planned: ReportPlanned | None = None
    report_started: ReportStarted | None = None
    report_values: dict[str, dict[str, Mapping[str, float] | None]] = field(default_factory=dict)
    report: dict[str, Any] | None = None

    @property
    def open(self) -> bool:
        """Whether an exam is under way: planned, measured, or waiting for its bit."""
        return self.planned is not None or self.exam is not None or self.verdict is not None

    @property
    def held(self) -> int:
        """Numbers of exams that are used up: those decided, and one under way, which may be charged already."""
        return self.exams + (self.open and self.accepted is None)

    @property
    def units(self) -> int:
        """Independent rows of the gate: its clusters."""
        return len({cluster for _, cluster in self.val})

    @property
    def plan(self) -> Plan | None:
        """The plan of the exam at hand, where it is one on rows."""
        return Plan.from_json(self.planned.plan) if self.planned is not None else None

    def fixed(self, event: HoldoutFixed) -> None:
        """The held-out rows of this run."""
        self.val = [(row, cluster) for row, cluster in event.val]
        self.test = [(row, cluster) for row, cluster in event.test]
        self.standing = dict(event.standing)

    def plan_made(self, event: ExamPlanned) -> None:
        """An exam on rows is due."""
        self.planned, self.last = event, event.last

    def started(self, event: ExamStarted, asks: Asks, deterministic: bool) -> None:
        """An exam begins: its measurements are asked for, but for those that are known and cannot differ."""
        self.exam = event
        self.pairs = pairs = Pairs(event.champion, event.released, event.pairs, event.pairs, asks.next_pair)
        if self.planned is None:
            self.last = True
            while pairs.asked < event.pairs:
                asks.pair(pairs, "gate")
            return
        pairs.asked = event.pairs
        asks.next_pair += event.pairs
        known = self.known if deterministic else {}
        rows = [row for row, _ in self.val[: event.pairs]]
        for number, candidate, row in asks.exam(pairs, rows, event.id, known):
            pairs.add(number, candidate, known[candidate, row])

    def report_begun(self, event: ReportStarted, asks: Asks) -> None:
        """The test rows are opened."""
        self.report_started = event
        if self.report_planned is not None:
            asks.report(self.report_planned.candidates, [row for row, _ in self.test[: self.report_planned.rows]])

    def unanswered(self) -> list[Event]:
        """Questions to the accounts that have no answer yet."""
        out: list[Event] = []
        if self.planned is not None and self.exam is None:
            out.append(self.planned)
        if self.verdict is not None and self.verdict["kind"] == "rows" and self.accepted is None:
            out.append(VerdictReached(self.verdict))
        if self.report_planned is not None and self.report_started is None:
            out.append(self.report_planned)
        return out

    @property
    def hidden(self) -> dict[str, float]:
        """What proposers are told to be left beyond what is: exams count for them as they were planned."""
        out = {kind: amount - self.planned_asked[kind] for kind, amount in self.asked.items()}
        out["usd"] += self.usd - self.planned_usd
        return {**out, "seconds": self.seconds - self.planned_seconds}

    def measured(self, unit: Unit) -> None:
        """A measurement of the exam at hand."""
        if unit.example is not None:
            self.known[unit.candidate, unit.example] = unit.values
        if self.pairs is not None and unit.pair in self.pairs.numbers:
            self.pairs.add(unit.pair, unit.candidate, unit.values)

    def reached(self, event: VerdictReached) -> None:
        """The verdict of the exam at hand."""
        self.verdict = event.verdict
        self.verdicts.append(event.verdict)

    def decided(self, event: ExamDecided, champion: str) -> None:
        """The bit. An interim exam is over with it; after the last one the run ends."""
        if self.planned is not None:
            self.pairs_seen.add((self.planned.champion, self.planned.released))
        if event.accepted:
            self.released = self.exam.champion if self.exam is not None else champion
            self.proof = self.verdict
        self.exams += 1
        if self.last:
            self.accepted = event.accepted
            return
        if self.planned is not None:
            self.taken += 1
            self.spent += 2 * self.planned.pairs
            self.previous = int(self.planned.plan["needed"])
        self.forget()

    def forget(self) -> None:
        """Clear the exam at hand, so that another one can follow."""
        self.planned = self.exam = self.pairs = self.verdict = self.accepted = None
        self.last = True

    def go_on(self) -> None:
        """The run continues after its end, with more budget: the next last exam is one of a new run."""
        if self.planned is not None and self.accepted is not None:
            # As the account counts: after its last exam on rows, and only then, a run's next one is that of a new run.
            self.standing["run"] = self.standing.get("run", 1) + 1
            self.taken = 0
        self.forget()
        self.previous = None
        self.report_planned = self.report_started = self.report = None
        self.report_values = {}

    def report_made(self, event: ReportPlanned) -> None:
        """The test rows are about to be opened."""
        self.report_planned = event
        self.report_values = {name: {} for name in event.candidates}

    def report_measured(self, unit: Unit) -> None:
        """A measurement on a test row."""
        if unit.example is not None:
            self.report_values.setdefault(unit.candidate, {})[unit.example] = unit.values

    def reported(self, event: ReportReached) -> None:
        """The final report."""
        self.report = event.report
