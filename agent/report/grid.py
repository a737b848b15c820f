"""Scores of examples by candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agent.report.tape import Tape

Cell: TypeAlias = float | Literal["failed"] | None
"""The mean of what was measured; "failed" where every measurement failed; None where there was none."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Examples by candidates.

    Args:
        examples: Ids of those that somebody was measured on; those on which candidates do best come first.
        numbers: Candidates, in order of admission; those that were measured on no row are left out.
        cells: One list for each candidate, one cell for each example.
        unread: Rows of the split that nobody was measured on.
    """

    examples: list[str]
    numbers: list[int]
    cells: list[list[Cell]]
    unread: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many cells are scored, failed and not evaluated."""
        flat = [cell for row in self.cells for cell in row]
        failed, empty = flat.count("failed"), flat.count(None)
        return {"scored": len(flat) - failed - empty, "failed": failed, "not evaluated": empty}


def grid(tape: Tape, purpose: str) -> Grid | None:
    """The full measurements of one purpose; None when there are none."""
    problem = tape.state.problem
    sums: dict[int, dict[str, tuple[float, int]]] = {}
    rows: dict[str, None] = {}
    for trial in tape.state.history.trials:
        for item in tape.measured.get(trial.id, ()):
            example = item.started.example
            if item.started.purpose != purpose or example is None or not item.full:
                continue
            rows.setdefault(example)
            cells = sums.setdefault(trial.number, {})
            total, count = cells.get(example, (0.0, 0))
            score = item.ended.score
            if score is not None:
                total, count = total + problem.compared(score["values"]), count + 1
            cells[example] = total, count
    if not sums:
        return None
    sign = problem.objective.sign
    means = {name: _mean([s[name][0] / s[name][1] for s in sums.values() if name in s and s[name][1]]) for name in rows}
    order = sorted(rows, key=lambda name: -math.inf if means[name] is None else sign * (means[name] or 0), reverse=True)
    columns = [[_cell(known.get(name)) for name in order] for known in sums.values()]
    whole = len(tape.problem["examples"]) if purpose == "search" else tape.problem.get("held_out", {}).get("test", 0)
    return Grid(order, list(sums), columns, max(0, whole - len(order)))


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _cell(known: tuple[float, int] | None) -> Cell:
    if known is None:
        return None
    total, count = known
    return float(f"{total / count:.6g}") if count else "failed"
