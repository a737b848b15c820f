"""Islands of elites, kept up to date with a run: a fold over what the search was told of its candidates.

Source of the islands: Tanese 1989, "Distributed genetic algorithms for function
optimization"; with an archive in each as in FunSearch's programs database (Romera-Paredes et al. 2024, Nature 625,
"Methods") and MAP-Elites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.evolution.archive import Archive, Elite
from agent.evolution.features import Features, features
from agent.evolution.fold import Fold, finite
from agent.evolution.grid import Grid
from agent.history import Trial
from agent.problem import Problem
from agent.space import Candidate, digest
from agent.texts import Code

FAILED = 4
"""Failures of an island that may still be mended; older ones are forgotten."""
CHILDREN = 3
"""Children of a candidate that a prompt tells of: the latest."""
TUNED = "tune"
"""A part of the source of a candidate that differs from its parent in the values of holes alone, whoever made it."""
BETTER, KEPT, VALID = 1.0, 0.5, 0.1
"""What an operator is paid for a child that is better than its parent, that is kept, that works."""


def behaviour(values: Mapping[str, float]) -> str:
    """Equal for candidates with the same results, up to rounding."""
    return digest({name: float(f"{value:.9g}") for name, value in sorted(values.items())})


class Population(Fold):
    """What evolution knows of a run.

    Args:
        problem: Of the run.
        grid: Makes the grid of all islands.
        islands: How many, at least 1. A candidate belongs to the island of its decision: number modulo islands.
        interval: Candidates with a result after which each island sends its best to the next one; 0 for never.
        migrants: How many it sends.
    """

    def __init__(
        self,
        problem: Problem,
        grid: Callable[[], Grid],
        islands: int = 4,
        interval: int = 100,
        migrants: int = 2,
    ) -> None:
        self.grid = grid()
        self.islands = [Archive(self.grid) for _ in range(islands)]
        self.failed: list[deque[int]] = [deque(maxlen=FAILED) for _ in range(islands)]
        """Numbers of trials that failed and of which nobody has made another, newest last, by island."""
        self.children: dict[str, deque[int]] = {}
        """Numbers of the latest children, by candidate."""
        self.behaviours: dict[str, int] = {}
        """How many candidates behaved so."""
        self.skeletons: dict[str, list[int]] = {}
        """Where in `History.told` the candidates came that a model wrote, by skeleton."""
        self.pulls: dict[str, float] = {}
        """How many candidates each source made, and
        """
        self.rewards: dict[str, float] = {}
        """what they were worth."""
        self.measured = 0
        self.migrations = 0
        self._given: tuple[Problem, Callable[[], Grid], int, int, int] = (problem, grid, islands, interval, migrants)
        self._problem, self._interval, self._migrants = problem, interval, migrants
        self._codes = {name: item for name, item in problem.space.items() if isinstance(item, Code)}
        self._initial = sum(map(len, self.texts(problem.initial()).values()))
        self._features: dict[str, Features] = {}
        """Of programs that were looked at: each is parsed once for it."""
        self._numbers: dict[str, int] = {}
        self._merits: dict[str, tuple[int, float]] = {}
        """Broken constraints and cost of those with a result."""

    def _anew(self) -> Population:
        return Population(*self._given)

    def texts(self, candidate: Mapping[str, Any]) -> dict[str, str]:
        """The programs of a candidate by path, with the parameter's name in front where there are several."""
        out: dict[str, str] = {}
        for name, item in self._codes.items():
            for path, text in item.texts(candidate[name]).items():
                out[path if len(self._codes) == 1 else f"{name}/{path}" if path else f"{name}.py"] = text
        return out

    def features(self, candidate: Mapping[str, Any]) -> Features:
        """What a candidate's programs look like."""
        made = Candidate(candidate) if not isinstance(candidate, Candidate) else candidate
        if made.id not in self._features:
            self._features[made.id] = features(self.texts(made), self._initial)
        return self._features[made.id]

    def elite(self, trial: Trial) -> Elite:
        """A trial with values, as an archive files it."""
        assert trial.values is not None
        looks = self.features(trial.candidate)
        return Elite(
            candidate=trial.id,
            number=trial.number,
            cost=-self._problem.objective.sign * self._problem.compared(trial.values),
            descriptor={**looks.numbers, **trial.values},
            size=int(looks.numbers["chars"]),
            behaviour=behaviour(trial.values),
            violated=len(self._problem.violated(trial.values)),
        )

    def _take(self, trial: Trial) -> None:
        fresh = trial.id not in self._numbers
        if fresh:
            self._meet(trial)
        if trial.values is None or not finite(self._problem, trial.values):
            self._merits.pop(trial.id, None)
            for archive in self.islands:
                archive.remove(trial.id)
            if trial.failure and trial.proposal and fresh:
                self.failed[trial.proposal % len(self.islands)].append(trial.number)
            return
        elite = self.elite(trial)
        if trial.id in self._merits:
            self._merits[trial.id] = (elite.violated, elite.cost)
            for archive in self.islands:
                there = archive.find(trial.id)
                if there is not None:
                    archive.add(replace(elite, migrant=there.migrant))
            return
        self._file(elite, trial)

    def _meet(self, trial: Trial) -> None:
        """Count a candidate that is heard of for the first time."""
        self._numbers[trial.id] = trial.number
        self.pulls[trial.source] = self.pulls.get(trial.source, 0.0) + 1
        looks = self.features(trial.candidate)
        if TUNED not in trial.source.split(":"):
            self.skeletons.setdefault(looks.skeleton, []).append(self.place)
        for parent in trial.parents:
            self.children.setdefault(parent, deque(maxlen=CHILDREN)).append(trial.number)
            for waiting in self.failed:
                if self._numbers.get(parent) in waiting:
                    waiting.remove(self._numbers[parent])

    def _file(self, elite: Elite, trial: Trial) -> None:
        """File a candidate with its first result, and pay its source."""
        merit = elite.violated, elite.cost
        known = [self._merits[parent] for parent in trial.parents if parent in self._merits]
        self._merits[trial.id] = merit
        self.behaviours[elite.behaviour] = self.behaviours.get(elite.behaviour, 0) + 1
        if self.grid.see(elite.descriptor):
            for archive in self.islands:
                archive.refile()
        # The initial candidate and the starting points are everybody's.
        homes = self.islands if not trial.proposal else [self.islands[trial.proposal % len(self.islands)]]
        kept = [archive.add(elite) for archive in homes]
        gain = BETTER if known and merit < min(known) else KEPT if any(kept) else VALID
        self.rewards[trial.source] = self.rewards.get(trial.source, 0.0) + gain
        self.measured += 1
        if self._interval and self.measured % self._interval == 0:
            self._migrate()

    def _migrate(self) -> None:
        """Each island's best go to the next one, in a ring; who came from elsewhere does not travel on."""
        self.migrations += 1
        if len(self.islands) == 1:
            return
        leaving = [archive.migrants(self._migrants) for archive in self.islands]
        for number, group in enumerate(leaving):
            for elite in group:
                there = self.islands[(number + 1) % len(self.islands)]
                if elite.candidate not in there:
                    there.add(elite)
