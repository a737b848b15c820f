"""What was evaluated, as arrays in the unit cube: what numeric proposers and surrogates read of a history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.history import History, Trial
from agent.parameters import Numeric, Value
from agent.problem import Problem
from agent.space import Candidate

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Evaluated candidates of a problem with d numbers and choices, in the order of admission.

    Args:
        x: (n, d) places in [0, 1] of the candidates with a value that keep all constraints, as `Space.encode` gives.
        y: (n,) their costs: what race and gate compare, turned so that smaller is better.
        counts: (n,) measurements behind each of them.
        trials: The n trials.
        failed: (f, d) places of candidates that failed or break a constraint.
        pending: (p, d) places of candidates that are not measured yet.
        stopped: (s, d) places of candidates that looked too bad to be measured in full; what they cost with less
            effort is in their trial's `partial`.
    """

    x: Array
    y: Array
    counts: Array
    trials: tuple[Trial, ...]
    failed: Array
    pending: Array
    stopped: Array = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def of(
        cls, problem: Problem, history: History, cost: Callable[[Mapping[str, float]], float] | None = None
    ) -> Points:
        """The points of a history.

        Args:
            problem: Its space and goals.
            history: As a proposer sees it.
            cost: Number to make small, from a candidate's means; by default the compared one.
        """
        sign = problem.objective.sign
        told: Callable[[Mapping[str, float]], float] = cost or (lambda values: -sign * problem.compared(values))
        columns = [(name, _encoder(problem, name)) for name in problem.space.numeric]

        def encode(candidate: Candidate) -> list[float]:
            return [place(candidate[name]) for name, place in columns]

        good: list[Trial] = []
        failed: list[list[float]] = []
        pending: list[list[float]] = []
        stopped: list[list[float]] = []
        for trial in history.trials:
            if trial.values is not None and trial.feasible:
                good.append(trial)
            elif trial.values is None and trial.state in ("queued", "racing"):
                pending.append(encode(trial.candidate))
            elif trial.values is None and trial.partial and not trial.failure:
                stopped.append(encode(trial.candidate))
            else:
                failed.append(encode(trial.candidate))
        size = len(problem.space.numeric)
        return cls(
            x=_matrix([encode(trial.candidate) for trial in good], size),
            y=np.array([told(trial.values or {}) for trial in good], dtype=float),
            counts=np.array([max(1, trial.count) for trial in good], dtype=float),
            trials=tuple(good),
            failed=_matrix(failed, size),
            pending=_matrix(pending, size),
            stopped=_matrix(stopped, size),
        )

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def best(self) -> int:
        """Place of the smallest cost; the first of several.

        Raises:
            ValueError: Nothing has a value.
        """
        return int(np.argmin(self.y))


def _encoder(problem: Problem, name: str) -> Callable[[Value], float]:
    item = problem.space[name]
    assert isinstance(item, Numeric)
    return item.encode


def _matrix(rows: list[list[float]], size: int) -> Array:
    return np.array(rows, dtype=float).reshape(len(rows), size)
