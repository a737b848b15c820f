"""Examples of a pool of demonstrations that are rows which the search may not see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agent.errors import ConfigError
from agent.parameters import Value
from agent.problem import Problem
from agent.similar import prefix, shingles, similar
from agent.texts import Demos


def overlap(pool: Sequence[Any], rows: Sequence[Any], labels: Collection[str] = ("id",)) -> list[int]:
    """Places in the pool of what copies or nearly repeats one of the rows.

    Args:
        pool: Plain JSON.
        rows: The same.
        labels: Fields that only label a row.
    """
    index: defaultdict[int, list[frozenset[int]]] = defaultdict(list)
    for row in rows:
        found = shingles(row, labels)
        for number in prefix(found):
            index[number].append(found)
    out = []
    for place, item in enumerate(pool):
        mine = shingles(item, labels)
        if any(similar(mine, other) for number in prefix(mine) for other in index.get(number, ())):
            out.append(place)
    return out


def held_out(problem: Problem) -> dict[str, frozenset[int]]:
    """By parameter, the places in its pool that no candidate may choose: rows of val or test, or nearly such rows.

    A prompt that shows them would be examined on what it shows.

    Raises:
        ConfigError: Nothing is left of a pool, or the initial candidate has such an example.
    """
    held = [example.row for example in problem.data if example.split != "train"]
    out: dict[str, frozenset[int]] = {}
    for name, item in problem.space.items():
        if not held or not isinstance(item, Demos):
            continue
        out[name] = frozenset(overlap(item.pool, held, problem.labels))
        if len(out[name]) == len(item.pool):
            raise ConfigError(
                f"space.{name}: all {len(item.pool)} examples of the pool are rows (or nearly) that are held out for"
                " the exam or the report",
                hint="add rows of train to the pool, or name other rows as data.val",
            )
        if out[name].intersection(item.default):
            raise ConfigError(
                f"space.{name}: an example of the initial candidate is a row (or nearly) that is held out for the exam"
                " or the report, and a prompt that shows it would be examined on what it shows",
                hint="begin with no examples, or name the rows as data.train and data.val",
            )
    return {name: places for name, places in out.items() if places}


def note(problem: Problem, held: dict[str, frozenset[int]]) -> list[str]:
    """What a user is told of that."""
    return [
        f"{name}: {len(places)} of the pool's {len(getattr(problem.space[name], 'pool', ()))} examples are held-out"
        " rows, and are never shown"
        for name, places in held.items()
    ]


def chooses(held: dict[str, frozenset[int]], candidate: Mapping[str, Value]) -> str:
    """Why a candidate's examples are refused; "" when they are not."""
    for name, places in held.items():
        if wrong := sorted(places.intersection(candidate[name])):
            return f"{name}: {', '.join(map(str, wrong))} of the pool: held-out rows, which no prompt may show"
    return ""
