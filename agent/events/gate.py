"""Events of the gate: the rows it keeps, its exams and verdicts, and the final report. Most are told after the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.events.base import JSON, Event


@dataclass(frozen=True, slots=True)
class HoldoutFixed(Event):
    """The rows that the gate and the final report keep for themselves.

    Args:
        val: Id and cluster of each row of the gate, in the order in which exams use them.
        test: The same of the final report's rows.
        standing: The run's name in the rows' account, and what is left of that: id, tests, accepts, run.
    """

    val: list[list[str]]
    test: list[list[str]]
    standing: JSON = field(default_factory=dict)
    default_audience: ClassVar[str] = "gate"
    type: ClassVar[str] = "holdout.fixed"


@dataclass(frozen=True, slots=True)
class ExamPlanned(Event):
    """The search has found something to examine; what the exam may err is asked of the rows' account.

    Args:
        id: Number of the exam in this run, from 1.
        champion: The candidate to examine.
        released: What it is compared with.
        pairs: Rows that will be measured with both.
        last: Whether this is the exam at the end of the search.
        plan: `agent.gate.planning.Plan.to_json()`, worked out from search evidence alone.
    """

    id: int
    champion: str
    released: str
    pairs: int
    last: bool
    plan: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "exam.planned"


@dataclass(frozen=True, slots=True)
class ExamStarted(Event):
    """The gate begins an exam of the champion against the released candidate.

    Args:
        account: What the level was worked out from; empty where no rows are used twice.
    """

    id: int
    champion: str
    released: str
    pairs: int
    level: float
    account: JSON = field(default_factory=dict)
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "exam.started"


@dataclass(frozen=True, slots=True)
class ExamDecided(Event):
    """The one bit that leaves the gate while a run is open."""

    id: int
    accepted: bool
    type: ClassVar[str] = "exam.decided"


@dataclass(frozen=True, slots=True)
class VerdictReached(Event):
    """The full verdict of an exam or exact comparison, for the end of the run: `Verdict.to_json()`."""

    verdict: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "verdict.reached"


@dataclass(frozen=True, slots=True)
class ReportPlanned(Event):
    """The search and the gate are done; the test rows are opened for the candidates that matter."""

    candidates: list[str]
    rows: int
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.planned"


@dataclass(frozen=True, slots=True)
class ReportStarted(Event):
    """Which opening of these test rows it is, and the error level that leaves for its intervals."""

    opening: int
    level: float
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.started"


@dataclass(frozen=True, slots=True)
class ReportReached(Event):
    """The final report: each candidate's mean on the test rows and its gain over the initial one, with intervals."""

    report: JSON
    default_audience: ClassVar[str] = "report"
    type: ClassVar[str] = "report.reached"
