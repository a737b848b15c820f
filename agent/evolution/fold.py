"""What is kept up to date with a run, candidate by candidate, instead of being made of all of them each time.

It is a function of `History.told` alone, so that it is the same after a resume, and following a run costs the same for
each candidate however many there were.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from agent.history import History, Trial
from agent.problem import Problem

SOON = 8
"""Candidates with a result up to which what is learned from all of them is learned anew with each;"""
STEPS = 4
"""then so many times until there are twice as many, and so on: that touches each candidate some six times in all."""


class Fold(ABC):
    """Something that follows a run. `place` says how much of `History.told` it knows."""

    place = 0
    _told: list[Trial] | None = None

    def follow(self, history: History) -> Self:
        """Take in what is new: gives itself; or a new one, where it knows of another run, or more than this view."""
        made = self.fitting(history)
        made._told = history.told
        made._look(history)
        while made.place < history.heard:
            made._take(history.told[made.place])
            made.place += 1
        return made

    def fitting(self, history: History) -> Self:
        """The one that would follow a view: itself or a new one, which has not taken in what is new yet."""
        return self if self._fits(history) else self._anew()

    def _fits(self, history: History) -> bool:
        return self._told is None or (self._told is history.told and self.place <= history.heard)

    def _look(self, history: History) -> None:
        """Take note of the view, before what is new in it is taken."""
        return

    @abstractmethod
    def _anew(self) -> Self:
        """One that knows nothing yet."""

    @abstractmethod
    def _take(self, trial: Trial) -> None:
        """Take in a candidate as it was when the race gave its word on it, or when it was measured again."""


def finite(problem: Problem, values: Mapping[str, float]) -> bool:
    """Whether all that goals and constraints look at are numbers to reckon with; else it is no result."""
    return all(math.isfinite(values[name]) for name in problem.reported if name in values)


class Epochs:
    """When to learn anew from all that is known: with each of the first few, then ever more rarely (8, 10, 12, 14, 16,
    20, 24, 28, 32, 40 …)."""

    def __init__(self) -> None:
        self._next = 0

    def due(self, count: int) -> bool:
        """Whether it is time, with so many candidates known; asked once for each."""
        if count < self._next:
            return False
        octave = 1 << (count.bit_length() - 1)
        self._next = count + 1 if count < SOON else count + octave // STEPS
        return True
