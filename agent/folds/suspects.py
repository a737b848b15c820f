"""Suspects in the state of a run: who is in quarantine, and what is measured for it."""

from __future__ import annotations

from collections.abc import Sequence

from agent.events import CandidateSuspected
from agent.folds.asks import Ask
from agent.gate.quarantine import CONFIRM, Quarantine, confirms, watches
from agent.history import AGAIN, History
from agent.measuring import Unit
from agent.problem import Problem
from agent.settings import Settings


class Suspects:
    """The fold over what is suspicious, and what came of it."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self._problem, self._settings = problem, settings
        self.watched = watches(problem, settings.suspicion)
        """Whether suspicious candidates are measured again before they count."""
        self.confirms = confirms(problem)
        """Whether what is to be claimed is measured once more first."""
        self.fallen = 0
        """Champions that were not what they had been when they were to be claimed."""
        self.quarantine: Quarantine | None = None
        self.sure: set[str] = set()
        """Candidates that scored the same once more."""
        self._confirmed = 0
        """Replicates and pairs that were in quarantine, all in all, up to the one that is open."""

    @property
    def last(self) -> bool:
        """Whether what is open is the check at the end."""
        return self.quarantine is not None and self.quarantine.again

    @property
    def next(self) -> Ask | None:
        """What is to be measured for the quarantine that is open."""
        if self.quarantine is None or not self.quarantine.wanted:
            return None
        again = self.quarantine.wanted[0]
        if self.quarantine.again:
            return Ask(again.candidate, again.row, again.replicate, -1, "search", AGAIN, key="replicate 0")
        return Ask(again.candidate, again.row, again.replicate, again.pair, "search", CONFIRM)

    def begin(self) -> None:
        """That was started."""
        if self.quarantine is not None:
            self.quarantine.wanted.popleft()

    def add(self, unit: Unit) -> None:
        """It was measured."""
        if self.quarantine is not None and unit.replicate in self.quarantine.replicates:
            self.quarantine.add(unit.candidate, unit.pair, unit.values)

    def suspect(self, event: CandidateSuspected, history: History, rows: Sequence[str | None]) -> None:
        """A candidate is kept aside."""
        jumped, problem, settings = 0.0, self._problem, self._settings
        trial, champion = history[event.candidate], history[history.champion].values
        held = trial.held
        if held is not None and champion is not None:
            jumped = problem.objective.gain(problem.compared(held), problem.compared(champion))
        shortest, longest = (1, 1) if problem.exact else (settings.race_shortest, settings.race_longest)
        self.quarantine = Quarantine(
            event, jumped, rows, self._confirmed, shortest, longest, trial.held or trial.values
        )

    def go_on(self) -> None:
        """The search goes on: a check at its end that was not finished will be made anew."""
        if self.quarantine is not None and self.quarantine.again:
            self._confirmed += len(self.quarantine.replicates)
            self.quarantine = None

    def over(self, cleared: bool) -> None:
        """It was cleared or convicted."""
        if self.quarantine is not None:
            if cleared and self.quarantine.again:
                self.sure.add(self.quarantine.suspect)
            self.fallen += not cleared and self.quarantine.again
            self._confirmed += len(self.quarantine.replicates)
        self.quarantine = None
