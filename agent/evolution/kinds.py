"""The best programs of every kind, kept up to date with a run; what a kind is, is given, cycled or learned.

What is learned from all that was met (a behaviour space, quantiles, the prices of thresholds) is learned anew in epochs
(see `agent.evolution.fold`), and everything is filed anew then; in between nothing changes its cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.evolution.archive import Archive, Elite
from agent.evolution.behaviour import Behaviour, Projection, numbers
from agent.evolution.features import features
from agent.evolution.fold import Epochs, Fold, finite
from agent.evolution.grid import Axis, Grid
from agent.goals import Objective
from agent.history import History, Trial
from agent.lagrange import Multipliers
from agent.problem import Problem
from agent.texts import Code

CYCLE, LEARNED = "objectives", "learned"


@dataclass(frozen=True)
class Kind:
    """What spans an archive.

    Args:
        descriptors: "objectives", "learned", or "" for those of the grid.
        grid: Makes the grid, where descriptors are given by name.
        projection, axes, bins: Of a space that is learned; bins of one that cycles too.
    """

    descriptors: str
    grid: Callable[[], Grid] | None = None
    projection: Projection = "pca"
    axes: int = 2
    bins: int = 6


@dataclass
class _Known:
    """A candidate with a result, and what it does or looks like in numbers."""

    trial: Trial
    numbers: Mapping[str, float]


@dataclass
class _Quality:
    """An archive, and what it goes by.

    Args:
        goal: What is compared; None for what the problem compares.
        archive: Of the elites.
        prices: Of constraints.
        space: Of behaviour, where that is learned.
    """

    goal: Objective | None
    archive: Archive
    prices: Multipliers
    space: Behaviour | None = field(default=None)


class Kinds(Fold):
    """Archives of elites: one, or one for each objective where they cycle.

    Args:
        problem: Of the run.
        kind: What spans the archives.
    """

    def __init__(self, problem: Problem, kind: Kind) -> None:
        self._given = (problem, kind)
        self._problem, self._kind = self._given
        self._known: dict[str, _Known] = {}
        self._epochs = Epochs()
        self._trials: Any = ()
        self._seed = ""
        self._codes = {name: item for name, item in problem.space.items() if isinstance(item, Code)}
        self._initial = sum(map(len, self._texts(problem.initial()).values()))
        self._traced: dict[str, Mapping[str, float]] = {}
        self._looked: dict[str, Mapping[str, float]] = {}
        """What programs look like, by candidate: it never changes, and takes time to find out."""
        goals: list[Objective | None] = list(problem.objectives) if kind.descriptors == CYCLE else [None]
        prices = Multipliers(problem)
        self._open = bool(prices.bounded) or kind.grid is None
        """Whether anything is learned from what was met."""
        self._qualities = [_Quality(goal, Archive(self._grid(goal)), prices) for goal in goals]

    def _anew(self) -> Kinds:
        return Kinds(*self._given)

    def archive(self, decision: int) -> Archive:
        """The elites that count in a decision."""
        return self._qualities[decision % len(self._qualities)].archive

    def untraced(self, history: History) -> list[str]:
        """Candidates that `follow` is going to take in, of which a trace would say what they do.

        Only of problems where measuring twice gives the same: else the newest trace, which is the one that there is,
        would not be the same after a resume.
        """
        if self._kind.descriptors != LEARNED or not self._problem.exact:
            return []
        goals = set(self._problem.reported)
        new = history.told[self.place : history.heard]
        found = (trial.id for trial in new if trial.values is not None and goals.issuperset(trial.values))
        return [name for name in dict.fromkeys(found) if name not in self._traced]

    def tell(self, candidate: str, numbers: Mapping[str, float]) -> None:
        """What a candidate's trace says that it does; nothing where there is none."""
        self._traced[candidate] = numbers

    def _look(self, history: History) -> None:
        self._trials, self._seed = history.trials, history.initial

    def _take(self, trial: Trial) -> None:
        if trial.values is None or not finite(self._problem, trial.values):
            self._known.pop(trial.id, None)
            for quality in self._qualities:
                quality.archive.remove(trial.id)
            return
        fresh = trial.id not in self._known
        known = self._known[trial.id] = _Known(trial, self._numbers(trial))
        if fresh and self._kind.grid is not None:
            for quality in self._qualities:
                if quality.archive.grid.see(known.numbers):
                    quality.archive.refile()
        if fresh and self._open and self._epochs.due(len(self._known)):
            self._learn()
            return
        for quality in self._qualities:
            self._file(quality, known)

    def _learn(self) -> None:
        """All that is learned, from all that is known."""
        trials = [known.trial for known in self._known.values()]
        for quality in self._qualities:
            quality.prices = Multipliers.of(self._problem, trials, goal=quality.goal)
            if self._kind.descriptors == LEARNED:
                told = [known.numbers for known in self._known.values()]
                kind = self._kind
                quality.space = Behaviour.learned(told, kind.axes, kind.bins, kind.projection, self._seed)
                quality.archive = Archive(quality.space.grid())
            else:
                grid = quality.archive.grid if quality.goal is None else self._grid(quality.goal)
                quality.archive = Archive(grid)
            for known in self._known.values():
                self._file(quality, known)

    def _file(self, quality: _Quality, known: _Known) -> None:
        values = known.trial.values or {}
        where = known.numbers if quality.space is None else quality.space.descriptor(known.numbers)
        quality.archive.add(Elite(known.trial.id, known.trial.number, quality.prices.cost(values), where))

    def _grid(self, goal: Objective | None) -> Grid:
        if self._kind.grid is not None:
            return self._kind.grid()
        if goal is None:
            return Grid([Axis("axis 0", 1, ())])
        others = [item for item in self._problem.objectives if item.name != goal.name]
        return Grid([self._axis(item) for item in others])

    def _axis(self, item: Objective) -> Axis:
        """An objective as a descriptor: even bins over its range, or between quantiles of what was met."""
        bins = self._kind.bins
        if item.low is not None and item.high is not None:
            return Axis.even(item.name, item.low, item.high, bins)
        met = sorted((known.trial.values or {})[item.name] for known in self._known.values())
        edges = [met[len(met) * k // bins] for k in range(1, bins)] if met else []
        return Axis(item.name, bins, tuple(edges))

    def _numbers(self, trial: Trial) -> dict[str, float]:
        if self._kind.descriptors == LEARNED:
            return numbers(self._problem, trial, self._rows(trial), self._looks)
        if self._kind.descriptors == CYCLE:
            return dict(trial.values or {})
        return {**self._looks(trial), **(trial.values or {})}

    def _rows(self, trial: Trial) -> dict[str, float]:
        """The results on rows that a candidate had when it was told of; `History.told` is without them."""
        rows = self._trials[trial.number].rows
        scored = [(row, score) for row, (score, _) in rows.items() if score is not None]
        return dict(scored[: trial.count])

    def _looks(self, trial: Trial) -> Mapping[str, float]:
        if self._traced.get(trial.id):
            return self._traced[trial.id]
        if trial.id not in self._looked:
            self._looked[trial.id] = features(self._texts(trial.candidate), self._initial).numbers
        return self._looked[trial.id]

    def _texts(self, candidate: Mapping[str, Any]) -> dict[str, str]:
        """A candidate's programs by path."""
        return {
            f"{name}/{path}" if path else f"{name}.py": text
            for name, item in self._codes.items()
            for path, text in item.texts(candidate[name]).items()
        }
