"""Repeated measurements of the initial candidate, which tell the noise: what is asked, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from agent.events import EvaluationStarted
from agent.folds.asks import COMPARED, NOISE, REPEATED, Asks
from agent.gate.arena import Arena
from agent.measuring import Unit
from agent.problem import Problem


class Repeats:
    """The fold.

    Args:
        problem: Says whether measuring is deterministic.
        initial: Id of the initial candidate.
        rows: What a candidate is measured on as a whole.
        arena: Where candidates are raced row by row.
    """

    def __init__(self, problem: Problem, initial: str, rows: Sequence[str | None], arena: Arena | None) -> None:
        self._problem, self._initial, self._arena = problem, initial, arena
        self._first = list(rows[:REPEATED])
        self.values: dict[str | None, list[float | None]] = {}
        """The compared number, by row."""

    def ask(self, asks: Asks, baseline: int) -> None:
        """What is measured before the search: the initial candidate, and some of it again."""
        if self._arena is not None:
            count = REPEATED if self._problem.deterministic else COMPARED
            asks.noise(self._initial, self._arena.race_set[:count], (0, 1))
            return
        for _ in range(baseline):
            asks.candidate(self._initial)
        if self._problem.deterministic:
            asks.noise(self._initial, self._first, (1,))

    def has(self, started: EvaluationStarted) -> bool:
        """Whether this is one of the measurements of a row that are compared."""
        if started.candidate != self._initial or started.purpose != "search" or started.pair >= 0:
            return False
        if self._arena is not None:
            return started.stage == NOISE
        return self._problem.deterministic and started.replicate <= 1 and started.example in self._first

    def add(self, unit: Unit) -> None:
        """One of them was measured."""
        value = self._problem.compared(unit.values) if unit.values is not None else None
        self.values.setdefault(unit.example, []).append(value)
