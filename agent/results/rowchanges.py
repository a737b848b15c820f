"""What changed row by row between the initial candidate and the best one, from a run's journal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.events import EvaluationEnded, EvaluationStarted
from agent.journal import Entry, read, read_all
from agent.looking import LOOK
from agent.problem import Problem
from agent.space import Candidate


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row, scored with both candidates.

    Args:
        example: Its id.
        before: Mean score with the initial candidate; None where it could not be scored.
        after: The same with the best one.
        output: What the best candidate answered last, where it is a text; "" otherwise.
    """

    example: str
    before: float | None
    after: float | None
    output: str = ""


@dataclass(frozen=True, slots=True)
class RowChanges:
    """The rows of one split that both candidates were measured on.

    Args:
        rows: How many there are.
        fixed: Those that got better, the largest gain first.
        broken: Those that got worse, the largest loss first.
    """

    rows: int
    fixed: tuple[RowChange, ...]
    broken: tuple[RowChange, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "rows": self.rows,
            "fixed": [asdict(change) for change in self.fixed],
            "broken": [asdict(change) for change in self.broken],
        }


def compare(folder: Path, problem: Problem, initial: Candidate, best: Candidate, over: bool) -> dict[str, RowChanges]:
    """The changes by split: train, and after the end test. Of val, which the gate alone reads, nothing is told.

    Args:
        folder: Of the run.
        problem: Its problem.
        initial: The starting candidate.
        best: The one that is compared with it.
        over: Whether the run has ended; before, test rows are not read.

    Raises:
        StoreError: The journal cannot be read.
    """
    entries: Iterable[Entry] = read_all(folder) if over else read(folder)
    scores: dict[tuple[str, str, str], list[float | None]] = {}
    outputs: dict[tuple[str, str], str] = {}
    open_ones: dict[int, EvaluationStarted] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, EvaluationStarted):
            mine = event.candidate in (initial.id, best.id) and event.fidelity == 1 and event.stage != LOOK
            if mine and event.purpose in SPLIT and event.example is not None:
                open_ones[event.id] = event
        elif isinstance(event, EvaluationEnded) and event.id in open_ones:
            started = open_ones.pop(event.id)
            if event.output.get("failure", {}).get("kind") in NOTHING:
                continue
            row = str(started.example)
            score = None if event.score is None else event.score["values"].get(problem.spoken.name)
            scores.setdefault((started.purpose, row, started.candidate), []).append(score)
            value = event.output.get("value")
            if started.candidate == best.id and isinstance(value, dict) and isinstance(value.get("text"), str):
                outputs[started.purpose, row] = value["text"]
    return {
        split: _changes(purpose, scores, outputs, problem, initial.id, best.id)
        for purpose, split in SPLIT.items()
        if purpose == "search" or over
    }


SPLIT = {"search": "train", "report": "test"}
"""Whose measurements are of which split."""
NOTHING = ("lost", "cancelled", "hopeless", "unpaid")
"""Failures that say nothing of a candidate."""


def _changes(
    purpose: str,
    scores: dict[tuple[str, str, str], list[float | None]],
    outputs: dict[tuple[str, str], str],
    problem: Problem,
    initial: str,
    best: str,
) -> RowChanges:
    goal = problem.spoken
    rows = [row for kind, row, candidate in scores if kind == purpose and candidate == initial]
    found: list[tuple[float, RowChange]] = []
    count = 0
    for row in rows:
        after = scores.get((purpose, row, best))
        if after is None:
            continue
        count += 1
        change = RowChange(row, _mean(scores[purpose, row, initial]), _mean(after), outputs.get((purpose, row), ""))
        floor = goal.failed
        old = floor if change.before is None else change.before
        new = floor if change.after is None else change.after
        if old is None or new is None:  # a failure is worse than any number, where nothing says what it counts
            gain = 0.0 if old is new else math.inf if old is None else -math.inf
        else:
            gain = goal.gain(new, old)
        if gain:
            found.append((gain, change))
    found.sort(key=lambda item: -abs(item[0]))
    better = tuple(change for gain, change in found if gain > 0)
    return RowChanges(count, better, tuple(change for gain, change in found if gain < 0))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
