"""Looks: measurements that a proposer asks for while it works, paid by the search and compared with nothing.

Here is what is asked and what became of it, by evaluation number. What an evaluation said stays in the
journal; `agent.effects` reads it there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.events import EvaluationEnded, EvaluationStarted, LookAsked
from agent.space import Candidate

if TYPE_CHECKING:
    from agent.tracing.spans import Trace

LOOK = "look"
"""Stage of the evaluations of looks."""
REFUSED = "the values are not measured: "
"""What an error begins with that tells which check refuses a look."""
PASSING = ("lost", "cancelled", "hopeless", "unpaid")
"""Failures that say nothing of the candidate."""


@dataclass(frozen=True, slots=True)
class LookRow:
    """What one row said.

    Args:
        example: Its id; None where the problem has no rows.
        values: Objectives and constraints; None when it failed.
        feedback: The evaluator's words.
        failure: Why there are no values, or "".
        seconds: How long it took.
        trace: What the program did, where it tells.
    """

    example: str | None
    values: Mapping[str, float] | None
    feedback: str = ""
    failure: str = ""
    seconds: float = 0.0
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Args:
        candidate: Id of the values.
        values: In canonical form.
        rows: One by one, in the order that was asked for.
        mean: Of each objective and constraint over the rows; a row that failed counts with what the objective says
            of failures, and without such a word there is no mean.
    """

    candidate: str
    values: Mapping[str, Any]
    rows: tuple[LookRow, ...]
    mean: dict[str, float] | None = None


class Wanted(NamedTuple):
    """An evaluation that was not started yet."""

    candidate: str
    example: str | None
    proposal: int
    key: str


@dataclass(slots=True)
class Opened:
    """A look of a decision that is still open."""

    asked: LookAsked
    rows: tuple[str | None, ...]
    results: dict[str | None, int] = field(default_factory=dict)
    """Evaluations by row, as they end."""
    refused: str = ""
    """Why it will not be complete, or ""."""
    spent: float = 0.0
    """Evaluations of the run, when it was refused."""
    cost: int = 0
    """Evaluations that were begun for it."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.refused or self.asked.check) or len(self.results) == len(self.rows)


class Looks:
    """The fold.

    Args:
        whole: Rows that a candidate is measured on as a whole; [None] where there are none.
        deterministic: Whether what is known of a candidate on a row needs no measuring again.
    """

    def __init__(self, whole: Sequence[str | None], deterministic: bool) -> None:
        self._whole = tuple(whole)
        self._deterministic = deterministic
        self.open: dict[tuple[int, str], Opened] = {}
        """By decision and key, until the decision ends."""
        self.wanted: deque[Wanted] = deque()
        self._flying: dict[int, tuple[Opened, Wanted]] = {}
        self._known: dict[tuple[str, str | None], int] = {}
        self._shared: dict[tuple[str, str | None], list[Opened]] = {}
        """On a deterministic problem, by what is wanted or in flight: everybody who waits for it."""

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for a look."""
        return not all(look.over for look in self.open.values())

    def cost(self, candidate: str, examples: Sequence[str]) -> int:
        """Evaluations that a look would take."""
        rows = examples or self._whole
        return sum((candidate, row) not in self._known and (candidate, row) not in self._shared for row in rows)

    def taken(self, proposal: int, begin: str = "") -> int:
        """Evaluations that the looks of an open decision have taken so far, of all or of a tool call.

        Args:
            proposal: The decision.
            begin: What names the call; the keys of its looks begin so.
        """
        return sum(
            look.cost
            for (number, key), look in self.open.items()
            if number == proposal and key.startswith(begin) and not (begin and key[len(begin) :][:1].isdigit())
        )

    def candidate(self, evaluation: int) -> Candidate:
        """What an evaluation in flight measures."""
        return Candidate(self._flying[evaluation][0].asked.values)

    def ask(self, event: LookAsked, spent: float) -> None:
        """A look was asked for; `spent` is what the run has spent on evaluations."""
        look = Opened(event, tuple(event.examples) or self._whole, refused=event.refused, spent=spent)
        self.open[event.proposal, event.key] = look
        if look.over:
            return
        for row in look.rows:
            cell = event.candidate, row
            if cell in self._known:
                look.results[row] = self._known[cell]
            elif cell in self._shared:
                self._shared[cell].append(look)
            else:
                look.cost += 1
                self.wanted.append(Wanted(event.candidate, row, event.proposal, event.key))
                if self._deterministic:
                    self._shared[cell] = [look]

    def begin(self, event: EvaluationStarted) -> None:
        """The first evaluation that is wanted was started."""
        wanted = self.wanted.popleft()
        self._flying[event.id] = self.open[wanted.proposal, wanted.key], wanted

    def measured(self, started: EvaluationStarted, ended: EvaluationEnded) -> None:
        """An evaluation of the search has ended, of a look or not; those of a look belong to it alone."""
        cell = started.candidate, started.example
        passing = ended.output.get("failure", {}).get("kind") in PASSING
        if self._deterministic and started.fidelity == 1 and not passing:
            self._known[cell] = started.id
        if started.id in self._flying:
            look, _ = self._flying.pop(started.id)
            for each in (look, *self._shared.pop(cell, ())):
                each.results[started.example] = started.id

    def drop(self, reason: str, spent: float) -> None:
        """Nothing more is started: what is not complete with the evaluations in flight ends here."""
        owners = [self.open[item.proposal, item.key] for item in self.wanted]
        for item in self.wanted:
            owners += self._shared.pop((item.candidate, item.example), ())
        self.wanted.clear()
        for look in owners:
            look.refused, look.spent = reason, spent

    def forget(self, proposal: int) -> None:
        """A decision has ended."""
        self.wanted = deque(item for item in self.wanted if item.proposal != proposal)
        self.open = {place: look for place, look in self.open.items() if place[0] != proposal}
        coming = {(item.candidate, item.example) for item in (*self.wanted, *(w for _, w in self._flying.values()))}
        self._shared = {cell: waiting for cell, waiting in self._shared.items() if cell in coming}


class Traces:
    """Where traces are: numbers of the evaluations that brought one, in the order in which they ended."""

    def __init__(self) -> None:
        self.count = 0
        """Evaluations that have ended; a moment of the run."""
        self._of: dict[str, list[tuple[int, str | None, int]]] = {}

    def measured(self, started: EvaluationStarted, ended: EvaluationEnded) -> None:
        """An evaluation of the search has ended."""
        self.count += 1
        if ended.output.get("trace"):
            self._of.setdefault(started.candidate, []).append((self.count, started.example, started.id))

    def latest(self, candidate: str, before: int, example: str | None = None) -> tuple[int, str | None] | None:
        """Number and row of the newest evaluation of a candidate with a trace; None where there is none.

        Args:
            candidate: Its id.
            before: A `count` of earlier; what ended later is left out.
            example: Only of this row; None for any.
        """
        for count, row, number in reversed(self._of.get(candidate, ())):
            if count <= before and example in (None, row):
                return number, row
        return None


def mean(rows: Iterable[LookRow], floors: Mapping[str, float | None]) -> dict[str, float] | None:
    """The mean of rows.

    Args:
        rows: At least one.
        floors: Every number that a measurement has, with what a failed row counts with; None where that is not said.
    """
    total = dict.fromkeys(floors, 0.0)
    count = 0
    for row in rows:
        count += 1
        for name, floor in floors.items():
            value = floor if row.values is None else row.values[name]
            if value is None:
                return None
            total[name] += value
    return {name: value / count for name, value in total.items()}
