"""How good each candidate is for a surrogate: one reward and one weight, also where candidates saw different rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from agent.history import Trial
from agent.proposers import cards
from agent.proposers.base import Context


@dataclass(frozen=True, slots=True)
class Merit:
    """What is known of a candidate.

    Args:
        trial: The candidate.
        reward: More is better; what failed or broke a constraint has the smallest that was found.
        weight: Above 0; grows with the rows behind the reward, up to 1.
    """

    trial: Trial
    reward: float
    weight: float


def merits(context: Context) -> list[Merit]:
    """Every candidate of which something is known, in order of admission.

    A race measures candidates on different rows, some of them hard. So a score on a row counts against the mean of all
    candidates there: the reward is the mean of these differences, plus the mean over all rows.
    """
    problem = context.problem
    alone = problem.by_rows and problem.claim == "primary"
    level = _rows(context) if alone else {}
    found: dict[str, tuple[float, float]] = {}
    poor: list[Trial] = []
    for trial in context.history.trials:
        if trial.state == "failed" or (trial.values is not None and not trial.feasible):
            poor.append(trial)
        elif alone and level.get(trial.id):
            found[trial.id] = level[trial.id]
        elif trial.values is not None:
            found[trial.id] = (-cards.cost(problem, trial), 1.0)
    worst = min((reward for reward, _ in found.values()), default=0.0)
    found |= {trial.id: (worst, 1.0) for trial in poor} if found else {}
    return [Merit(trial, *found[trial.id]) for trial in context.history.trials if trial.id in found]


def _rows(context: Context) -> dict[str, tuple[float, float]]:
    """By candidate: its mean difference to the others on the rows that it saw, and its share of the most rows."""
    objective = context.problem.objective
    scores: dict[str, dict[str, float]] = {}
    by_row: defaultdict[str, list[float]] = defaultdict(list)
    for trial in context.history.trials:
        for row, (given, _) in trial.rows.items():
            value = objective.failed if given is None else given
            if value is not None:
                scores.setdefault(trial.id, {})[row] = objective.sign * value
                by_row[row].append(objective.sign * value)
    means = {row: sum(values) / len(values) for row, values in by_row.items()}
    middle = sum(means.values()) / len(means) if means else 0.0
    most = max(map(len, scores.values()), default=1)
    return {
        name: (middle + sum(value - means[row] for row, value in rows.items()) / len(rows), len(rows) / most)
        for name, rows in scores.items()
    }
