"""Sets of few-shot examples: which rows of train a pool holds, which of them a candidate passes, and draws of sets."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from agent.history import Trial
from agent.problem import Problem
from agent.proposers.base import Context
from agent.space import Space, digest
from agent.texts import Demos

TRIES = 8
"""Draws of which the one least like those before is taken."""
WORDS = 2000
"""Characters of an example that are compared."""


def row_id(item: Any) -> str:
    """The id that a row has in the data when it has this content."""
    own = item.get("id") if isinstance(item, Mapping) else None
    return str(own) if own is not None and own != "" else digest(item)


def rows_of(problem: Problem, parameter: Demos) -> dict[int, str]:
    """The rows of train that a pool's examples are, by index; those that are no row of train are not in it."""
    known = {item.id for item in problem.split("train")}
    found = ((index, row_id(item)) for index, item in enumerate(parameter.pool))
    return {index: row for index, row in found if row in known}


def allowed(problem: Problem, parameter: Demos) -> list[int]:
    """The indices of a pool that may be drawn or shown: those of rows of train; all, where the pool holds none of them.

    What else is in a pool that was taken from the data may be held out.
    """
    return list(rows_of(problem, parameter)) or list(range(len(parameter.pool)))


def demos_of(space: Space) -> dict[str, Demos]:
    """The parameters that choose examples."""
    return {name: item for name, item in space.items() if isinstance(item, Demos)}


def shown(problem: Problem, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The rows of train that a candidate shows to its model with their answers: known to it by heart."""
    out: dict[str, None] = {}
    known = {item.id for item in problem.split("train")}
    for name, parameter in demos_of(problem.space).items():
        # Only the chosen ones are looked at: a pool may be large, and this is asked of every trial.
        chosen = (row_id(parameter.pool[index]) for index in values[name])
        out.update((row, None) for row in chosen if row in known)
    return tuple(out)


def passes(problem: Problem, score: float | None, threshold: float) -> bool:
    """Whether a row's score is good enough to copy.

    Args:
        problem: Its bounds say what the best score is; without them a threshold is a plain score.
        score: On the row.
        threshold: Share of the way from the worst to the best score, or a plain score.
    """
    if score is None:
        return False
    if problem.bounds is None:
        return problem.objective.sign * (score - threshold) >= 0
    low, high = problem.bounds
    share = (score - low) / (high - low)
    return (share if problem.objective.sign > 0 else 1 - share) >= threshold - 1e-9


def passed(problem: Problem, trials: Iterable[Trial], threshold: float) -> set[str]:
    """The rows that one of some candidates passes without having it among its own examples."""
    out: set[str] = set()
    for trial in trials:
        own = shown(problem, trial.candidate)
        out |= {row for row, (score, _) in trial.rows.items() if row not in own and passes(problem, score, threshold)}
    return out


def draw(parameter: Demos, among: Sequence[int], rng: random.Random, most: int) -> list[int]:
    """A set of 1 to `most` examples in a random order, each unlike the ones before.

    Args:
        parameter: Its pool.
        among: Indices to draw from; one at least.
        rng: Of the decision.
        most: At least 1.
    """
    size = rng.randint(1, min(most, len(among)))
    left = list(among)
    out = [left.pop(rng.randrange(len(left)))]
    while len(out) < size:
        tried = rng.sample(range(len(left)), min(TRIES, len(left)))
        chosen = [words(parameter.pool[index]) for index in out]
        place = min(tried, key=lambda at: max(likeness(words(parameter.pool[left[at]]), item) for item in chosen))
        out.append(left.pop(place))
    rng.shuffle(out)
    return out


def words(item: Any) -> frozenset[str]:
    """The words of an example's values."""
    plain = list(item.values()) if isinstance(item, Mapping) else item
    return frozenset(re.findall(r"\w+", json.dumps(plain, ensure_ascii=False)[:WORDS].lower()))


def likeness(one: Set[str], other: Set[str]) -> float:
    """Share of the words of two examples that both have (Jaccard)."""
    return len(one & other) / (len(one | other) or 1)


async def checked(context: Context, rows: Sequence[str], threshold: float, key: str) -> set[str]:
    """Which rows the champion passes when it is measured on them now; the search pays for it.

    Raises:
        BudgetExceeded: The search's share does not have it.
    """
    found = await context.look(context.champion, rows, key=key)
    name = context.problem.objective.name
    good = (row for row in found.rows if row.example is not None and row.values is not None)
    return {str(row.example) for row in good if passes(context.problem, (row.values or {})[name], threshold)}
